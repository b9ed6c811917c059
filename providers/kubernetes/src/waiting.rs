//! Waiting until objects are ready.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt;
use kube::runtime::{WatchStreamExt, watcher};
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;
use tokio::time::{Instant, timeout, timeout_at};

use crate::cluster::{Cluster, Served, timed_out};
use crate::error::invalid_response;
use crate::object_reader::to_json;
use crate::readiness::Readiness;

/// The default time limit, if `timeouts` is not set.
pub(crate) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// The limit of the last read of an object, at the end of a wait for it.
const LAST_READ: Duration = Duration::from_secs(3);

/// Returns the deadline after `limit`, or after `default` if there is no limit.
pub(crate) fn deadline(limit: Option<Duration>, default: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    Instant::now() + limit.unwrap_or(default).min(YEAR)
}

/// A wait of an operation.
pub(crate) struct Wait<'a> {
    /// The cluster.
    pub(crate) cluster: &'a Cluster,
    /// The address of the waiting instance, for progress reports.
    pub(crate) address: &'a Address,
    /// The name in messages: `Deployment/default/web`.
    pub(crate) what: &'a str,
    /// The end of the wait.
    pub(crate) deadline: Instant,
}

impl Wait<'_> {
    /// Watches the object `name` in `namespace` until `judge` finds it ready, and returns it. Returns `None` if the object is deleted and that counts as ready.
    ///
    /// # Errors
    /// If the object fails or is not ready in time.
    pub(crate) async fn until(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        judge: impl Fn(Option<&Json>) -> Readiness,
    ) -> Result<Option<Json>, ProviderError> {
        let api = served.api(self.cluster.client().await?, namespace);
        let mut events = watcher::watch_object(api.clone(), name).default_backoff().boxed();
        let mut last = String::from("the API server sent no event");
        loop {
            let Ok(event) = timeout_at(self.deadline, events.next()).await else {
                // The events of a watch can be lost or late, for example behind a proxy.
                if let Ok(Ok(object)) = timeout(LAST_READ, api.get_opt(name)).await {
                    let object = object.map(|object| to_json(object, served));
                    match judge(object.as_ref()) {
                        Readiness::Ready => return Ok(object),
                        Readiness::Failed(reason) => return Err(self.failed(&reason)),
                        Readiness::Waiting(reason) => last = reason,
                    }
                }
                return Err(timed_out(format!("{} did not become ready in time: {last}", self.what)));
            };
            let object = match event {
                Some(Ok(object)) => object.map(|o| to_json(o, served)),
                Some(Err(error)) => {
                    let (error, is_temporary) = self.watch_error(error);
                    if !is_temporary {
                        return Err(error);
                    }
                    last = error.summary;
                    continue;
                }
                None => return Err(ProviderError::new(Class::Failed, format!("the watch of {} ended", self.what))),
            };
            match judge(object.as_ref()) {
                Readiness::Ready => return Ok(object),
                Readiness::Failed(reason) => return Err(self.failed(&reason)),
                Readiness::Waiting(reason) => {
                    if reason != last {
                        self.report(&reason);
                    }
                    last = reason;
                }
            }
        }
    }

    /// Calls `check` in an interval until it returns a value. Use it for conditions that cannot be watched as one object.
    ///
    /// # Errors
    /// If `check` fails, or has no value by the deadline; then with the reason that `check` returned last.
    pub(crate) async fn poll<T, F>(&self, every: Duration, mut check: impl FnMut() -> F) -> Result<T, ProviderError>
    where
        F: Future<Output = Result<Result<T, String>, ProviderError>>,
    {
        let mut reported = String::new();
        loop {
            let missing = match check().await? {
                Ok(value) => return Ok(value),
                Err(missing) => missing,
            };
            if missing != reported {
                self.report(&missing);
            }
            if Instant::now() + every > self.deadline {
                return Err(timed_out(format!("{} did not become ready in time: {missing}", self.what)));
            }
            reported = missing;
            tokio::time::sleep(every).await;
        }
    }

    fn report(&self, message: &str) {
        self.cluster.context.progress.report(self.address, message);
    }

    fn failed(&self, reason: &str) -> ProviderError {
        ProviderError::new(Class::Failed, format!("{} failed: {reason}", self.what))
    }

    /// Returns an error of the watch, and whether the watch recovers from it by itself.
    fn watch_error(&self, error: watcher::Error) -> (ProviderError, bool) {
        let inner = match error {
            watcher::Error::InitialListFailed(e)
            | watcher::Error::WatchStartFailed(e)
            | watcher::Error::WatchFailed(e) => e,
            watcher::Error::WatchError(status) => kube::Error::Api(status),
            watcher::Error::NoResourceVersion => {
                let summary = format!("cannot watch {}: the API server sent a list without a version", self.what);
                return (ProviderError::new(Class::Unreachable, summary), true);
            }
        };
        let is_temporary = match &inner {
            invalid if invalid_response(invalid).is_some() => false,
            kube::Error::Api(status) => ![401, 403, 404].contains(&status.code),
            kube::Error::Auth(_) => false,
            _ => true,
        };
        (self.cluster.explain(inner, &format!("watch {}", self.what)), is_temporary)
    }
}
