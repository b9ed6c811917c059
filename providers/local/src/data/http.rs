//! The data source `local_http`: the answer of a server to a GET request.

use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{
    Body, Class, Context, DataRequest, Declaration, Invalid, LocalAccess, ProviderError, TargetKind, http_client,
    read_body, root_cause,
};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Client, Response, StatusCode, Url};
use sha2::{Digest, Sha256};

use crate::arguments::check_timeout;
use crate::content::{self, Decoding, LIMIT};
use crate::data::Data;

/// The longest chain of redirects.
const REDIRECTS: usize = 5;
/// The largest number of retries.
const RETRIES: i64 = 10;
/// The pause before the first retry. It doubles with each retry, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The data source `local_http`.
pub(crate) struct Http;

#[async_trait]
impl Data for Http {
    fn declaration(&self) -> Declaration {
        let doc = "The answer of a server to a GET request from this machine. The status must be 2xx, and the body at most 16 MiB.\n\n\
            Up to 5 redirects are followed, never from `https` to `http`. Headers are not sent to another scheme, host or port.";
        let schema = Schema::new(
            doc,
            [
                Attribute::required("url", Kind::String, "URL, `http` or `https`. Mark it as sensitive if it contains a token."),
                Attribute::optional(
                    "headers",
                    Kind::map(Kind::String),
                    "Headers by name, for example `Authorization`. Their values are never shown.",
                ),
                Attribute::optional(
                    "ca",
                    Kind::String,
                    "Certificate authorities (PEM) that are trusted instead of those of the system.",
                ),
                Attribute::optional("sha256", Kind::String, "SHA-256 digest that the body must have, in hexadecimal."),
                Attribute::optional(
                    "retries",
                    Kind::Integer,
                    "How often to repeat the request, at growing intervals, if the server does not answer or answers with the status 408, 429 or \
                     5xx; at most 10.",
                )
                .or(2),
                Attribute::optional("timeout", Kind::Duration, "How long one request may take, at most `10m`.").or("30s"),
            ]
            .into_iter()
            .chain(content::arguments())
            .chain(content::results("body", "Content of the body.")),
        );
        Declaration { name: "local_http", target_kind: TargetKind::Provider, schema }
    }

    fn access(&self) -> LocalAccess {
        LocalAccess::Request
    }

    fn validate(&self, arguments: &Attributes) -> Vec<Invalid> {
        let rule = |attribute, is_violated: bool, message: &str| is_violated.then(|| Invalid::new(attribute, message));
        let is_url = |text: &str| Url::parse(text).is_ok_and(|url| is_http(&url) && url.has_host());
        let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let retries = arguments.get("retries").and_then(Value::as_i64);
        let rules = [
            rule(
                "url",
                arguments.text("url").is_some_and(|text| !is_url(text)),
                "`url` must be an `http` or `https` URL",
            ),
            rule(
                "sha256",
                arguments.text("sha256").is_some_and(|text| !is_digest(text)),
                "`sha256` must have 64 hexadecimal digits",
            ),
            rule(
                "retries",
                retries.is_some_and(|n| !(0..=RETRIES).contains(&n)),
                "`retries` must be a number from 0 to 10",
            ),
            rule("headers", headers(arguments).is_err(), "`headers` has an invalid name or value"),
        ];
        rules.into_iter().flatten().chain(check_timeout(arguments)).collect()
    }

    async fn read(&self, _: &Context, request: &DataRequest) -> Result<Attributes, ProviderError> {
        let arguments = &request.arguments;
        let decoding = Decoding::of(arguments);
        let timeout = arguments.duration("timeout").unwrap_or(Duration::from_secs(30));
        let timeout = request.timeout.map_or(timeout, |limit| limit.min(timeout));
        let invalid = |summary| ProviderError::new(Class::Invalid, summary);
        let client = http_client(timeout, arguments.text("ca")).map_err(|error| invalid(error).attribute("ca"))?;
        let client = client.build().map_err(|error| invalid(root_cause(&error)))?;
        let retries = arguments.get("retries").and_then(Value::as_i64).unwrap_or_default();
        let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
        let mut pauses = pauses.with_max_times(usize::try_from(retries).unwrap_or_default()).build();
        let body = loop {
            let error = match get(&client, arguments).await {
                Ok(body) => break body,
                Err(Failure::Transient(error)) => error,
                Err(Failure::Permanent(error)) => return Err(*error),
            };
            let Some(pause) = pauses.next() else { return Err(*error) };
            tokio::time::sleep(pause).await;
        };
        let what = format!("the body of {}", shown(arguments));
        check_digest(&what, arguments, &body, decoding)?;
        decoding.decode(&what, "body", body)
    }
}

/// A failed request.
enum Failure {
    /// Another attempt may succeed.
    Transient(Box<ProviderError>),
    Permanent(Box<ProviderError>),
}

fn transient(summary: String) -> Failure {
    Failure::Transient(Box::new(ProviderError::new(Class::Failed, summary).attribute("url")))
}

fn permanent(summary: String) -> Failure {
    Failure::Permanent(Box::new(ProviderError::new(Class::Failed, summary).attribute("url")))
}

/// Sends one request, follows redirects, and returns the body.
async fn get(client: &Client, arguments: &Attributes) -> Result<Vec<u8>, Failure> {
    let shown = shown(arguments);
    let failed =
        |error: reqwest::Error| transient(format!("no answer from {shown}: {}", root_cause(&error.without_url())));
    let first = Url::parse(arguments.text("url").unwrap_or_default())
        .map_err(|_| permanent("`url` must be an `http` or `https` URL".to_owned()))?;
    let headers = headers(arguments).map_err(permanent)?;
    let mut url = first.clone();
    for _ in 0..=REDIRECTS {
        let own = if url.origin() == first.origin() { headers.clone() } else { HeaderMap::new() };
        let response = client.get(url.clone()).headers(own).send().await.map_err(failed)?;
        if response.status().is_redirection() {
            url = redirected(&url, &response).map_err(|reason| permanent(format!("{shown} {reason}")))?;
            continue;
        }
        let status = response.status();
        if !status.is_success() {
            return Err(unsuccessful(&shown, status));
        }
        return body(response, &shown, failed).await;
    }
    Err(permanent(format!("{shown} redirects more than {REDIRECTS} times")))
}

/// Returns the URL to which an answer redirects.
fn redirected(from: &Url, response: &Response) -> Result<Url, &'static str> {
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let to = location.and_then(|location| from.join(location).ok()).filter(is_http);
    match to {
        None => Err("redirects without the URL of a server"),
        Some(to) if from.scheme() == "https" && to.scheme() == "http" => Err("redirects from `https` to `http`"),
        Some(to) => Ok(to),
    }
}

fn unsuccessful(shown: &str, status: StatusCode) -> Failure {
    let summary = format!("{shown} answered {status}");
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => transient(summary),
        _ if status.is_server_error() => transient(summary),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let error = ProviderError::new(Class::Denied, summary).attribute("url");
            Failure::Permanent(Box::new(error.help("check the credentials in `headers`")))
        }
        _ => permanent(summary),
    }
}

/// Reads a body up to the limit.
async fn body(response: Response, shown: &str, failed: impl Fn(reqwest::Error) -> Failure) -> Result<Vec<u8>, Failure> {
    match read_body(response, LIMIT).await.map_err(failed)? {
        Body { bytes, is_cut: false } => Ok(bytes),
        Body { is_cut: true, .. } => Err(permanent(format!("the body of {shown} is larger than {} MiB", LIMIT >> 20))),
    }
}

fn check_digest(what: &str, arguments: &Attributes, body: &[u8], decoding: Decoding) -> Result<(), ProviderError> {
    let Some(expected) = arguments.text("sha256") else { return Ok(()) };
    let found: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let summary = match decoding.sensitive {
        true => format!("{what} has another SHA-256 digest than `sha256`"),
        false => format!("{what} has the SHA-256 digest {found} instead of {expected}"),
    };
    Err(ProviderError::new(Class::Conflict, summary)
        .attribute("sha256")
        .help("the content changed: check it before you change `sha256`"))
}

/// Returns the headers. Their values are hidden in logs, because they may be secret.
fn headers(arguments: &Attributes) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in arguments.text_map("headers") {
        let key: HeaderName = name.parse().map_err(|_| format!("`{name}` is not a valid name of a header"))?;
        let mut value =
            HeaderValue::from_str(&value).map_err(|_| format!("the header `{name}` has an invalid value"))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// Returns the URL for messages, without a password.
fn shown(arguments: &Attributes) -> String {
    let url = arguments.get("url");
    if url.is_some_and(Value::is_sensitive) {
        return "(sensitive)".to_owned();
    }
    let text = url.and_then(Value::as_str).unwrap_or_default();
    match Url::parse(text) {
        Ok(mut url) if url.password().is_some() => {
            // An `http` URL can be without a password.
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => text.to_owned(),
    }
}
