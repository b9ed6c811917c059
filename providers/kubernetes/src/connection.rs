//! The provider's connection: hands each request to its resource type.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::{StreamExt, stream};
use moorfast_engine::model::{Address, Attributes};
use moorfast_engine::provider::{
    Applied, Class, Connection, DataRequest, Observed, Operation, PlanRequest, Proposal, ProviderError, ReadRequest,
    Target,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::cluster::{Cluster, timed_out};
use crate::data::{DATA, Data};
use crate::resource::{RESOURCES, Resource};

/// How many dry runs are under way at once.
const CONCURRENCY: usize = 16;
/// How many operations are begun at once: not all that are ready, so that a run that is ended has something left to leave.
const TURNS: usize = 32;
/// How long an operation keeps others from beginning. Most are over by then; the others wait for something that may need those.
const TURN: Duration = Duration::from_secs(1);
/// How long after its time an operation may take to say what it waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The resource type of this name.
pub(crate) fn resource(name: &str) -> Option<&'static dyn Resource> {
    RESOURCES.into_iter().find(|r| r.declaration().name == name)
}

/// The data source of this name.
pub(crate) fn data(name: &str) -> Option<&'static dyn Data> {
    DATA.into_iter().find(|d| d.declaration().name == name)
}

fn unknown(name: &str) -> ProviderError {
    ProviderError::new(Class::Invalid, format!("the kubernetes provider has no {name}"))
}

fn overdue(operation: &Operation, limit: Duration) -> ProviderError {
    timed_out(format!("{} was not done within {limit:?}", operation.address))
        .help("the API server is slow or does not answer; `timeouts` of the resource gives it longer")
}

/// A configured provider.
pub(crate) struct KubernetesConnection {
    /// The cluster that it is for.
    pub(crate) cluster: Cluster,
    turns: Semaphore,
}

#[async_trait]
impl Connection for KubernetesConnection {
    async fn wait_until_reachable(&self, _target: &Target, waiting: &Address) -> Result<(), ProviderError> {
        tokio::select! {
            ready = self.cluster.wait_until_reachable(waiting) => ready,
            () = self.cluster.context.cancel.cancelled() => {
                Err(ProviderError::new(Class::Cancelled, "the wait for the API server was cancelled"))
            }
        }
    }

    async fn read(&self, _target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let mut by_type: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (i, request) in requests.iter().enumerate() {
            by_type.entry(&request.resource_type).or_default().push(i);
        }
        let groups = by_type.into_iter().map(|(name, indexes)| async move {
            let of_type: Vec<_> = indexes.iter().map(|i| &requests[*i]).collect();
            let readings = match resource(name) {
                Some(resource) => resource.read(&self.cluster, &of_type).await,
                None => of_type.iter().map(|_| Err(unknown(name))).collect(),
            };
            indexes.into_iter().zip(readings).collect::<Vec<_>>()
        });
        let mut readings: Vec<_> = join_all(groups).await.into_iter().flatten().collect();
        readings.sort_by_key(|(i, _)| *i);
        readings.into_iter().map(|(_, reading)| reading).collect()
    }

    async fn plan(&self, _target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        let plans: Vec<_> = requests.iter().map(|request| self.plan_one(request)).collect();
        stream::iter(plans).buffered(CONCURRENCY).collect().await
    }

    async fn apply(
        &self,
        _target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        let work = operations.iter().enumerate().map(|(i, operation)| {
            let outcomes = outcomes.clone();
            async move {
                // Who stopped listening does not want to know.
                let _ = outcomes.send((i, self.operate(operation).await));
            }
        });
        join_all(work).await;
    }

    async fn read_data(&self, _target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        let reads: Vec<_> = requests.iter().map(|request| self.read_one(request)).collect();
        stream::iter(reads).buffered(CONCURRENCY).collect().await
    }

    async fn wait_until_healthy(
        &self,
        _target: &Target,
        request: &ReadRequest,
        limit: Duration,
    ) -> Result<(), ProviderError> {
        let Some(resource) = resource(&request.resource_type) else { return Err(unknown(&request.resource_type)) };
        tokio::select! {
            healthy = resource.healthy(&self.cluster, request, limit) => healthy,
            () = self.cluster.context.cancel.cancelled() => {
                Err(ProviderError::new(Class::Cancelled, format!("the wait for {} was cancelled", request.address)))
            }
        }
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        vec![("api requests", self.cluster.requests())]
    }

    async fn close(&self) {}
}

impl KubernetesConnection {
    /// A provider for `cluster`.
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, turns: Semaphore::new(TURNS) }
    }

    async fn plan_one(&self, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        match resource(&request.resource_type) {
            Some(resource) => resource.plan(&self.cluster, request).await,
            None => Err(unknown(&request.resource_type)),
        }
    }

    async fn read_one(&self, request: &DataRequest) -> Result<Attributes, ProviderError> {
        match data(&request.data_source) {
            Some(data) => data.read(&self.cluster, request).await,
            None => Err(unknown(&request.data_source)),
        }
    }

    async fn operate(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let cancelled = || ProviderError::new(Class::Cancelled, format!("{} was cancelled", operation.address));
        let cancel = &self.cluster.context.cancel;
        let turn = self.turns.acquire().await.map_err(|_| cancelled())?;
        self.cluster.context.start_permit.check(&operation.address)?;
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let Some(resource) = resource(&operation.resource_type) else { return Err(unknown(&operation.resource_type)) };
        let limit = operation.timeout.unwrap_or_else(|| resource.patience());
        let work = timeout(limit.saturating_add(LAST_WORDS), resource.apply(&self.cluster, operation));
        let ended = async {
            tokio::pin!(work);
            let quick = timeout(TURN, &mut work).await;
            drop(turn);
            match quick {
                Ok(ended) => ended,
                Err(_) => work.await,
            }
        };
        tokio::select! {
            outcome = ended => outcome.unwrap_or_else(|_| Err(overdue(operation, limit))),
            () = cancel.cancelled() => Err(cancelled()),
        }
    }
}
