//! The location of a state in a cluster, and the client for it.

use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use kube::Client;
use kube::client::{Body, ClientBuilder, DynBody};
use moorfast_kubeconfig::{Access, Origin, Source};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;
use tower::buffer::BufferLayer;
use tower::layer::layer_fn;
use tower::{BoxError, Service};

use crate::remote::objects::LARGEST_ANSWER;
use crate::{EnvironmentName, StateError};

/// The limits for opening a connection and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(15);
/// The maximum number of requests that wait for the connection.
const QUEUE: usize = 64;

/// The maximum size of an answer in bytes: a Secret in base64, or a list of names.
const LARGEST: usize = 2 * LARGEST_ANSWER;

/// The explanation of an answer that comes from a gateway before the API server.
pub(super) const NOT_AN_API_SERVER: &str =
    "the answer is not from an API server, but for example from a proxy or a login page";

/// The maximum length of the name. The names of shards are longer and must be valid too.
const LONGEST: usize = 40;
/// The maximum length of the name with the environment, which is the value of a label.
const LONGEST_LABEL: usize = 63;

/// The location of a state in a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kubernetes {
    /// The prefix of the object names. Another name in the same namespace is another state.
    #[serde(default = "default_name")]
    pub name: String,
    /// The namespace, which must exist. Default: that of the context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The kubeconfig file. Default: `$KUBECONFIG`, `~/.kube/config` or the ServiceAccount of the pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig. Default: the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The environment. Its name is a part of the object names, so that each environment has a state of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
}

fn default_name() -> String {
    "moorfast".to_owned()
}

type Answer = Response<Box<DynBody>>;

/// A service that reads complete answers up to a size and a time. A read timeout alone does not stop a server that sends a byte now and then.
struct Bounded<S>(S);

impl<S> Service<Request<Body>> for Bounded<S>
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
        let complete = async move {
            let (head, body) = answer.await?.into_parts();
            // Boxed, because the compiler cannot prove otherwise that the future is `Send`.
            let bytes = Limited::new(body, LARGEST).map_err(BoxError::from).boxed_unsync().collect().await?.to_bytes();
            check_status(head.status, &bytes)?;
            Ok(Response::from_parts(head, Box::new(Full::new(bytes).map_err(BoxError::from)) as Box<DynBody>))
        };
        async move { timeout(ANSWER, complete).await? }.boxed()
    }
}

/// Checks that an error is a `Status` of the API server. The 404 of a gateway before it does not mean that an object does not exist.
fn check_status(status: StatusCode, body: &[u8]) -> Result<(), BoxError> {
    let refused = status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS;
    let is_status = || serde_json::from_slice::<Value>(body).is_ok_and(|body| body["kind"] == "Status");
    if !status.is_redirection() && (!refused || is_status()) {
        return Ok(());
    }
    Err(format!("{NOT_AN_API_SERVER}: it is {status}").into())
}

impl Kubernetes {
    /// Returns the name of the head, with which the names of all objects begin: `NAME`, or `ENVIRONMENT.NAME`.
    ///
    /// No other name contains a dot, so no object of an environment has the name of an object of another one. With the environment at the end, the key of `prod`
    /// would have the name of the head of `prod-key`.
    pub(crate) fn state_name(&self) -> String {
        match &self.environment {
            Some(environment) => format!("{environment}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// Returns a client and its namespace.
    pub(crate) async fn client(&self) -> Result<(Client, String), StateError> {
        self.check_name()?;
        // Fails if a provider is already installed in this process, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Access { mut config, login } = self.access().await?;
        config.connect_timeout = Some(CONNECT);
        config.read_timeout = Some(ANSWER);
        config.write_timeout = Some(ANSWER);
        // No retries here: the caller decides, because it knows what a lost answer means.
        config.default_retry = false;
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let renewal = login.renewal(&config);
        let builder = ClientBuilder::try_from(config).map_err(|error| {
            StateError::Config(format!("the backend cannot create a client for the cluster: {error}"))
        })?;
        let client = builder.with_layer(&renewal).with_layer(&layer_fn(Bounded));
        let client = client.with_layer(&BufferLayer::new(QUEUE)).with_layer(&login).build();
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
                "`{}` is not a valid name for a state: use up to {LONGEST} lowercase letters, digits and dashes",
                self.name
            )));
        }
        if self.state_name().len() > LONGEST_LABEL {
            return Err(StateError::Config(format!(
                "`{}` is too long for the name of a state with its environment: use up to {LONGEST_LABEL} characters",
                self.state_name()
            )));
        }
        Ok(())
    }
}
