//! The HTTP probe of a check.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use regex::Regex;
use reqwest::header::HeaderValue;
use reqwest::{Client, Identity, Method};

use super::When;
use crate::model::{Attributes, Value, parse_duration};
use crate::provider::{http_client, root_cause};

/// The response of an HTTP probe, and the violated expectations.
pub(crate) struct Response {
    /// The map of `status`, `body` and `headers`, for assertions.
    pub value: Value,
    pub violations: Vec<String>,
}

/// The part of a body that is read, in bytes.
const BODY_LIMIT: usize = 1 << 20;
/// The pause before the first retry. It doubles with each retry, up to the longest pause.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Sends the request until the response is as expected or, after an apply, `retry_for` has passed.
///
/// # Errors
/// The reason in one line, if there is no response.
pub(crate) async fn probe(arguments: &Attributes, when: When) -> Result<Response, String> {
    let client = client(arguments)?;
    let retry_for = if when == When::Applied { period(arguments, "retry_for") } else { Duration::ZERO };
    let until = Instant::now() + retry_for;
    let mut pause = FIRST_PAUSE;
    loop {
        let answer = send(&client, arguments).await;
        let is_expected = answer.as_ref().is_ok_and(|response| response.violations.is_empty());
        if is_expected || Instant::now() + pause > until {
            return answer;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn client(arguments: &Attributes) -> Result<Client, String> {
    let mut builder = http_client(period(arguments, "timeout"), text(arguments, "ca"))?;
    if let Some(certificate) = text(arguments, "client_certificate") {
        let key = text(arguments, "client_key").ok_or("`client_certificate` needs `client_key`")?;
        let pem = format!("{certificate}\n{key}");
        let identity = Identity::from_pem(pem.as_bytes())
            .map_err(|_| "`client_certificate` and `client_key` are not a PEM certificate and its key")?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| root_cause(&error))
}

async fn send(client: &Client, arguments: &Attributes) -> Result<Response, String> {
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
    let mut answer =
        request.send().await.map_err(|error| format!("no answer from {url}: {}", root_cause(&error.without_url())))?;
    let status = i64::from(answer.status().as_u16());
    let header = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        (name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes()).into_owned()))
    };
    let headers: BTreeMap<_, _> = answer.headers().iter().map(header).collect();
    let (mut body, mut is_cut) = (Vec::new(), false);
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| format!("{url}: {}", root_cause(&error.without_url())))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_LIMIT {
            body.truncate(BODY_LIMIT);
            is_cut = true;
            break;
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    let violations = violations(arguments, url, status, &body, is_cut);
    let value = Value::Map(
        [
            ("status".to_owned(), Value::from(status)),
            ("body".to_owned(), Value::from(body)),
            ("headers".to_owned(), Value::Map(headers)),
        ]
        .into(),
    );
    Ok(Response { value, violations })
}

/// Returns the expected status codes. Returns an empty list if they are not known yet.
///
/// # Errors
/// If `expect_status` is neither a status code nor a list of status codes.
pub(super) fn expected_status(arguments: &Attributes) -> Result<Vec<i64>, String> {
    let Some(written) = arguments.get("expect_status").filter(|value| !value.is_null()) else { return Ok(vec![200]) };
    if written.is_unknown() || written.is_retained() {
        return Ok(Vec::new());
    }
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

fn is_sensitive(arguments: &Attributes, name: &str) -> bool {
    arguments.get(name).is_some_and(Value::is_sensitive)
}

/// Returns an argument as messages may show it.
fn shown<'a>(arguments: &'a Attributes, name: &str) -> &'a str {
    match is_sensitive(arguments, name) {
        true => "(sensitive)",
        false => text(arguments, name).unwrap_or_default(),
    }
}

fn text<'a>(arguments: &'a Attributes, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

fn period(arguments: &Attributes, name: &str) -> Duration {
    text(arguments, name).and_then(parse_duration).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            messages.extend(probe(&arguments, When::Planned).await.err());
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
        let answer = probe(&arguments, When::Planned).await.unwrap();
        assert!(
            answer.violations[0].ends_with("/n/ within its first MiB, which is all that is read"),
            "{:?}",
            answer.violations
        );
        assert_eq!(answer.value.as_map().unwrap()["body"].as_str().unwrap().len(), BODY_LIMIT);
    }

    #[test]
    fn a_header_is_never_shown() {
        let shown = format!("{:?}", header("x-token", &Value::from("s3cr3t").sensitive()).unwrap());
        assert_eq!(shown, "Sensitive");
        assert!(!header("x-token", &Value::from("s3cr3t\n")).unwrap_err().contains("s3cr3t"));
    }
}
