//! The HTTP client of the object store. It follows no redirect, reads answers up to a size, and recognizes answers that are not from a store.

use std::time::Duration;

use async_trait::async_trait;
use http::header::{CONTENT_TYPE, LOCATION};
use http::response::Parts;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody,
    HttpService,
};
use object_store::{ClientOptions, Error};
use reqwest::redirect::Policy;

use crate::bounded;
use crate::remote::objects::LARGEST_ANSWER;

/// The limits for opening a connection and for an answer.
const CONNECT: Duration = Duration::from_secs(5);
pub(super) const ANSWER: Duration = Duration::from_secs(15);

/// The maximum size of an error in bytes. It is a short XML document.
const LARGEST_ERROR: usize = 64 * 1024;

/// Creates the clients for the store and for its credentials.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|allowed| allowed == "true");
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .redirect(Policy::none())
            .https_only(!plain)
            .http1_only()
            .build()
            .map_err(|error| Error::Generic { store: "S3", source: Box::new(error) })?;
        Ok(HttpClient::new(Client(client)))
    }
}

#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (head, body) = self.0.call(request).await?.into_parts();
        if let Some(answer) = other_answer(&head) {
            return Err(HttpError::new_boxed(HttpErrorKind::Unknown, answer.into()));
        }
        let limit = if head.status.is_success() { LARGEST_ANSWER } else { LARGEST_ERROR };
        let body = Limited::new(body, limit).map_err(move |error| {
            let too_large = || format!("the answer is larger than {}", bounded::size(limit as u64)).into();
            let error = if error.is::<LengthLimitError>() { too_large() } else { error };
            HttpError::new_boxed(HttpErrorKind::Unknown, error)
        });
        Ok(HttpResponse::from_parts(head, HttpResponseBody::new(body)))
    }
}

/// Returns a description of an answer that is not from a store.
fn other_answer(head: &Parts) -> Option<String> {
    let text = |name| head.headers.get(name).and_then(|value| value.to_str().ok());
    if text(CONTENT_TYPE).is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html")) {
        return Some(web_page(head.status));
    }
    let location = text(LOCATION).filter(|_| head.status.is_redirection())?;
    // The rest of the address can contain a token.
    let place = location.parse::<Uri>().ok().and_then(|uri| Some(format!("{}://{}", uri.scheme()?, uri.authority()?)));
    let place = place.unwrap_or_else(|| "another path".into());
    Some(format!("the server redirects to {place} ({}), which is not followed", head.status))
}

/// Describes a web page, which a gateway before the store sends instead of an answer of the store.
pub(super) fn web_page(status: StatusCode) -> String {
    format!("the server answers with a web page ({status}), for example of a login")
}
