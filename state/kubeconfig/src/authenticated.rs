//! The credentials of a login on every request.

use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::{BoxFuture, poll_fn};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Request, Response, StatusCode};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use crate::Login;

/// A service that adds the credentials to requests.
///
/// Credentials of an exec plugin may have no expiry. If the server refuses them, the plugin runs again, as with kubectl, and the request is repeated
/// with the new credentials.
#[derive(Clone)]
pub struct Authenticated<S> {
    inner: S,
    login: Login,
}

impl<S> Layer<S> for Login {
    type Service = Authenticated<S>;

    fn layer(&self, inner: S) -> Authenticated<S> {
        Authenticated { inner, login: self.clone() }
    }
}

impl<S, B> Service<Request<Body>> for Authenticated<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let login = self.login.clone();
        let next = self.inner.clone();
        // The service that is ready, not its clone.
        let mut inner = std::mem::replace(&mut self.inner, next);
        async move {
            let Some(issued) = login.issued().await? else {
                return inner.call(with_header(request, login.header().await?)).await;
            };
            let again = copy(&request);
            let response = inner.call(with_header(request, issued.header.clone())).await?;
            let Some(again) = again.filter(|_| response.status() == StatusCode::UNAUTHORIZED) else {
                return Ok(response);
            };
            let Some(issued) = login.replacement(&issued).await? else { return Ok(response) };
            drop(response);
            poll_fn(|context| inner.poll_ready(context)).await?;
            inner.call(with_header(again, issued.header)).await
        }
        .boxed()
    }
}

fn with_header(mut request: Request<Body>, header: Option<HeaderValue>) -> Request<Body> {
    if let Some(header) = header {
        request.headers_mut().insert(AUTHORIZATION, header);
    }
    request
}

/// Returns a copy of a request. Returns `None` if its body is a stream.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut copy = Request::new(request.body().try_clone()?);
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy.extensions_mut().clone_from(request.extensions());
    Some(copy)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use kube::config::AuthInfo;
    use serde_json::json;
    use tower::service_fn;

    use super::*;

    /// Sends two requests with the credentials of a plugin whose Nth run prints the token `t-N`, at most `t-LAST`. The server accepts only `accepted`.
    /// Returns the status of the answers, and the tokens that the server got.
    async fn answers(accepted: &'static str, last: usize) -> (Vec<u16>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let version = "client.authentication.k8s.io/v1";
        let credential = json!({"kind": "ExecCredential", "apiVersion": version, "status": {"token": "t-N"}});
        let script = format!(
            "echo >>{0}; n=$(wc -l <{0}); [ $n -gt {last} ] && n={last}; echo '{credential}' | sed \"s/t-N/t-$n/\"",
            runs.display()
        );
        let exec = json!({"apiVersion": version, "command": "sh", "args": ["-c", script]});
        let mut user: AuthInfo = serde_json::from_value(json!({ "exec": exec })).unwrap();
        let login = Login::take(&mut user).await.unwrap();
        let tokens = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&tokens);
        let server = service_fn(move |request: Request<Body>| {
            let token = request.headers()[AUTHORIZATION].to_str().unwrap().trim_start_matches("Bearer ").to_owned();
            let status = if token == accepted { StatusCode::OK } else { StatusCode::UNAUTHORIZED };
            seen.lock().unwrap().push(token);
            async move { Ok::<_, BoxError>(Response::builder().status(status).body(())?) }
        });
        let mut client = login.layer(server);
        let mut answers = Vec::new();
        for _ in 0..2 {
            let request = Request::new(Body::from(b"body".to_vec()));
            answers.push(client.call(request).await.unwrap().status().as_u16());
        }
        let tokens = tokens.lock().unwrap().clone();
        (answers, tokens)
    }

    #[tokio::test]
    async fn a_plugin_runs_again_if_the_server_refuses_credentials_without_expiry() {
        let (answers, tokens) = answers("t-2", 9).await;
        assert_eq!(answers, [200, 200]);
        assert_eq!(tokens, ["t-1", "t-2", "t-2"]);
    }

    #[tokio::test]
    async fn a_plugin_without_other_credentials_runs_once_more_only() {
        let (answers, tokens) = answers("none", 1).await;
        assert_eq!(answers, [401, 401]);
        assert_eq!(tokens, ["t-1", "t-1"]);
    }
}
