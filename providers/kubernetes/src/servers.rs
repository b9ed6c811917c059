//! The API servers of a cluster: a request that cannot reach one of them goes to the next one, and so does the retry of one that is not served.

use std::error::Error as StdError;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_util::client::legacy;
use kube::client::{Body, Client, DynBody};
use tower::{BoxError, Service};

use crate::error::{NoneReached, certificate_error, innermost, sources};
use crate::retry::{copy_of, is_not_served};
use crate::server_urls::ServerUrls;

/// The clients of all API servers, as one service.
#[derive(Clone)]
pub(crate) struct Servers {
    urls: ServerUrls,
    clients: Arc<[Client]>,
}

impl Servers {
    /// Combines one client for each URL.
    pub(crate) fn new(urls: ServerUrls, clients: impl IntoIterator<Item = Client>) -> Self {
        Self { urls, clients: clients.into_iter().collect() }
    }

    /// Sends the request to the server that is in use. If that cannot be reached, or does not serve, the next one is used from now on.
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let first = self.urls.current_index();
        let mut reasons = vec![String::new(); self.clients.len()];
        for turn in 0..self.clients.len() {
            let index = (first + turn) % self.clients.len();
            let copy = copy_of(&request).ok_or("the body of the request cannot be sent again")?;
            let error = match self.clients[index].send(copy).await {
                Err(error) if self.clients.len() > 1 && is_unreached(&error) => error,
                answered => {
                    let response = answered?;
                    if is_not_served(&request, &response) {
                        self.urls.pass_over(index);
                    }
                    return Ok(response);
                }
            };
            reasons[index] = format!("{} ({})", self.urls.get(index), innermost(&error));
            self.urls.pass_over(index);
        }
        Err(NoneReached(reasons).into())
    }
}

/// Whether nothing was sent, because there was no connection. A server whose certificate is wrong is not passed over: somebody may pretend to be it.
fn is_unreached(error: &(dyn StdError + 'static)) -> bool {
    let mut errors = sources(error).filter_map(|e| e.downcast_ref::<legacy::Error>());
    errors.any(legacy::Error::is_connect) && certificate_error(error).is_none()
}

impl Service<Request<Body>> for Servers {
    type Response = Response<Box<DynBody>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let servers = self.clone();
        async move {
            let response = servers.send(request).await?;
            Ok(response.map(|body| Box::new(body.map_err(BoxError::from)) as Box<DynBody>))
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use kube::Config;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Starts a server whose answers have this body, and returns its URL.
    async fn server(body: &'static str) -> String {
        server_with("200 OK", body).await
    }

    /// Starts a server whose answers have this status and this body, and returns its URL.
    async fn server_with(status: &'static str, body: &'static str) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        format!("http://{address}")
    }

    /// Returns the URL of a port on which nothing listens.
    fn nobody() -> String {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        format!("http://{address}")
    }

    fn servers(urls: &[&String]) -> Servers {
        let client = |url: &&String| {
            let mut config = Config::new(url.parse().unwrap());
            config.default_retry = false;
            Client::try_from(config).unwrap()
        };
        Servers::new(ServerUrls::new(urls.iter().map(ToString::to_string)), urls.iter().map(client))
    }

    async fn answer(servers: &Servers) -> Result<String, String> {
        let request = Request::get("/version").body(Body::from(b"{}".to_vec())).unwrap();
        let response = servers.send(request).await.map_err(|error| error.to_string())?;
        let body = response.into_body().collect().await.unwrap().to_bytes();
        Ok(String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn the_next_server_is_used_from_then_on_if_one_cannot_be_reached() {
        let (down, second, third) = (nobody(), server("second").await, server("third").await);
        let servers = servers(&[&down, &second, &third]);
        assert_eq!(servers.urls.current(), down);
        assert_eq!(answer(&servers).await.unwrap(), "second");
        assert_eq!(servers.urls.current(), second);
        assert_eq!(answer(&servers).await.unwrap(), "second");
    }

    #[tokio::test]
    async fn the_retry_of_a_request_that_is_not_served_goes_to_the_next_server() {
        let (starting, second) = (server_with("503 Service Unavailable", "starting").await, server("second").await);
        let servers = servers(&[&starting, &second]);
        assert_eq!(answer(&servers).await.unwrap(), "starting");
        assert_eq!(answer(&servers).await.unwrap(), "second");
    }

    #[tokio::test]
    async fn after_the_last_server_comes_the_first_one() {
        let (first, down) = (server("first").await, nobody());
        let servers = servers(&[&first, &down]);
        servers.urls.pass_over(0);
        assert_eq!(answer(&servers).await.unwrap(), "first");
    }

    #[tokio::test]
    async fn the_error_names_all_servers_if_none_can_be_reached() {
        let (one, two) = (nobody(), nobody());
        let both = servers(&[&one, &two]);
        let error = answer(&both).await.unwrap_err();
        assert_eq!(error, format!("{one} (connection refused), {two} (connection refused)"));
        assert_eq!(both.urls.current(), one);
        let only = answer(&servers(&[&one])).await.unwrap_err();
        assert!(!only.contains(&one), "the error of the client itself: {only}");
    }
}
