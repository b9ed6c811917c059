//! Waiting for an object to become what it should be.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;
use tokio::time::{Instant, timeout_at};

use crate::cluster::{Cluster, Served, timed_out};
use crate::error::misanswer;
use crate::fetch::to_json;
use crate::readiness::Readiness;

/// How long is waited for an object where `timeouts` says nothing.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// The end of patience that lasts for `limit`, or for `default` where none is written.
pub(crate) fn deadline(limit: Option<Duration>, default: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + limit.unwrap_or(default).min(YEAR)
}

/// Something that is waited for.
pub(crate) struct Wait<'a> {
    /// The cluster it happens in.
    pub(crate) cluster: &'a Cluster,
    /// Whose operation waits.
    pub(crate) address: &'a Address,
    /// What messages call it: `Deployment/default/web`.
    pub(crate) what: &'a str,
    /// When patience ends.
    pub(crate) deadline: Instant,
}

impl Wait<'_> {
    /// Watches the object `name` in `namespace` until `judge` finds it ready, and returns it; `None` where it is ready by being gone.
    ///
    /// # Errors
    /// If it fails or is not ready in time.
    pub(crate) async fn until(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        judge: impl Fn(Option<&Json>) -> Readiness,
    ) -> Result<Option<Json>, ProviderError> {
        let api = served.api(self.cluster.client().await?, namespace);
        let mut events = watcher::watch_object(api, name).default_backoff().boxed();
        let mut last = String::from("nothing was heard of it");
        loop {
            let Ok(event) = timeout_at(self.deadline, events.next()).await else {
                return Err(timed_out(format!("{} did not become ready in time: {last}", self.what)));
            };
            let object = match event {
                Some(Ok(object)) => object.map(|o| to_json(o, served)),
                Some(Err(error)) => match watch_error(error) {
                    Ok(passing) => {
                        last = passing;
                        continue;
                    }
                    Err(error) => return Err(self.cluster.explain(error, &format!("watch {}", self.what))),
                },
                None => return Err(ProviderError::new(Class::Failed, format!("the watch of {} ended", self.what))),
            };
            match judge(object.as_ref()) {
                Readiness::Ready => return Ok(object),
                Readiness::Failed(reason) => {
                    return Err(ProviderError::new(Class::Failed, format!("{} failed: {reason}", self.what)));
                }
                Readiness::Waiting(reason) => {
                    if reason != last {
                        self.report(&reason);
                    }
                    last = reason;
                }
            }
        }
    }

    /// Asks again and again until `ask` has an answer. For what can't be watched as one object.
    ///
    /// # Errors
    /// What `ask` fails with, or that there was no answer in time: `ask` says what is missing.
    pub(crate) async fn poll<T, F>(&self, every: Duration, mut ask: impl FnMut() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<Result<T, String>, ProviderError>>,
    {
        let mut told = String::new();
        loop {
            let missing = match ask().await? {
                Ok(answer) => return Ok(answer),
                Err(missing) => missing,
            };
            if missing != told {
                self.report(&missing);
            }
            if Instant::now() + every > self.deadline {
                return Err(timed_out(format!("{} did not become ready in time: {missing}", self.what)));
            }
            told = missing;
            tokio::time::sleep(every).await;
        }
    }

    fn report(&self, message: &str) {
        self.cluster.context.progress.report(self.address, message);
    }
}

/// What passes is what the watch recovers from by itself; a refusal does not.
fn watch_error(error: watcher::Error) -> Result<String, kube::Error> {
    let text = error.to_string();
    let inner = match error {
        watcher::Error::InitialListFailed(e) | watcher::Error::WatchStartFailed(e) | watcher::Error::WatchFailed(e) => {
            e
        }
        _ => return Ok(text),
    };
    match &inner {
        unbelieved if misanswer(unbelieved).is_some() => Err(inner),
        kube::Error::Api(status) if [401, 403, 404].contains(&status.code) => Err(inner),
        kube::Error::Auth(_) => Err(inner),
        // It quotes what it can't read, which may be part of a Secret.
        kube::Error::SerdeError(_) => Ok("what the API server tells of it can't be read".to_owned()),
        _ => Ok(text),
    }
}
