//! The guard of all requests to the API server.
//!
//! It counts the requests, limits how many run in parallel and how long each takes, checks the responses, and sends no change after the lock is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::{BoxStream, StreamExt, try_unfold};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, Uri, response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use kube::client::{Body, DynBody};
use moorfast_engine::provider::StartPermit;
use serde_json::{Map, Value as Json, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

use crate::response::{
    Expected, Failure, InvalidResponse, Kinds, OBJECT_LIMIT, check_body, check_event, check_failure, check_head,
};
use crate::retry::retry_after;

/// The number of parallel requests. Each has a connection of its own, and the number of open files is limited.
const MAX_PARALLEL: usize = 32;
/// The time limit of one request. The API server itself gives up after 60 seconds, for example on a node or a webhook that does not respond, and
/// reports it.
const TIME_LIMIT: Duration = Duration::from_secs(65);

/// The API server accepted the request and did not respond.
#[derive(Debug, thiserror::Error)]
#[error("it accepted the request, but did not respond within {0:?}")]
pub(crate) struct ResponseTimeout(pub(crate) Duration);

/// A change was not sent because this run lost its lock.
#[derive(Debug, thiserror::Error)]
#[error("this run lost its lock")]
pub(crate) struct LockLost;

/// The layer that guards the requests of one client.
#[derive(Clone, Debug)]
pub(crate) struct RequestGuard {
    sent: Arc<AtomicU64>,
    slots: Arc<Semaphore>,
    start_permit: StartPermit,
    kinds: Kinds,
}

impl RequestGuard {
    /// Creates a guard that counts requests in `sent`, sends changes while `start_permit` holds, and expects objects of `kinds`.
    pub(crate) fn new(sent: Arc<AtomicU64>, start_permit: StartPermit, kinds: Kinds) -> Self {
        Self { sent, slots: Arc::new(Semaphore::new(MAX_PARALLEL)), start_permit, kinds }
    }
}

impl<S> Layer<S> for RequestGuard {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, guard: self.clone() }
    }
}

/// A service with guarded requests.
pub(crate) struct Guarded<S> {
    inner: S,
    guard: RequestGuard,
}

/// A response of the API server.
type ApiResponse = Response<Box<DynBody>>;

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = ApiResponse, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = ApiResponse;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<ApiResponse, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let RequestGuard { sent, slots, start_permit, kinds } = self.guard.clone();
        let is_watch = is_watch(request.uri());
        let expected = Expected::of(request.method(), request.uri()).accepted(request.headers());
        let changes = request.method() != Method::GET;
        // Nothing is sent before the future is polled.
        let response = self.inner.call(request);
        async move {
            if is_watch {
                sent.fetch_add(1, Ordering::Relaxed);
                return watched(response.await?, expected, kinds).await;
            }
            let _slot = slots.acquire_owned().await?;
            if changes && start_permit.is_lost() {
                return Err(LockLost.into());
            }
            sent.fetch_add(1, Ordering::Relaxed);
            let checked = async { whole(response.await?, &expected, &kinds).await };
            timeout(TIME_LIMIT, checked).await.map_err(|_| ResponseTimeout(TIME_LIMIT))?
        }
        .boxed()
    }
}

/// Whether the request is a watch. A watch can last long, so it does not count among the parallel requests.
fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Reads and checks the whole response. Its connection is in use until then.
async fn whole(response: ApiResponse, expected: &Expected, kinds: &Kinds) -> Result<ApiResponse, BoxError> {
    let (head, body) = response.into_parts();
    if head.status.is_client_error() || head.status.is_server_error() {
        return failed(head, body, expected).await;
    }
    check_head(expected, head.status, &head.headers)?;
    let bytes = read(body, expected.limit()).await?;
    check_body(expected, kinds, head.status, &bytes)?;
    Ok(response_of(head, bytes))
}

/// Checks a failure and returns it with a `Status` as its body.
async fn failed(mut head: response::Parts, body: Box<DynBody>, expected: &Expected) -> Result<ApiResponse, BoxError> {
    let bytes = read(body, expected.limit()).await?;
    let bytes = match check_failure(expected, head.status, &head.headers, &bytes)? {
        Failure::Refused => bytes,
        Failure::Unavailable(why) => {
            let code = head.status.as_u16();
            let status =
                json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": why, "code": code });
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            head.headers.remove(CONTENT_LENGTH);
            Bytes::from(status.to_string())
        }
    };
    if let Some(status) = retry_after(&head.headers).and_then(|pause| with_pause(&bytes, pause)) {
        head.headers.remove(CONTENT_LENGTH);
        return Ok(response_of(head, status));
    }
    Ok(response_of(head, bytes))
}

/// Returns a `Status` with the pause that the server asks for, because an error does not contain the headers. `None` if the body is not a `Status`.
fn with_pause(body: &[u8], pause: Duration) -> Option<Bytes> {
    let mut status: Map<String, Json> = serde_json::from_slice(body).ok()?;
    status.get("kind").filter(|kind| *kind == "Status")?;
    let details = status.entry("details").or_insert(Json::Null);
    if details.is_null() {
        *details = json!({});
    }
    details.as_object_mut()?.insert("retryAfterSeconds".to_owned(), json!(u32::try_from(pause.as_secs()).ok()?));
    Some(Json::Object(status).to_string().into())
}

/// Returns the response of a watch. Each line is checked before it is passed on.
async fn watched(response: ApiResponse, expected: Expected, kinds: Kinds) -> Result<ApiResponse, BoxError> {
    let (head, body) = response.into_parts();
    if head.status.is_client_error() || head.status.is_server_error() {
        return timeout(TIME_LIMIT, failed(head, body, &expected)).await.map_err(|_| ResponseTimeout(TIME_LIMIT))?;
    }
    check_head(&expected, head.status, &head.headers)?;
    Ok(Response::from_parts(head, checked_lines(body, expected, kinds)))
}

fn checked_lines(body: Box<DynBody>, expected: Expected, kinds: Kinds) -> Box<DynBody> {
    let lines = Lines { chunks: body.into_data_stream().boxed(), buffer: Vec::new(), limit: OBJECT_LIMIT };
    let events = try_unfold(lines, |mut lines| async move { Ok(lines.next().await?.map(|line| (line, lines))) });
    let frames = events.map(move |line: Result<Vec<u8>, BoxError>| {
        let line = line?;
        // The last line of a watch can be cut off.
        if line.ends_with(b"\n") {
            check_event(&expected, &kinds, &line)?;
        }
        Ok(Frame::data(Bytes::from(line)))
    });
    Box::new(StreamBody::new(frames.boxed()))
}

fn read(body: Box<DynBody>, limit: usize) -> BoxFuture<'static, Result<Bytes, BoxError>> {
    let read = Limited::new(body, limit).collect().map(move |read| match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(InvalidResponse::TooLarge(limit).into()),
        Err(error) => Err(error),
    });
    read.boxed()
}

fn response_of(head: response::Parts, bytes: Bytes) -> ApiResponse {
    Response::from_parts(head, Box::new(Full::new(bytes).map_err(BoxError::from)) as Box<DynBody>)
}

/// The lines of a body.
struct Lines {
    chunks: BoxStream<'static, Result<Bytes, BoxError>>,
    buffer: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Returns the next line with its line break. The last line has none if the body was cut off.
    async fn next(&mut self) -> Result<Option<Vec<u8>>, BoxError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + end + 1);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            searched = self.buffer.len();
            match self.chunks.next().await {
                Some(chunk) => self.buffer.extend_from_slice(&chunk?),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.buffer))),
            }
            if self.buffer.len() > self.limit {
                return Err(InvalidResponse::TooLarge(self.limit).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use http::header::RETRY_AFTER;
    use moorfast_engine::state::{LockRequest, Store};
    use tower::{ServiceExt, service_fn};

    /// A valid response to every request of these tests.
    fn valid_response() -> ApiResponse {
        let body = r#"{"apiVersion":"v1","kind":"ConfigMapList","metadata":{},"items":[]}"#;
        respond(200, "application/json", body)
    }

    fn respond(status: u16, content_type: &str, body: &str) -> ApiResponse {
        let (head, ()) =
            Response::builder().status(status).header(CONTENT_TYPE, content_type).body(()).unwrap().into_parts();
        response_of(head, Bytes::from(body.to_owned()))
    }

    fn get(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn parallel_requests_are_limited_and_watches_are_not() {
        let (under_way, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let server = service_fn(|_: Request<Body>| {
            let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
            async move {
                most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                Ok(valid_response())
            }
        });
        let guard = RequestGuard::new(Arc::default(), StartPermit::default(), Kinds::default());
        let send = |request| guard.layer(server).oneshot(request);
        for answer in join_all((0..1000).map(|_| send(get("/api/v1/configmaps")))).await {
            answer.unwrap();
        }
        assert_eq!(most.swap(0, Ordering::Relaxed), MAX_PARALLEL as u64);
        assert_eq!(guard.sent.load(Ordering::Relaxed), 1000);

        join_all((0..100).map(|_| send(get("/api/v1/pods?&watch=true&timeoutSeconds=290")))).await;
        assert_eq!(most.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn without_the_lock_reads_are_sent_and_changes_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let lock = store.lock(LockRequest::new("apply"), Duration::ZERO).await.unwrap();
        let start_permit = StartPermit::default();
        start_permit.bind(lock.hold());
        let guard = RequestGuard::new(Arc::default(), start_permit, Kinds::default());
        let server = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(valid_response()) });
        let patch = || Request::patch("/api/v1/configmaps").body(Body::empty()).unwrap();
        guard.layer(server).oneshot(patch()).await.unwrap();
        store.force_unlock(&lock.info().id).await.unwrap();
        assert!(lock.remove("any").await.is_err(), "a write detects the lost lock");
        let error = guard.layer(server).oneshot(patch()).await.err().unwrap();
        assert!(error.is::<LockLost>(), "{error}");
        guard.layer(server).oneshot(get("/api/v1/configmaps")).await.unwrap();
        assert_eq!(guard.sent.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_times_out_and_a_watch_does_not() {
        let silent = service_fn(|_: Request<Body>| std::future::pending::<Result<ApiResponse, BoxError>>());
        let guard = RequestGuard::new(Arc::default(), StartPermit::default(), Kinds::default());
        let start = tokio::time::Instant::now();
        let error = guard.layer(silent).oneshot(get("/version")).await.err().unwrap();
        assert!(error.is::<ResponseTimeout>(), "{error}");
        assert_eq!(start.elapsed().as_secs(), TIME_LIMIT.as_secs());

        let watching = guard.layer(silent).oneshot(get("/api/v1/nodes?watch=true"));
        assert!(timeout(TIME_LIMIT * 5, watching).await.is_err());
    }

    #[test]
    fn watches_are_recognized_by_their_query() {
        for (uri, expected) in [
            ("/api?watch=true", true),
            ("/api?&limit=1&watch=true", true),
            ("/api?labelSelector=watch%3Dtrue", false),
            ("/api", false),
        ] {
            assert_eq!(is_watch(&uri.parse().unwrap()), expected, "{uri}");
        }
    }

    async fn outcome(request: Request<Body>, response: ApiResponse) -> String {
        let response = std::sync::Mutex::new(Some(response));
        let server = service_fn(|_: Request<Body>| {
            let response = response.lock().unwrap().take().unwrap();
            async { Ok::<_, BoxError>(response) }
        });
        let guarded = RequestGuard::new(Arc::default(), StartPermit::default(), Kinds::default()).layer(server);
        match guarded.oneshot(request).await {
            Ok(answer) => match answer.into_body().collect().await {
                Ok(body) => String::from_utf8(body.to_bytes().to_vec()).unwrap(),
                Err(error) => format!("broken: {error}"),
            },
            Err(error) => format!("refused: {error}"),
        }
    }

    #[tokio::test]
    async fn an_invalid_response_is_an_error() {
        let (pods, page) = ("/api/v1/pods", "<html>please log in</html>");
        let told_of = |answer| outcome(get(pods), answer);
        assert_eq!(told_of(respond(200, "text/html", page)).await, "refused: a page of type text/html (HTTP 200)");
        assert_eq!(told_of(respond(302, "text/html", "")).await, "refused: a redirect to (nowhere)");
        assert_eq!(told_of(respond(200, "application/json", "")).await, "refused: an empty body (HTTP 200)");
        let page = told_of(respond(503, "text/html", page)).await;
        assert!(
            page.contains(r#""message":"a page of type text/html (HTTP 503)""#) && !page.contains("log in"),
            "{page}"
        );
    }

    #[tokio::test]
    async fn a_failure_contains_the_pause_that_the_server_asks_for() {
        let asking = |body: &str| {
            let mut answer = respond(429, "application/json", body);
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("3600"));
            outcome(get("/api/v1/pods"), answer)
        };
        let pause = |text: String| serde_json::from_str::<Json>(&text).unwrap()["details"]["retryAfterSeconds"].clone();
        let status = r#"{"apiVersion":"v1","kind":"Status","status":"Failure","code":429"#;
        assert_eq!(pause(asking(&format!("{status}}}")).await), 3600);
        assert_eq!(
            pause(asking(&format!(r#"{status},"details":{{"retryAfterSeconds":1,"kind":"pods"}}}}"#)).await),
            3600
        );
        assert_eq!(pause(asking("too many").await), 3600, "a page of a gateway");
    }

    #[tokio::test]
    async fn the_size_of_a_response_is_limited() {
        let endless = || {
            let chunks =
                futures::stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[b'['; 65536]))));
            let mut answer = respond(200, "application/json", "");
            *answer.body_mut() = Box::new(StreamBody::new(chunks.boxed())) as Box<DynBody>;
            answer
        };
        assert_eq!(outcome(get("/api/v1/pods/a"), endless()).await, "refused: larger than 16 MiB");
        assert_eq!(outcome(get("/api/v1/pods"), endless()).await, "refused: larger than 64 MiB");
        assert_eq!(outcome(get("/api/v1/pods?watch=true"), endless()).await, "broken: larger than 16 MiB");
    }

    #[tokio::test]
    async fn the_lines_of_a_watch_are_checked_one_by_one() {
        let event = |name: &str| {
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "web"}});
            format!("{}\n", json!({ "type": "ADDED", "object": object }))
        };
        let watch = || get("/api/v1/namespaces/web/pods?watch=true&fieldSelector=metadata.name%3Da");
        let events = format!("{0}{0}{1}", event("a"), "{\"broken off");
        assert_eq!(outcome(watch(), respond(200, "application/json", &events)).await, events);
        let foreign = respond(200, "application/json", &event("b"));
        assert_eq!(outcome(watch(), foreign).await, "broken: a Pod of v1 web b, but a Pod of v1 web a was requested");
    }
}
