//! What every exchange with the API server is held to: it is counted, only so many are under way at once, it ends, and it changes nothing without leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use kube::client::{Body, DynBody};
use moorfast_engine::Leave;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tower::{BoxError, Layer, Service};

/// How many exchanges are under way at once. Each has a connection of its own, and open files are few.
const AT_ONCE: usize = 32;
/// How long one exchange may take. The API server itself gives up after 60 seconds, and says so: for a node that does not answer its proxy, for a
/// webhook. Where nothing comes back by then nothing will.
const LONGEST: Duration = Duration::from_secs(65);

/// The largest answer, in bytes. The pods of a large cluster are some 100 MiB.
const LARGEST: usize = 256 << 20;

/// The API server took the request and did not answer.
#[derive(Debug, thiserror::Error)]
#[error("it took the request and gave no answer within {0:?}")]
pub(crate) struct NoAnswer(pub(crate) Duration);

/// The API server answers without end.
#[derive(Debug, thiserror::Error)]
#[error("its answer is larger than 256 MiB")]
pub(crate) struct TooLarge;

/// What would change something was not sent, because the lock of this run is lost.
#[derive(Debug, thiserror::Error)]
#[error("the lock of this run is lost")]
pub(crate) struct NoLeave;

/// What the exchanges of one client share.
#[derive(Clone, Debug)]
pub(crate) struct Exchanges {
    sent: Arc<AtomicU64>,
    slots: Arc<Semaphore>,
    leave: Leave,
}

impl Exchanges {
    /// Exchanges that are counted in `sent`, and change something as long as there is leave.
    pub(crate) fn counted_in(sent: Arc<AtomicU64>, leave: Leave) -> Self {
        Self { sent, slots: Arc::new(Semaphore::new(AT_ONCE)), leave }
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
        let Exchanges { sent, slots, leave } = self.exchanges.clone();
        let is_watch = is_watch(request.uri());
        let changes = request.method() != Method::GET;
        // Nothing is sent before this is polled.
        let answer = self.inner.call(request);
        async move {
            if is_watch {
                sent.fetch_add(1, Ordering::Relaxed);
                return Ok(answer.await?.map(limited));
            }
            let _slot = slots.acquire_owned().await?;
            if changes && leave.is_lost() {
                return Err(NoLeave.into());
            }
            sent.fetch_add(1, Ordering::Relaxed);
            let exchange = async { whole(answer.await?).await };
            timeout(LONGEST, exchange).await.map_err(|_| NoAnswer(LONGEST))?
        }
        .boxed()
    }
}

/// A watch lasts as long as somebody waits, and so must not keep others from their turn.
fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true"))
}

/// `answer` when all of it is here: before that its connection is in use.
async fn whole(answer: Answer) -> Result<Answer, BoxError> {
    let (head, body) = answer.into_parts();
    let bytes = limited(body).collect().await.map_err(too_large)?.to_bytes();
    Ok(Response::from_parts(head, Box::new(Full::new(bytes).map_err(BoxError::from)) as Box<DynBody>))
}

fn limited(body: Box<DynBody>) -> Box<DynBody> {
    Box::new(Limited::new(body, LARGEST))
}

fn too_large(error: BoxError) -> BoxError {
    if error.is::<LengthLimitError>() { TooLarge.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join_all;
    use moorfast_engine::state::{LockRequest, Store};
    use tower::{ServiceExt, service_fn};

    fn answer() -> Answer {
        Response::new(Box::new(Full::default().map_err(BoxError::from)))
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
        let exchanges = Exchanges::counted_in(Arc::default(), Leave::default());
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
        let leave = Leave::default();
        leave.bind(lock.hold());
        let exchanges = Exchanges::counted_in(Arc::default(), leave);
        let server = service_fn(|_: Request<Body>| async { Ok::<_, BoxError>(answer()) });
        let patch = || Request::patch("/api/v1/namespaces/a").body(Body::empty()).unwrap();
        exchanges.layer(server).oneshot(patch()).await.unwrap();
        store.force_unlock(&lock.info().id).await.unwrap();
        assert!(lock.remove("any").await.is_err(), "it is noticed by a write");
        let error = exchanges.layer(server).oneshot(patch()).await.err().unwrap();
        assert!(error.is::<NoLeave>(), "{error}");
        exchanges.layer(server).oneshot(get("/api/v1/namespaces/a")).await.unwrap();
        assert_eq!(exchanges.sent.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn an_answer_without_end_is_an_error() {
        let endless = service_fn(|_: Request<Body>| async {
            let body = Full::new(vec![0_u8; LARGEST + 1].into()).map_err(BoxError::from);
            Ok::<_, BoxError>(Response::new(Box::new(body) as Box<DynBody>))
        });
        let exchanges = Exchanges::counted_in(Arc::default(), Leave::default());
        let error = exchanges.layer(endless).oneshot(get("/version")).await.err().unwrap();
        assert!(error.is::<TooLarge>(), "{error}");
        let watch = exchanges.layer(endless).oneshot(get("/api?watch=true")).await.unwrap();
        assert!(watch.into_body().collect().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_a_request_and_no_watch() {
        let silent = service_fn(|_: Request<Body>| std::future::pending::<Result<Answer, BoxError>>());
        let exchanges = Exchanges::counted_in(Arc::default(), Leave::default());
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
}
