//! Which cluster, and the client for it.

use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use kube::Client;
use kube::client::{Body, ClientBuilder, DynBody};
use moorfast_kubeconfig::{Access, Origin, Source};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tower::buffer::BufferLayer;
use tower::layer::layer_fn;
use tower::{BoxError, Service};

use crate::StateError;
use crate::remote::objects::LARGEST_ANSWER;

/// How long a connection may take to come about, and an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// How many requests may wait for the connection.
const QUEUE: usize = 64;

/// How large an answer may be, in bytes: a Secret in base64, or the names of all.
const LARGEST: usize = 2 * LARGEST_ANSWER;

/// The longest name: those of the shards are longer and must still be names.
const LONGEST: usize = 40;

/// Where in which cluster the state is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// What the names of its objects begin with. Another name in the same namespace is another state.
    #[serde(default = "default_name")]
    pub name: String,
    /// The namespace, which must exist. None means that of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The kubeconfig file. None means `$KUBECONFIG`, `~/.kube/config` or the ServiceAccount of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. None means its current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

fn default_name() -> String {
    "moorfast".to_owned()
}

type Answer = Response<Box<DynBody>>;

/// A service whose answers are whole, of bounded size, and arrive in time: a server that sends a byte now and then is never silent.
struct Whole<S>(S);

impl<S> Service<Request<Body>> for Whole<S>
where
    S: Service<Request<Body>, Response = Answer, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.0.call(request);
        let whole = async move {
            let (head, body) = answer.await?.into_parts();
            // In a box, since the compiler does not see otherwise that the future is `Send`.
            let bytes = Limited::new(body, LARGEST).map_err(BoxError::from).boxed_unsync().collect().await?.to_bytes();
            Ok(Response::from_parts(head, Box::new(Full::new(bytes).map_err(BoxError::from)) as Box<DynBody>))
        };
        async move { timeout(ANSWER, whole).await? }.boxed()
    }
}

impl Kubernetes {
    /// A client, and the namespace that it is for.
    pub(crate) async fn client(&self) -> Result<(Client, String), StateError> {
        self.check_name()?;
        // Somebody else in this process may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Access { mut config, login } = self.access().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.write_timeout = Some(ANSWER);
        // Whether to ask again is decided where it is known what an answer that was lost means.
        config.default_retry = false;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let renewal = login.renewal(&config);
        let builder = ClientBuilder::try_from(config).map_err(|error| {
            StateError::Config(format!("the backend cannot make a client for the cluster: {error}"))
        })?;
        let client = builder.with_layer(&renewal).with_layer(&layer_fn(Whole));
        let client = client.with_layer(&BufferLayer::new(QUEUE)).with_layer(&login.layer()).build();
        Ok((client, namespace))
    }

    async fn access(&self) -> Result<Access, StateError> {
        let origin = self.kubeconfig.clone().map_or(Origin::Default, Origin::File);
        let source = Source { origin, context: self.context.clone() };
        let subject = |summary: String| match summary.starts_with("cannot ") {
            true => format!("the backend {summary}"),
            false => summary,
        };
        source.open().await.map_err(|error| StateError::Config(subject(error.summary)))
    }

    fn check_name(&self) -> Result<(), StateError> {
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let edges = self.name.starts_with('-') || self.name.ends_with('-') || self.name.is_empty();
        if edges || self.name.len() > LONGEST || !self.name.chars().all(fits) {
            return Err(StateError::Config(format!(
                "`{}` is no name for the objects of a state: use up to {LONGEST} lowercase letters, digits and dashes",
                self.name
            )));
        }
        Ok(())
    }
}
