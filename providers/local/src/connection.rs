//! The connection of the provider: hands each request to its data source.

use async_trait::async_trait;
use futures::{StreamExt, stream};
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{
    Applied, Class, Connection, Context, DataRequest, Observed, Operation, PlanRequest, Proposal, ProviderError,
    ReadRequest, Target,
};
use tokio::sync::mpsc::UnboundedSender;

use crate::data::data_of;

/// The number of data sources that are read at the same time.
const CONCURRENCY: usize = 8;

/// The provider `local`, configured for one run.
pub(crate) struct LocalConnection {
    /// The environment of the run.
    pub(crate) context: Context,
}

#[async_trait]
impl Connection for LocalConnection {
    async fn read(&self, _: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        requests.iter().map(|_| Err(no_resource())).collect()
    }

    async fn plan(&self, _: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        requests.iter().map(|_| Err(no_resource())).collect()
    }

    async fn apply(
        &self,
        _: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        for index in 0..operations.len() {
            // The receiver is gone only when the run is.
            let _ = outcomes.send((index, Err(no_resource())));
        }
    }

    async fn read_data(&self, _: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        let reads: Vec<_> = requests.iter().map(|request| self.read_one(request)).collect();
        stream::iter(reads).buffered(CONCURRENCY).collect().await
    }
}

impl LocalConnection {
    async fn read_one(&self, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let data = data_of(&request.data_source)?;
        tokio::select! {
            read = data.read(&self.context, request) => read,
            () = self.context.cancel.cancelled() => {
                Err(ProviderError::new(Class::Cancelled, format!("reading {} was cancelled", request.address)))
            }
        }
    }
}

fn no_resource() -> ProviderError {
    ProviderError::new(Class::Invalid, "the provider `local` has no resource types")
}
