//! What every exchange with the API server is held to: it is counted, only so many are under way at once, it ends, its answer is one of an API server
//! to what was asked, and it changes nothing without leave.

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
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

use crate::answer::{Asked, Failure, Kinds, Misanswer, OBJECT_LIMIT, judge, judge_event, judge_failure, judge_head};

/// How many exchanges are under way at once. Each has a connection of its own, and open files are few.
const AT_ONCE: usize = 32;
/// How long one exchange may take. The API server itself gives up after 60 seconds, and says so: for a node that does not answer its proxy, for a
/// webhook. Where nothing comes back by then nothing will.
const LONGEST: Duration = Duration::from_secs(65);

/// The API server took the request and did not answer.
#[derive(Debug, thiserror::Error)]
#[error("it took the request and gave no answer within {0:?}")]
pub(crate) struct NoAnswer(pub(crate) Duration);

/// What would change something was not sent, because the lock of this run is lost.
#[derive(Debug, thiserror::Error)]
#[error("the lock of this run is lost")]
pub(crate) struct NoLeave;

/// What the exchanges of one client share.
#[derive(Clone, Debug)]
pub(crate) struct Exchanges {
    sent: Arc<AtomicU64>,
    slots: Arc<Semaphore>,
    leave: StartPermit,
    kinds: Kinds,
}

impl Exchanges {
    /// Exchanges that are counted in `sent`, change something as long as there is leave, and answer with objects of these kinds.
    pub(crate) fn counted_in(sent: Arc<AtomicU64>, leave: StartPermit, kinds: Kinds) -> Self {
        Self { sent, slots: Arc::new(Semaphore::new(AT_ONCE)), leave, kinds }
    }
}

impl<S> Layer<S> for Exchanges {
    type Service = Held<S>;

    fn layer(&self, inner: S) -> Held<S> {
        Held { inner, exchanges: self.clone() }
    }
}

/// A service whose exchanges are held to that.
pub(crate) struct Held<S> {
    inner: S,
    exchanges: Exchanges,
}

/// What the API server answers.
type Answer = Response<Box<DynBody>>;

impl<S> Service<Request<Body>> for Held<S>
where
    S: Service<Request<Body>, Response = Answer, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Exchanges { sent, slots, leave, kinds } = self.exchanges.clone();
        let is_watch = is_watch(request.uri());
        let asked = Asked::of(request.method(), request.uri()).accepted(request.headers());
        let changes = request.method() != Method::GET;
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        async move {
            if is_watch {
                sent.fetch_add(1, Ordering::Relaxed);
                return watched(answer.await?, asked, kinds).await;
            }
            let _slot = slots.acquire_owned().await?;
            if changes && leave.is_lost() {
                return Err(NoLeave.into());
            }
            sent.fetch_add(1, Ordering::Relaxed);
            let exchange = async { whole(answer.await?, &asked, &kinds).await };
            timeout(LONGEST, exchange).await.map_err(|_| NoAnswer(LONGEST))?
        }
        .boxed()
    }
}

/// A watch lasts as long as somebody waits, and so must not keep others from their turn.
fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// Returns `answer` once all of it is here and judged: before that its connection is in use.
async fn whole(answer: Answer, asked: &Asked, kinds: &Kinds) -> Result<Answer, BoxError> {
    let (head, body) = answer.into_parts();
    if head.status.is_client_error() || head.status.is_server_error() {
        return failed(head, body, asked).await;
    }
    judge_head(asked, head.status, &head.headers)?;
    let bytes = read(body, asked.limit()).await?;
    judge(asked, kinds, head.status, &bytes)?;
    Ok(answer_of(head, bytes))
}

/// Returns the answer that is a failure, as the Status that an API server gives.
async fn failed(mut head: response::Parts, body: Box<DynBody>, asked: &Asked) -> Result<Answer, BoxError> {
    let bytes = read(body, asked.limit()).await?;
    let bytes = match judge_failure(asked, head.status, &head.headers, &bytes)? {
        Failure::Refusal => bytes,
        Failure::Inability(why) => {
            let code = head.status.as_u16();
            let status =
                json!({ "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": why, "code": code });
            head.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            head.headers.remove(CONTENT_LENGTH);
            Bytes::from(status.to_string())
        }
    };
    Ok(answer_of(head, bytes))
}

/// Returns the answer of a watch, whose every line is judged before it is passed on.
async fn watched(answer: Answer, asked: Asked, kinds: Kinds) -> Result<Answer, BoxError> {
    let (head, body) = answer.into_parts();
    if head.status.is_client_error() || head.status.is_server_error() {
        return timeout(LONGEST, failed(head, body, &asked)).await.map_err(|_| NoAnswer(LONGEST))?;
    }
    judge_head(&asked, head.status, &head.headers)?;
    Ok(Response::from_parts(head, judged_lines(body, asked, kinds)))
}

fn judged_lines(body: Box<DynBody>, asked: Asked, kinds: Kinds) -> Box<DynBody> {
    let lines = Lines { chunks: body.into_data_stream().boxed(), buffer: Vec::new(), limit: OBJECT_LIMIT };
    let events = try_unfold(lines, |mut lines| async move { Ok(lines.next().await?.map(|line| (line, lines))) });
    let frames = events.map(move |line: Result<Vec<u8>, BoxError>| {
        let line = line?;
        // The last line of a watch may be broken off.
        if line.ends_with(b"\n") {
            judge_event(&asked, &kinds, &line)?;
        }
        Ok(Frame::data(Bytes::from(line)))
    });
    Box::new(StreamBody::new(frames.boxed()))
}

fn read(body: Box<DynBody>, limit: usize) -> BoxFuture<'static, Result<Bytes, BoxError>> {
    let read = Limited::new(body, limit).collect().map(move |read| match read {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Misanswer::TooLarge(limit).into()),
        Err(error) => Err(error),
    });
    read.boxed()
}

fn answer_of(head: response::Parts, bytes: Bytes) -> Answer {
    Response::from_parts(head, Box::new(Full::new(bytes).map_err(BoxError::from)) as Box<DynBody>)
}

/// The lines of a body.
struct Lines {
    chunks: BoxStream<'static, Result<Bytes, BoxError>>,
    buffer: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// Returns the next line with its end; the last one may have none, where the body broke off.
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
                return Err(Misanswer::TooLarge(self.limit).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use moorfast_engine::state::{LockRequest, Store};
    use tower::{ServiceExt, service_fn};

    /// An answer to every request of these tests.
    fn answer() -> Answer {
        let body = r#"{"apiVersion":"v1","kind":"ConfigMapList","metadata":{},"items":[]}"#;
        answered(200, "application/json", body)
    }

    fn answered(status: u16, content_type: &str, body: &str) -> Answer {
        let (head, ()) =
            Response::builder().status(status).header(CONTENT_TYPE, content_type).body(()).unwrap().into_parts();
        answer_of(head, Bytes::from(body.to_owned()))
    }

    fn get(path: &str) -> Request<Body> {
        Request::get(path).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_thousand_requests_take_turns_and_watches_are_apart() {
        let (under_way, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let server = service_fn(|_: Request<Body>| {
            let (under_way, most) = (Arc::clone(&under_way), Arc::clone(&most));
            async move {
                most.fetch_max(under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                under_way.fetch_sub(1, Ordering::Relaxed);
                Ok(answer())
            }
        });
        let exchanges = Exchanges::counted_in(Arc::default(), StartPermit::default(), Kinds::default());
        let held = |request| exchanges.layer(server).oneshot(request);
        for answer in join_all((0..1000).map(|_| held(get("/api/v1/configmaps")))).await {
            answer.unwrap();
        }
        assert_eq!(most.swap(0, Ordering::Relaxed), AT_ONCE as u64);
        assert_eq!(exchanges.sent.load(Ordering::Relaxed), 1000);

        join_all((0..100).map(|_| held(get("/api/v1/pods?&watch=true&timeoutSeconds=290")))).await;
        assert_eq!(most.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn without_the_lock_things_are_looked_at_and_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let lock = store.lock(LockRequest::new("apply"), Duration::ZERO).await.unwrap();
        let leave = StartPermit::default();
        leave.bind(lock.hold());
        let exchanges = Exchanges::counted_in(Arc::default(), leave, Kinds::default());
        let server = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(answer()) });
        let patch = || Request::patch("/api/v1/configmaps").body(Body::empty()).unwrap();
        exchanges.layer(server).oneshot(patch()).await.unwrap();
        store.force_unlock(&lock.info().id).await.unwrap();
        assert!(lock.remove("any").await.is_err(), "it is noticed by a write");
        let error = exchanges.layer(server).oneshot(patch()).await.err().unwrap();
        assert!(error.is::<NoLeave>(), "{error}");
        exchanges.layer(server).oneshot(get("/api/v1/configmaps")).await.unwrap();
        assert_eq!(exchanges.sent.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_request_and_no_watch() {
        let silent = service_fn(|_: Request<Body>| std::future::pending::<Result<Answer, BoxError>>());
        let exchanges = Exchanges::counted_in(Arc::default(), StartPermit::default(), Kinds::default());
        let begin = tokio::time::Instant::now();
        let error = exchanges.layer(silent).oneshot(get("/version")).await.err().unwrap();
        assert!(error.is::<NoAnswer>(), "{error}");
        assert_eq!(begin.elapsed().as_secs(), LONGEST.as_secs());

        let watching = exchanges.layer(silent).oneshot(get("/api/v1/nodes?watch=true"));
        assert!(timeout(LONGEST * 5, watching).await.is_err());
    }

    #[test]
    fn watches_are_known_by_their_query() {
        for (uri, expected) in [
            ("/api?watch=true", true),
            ("/api?&limit=1&watch=true", true),
            ("/api?labelSelector=watch%3Dtrue", false),
            ("/api", false),
        ] {
            assert_eq!(is_watch(&uri.parse().unwrap()), expected, "{uri}");
        }
    }

    async fn told(request: Request<Body>, answer: Answer) -> String {
        let answer = std::sync::Mutex::new(Some(answer));
        let server = service_fn(|_: Request<Body>| {
            let answer = answer.lock().unwrap().take().unwrap();
            async { Ok::<_, BoxError>(answer) }
        });
        let held = Exchanges::counted_in(Arc::default(), StartPermit::default(), Kinds::default()).layer(server);
        match held.oneshot(request).await {
            Ok(answer) => match answer.into_body().collect().await {
                Ok(body) => String::from_utf8(body.to_bytes().to_vec()).unwrap(),
                Err(error) => format!("broken: {error}"),
            },
            Err(error) => format!("refused: {error}"),
        }
    }

    #[tokio::test]
    async fn what_is_not_an_answer_of_an_api_server_ends_the_exchange() {
        let (pods, page) = ("/api/v1/pods", "<html>please log in</html>");
        let told_of = |answer| told(get(pods), answer);
        assert_eq!(told_of(answered(200, "text/html", page)).await, "refused: a page of type text/html (HTTP 200)");
        assert_eq!(told_of(answered(302, "text/html", "")).await, "refused: a redirect to (nowhere)");
        assert_eq!(told_of(answered(200, "application/json", "")).await, "refused: an empty body (HTTP 200)");
        let page = told_of(answered(503, "text/html", page)).await;
        assert!(
            page.contains(r#""message":"a page of type text/html (HTTP 503)""#) && !page.contains("log in"),
            "{page}"
        );
    }

    #[tokio::test]
    async fn an_answer_without_end_is_not_read_to_its_end() {
        let endless = || {
            let chunks =
                futures::stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from_static(&[b'['; 65536]))));
            let mut answer = answered(200, "application/json", "");
            *answer.body_mut() = Box::new(StreamBody::new(chunks.boxed())) as Box<DynBody>;
            answer
        };
        assert_eq!(told(get("/api/v1/pods/a"), endless()).await, "refused: larger than 16 MiB");
        assert_eq!(told(get("/api/v1/pods"), endless()).await, "refused: larger than 64 MiB");
        assert_eq!(told(get("/api/v1/pods?watch=true"), endless()).await, "broken: larger than 16 MiB");
    }

    #[tokio::test]
    async fn the_lines_of_a_watch_are_judged_one_by_one() {
        let event = |name: &str| {
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "web"}});
            format!("{}\n", json!({ "type": "ADDED", "object": object }))
        };
        let watch = || get("/api/v1/namespaces/web/pods?watch=true&fieldSelector=metadata.name%3Da");
        let events = format!("{0}{0}{1}", event("a"), "{\"broken off");
        assert_eq!(told(watch(), answered(200, "application/json", &events)).await, events);
        let foreign = answered(200, "application/json", &event("b"));
        assert_eq!(told(watch(), foreign).await, "broken: a Pod of v1 web b, where a Pod of v1 web a was asked for");
    }
}
