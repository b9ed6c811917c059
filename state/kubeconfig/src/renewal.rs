//! Renewal of client certificates: new connections with the current certificate.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use kube::Config;
use kube::client::{Body, Client, ClientBuilder, DynBody};
use tokio::sync::Mutex;
use tower::{BoxError, Layer, Service};

use crate::Login;
use crate::login::Certificate;

/// The layer that replaces the connections of a client after its certificate was renewed.
#[derive(Clone)]
pub struct RenewalLayer(Option<Arc<Connections>>);

/// A service with the current client certificate.
pub struct Renewal<S> {
    inner: S,
    renewed: Option<Arc<Connections>>,
}

/// Connections with a client certificate of an exec plugin.
struct Connections {
    login: Login,
    config: Config,
    current: Mutex<Option<(Option<Certificate>, Client)>>,
}

impl Login {
    /// Returns the innermost layer of a client with `config`. It connects again after a client certificate of an exec plugin was renewed.
    pub fn renewal(&self, config: &Config) -> RenewalLayer {
        let is_renewed = config.auth_info.client_certificate_data.is_some() && self.is_plugin();
        let connections = || Connections { login: self.clone(), config: config.clone(), current: Mutex::new(None) };
        RenewalLayer(is_renewed.then(|| Arc::new(connections())))
    }
}

impl<S> Layer<S> for RenewalLayer {
    type Service = Renewal<S>;

    fn layer(&self, inner: S) -> Renewal<S> {
        Renewal { inner, renewed: self.0.clone() }
    }
}

impl Connections {
    /// Returns a client with the current certificate. The connections of an older certificate are closed, because the server refuses them after its
    /// expiry.
    async fn client(&self) -> Result<Client, BoxError> {
        let mut current = self.current.lock().await;
        let certificate = self.login.certificate().await?;
        if let Some((known, client)) = &*current
            && *known == certificate
        {
            return Ok(client.clone());
        }
        let mut config = self.config.clone();
        if let Some(certificate) = &certificate {
            certificate.set(&mut config.auth_info);
        }
        let client: Client = ClientBuilder::try_from(config)?.build();
        *current = Some((certificate, client.clone()));
        Ok(client)
    }
}

impl<S> Service<Request<Body>> for Renewal<S>
where
    S: Service<Request<Body>, Response = Response<Box<DynBody>>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(connections) = self.renewed.clone() else { return self.inner.call(request).boxed() };
        async move {
            let response = connections.client().await?.send(request).await?;
            Ok(response.map(|body| Box::new(body.map_err(BoxError::from)) as Box<DynBody>))
        }
        .boxed()
    }
}
