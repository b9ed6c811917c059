//! The HTTP probe of a check.

use std::collections::BTreeMap;

use regex::Regex;
use reqwest::header::HeaderValue;
use reqwest::{ClientBuilder, Identity, Method, Url};

use super::answer::{Answer, about};
use super::arguments::{is_sensitive, period, shown, text};
use super::bridge::Bridge;
use super::origin::Origin;
use crate::model::{Attributes, Value};
use crate::provider::{Body, Destination, ProbeError, http_client, read_body, root_cause};

/// An HTTP request, and what is expected of the response.
pub(super) struct HttpProbe {
    arguments: Attributes,
}

/// The part of a body that is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;
impl HttpProbe {
    /// Returns the probe with these arguments, which conform to [`HTTP`](crate::manifest::HTTP).
    ///
    /// # Errors
    /// The attribute that is not valid, and why.
    pub fn new(arguments: Attributes) -> Result<Self, (String, String)> {
        expected_status(&arguments).map_err(|message| ("expect_status".to_owned(), message))?;
        Ok(Self { arguments })
    }

    /// Sends the request once.
    ///
    /// # Errors
    /// If there is no response.
    pub async fn send(&self, origin: &Origin<'_>) -> Result<Answer, ProbeError> {
        let arguments = &self.arguments;
        let builder = client(arguments).map_err(ProbeError::NoAnswer)?;
        let Origin::Node(..) = origin else { return send(builder, arguments).await.map_err(ProbeError::NoAnswer) };
        let limit = period(arguments, "timeout");
        let destination = destination(arguments).map_err(ProbeError::NoAnswer)?;
        let bridge = Bridge::open(origin, destination, limit)
            .map_err(|error| ProbeError::NoAnswer(format!("cannot create a socket on this machine: {error}")))?;
        let builder = builder.unix_socket(bridge.socket());
        let answer = tokio::select! {
            answer = send(builder, arguments) => answer,
            never = bridge.serve() => match never {},
        };
        answer.map_err(|reason| match bridge.take_failure() {
            Some(failure) => about(failure, &format!("no answer from {}", shown(arguments, "url"))),
            None => ProbeError::NoAnswer(reason),
        })
    }
}

/// Returns where the request connects to.
fn destination(arguments: &Attributes) -> Result<Destination, String> {
    let invalid = || format!("{} is not an HTTP URL", shown(arguments, "url"));
    let url = Url::parse(text(arguments, "url").unwrap_or_default()).map_err(|_| invalid())?;
    let (host, port) = url.host_str().zip(url.port_or_known_default()).ok_or_else(invalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Destination { host, port })
}

fn client(arguments: &Attributes) -> Result<ClientBuilder, String> {
    let mut builder = http_client(period(arguments, "timeout"), text(arguments, "ca"))?;
    if let Some(certificate) = text(arguments, "client_certificate") {
        let key = text(arguments, "client_key").ok_or("`client_certificate` needs `client_key`")?;
        let pem = format!("{certificate}\n{key}");
        let identity = Identity::from_pem(pem.as_bytes())
            .map_err(|_| "`client_certificate` and `client_key` are not a PEM certificate and its key")?;
        builder = builder.identity(identity);
    }
    Ok(builder)
}

async fn send(client: ClientBuilder, arguments: &Attributes) -> Result<Answer, String> {
    let client = client.build().map_err(|error| root_cause(&error))?;
    let url = text(arguments, "url").unwrap_or_default();
    let method = text(arguments, "method").and_then(|m| m.parse().ok()).unwrap_or(Method::GET);
    let mut request = client.request(method, url);
    for (name, value) in arguments.get("headers").and_then(Value::as_map).into_iter().flatten() {
        request = request.header(name, header(name, value)?);
    }
    if let Some(token) = text(arguments, "bearer_token") {
        request = request.bearer_auth(token);
    }
    if let Some(body) = text(arguments, "body") {
        request = request.body(body.to_owned());
    }
    let url = shown(arguments, "url");
    let answer =
        request.send().await.map_err(|error| format!("no answer from {url}: {}", root_cause(&error.without_url())))?;
    let status = i64::from(answer.status().as_u16());
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    let headers: BTreeMap<_, _> = answer.headers().iter().map(header).collect();
    let body = read_body(answer, BODY_LIMIT).await;
    let Body { bytes, is_cut } = body.map_err(|error| format!("{url}: {}", root_cause(&error.without_url())))?;
    let body = String::from_utf8_lossy(&bytes).into_owned();
    let violations = violations(arguments, url, status, &body, is_cut);
    let value = Value::Map(
        [
            ("status".to_owned(), Value::from(status)),
            ("body".to_owned(), Value::from(body)),
            ("headers".to_owned(), Value::Map(headers.into())),
        ]
        .into(),
    );
    Ok(Answer { value, violations })
}

/// Returns the expected status codes.
///
/// # Errors
/// If `expect_status` is neither a status code nor a list of status codes.
fn expected_status(arguments: &Attributes) -> Result<Vec<i64>, String> {
    let Some(written) = arguments.get("expect_status").filter(|value| !value.is_null()) else { return Ok(vec![200]) };
    let items = written.as_list().unwrap_or(std::slice::from_ref(written));
    let code = |item: &Value| item.as_i64().filter(|code| (100..=599).contains(code));
    let codes: Option<Vec<i64>> = items.iter().map(code).collect();
    codes
        .filter(|codes| !codes.is_empty())
        .ok_or_else(|| "expected a status code from 100 to 599, or a list of them".to_owned())
}

fn violations(arguments: &Attributes, url: &str, status: i64, body: &str, is_cut: bool) -> Vec<String> {
    let mut violations = Vec::new();
    let expected = expected_status(arguments).unwrap_or_default();
    if !expected.contains(&status) {
        let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
        violations.push(format!("{url} answered {status}, expected {}", expected.join(" or ")));
    }
    if let Some(pattern) = text(arguments, "expect_body") {
        match Regex::new(pattern) {
            Ok(pattern) if pattern.is_match(body) => {}
            Ok(_) => {
                let pattern = shown(arguments, "expect_body");
                let part = if is_cut { " within its first MiB, which is all that is read" } else { "" };
                violations.push(format!("the body of {url} does not match /{pattern}/{part}"));
            }
            // The error quotes the whole pattern, so it is not shown if the pattern is sensitive.
            Err(_) if is_sensitive(arguments, "expect_body") => {
                violations.push("`expect_body` is not a valid regular expression".to_owned());
            }
            Err(error) => violations.push(format!("`expect_body` is not a valid regular expression: {error}")),
        }
    }
    violations
}

/// Returns a header value that is hidden in logs, because it may be a secret.
fn header(name: &str, value: &Value) -> Result<HeaderValue, String> {
    let text = value.as_str().unwrap_or_default();
    let mut header = HeaderValue::from_str(text).map_err(|_| format!("the header `{name}` has an invalid value"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn arguments(sensitive: bool) -> Attributes {
        let mark = |value: &str| if sensitive { Value::from(value).sensitive() } else { Value::from(value) };
        Attributes::from([
            ("url".to_owned(), mark("http://127.0.0.1:1/?token=s3cr3t")),
            ("expect_body".to_owned(), mark("s3cr3t(")),
            ("timeout".to_owned(), Value::from("10s")),
        ])
    }

    #[tokio::test]
    async fn a_sensitive_argument_is_not_shown_in_messages() {
        for sensitive in [false, true] {
            let arguments = arguments(sensitive);
            let mut messages = violations(&arguments, shown(&arguments, "url"), 500, "", false);
            messages.extend(send(client(&arguments).unwrap(), &arguments).await.err());
            assert_eq!(messages.iter().any(|m| m.contains("s3cr3t")), !sensitive, "{messages:#?}");
            assert!(messages.iter().any(|m| m.starts_with("no answer from ")), "{messages:#?}");
        }
    }

    #[tokio::test]
    async fn only_the_beginning_of_an_endless_body_is_read() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            let (mut stream, _) = listener.accept().await.unwrap();
            // The request must be read before the response is sent.
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b'y'; 64 << 10]).await.is_ok() {}
        });
        let arguments = Attributes::from([
            ("url".to_owned(), Value::from(url)),
            ("expect_body".to_owned(), Value::from("n")),
            ("timeout".to_owned(), Value::from("10s")),
        ]);
        let answer = send(client(&arguments).unwrap(), &arguments).await.unwrap();
        assert!(
            answer.violations[0].ends_with("/n/ within its first MiB, which is all that is read"),
            "{:?}",
            answer.violations
        );
        assert_eq!(answer.value.as_map().unwrap()["body"].as_str().unwrap().len(), BODY_LIMIT);
    }

    #[test]
    fn an_expected_status_is_a_code_or_a_list_of_codes() {
        let read =
            |value: serde_json::Value| expected_status(&[("expect_status".to_owned(), Value::from(value))].into());
        assert_eq!(read(json!(204)), Ok(vec![204]));
        assert_eq!(read(json!([200, 401])), Ok(vec![200, 401]));
        for wrong in [json!("200"), json!(["200"]), json!([]), json!(99), json!([200, 600]), json!(200.5), json!(true)]
        {
            assert!(read(wrong.clone()).is_err_and(|e| e.contains("100 to 599")), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_never_shown() {
        let shown = format!("{:?}", header("x-token", &Value::from("s3cr3t").sensitive()).unwrap());
        assert_eq!(shown, "Sensitive");
        assert!(!header("x-token", &Value::from("s3cr3t\n")).unwrap_err().contains("s3cr3t"));
    }
}
