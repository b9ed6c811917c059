//! The connection of the provider: hands each request to its type.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use moorfast_engine::provider::{
    Applied, Class, Connection, Consequence, Finding, Observed, Operation, PlanRequest, Proposal, ProviderError,
    ReadRequest, ResourceType, Target,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, sleep_until};

use crate::access;
use crate::cluster::{Cluster, View};
use crate::resource::{member, resource_of, voter};

/// How long an operation may take if the resource has no `timeouts`.
const TIMEOUT: Duration = Duration::from_secs(600);
/// How long an operation may take after its limit to return its own error, which names what it waited for.
const REPORT_GRACE: Duration = Duration::from_secs(5);

/// A connection to one cluster.
pub(crate) struct EtcdConnection(pub(crate) Cluster);

#[async_trait]
impl Connection for EtcdConnection {
    async fn check_access(&self, _: &Target, _: &[ReadRequest]) -> Vec<Finding> {
        access::check(&self.0).await
    }

    async fn read(&self, _: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        self.note_records(requests);
        match self.view(requests.iter().map(|request| &*request.resource_type)).await {
            Ok(view) => {
                let read = |request: &ReadRequest| resource_of(&*request.resource_type)?.read(&self.0, &view, request);
                requests.iter().map(read).collect()
            }
            Err(error) => vec![Err(error); requests.len()],
        }
    }

    async fn plan(&self, _: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        match self.view(requests.iter().map(|request| &*request.resource_type)).await {
            Ok(view) => {
                let plan = |request: &PlanRequest| resource_of(&*request.resource_type)?.plan(&self.0, &view, request);
                requests.iter().map(plan).collect()
            }
            Err(error) => vec![Err(error); requests.len()],
        }
    }

    async fn removal_consequences(
        &self,
        _: &Target,
        requests: &[ReadRequest],
    ) -> Vec<Result<Vec<Consequence>, ProviderError>> {
        let identities: BTreeMap<_, _> = requests
            .iter()
            .enumerate()
            .filter_map(|(index, request)| Some((index, request.identity()?)))
            .filter(|(_, identity)| member::name_of(identity).is_some())
            .collect();
        if identities.is_empty() {
            return vec![Ok(Vec::new()); requests.len()];
        }
        let removed: Vec<_> = identities.values().map(String::as_str).collect();
        let removal = match self.0.view().await {
            Ok(view) => member::removal(&view, &self.0.recorded(), &removed),
            Err(error) => Err(error),
        };
        let of_request = |index| if identities.contains_key(&index) { removal.clone() } else { Ok(Vec::new()) };
        (0..requests.len()).map(of_request).collect()
    }

    async fn apply(
        &self,
        _: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        let all = operations.iter().enumerate().map(|(index, operation)| {
            let outcomes = outcomes.clone();
            async move {
                // The receiver is gone only when the run is.
                _ = outcomes.send((index, self.run(operation).await));
            }
        });
        join_all(all).await;
    }

    async fn wait_until_healthy(
        &self,
        _: &Target,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<(), ProviderError> {
        let identity = request.identity().unwrap_or_default();
        let name = voter::name_of(&identity).unwrap_or_default();
        let deadline = Instant::now() + limit;
        tokio::select! {
            healthy = self.0.change(&request.address, deadline, |view| voter::waits_for(&self.0, view, name)) => healthy.map(drop),
            () = self.0.context.cancel.cancelled() => Err(cancelled(&format!("the wait for {}", request.address))),
        }
    }
}

impl EtcdConnection {
    /// Reads the members if one of these types needs them.
    async fn view(
        &self,
        mut types: impl Iterator<Item = &dyn ResourceType>,
    ) -> Result<Result<View, String>, ProviderError> {
        match types.any(|one| resource_of(one).is_ok_and(|resource| resource.needs_view())) {
            true => self.0.view().await,
            false => Ok(Err("the cluster was not read".to_owned())),
        }
    }

    /// Notes which members the state records.
    fn note_records(&self, requests: &[ReadRequest]) {
        let mut recorded = self.0.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        for record in requests.iter().filter_map(|request| request.recorded.as_ref()) {
            recorded.members.extend(member::name_of(&record.identity).map(str::to_owned));
            recorded.has_formed |= voter::name_of(&record.identity).is_some() && !record.incomplete;
        }
    }

    async fn run(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let (address, context) = (&operation.address, &self.0.context);
        context.start_permit.check(address)?;
        let deadline = Instant::now() + operation.timeout.unwrap_or(TIMEOUT);
        let resource = resource_of(&*operation.resource_type)?;
        tokio::select! {
            applied = resource.apply(&self.0, operation, deadline) => applied,
            () = sleep_until(deadline + REPORT_GRACE) => {
                Err(ProviderError::new(Class::Timeout, format!("{address} did not complete in time")))
            }
            () = context.cancel.cancelled() => Err(cancelled(&address.to_string())),
        }
    }
}

fn cancelled(what: &str) -> ProviderError {
    ProviderError::new(Class::Cancelled, format!("{what} was cancelled"))
}
