//! Retries of requests.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use kube::client::Body;
use moorfast_engine::provider::Progress;
use tokio::time::{Instant, Sleep, sleep};
use tower::BoxError;
use tower::retry::Policy;

use crate::server_urls::ServerUrls;

/// The number of retries of one request.
const ATTEMPTS: usize = 6;
/// The limit of all pauses of one request together. If the server asks for a pause beyond it, its response is the result.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A shorter pause is not reported.
const REPORTED_PAUSE: Duration = Duration::from_secs(5);
/// The pauses between the attempts. They are random, so that many requests are not repeated at the same time.
const PAUSES: ExponentialBuilder =
    ExponentialBuilder::new().with_min_delay(Duration::from_millis(200)).with_max_times(ATTEMPTS).with_jitter();

/// Retries requests after a temporary failure: too many requests, a restarting server, a broken connection.
#[derive(Clone, Debug)]
pub(crate) struct Retry {
    attempts: usize,
    waited: Duration,
    reports: Reports,
}

/// The reports of the pauses that a server asks for.
#[derive(Clone, Debug)]
struct Reports {
    servers: ServerUrls,
    progress: Progress,
    /// The end of the last reported pause. Many requests pause at the same time.
    until: Arc<Mutex<Option<Instant>>>,
}

impl Retry {
    /// Creates the retries of requests to `servers`.
    pub(crate) fn new(servers: ServerUrls, progress: Progress) -> Self {
        let reports = Reports { servers, progress, until: Arc::default() };
        Self { attempts: 0, waited: Duration::ZERO, reports }
    }

    fn pause(&mut self, requested: Option<Duration>) -> Option<Sleep> {
        let pause = requested.or(PAUSES.build().nth(self.attempts))?;
        if self.attempts == ATTEMPTS || self.waited.saturating_add(pause) > LONGEST_WAIT {
            return None;
        }
        self.attempts += 1;
        self.waited += pause;
        Some(sleep(pause))
    }

    fn pause_for(&mut self, status: StatusCode, requested: Option<Duration>) -> Option<Sleep> {
        let pause = self.pause(requested)?;
        if let Some(requested) = requested.filter(|requested| *requested >= REPORTED_PAUSE) {
            self.reports.report(status, requested);
        }
        Some(pause)
    }
}

impl Reports {
    fn report(&self, status: StatusCode, pause: Duration) {
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if until.is_none_or(|until| until <= now) {
            *until = Some(now + pause);
            let (server, status, seconds) = (self.servers.current(), status.as_u16(), pause.as_secs());
            self.progress.report_waiting(format!("the API server {server} asks to wait {seconds} s (HTTP {status})"));
        }
    }
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Retry {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<Body>, result: &mut Result<Response<B>, BoxError>) -> Option<Sleep> {
        match result {
            Ok(response) if is_temporary(request, response) => {
                self.pause_for(response.status(), retry_after(response.headers()))
            }
            Err(error) if is_broken_connection(error.as_ref()) && is_repeatable(request.method()) => self.pause(None),
            _ => None,
        }
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        copy_of(request)
    }
}

/// Copies a request, so that it can be sent again. Returns `None` if its body is a stream.
pub(crate) fn copy_of(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// Whether the response is a temporary failure.
fn is_temporary<B>(request: &Request<Body>, response: &Response<B>) -> bool {
    if is_result(request) {
        return false;
    }
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => true,
        _ if is_not_served(request, response) => true,
        // The server may have done the request before the internal error: retry only a repeatable request, and only if the server asks for it.
        StatusCode::INTERNAL_SERVER_ERROR => {
            is_repeatable(request.method()) && retry_after(response.headers()).is_some()
        }
        _ => false,
    }
}

/// Whether the server is starting or stopping, or a load balancer has no server behind it.
pub(crate) fn is_not_served<B>(request: &Request<Body>, response: &Response<B>) -> bool {
    let status = response.status();
    !is_result(request)
        && matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT)
}

/// Whether every status is a result for the caller: the 429 of an eviction means a disruption budget, and the 503 of a node proxy means its kubelet.
fn is_result(request: &Request<Body>) -> bool {
    let path = request.uri().path();
    path.ends_with("/eviction") || path.contains("/proxy/")
}

fn is_repeatable(method: &Method) -> bool {
    // An interrupted POST may have created its object. All PATCH requests of moorfast are applies and merges, which can be repeated.
    method != Method::POST
}

/// Returns the pause that the server asks for.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// Whether an established connection broke. A refused connection is not retried, because the server is down.
fn is_broken_connection(error: &(dyn std::error::Error + 'static)) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let mut errors = std::iter::successors(Some(error), |e| e.source());
    errors.any(|e| {
        let broken =
            |io: &std::io::Error| matches!(io.kind(), ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof);
        e.downcast_ref().is_some_and(broken) || e.to_string().contains("connection closed before message completed")
    })
}

#[cfg(test)]
mod tests {
    use moorfast_engine::provider::ProgressMessage;

    use super::*;

    fn retries(method: Method, path: &str, status: u16, retry_after: Option<&str>) -> bool {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let mut response = Response::builder().status(status);
        if let Some(seconds) = retry_after {
            response = response.header("Retry-After", seconds);
        }
        retry(Progress(None)).retry(&mut request, &mut Ok(response.body(()).unwrap())).is_some()
    }

    fn retry(progress: Progress) -> Retry {
        Retry::new(ServerUrls::new(["https://a".to_owned()]), progress)
    }

    #[tokio::test]
    async fn only_temporary_failures_are_retried() {
        let cases = [
            (Method::GET, "/api", 429, Some("1"), true),
            (Method::POST, "/api", 429, None, true),
            (Method::GET, "/api", 503, None, true),
            (Method::GET, "/api", 500, None, false),
            (Method::GET, "/api", 500, Some("1"), true),
            (Method::POST, "/api", 500, Some("1"), false),
            (Method::GET, "/api", 404, None, false),
            (Method::POST, "/api/v1/namespaces/a/pods/b/eviction", 429, Some("10"), false),
            (Method::GET, "/api/v1/nodes/a/proxy/configz", 503, None, false),
        ];
        for (method, path, status, retry_after, expected) in cases {
            assert_eq!(retries(method.clone(), path, status, retry_after), expected, "{method} {path} {status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_follow_the_server_and_are_limited() {
        let retry = || retry(Progress(None));
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let (start, mut one) = (Instant::now(), retry());
        assert_eq!(one.pause(seconds(7)).unwrap().deadline(), start + Duration::from_secs(7));
        assert_eq!(std::iter::from_fn(|| one.pause(None)).count(), ATTEMPTS - 1);
        assert!(retry().pause(seconds(3600)).is_none() && retry().pause(seconds(u64::MAX)).is_none());
        let mut long = retry();
        assert_eq!(std::iter::from_fn(|| long.pause(seconds(25))).count(), 2, "three would be longer than the limit");
        assert!(long.pause(seconds(10)).is_some() && long.pause(seconds(10)).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_pauses_of_many_requests_are_reported_once() {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let retry = retry(Progress(Some(sender)));
        let ask = |seconds| {
            let pause = retry.clone().pause_for(StatusCode::TOO_MANY_REQUESTS, Some(Duration::from_secs(seconds)));
            assert!(pause.is_some());
        };
        ask(1);
        ask(20);
        ask(20);
        tokio::time::advance(Duration::from_secs(20)).await;
        ask(10);
        let reports: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).collect();
        let expected = [20, 10].map(|seconds| {
            ProgressMessage::Waiting(format!("the API server https://a asks to wait {seconds} s (HTTP 429)"))
        });
        assert_eq!(reports, expected);
    }
}
