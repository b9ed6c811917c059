//! The connection of the provider: hands each request to its resource type.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use futures::{StreamExt, stream};
use moorfast_engine::model::{Address, Attributes};
use moorfast_engine::provider::{
    Applied, Class, Connection, DataRequest, Described, DrainRequest, Existing, Finding, Observed, Operation,
    PlanRequest, Proposal, ProviderError, ReadRequest, ResourceType, Target,
};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::timeout;

use crate::access;
use crate::cluster::{Cluster, timed_out};
use crate::description;
use crate::resource::fail_all;
use crate::resource::node::{drain_node, undrain_node};
use crate::resource_type::{data_of, resource_of};

/// The number of parallel dry runs.
const CONCURRENCY: usize = 16;
/// The number of operations that start at the same time. It is limited so that an interrupted run leaves the rest unstarted.
const START_SLOTS: usize = 32;
/// How long a running operation occupies a start slot. After that it probably waits for something that may need the other operations.
const SLOT_TIME: Duration = Duration::from_secs(1);
/// How long an operation may take after its time limit to return its own error, which names what it waited for.
const REPORT_GRACE: Duration = Duration::from_secs(5);

fn timeout_error(operation: &Operation, limit: Duration) -> ProviderError {
    timed_out(format!("{} did not finish within {limit:?}", operation.address))
        .help("the API server is slow or does not respond; increase `timeouts` of the resource")
}

/// A connection to one cluster.
pub(crate) struct KubernetesConnection {
    /// The cluster.
    pub(crate) cluster: Cluster,
    start_slots: Semaphore,
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

    async fn check_access(&self, _target: &Target, requests: &[ReadRequest]) -> Vec<Finding> {
        access::check(&self.cluster, requests).await
    }

    async fn describe(&self, _target: &Target, wanted: &[Existing]) -> Result<Vec<Described>, ProviderError> {
        description::describe(&self.cluster, wanted).await
    }

    async fn read(&self, _target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        let mut by_type: BTreeMap<&str, (&Arc<dyn ResourceType>, Vec<usize>)> = BTreeMap::new();
        for (i, request) in requests.iter().enumerate() {
            let resource_type = &request.resource_type;
            by_type.entry(resource_type.name()).or_insert((resource_type, Vec::new())).1.push(i);
        }
        let groups = by_type.into_values().map(|(resource_type, indexes)| async move {
            let of_type: Vec<_> = indexes.iter().map(|i| &requests[*i]).collect();
            let readings = match resource_of(resource_type) {
                // Types that do not need the API server are not affected.
                Ok(resource) => {
                    let readings = self.cluster.unless_not_ready(resource.read(&self.cluster, &of_type)).await;
                    readings.unwrap_or_else(|error| fail_all(of_type.len(), &error))
                }
                Err(error) => fail_all(of_type.len(), &error),
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
        let all = operations.iter().enumerate().map(|(i, operation)| {
            let outcomes = outcomes.clone();
            async move {
                // If the receiver is gone, nobody needs the result.
                let _ = outcomes.send((i, self.operate(operation).await));
            }
        });
        join_all(all).await;
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
        let resource = resource_of(&request.resource_type)?;
        tokio::select! {
            healthy = resource.healthy(&self.cluster, request, limit) => healthy,
            () = self.cluster.context.cancel.cancelled() => {
                Err(ProviderError::new(Class::Cancelled, format!("the wait for {} was cancelled", request.address)))
            }
        }
    }

    async fn drain(&self, _target: &Target, request: &DrainRequest) -> Result<Vec<String>, ProviderError> {
        drain_node(&self.cluster, request).await
    }

    async fn undrain(&self, _target: &Target, request: &DrainRequest) -> Result<(), ProviderError> {
        undrain_node(&self.cluster, request).await
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        vec![("api requests", self.cluster.requests())]
    }
}

impl KubernetesConnection {
    /// Creates a connection to `cluster`.
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self { cluster, start_slots: Semaphore::new(START_SLOTS) }
    }

    async fn plan_one(&self, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let resource = resource_of(&request.resource_type)?;
        self.cluster.unless_not_ready(resource.plan(&self.cluster, request)).await?
    }

    async fn read_one(&self, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let source = data_of(&request.data_source)?;
        self.cluster.unless_not_ready(source.read(&self.cluster, request)).await?
    }

    async fn operate(&self, operation: &Operation) -> Result<Applied, ProviderError> {
        let cancelled = || ProviderError::new(Class::Cancelled, format!("{} was cancelled", operation.address));
        let cancel = &self.cluster.context.cancel;
        let slot = self.start_slots.acquire().await.map_err(|_| cancelled())?;
        self.cluster.context.start_permit.check(&operation.address)?;
        if cancel.is_cancelled() {
            return Err(cancelled());
        }
        let resource = resource_of(&operation.resource_type)?;
        let limit = operation.timeout.unwrap_or_else(|| resource.default_timeout());
        let applied = timeout(limit.saturating_add(REPORT_GRACE), resource.apply(&self.cluster, operation));
        let finished = async {
            tokio::pin!(applied);
            let quick = timeout(SLOT_TIME, &mut applied).await;
            drop(slot);
            match quick {
                Ok(finished) => finished,
                Err(_) => applied.await,
            }
        };
        tokio::select! {
            result = finished => result.unwrap_or_else(|_| Err(timeout_error(operation, limit))),
            () = cancel.cancelled() => Err(cancelled()),
        }
    }
}
