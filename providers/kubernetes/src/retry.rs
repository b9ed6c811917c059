//! Retries of requests.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use tokio::time::{Sleep, sleep};
use tower::BoxError;
use tower::retry::Policy;

/// The number of retries of one request.
const ATTEMPTS: usize = 6;
/// The longest pause, even if the server asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The pauses between the attempts. They are random, so that many requests are not repeated at the same time.
const PAUSES: ExponentialBuilder =
    ExponentialBuilder::new().with_min_delay(Duration::from_millis(200)).with_max_times(ATTEMPTS).with_jitter();

/// Retries requests after a temporary failure: too many requests, a restarting server, a broken connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Retry {
    attempts: usize,
}

impl Retry {
    fn pause(&mut self, requested: Option<Duration>) -> Option<Sleep> {
        let pause = PAUSES.build().nth(self.attempts)?;
        self.attempts += 1;
        Some(sleep(requested.unwrap_or(pause).min(LONGEST_PAUSE)))
    }
}

impl<B> Policy<Request<Body>, Response<B>, BoxError> for Retry {
    type Future = Sleep;

    fn retry(&mut self, request: &mut Request<Body>, result: &mut Result<Response<B>, BoxError>) -> Option<Sleep> {
        match result {
            Ok(response) if is_temporary(request, response) => self.pause(retry_after(response)),
            Err(error) if is_broken_connection(error.as_ref()) && is_repeatable(request.method()) => self.pause(None),
            _ => None,
        }
    }

    fn clone_request(&mut self, request: &Request<Body>) -> Option<Request<Body>> {
        let mut copy = Request::new(request.body().try_clone()?);
        *copy.method_mut() = request.method().clone();
        *copy.uri_mut() = request.uri().clone();
        *copy.headers_mut() = request.headers().clone();
        *copy.extensions_mut() = request.extensions().clone();
        Some(copy)
    }
}

/// Whether the response is a temporary failure. The 429 of an eviction means a disruption budget, and the 503 of a node proxy means its kubelet: these are
/// results for the caller.
fn is_temporary<B>(request: &Request<Body>, response: &Response<B>) -> bool {
    let path = request.uri().path();
    if path.ends_with("/eviction") || path.contains("/proxy/") {
        return false;
    }
    match response.status() {
        StatusCode::TOO_MANY_REQUESTS => true,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => true,
        // The server may have done the request before the internal error: retry only a repeatable request, and only if the server asks for it.
        StatusCode::INTERNAL_SERVER_ERROR => is_repeatable(request.method()) && retry_after(response).is_some(),
        _ => false,
    }
}

fn is_repeatable(method: &Method) -> bool {
    // An interrupted POST may have created its object. All PATCH requests of moorfast are applies and merges, which can be repeated.
    method != Method::POST
}

fn retry_after<B>(response: &Response<B>) -> Option<Duration> {
    let seconds = response.headers().get(http::header::RETRY_AFTER)?.to_str().ok()?;
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
    use super::*;

    fn retries(method: Method, path: &str, status: u16, retry_after: Option<&str>) -> bool {
        let mut request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
        let mut response = Response::builder().status(status);
        if let Some(seconds) = retry_after {
            response = response.header("Retry-After", seconds);
        }
        Retry::default().retry(&mut request, &mut Ok(response.body(()).unwrap())).is_some()
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
        let mut retry = Retry::default();
        let start = tokio::time::Instant::now();
        assert_eq!(retry.pause(Some(Duration::from_secs(7))).unwrap().deadline(), start + Duration::from_secs(7));
        assert!(retry.pause(Some(Duration::from_secs(u64::MAX))).unwrap().deadline() <= start + LONGEST_PAUSE);
        assert_eq!(std::iter::from_fn(|| retry.pause(None)).count(), ATTEMPTS - 2);
    }
}
