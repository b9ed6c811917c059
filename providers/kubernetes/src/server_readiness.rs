//! Whether the API server is ready.
//!
//! An API server whose etcd has no quorum accepts requests, and answers each of them only after a minute. A plan sends many requests one after the other, so it
//! gives up when the API server itself says that it is not ready.

use std::future::{Future, pending};
use std::time::Duration;

use http::Request;
use kube::Client;
use moorfast_engine::provider::{Class, ProviderError};
use tokio::time::{sleep, timeout};

use crate::cluster::Cluster;
use crate::error_codes;

/// How long requests may take before the API server is asked whether it is ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// The pause between two questions.
const PAUSE: Duration = Duration::from_secs(5);
/// The time limit of one question.
const LIMIT: Duration = Duration::from_secs(10);
/// How many questions in a row must find an API server that is not ready. One that restarts is not ready for a moment.
const FINDINGS: usize = 2;

impl Cluster {
    /// Asks the API server whether it is ready.
    pub(crate) async fn readiness(client: &Client) -> Result<(), kube::Error> {
        let request = Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError)?;
        match client.request_text(request).await {
            Ok(_) => Ok(()),
            // A refusal for missing rights shows that the API server works.
            Err(kube::Error::Api(status)) if status.code < 500 => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits for `reading`, and gives up if it takes long because the API server is not ready.
    ///
    /// # Errors
    /// If the API server is not ready, with the checks that it names.
    pub(crate) async fn unless_not_ready<T>(&self, reading: impl Future<Output = T>) -> Result<T, ProviderError> {
        tokio::select! {
            done = reading => Ok(done),
            error = self.not_ready() => Err(error),
        }
    }

    /// Waits until the API server is not ready.
    async fn not_ready(&self) -> ProviderError {
        sleep(PATIENCE).await;
        // The reading itself reports a failed login and a failed connection.
        let Ok(client) = self.client().await else { return pending().await };
        let mut found = 0;
        loop {
            match timeout(LIMIT, Self::readiness(&client)).await {
                Ok(Err(kube::Error::Api(status))) => {
                    found += 1;
                    if found == FINDINGS {
                        let summary = format!("the API server {} is not ready: {}", self.server(), status.message);
                        return ProviderError::new(Class::Unreachable, summary).code(error_codes::CLUSTER_UNREACHABLE).help(
                            "`kubectl get --raw /readyz` shows its checks; the check `etcd` fails while etcd has no quorum",
                        );
                    }
                }
                Ok(Err(_)) => return pending().await,
                Ok(Ok(())) | Err(_) => found = 0,
            }
            sleep(PAUSE).await;
        }
    }
}
