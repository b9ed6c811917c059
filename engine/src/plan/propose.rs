//! The proposals of the providers.

use std::collections::HashMap;

use futures::future::join_all;
use moorfast_state::Record;

use super::planner::{Item, Planner};
use super::reading::{Reading, ReadingKey};
use super::requests::{Requests, with_missing_answers};
use crate::configuration::expand::Instance;
use crate::model::{Address, Attributes, Value};
use crate::provider::{Class, Dependency, PlanRequest, ProviderError};
use crate::session::Failure;

impl Planner<'_> {
    /// Plans instances from their readings. All their dependencies are planned already.
    pub(super) async fn propose(
        &mut self,
        desired: Vec<(&Instance, Attributes)>,
        readings: &mut HashMap<ReadingKey, Reading>,
    ) -> Result<(), Failure> {
        let mut failures = Vec::new();
        let mut requests: Requests<(PlanRequest, Item)> = Requests::default();
        for (instance, attributes) in desired {
            if self.is_unreadable_yet(instance, readings.get(&ReadingKey::Current(instance.address.clone()))) {
                self.plan_provisionally(instance, attributes);
                continue;
            }
            match self.request(instance, attributes, readings) {
                Ok(request) => requests.add(&instance.provider, &instance.target, request),
                Err(error) => failures.push((instance.address.clone(), error)),
            }
        }
        let session = self.session;
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let (requests, items): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let proposals = match session.connection(&alias) {
                Some(connection) => connection.plan(&target, &requests).await,
                None => Vec::new(),
            };
            requests.into_iter().zip(items).zip(with_missing_answers(proposals)).collect::<Vec<_>>()
        });
        let proposed: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        for ((request, item), proposal) in proposed {
            match proposal {
                Ok(proposal) => self.decide(request, item, proposal)?,
                Err(error) => match self.expanded.instance(&request.address) {
                    Some(instance) if self.is_provisional(instance, &error) => {
                        self.plan_provisionally(instance, request.desired);
                    }
                    _ => failures.push((request.address, error)),
                },
            }
        }
        self.note_unread(failures)
    }

    fn request(
        &self,
        instance: &Instance,
        attributes: Attributes,
        readings: &mut HashMap<ReadingKey, Reading>,
    ) -> Result<(PlanRequest, Item), ProviderError> {
        let address = &instance.address;
        let identity = instance.identity(&attributes);
        let recorded = self.records.get(address).cloned();
        let mut observed = readings.remove(&ReadingKey::Current(address.clone())).transpose()?.flatten();
        let mut former = readings.remove(&ReadingKey::Former(address.clone())).transpose()?.flatten();
        let continues = recorded.as_ref().is_some_and(|r| instance.continues(r, &attributes));
        if continues {
            // The identity became known only now, and it is the recorded one.
            former = None;
        } else if identity.is_none() {
            // While the identity is unknown, the object is assumed to be the recorded one.
            observed = observed.or(former.take());
        }
        if let Some(record) = recorded.as_ref().filter(|r| r.target != instance.target.name()) {
            let message = format!("`{address}` cannot move from {} to {}", record.target, instance.target);
            let help = "rename the resource, so that the old object is destroyed and the new one is created";
            return Err(ProviderError::new(Class::Invalid, message).help(help));
        }
        if observed.is_none() && recorded.is_none() && self.is_to_be_imported(address) {
            let name = identity.as_deref().unwrap_or("object");
            let message = format!("cannot import `{address}`: {name} does not exist on {}", instance.target);
            let help = "remove the [[import]] block to create the object";
            return Err(ProviderError::new(Class::Invalid, message).help(help));
        }
        let mut superseded = Vec::new();
        // While the identity is unknown, any of the pending objects may be the desired one.
        if let (Some(record), true) = (&recorded, identity.is_some()) {
            let is_desired = |pending: &Record| instance.continues(pending, &attributes);
            superseded = self.superseded(address, record, is_desired, readings)?;
            superseded.iter_mut().filter(|l| self.is_claimed(&l.record)).for_each(|l| l.observed = None);
        }
        let foreign = observed.is_some()
            && !continues
            && !self.is_to_be_imported(address)
            && identity.as_deref().is_some_and(|identity| !self.is_in_state(instance, identity));
        let triggers = self.triggers(instance, recorded.as_deref());
        let item = Item {
            recorded: recorded.clone(),
            observed: observed.clone(),
            former,
            displaced: false,
            superseded,
            triggers: triggers.iter().map(|(address, _)| address.clone()).collect(),
        };
        let ignored = observed.as_ref().map(|o| self.expanded.ignored_paths(instance, &attributes, &o.attributes));
        let request = PlanRequest {
            address: address.clone(),
            resource_type: instance.resource_type.clone(),
            desired: self.expanded.ignoring(instance, attributes, observed.as_ref()),
            recorded: recorded.filter(|_| continues || identity.is_none()),
            observed,
            foreign,
            ignored: ignored.unwrap_or_default(),
            triggers: item.triggers.clone(),
            dependencies: self.planned_dependencies(instance),
        };
        Ok((request, item))
    }

    /// Returns the direct dependencies of an instance with their planned changes.
    fn planned_dependencies(&self, instance: &Instance) -> Vec<Dependency> {
        if !instance.resource_type.planning_needs_dependencies() {
            return Vec::new();
        }
        let planned = |address: Address| {
            let known = self.draft.values.get(&address).and_then(Value::as_map);
            let desired = known.or_else(|| self.static_values.get(&address))?.clone();
            let objects = self.objects.get(&address).cloned().unwrap_or_default();
            let action = self.actions.get(&address).copied();
            Some(Dependency { action, objects, desired, address })
        };
        self.dependencies(&instance.address).into_iter().filter_map(planned).collect()
    }

    /// Whether the state has an object under any address, including objects that an incomplete operation started to create.
    fn is_in_state(&self, instance: &Instance, identity: &str) -> bool {
        let known = self.known_objects.get_or_init(|| {
            let records = self.records.values().flat_map(|record| record.pending.iter().chain([record.as_ref()]));
            records.map(|r| (r.provider.clone(), r.target.clone(), r.identity.clone())).collect()
        });
        known.contains(&(instance.provider.clone(), instance.target.name().to_owned(), identity.to_owned()))
    }

    pub(super) fn is_to_be_imported(&self, address: &Address) -> bool {
        self.expanded.manifest.imports.iter().any(|import| address.matches(&import.to))
    }
}
