//! Asking the providers what they would do.

use std::collections::HashMap;

use futures::future::join_all;

use super::ignore::ignoring;
use super::planner::{Item, Planner};
use super::reading::{Reading, Which};
use super::requests::Requests;
use crate::expand::Instance;
use crate::{Attributes, Failure, PlanRequest, ProviderError};

impl Planner<'_> {
    pub(super) async fn propose(
        &mut self,
        wanted: Vec<(&Instance, Attributes)>,
        readings: &mut HashMap<Which, Reading>,
    ) -> Result<(), Failure> {
        let mut failures = Vec::new();
        let mut requests: Requests<(PlanRequest, Item)> = Requests::default();
        for (instance, attributes) in wanted {
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
            requests.into_iter().zip(items).zip(proposals).collect::<Vec<_>>()
        });
        let proposed: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        for ((request, item), proposal) in proposed {
            match proposal {
                Ok(proposal) => self.decide(request, item, proposal)?,
                Err(error) => failures.push((request.address, error)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::Providers(failures)) }
    }

    pub(super) fn request(
        &self,
        instance: &Instance,
        attributes: Attributes,
        readings: &mut HashMap<Which, Reading>,
    ) -> Result<(PlanRequest, Item), ProviderError> {
        let address = &instance.address;
        let recorded = self.records.get(address).cloned();
        let observed = readings.remove(&Which::Current(address.clone())).transpose()?.flatten();
        let former = readings.remove(&Which::Former(address.clone())).transpose()?.flatten();
        let triggers = self.triggers(instance, recorded.as_deref());
        let item = Item {
            recorded: recorded.clone(),
            observed: observed.clone(),
            former,
            triggers: triggers.iter().map(|(address, _)| address.clone()).collect(),
        };
        let identity = self.identity(instance, &attributes);
        let request = PlanRequest {
            address: address.clone(),
            resource_type: instance.resource_type.name.to_owned(),
            desired: ignoring(&instance.resource.lifecycle.ignore_changes, attributes, observed.as_ref()),
            recorded: recorded.filter(|r| Some(&r.identity) == identity.as_ref()),
            observed,
            triggers: item.triggers.clone(),
        };
        Ok((request, item))
    }
}
