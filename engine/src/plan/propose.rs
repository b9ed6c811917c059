//! Asking the providers what they would do.

use std::collections::HashMap;

use futures::future::join_all;
use moorfast_state::Record;

use super::planner::{Item, Planner};
use super::reading::{Reading, Which};
use super::requests::{Requests, or_unanswered};
use crate::configuration::expand::Instance;
use crate::model::{Address, Attributes, Value};
use crate::provider::{Class, Dependency, PlanRequest, ProviderError};
use crate::session::Failure;

impl Planner<'_> {
    /// Plans instances whose dependencies are all planned, with what was read of them.
    pub(super) async fn propose(
        &mut self,
        wanted: Vec<(&Instance, Attributes)>,
        readings: &mut HashMap<Which, Reading>,
    ) -> Result<(), Failure> {
        let mut failures = Vec::new();
        let mut requests: Requests<(PlanRequest, Item)> = Requests::default();
        for (instance, attributes) in wanted {
            if self.could_not_be_read_yet(instance, readings.get(&Which::Current(instance.address.clone()))) {
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
            requests.into_iter().zip(items).zip(or_unanswered(proposals)).collect::<Vec<_>>()
        });
        let proposed: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        for ((request, item), proposal) in proposed {
            match proposal {
                Ok(proposal) => self.decide(request, item, proposal)?,
                Err(error) => match self.expanded.instance(&request.address) {
                    Some(instance) if self.is_yet_to_come(instance, &error) => {
                        self.plan_provisionally(instance, request.desired);
                    }
                    _ => failures.push((request.address, error)),
                },
            }
        }
        self.without(failures)
    }

    fn request(
        &self,
        instance: &Instance,
        attributes: Attributes,
        readings: &mut HashMap<Which, Reading>,
    ) -> Result<(PlanRequest, Item), ProviderError> {
        let address = &instance.address;
        let identity = self.identity(instance, &attributes);
        let recorded = self.records.get(address).cloned();
        let mut observed = readings.remove(&Which::Current(address.clone())).transpose()?.flatten();
        let mut former = readings.remove(&Which::Former(address.clone())).transpose()?.flatten();
        let continues = recorded.as_ref().is_some_and(|r| self.expanded.continues(instance, r, &attributes));
        if continues {
            // Which object it is came out only now, and it is still the recorded one.
            former = None;
        } else if identity.is_none() {
            // Until an apply tells otherwise it is the recorded one.
            observed = observed.or(former.take());
        }
        if let Some(record) = recorded.as_ref().filter(|r| r.target != instance.target.name()) {
            let message =
                format!("`{address}` is recorded on {}, and would now be on {}", record.target, instance.target);
            let help = "give it a new name, so that the old object is destroyed and the new one made";
            return Err(ProviderError::new(Class::Invalid, message).help(help));
        }
        if observed.is_none() && recorded.is_none() && self.is_to_be_imported(address) {
            let what = identity.as_deref().unwrap_or("such object");
            let message = format!("there is no {what} on {} to import as `{address}`", instance.target);
            let help = "take the [[import]] away to have it created";
            return Err(ProviderError::new(Class::Invalid, message).help(help));
        }
        let mut leftovers = Vec::new();
        // As long as it is not known which object it is, any of them may be it.
        if let (Some(record), true) = (&recorded, identity.is_some()) {
            let wanted = |pending: &Record| self.expanded.continues(instance, pending, &attributes);
            leftovers = self.leftovers(address, record, wanted, readings)?;
            leftovers.iter_mut().filter(|l| self.is_claimed(&l.record)).for_each(|l| l.observed = None);
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
            leftovers,
            triggers: triggers.iter().map(|(address, _)| address.clone()).collect(),
        };
        let ignored = observed.as_ref().map(|o| self.expanded.ignored_paths(instance, &attributes, &o.attributes));
        let request = PlanRequest {
            address: address.clone(),
            resource_type: instance.resource_type.name.to_owned(),
            desired: self.expanded.ignoring(instance, attributes, observed.as_ref()),
            recorded: recorded.filter(|_| continues || identity.is_none()),
            observed,
            foreign,
            ignored: ignored.unwrap_or_default(),
            triggers: item.triggers.clone(),
            dependencies: self.planned_dependencies(address),
        };
        Ok((request, item))
    }

    /// What comes directly before an instance, with what is planned for it.
    fn planned_dependencies(&self, address: &Address) -> Vec<Dependency> {
        if !self.expanded.plans_by_dependencies(address) {
            return Vec::new();
        }
        let planned = |address: Address| {
            let known = self.draft.values.get(&address).and_then(Value::as_map);
            let desired = known.or_else(|| self.early.get(&address))?.clone();
            let objects = self.objects.get(&address).cloned().unwrap_or_default();
            let action = self.actions.get(&address).copied();
            Some(Dependency { action, objects, desired, address })
        };
        self.dependencies(address).into_iter().filter_map(planned).collect()
    }

    /// Whether the state knows an object under any address, also one that an unfinished operation began to make.
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
