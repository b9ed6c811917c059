//! Checks that a response comes from a Kubernetes API server and fits the request.
//!
//! A gateway, a login page or another server can respond with status 200 too. Such a response says nothing about the cluster.

mod expected;

use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use expected::Resource;
pub(crate) use expected::{Expected, Kinds, OBJECT_LIMIT};

/// The body with which the API server responds to an unknown path.
const UNKNOWN_PATH_BODY: &[u8] = b"404 page not found";

/// A response that does not come from a Kubernetes API server, or does not fit the request.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum InvalidResponse {
    /// A redirect.
    #[error("a redirect to {0}")]
    Redirect(String),
    /// An empty body.
    #[error("an empty body (HTTP {0})")]
    Empty(u16),
    /// A response of another content type, such as a login page.
    #[error("a page of type {1} (HTTP {0})")]
    Page(u16, String),
    /// A body that is not valid JSON, or is cut off.
    #[error("not valid JSON (HTTP {0})")]
    NotJson(u16),
    /// An object of another kind, version or name.
    #[error("{found}, but {expected} was requested")]
    Mismatch {
        /// Description of the response.
        found: String,
        /// Description of the expected response.
        expected: String,
    },
    /// The path is unknown, although discovery listed it.
    #[error("HTTP 404 without the name of the object that is not found")]
    UnknownPath,
    /// A body beyond the size limit.
    #[error("larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
}

/// Checks the status and headers of a successful response.
///
/// # Errors
/// If the response is a redirect or has another content type.
pub(crate) fn check_head(expected: &Expected, status: StatusCode, headers: &HeaderMap) -> Result<(), InvalidResponse> {
    if *expected == Expected::Foreign {
        return Ok(());
    }
    if status.is_redirection() {
        return Err(InvalidResponse::Redirect(destination(headers)));
    }
    let content_type = content_type(headers);
    let expected = match expected {
        Expected::Readiness => content_type == "text/plain",
        _ => content_type == "application/json",
    };
    match expected {
        true => Ok(()),
        false => Err(InvalidResponse::Page(status.as_u16(), content_type)),
    }
}

/// Checks the body of a successful response.
///
/// # Errors
/// If the body is not the expected one.
pub(crate) fn check_body(
    expected: &Expected,
    kinds: &Kinds,
    status: StatusCode,
    body: &[u8],
) -> Result<(), InvalidResponse> {
    let code = status.as_u16();
    if *expected == Expected::Foreign {
        return Ok(());
    }
    if body.trim_ascii().is_empty() {
        return Err(InvalidResponse::Empty(code));
    }
    if *expected == Expected::Readiness {
        let ready = body.trim_ascii() == b"ok";
        return if ready { Ok(()) } else { Err(mismatch("a text", "`ok`")) };
    }
    let head: Head = parse(body, code)?;
    match expected {
        Expected::Foreign | Expected::Readiness => Ok(()),
        Expected::Version => match parse::<Document>(body, code)?.git_version.is_some() {
            true => Ok(()),
            false => Err(mismatch(head.description(), "the version of the server")),
        },
        Expected::Discovery(wanted) => {
            if !wanted.contains(&head.kind.as_str()) {
                return Err(mismatch(head.description(), wanted.join(" or ")));
            }
            let document: Document = parse(body, code)?;
            let named = document.items.len() + document.groups.len() + document.versions.len();
            if named == 0 {
                Err(mismatch(format!("{} without content", head.kind), "a list of the served resources"))
            } else {
                Ok(())
            }
        }
        Expected::GroupVersion(wanted) => {
            let document: Document = parse(body, code)?;
            match head.kind == "APIResourceList" && document.group_version.as_ref() == Some(wanted) {
                true => Ok(()),
                false => Err(mismatch(head.description(), format!("the resources of {wanted}"))),
            }
        }
        Expected::Object(resource, name) => head.check_object(resource, kinds, name.as_deref()),
        Expected::Deletion(_, _) if head.is_status() => Ok(()),
        Expected::Deletion(resource, name) => head.check_object(resource, kinds, Some(name)),
        Expected::Subresource(resource, name) => match head.metadata.name.as_ref().is_none_or(|found| found == name) {
            true if !head.kind.is_empty() && !head.api_version.is_empty() => Ok(()),
            _ => Err(mismatch(head.description(), format!("something of {}/{name}", resource.plural))),
        },
        Expected::List(resource, name) => {
            head.check_list(resource, kinds)?;
            let list: List = parse(body, code)?;
            list.items.iter().flatten().try_for_each(|item| item.check_item(resource, kinds, name.as_deref()))
        }
    }
}

/// Checks one line of a watch.
///
/// # Errors
/// If the line is not an event of a watched object.
pub(crate) fn check_event(expected: &Expected, kinds: &Kinds, line: &[u8]) -> Result<(), InvalidResponse> {
    let event: Event = parse(line, StatusCode::OK.as_u16())?;
    let Expected::List(resource, name) = expected else { return Ok(()) };
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" | "DELETED" => event.object.check_object(resource, kinds, name.as_deref()),
        "BOOKMARK" => event.object.check_object(resource, kinds, None),
        "ERROR" if event.object.is_status() => Ok(()),
        _ => Err(mismatch(event.object.description(), "an event")),
    }
}

/// The cause of a response with a status of 400 or more.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    /// The API server refuses the request.
    Refused,
    /// The server, or a proxy before it, cannot respond at the moment, for this reason.
    Unavailable(String),
}

/// Checks a response with a status of 400 or more.
///
/// # Errors
/// If the response does not come from the API server.
pub(crate) fn check_failure(
    expected: &Expected,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Failure, InvalidResponse> {
    let code = status.as_u16();
    let refusal: Result<FailureStatus, _> = parse(body, code);
    let is_refusal = content_type(headers) == "application/json" && refusal.as_ref().is_ok_and(|r| r.head.is_status());
    if *expected == Expected::Foreign || is_refusal && (code != 404 || refusal.is_ok_and(|r| r.concerns(expected))) {
        return Ok(Failure::Refused);
    }
    if code == 404 && (is_refusal || body.trim_ascii() == UNKNOWN_PATH_BODY) {
        // For a group version, a 404 means that it is not served.
        let of_group = matches!(expected, Expected::GroupVersion(_));
        return if of_group {
            Ok(Failure::Unavailable("it is not served".to_owned()))
        } else {
            Err(InvalidResponse::UnknownPath)
        };
    }
    if *expected == Expected::Readiness
        && status.is_server_error()
        && let Some(checks) = failed_checks(body)
    {
        return Ok(Failure::Unavailable(checks));
    }
    let page = match (content_type(headers), body.trim_ascii().is_empty()) {
        (_, true) => InvalidResponse::Empty(code),
        (content_type, false) => InvalidResponse::Page(code, content_type),
    };
    let is_temporary = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if is_temporary { Ok(Failure::Unavailable(page.to_string())) } else { Err(page) }
}

/// Returns which checks of `/readyz` fail. Each is a line such as `[-]etcd failed: reason withheld`.
fn failed_checks(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let checks = text.lines().filter_map(|line| line.strip_prefix("[-]")?.split_whitespace().next());
    let checks = checks.collect::<Vec<_>>().join(", ");
    (!checks.is_empty()).then(|| format!("failed checks: {}", escaped(&checks)))
}

fn mismatch(found: impl Into<String>, expected: impl Into<String>) -> InvalidResponse {
    InvalidResponse::Mismatch { found: found.into(), expected: expected.into() }
}

fn parse<T: DeserializeOwned>(body: &[u8], code: u16) -> Result<T, InvalidResponse> {
    let parsed = serde_json::from_slice(body).map_err(|error| error.is_data());
    match parsed {
        // serde would accept a JSON array for a struct.
        Ok(parsed) if body.trim_ascii_start().starts_with(b"{") => Ok(parsed),
        Ok(_) | Err(true) => Err(mismatch("JSON that is not an object of the API", "one")),
        Err(false) => Err(InvalidResponse::NotJson(code)),
    }
}

/// Returns the media type without parameters, with control characters escaped.
fn content_type(headers: &HeaderMap) -> String {
    let written = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.is_empty() { "(none)".to_owned() } else { escaped(&media) }
}

/// Returns the target of a redirect without user and query, which can contain credentials.
fn destination(headers: &HeaderMap) -> String {
    let written = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("(nowhere)");
    let end = written.find(['?', '#']).unwrap_or(written.len());
    match written[..end].split_once("://") {
        Some((scheme, rest)) => escaped(&format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or(rest))),
        None => escaped(&written[..end]),
    }
}

/// Returns foreign text for a message: shortened and escaped.
fn escaped(text: &str) -> String {
    const LONGEST: usize = 100;
    text.chars().take(LONGEST).flat_map(char::escape_default).collect()
}

/// The fields that identify an object.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Head {
    kind: String,
    api_version: String,
    metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    items: Option<Vec<Head>>,
}

/// A document about the server: the served resources, or its version.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    group_version: Option<String>,
    git_version: Option<String>,
    items: Vec<serde::de::IgnoredAny>,
    groups: Vec<serde::de::IgnoredAny>,
    versions: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    object: Head,
}

/// A `Status` object.
#[derive(Debug, Deserialize)]
struct FailureStatus {
    #[serde(flatten)]
    head: Head,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Details {
    name: Option<String>,
    kind: Option<String>,
}

impl FailureStatus {
    /// Whether the status concerns the requested object or its namespace.
    fn concerns(&self, expected: &Expected) -> bool {
        let (Expected::Object(_, Some(name)) | Expected::Deletion(_, name)) = expected else { return true };
        let Some(details) = &self.details else { return false };
        details.kind.as_deref() == Some("namespaces") || details.name.as_ref() == Some(name)
    }
}

impl Head {
    fn description(&self) -> String {
        let Metadata { name, namespace } = &self.metadata;
        let place: String = namespace.iter().chain(name).map(|part| format!(" {}", escaped(part))).collect();
        match (self.kind.as_str(), self.api_version.as_str()) {
            ("", _) => "JSON without a kind".to_owned(),
            (kind, "") => format!("a {} without a version", escaped(kind)),
            (kind, version) => format!("a {} of {}{place}", escaped(kind), escaped(version)),
        }
    }

    fn is_status(&self) -> bool {
        self.kind == "Status" && self.api_version == "v1"
    }

    fn check_object(&self, resource: &Resource, kinds: &Kinds, name: Option<&str>) -> Result<(), InvalidResponse> {
        let kind = kinds.kind(resource);
        let is_kind = !self.kind.is_empty() && kind.as_ref().is_none_or(|kind| *kind == self.kind) && !self.is_status();
        match is_kind && self.api_version == resource.api_version && self.is_at(resource, name) {
            true => Ok(()),
            false => Err(mismatch(self.description(), resource.description(kind.as_deref(), name))),
        }
    }

    /// Checks an item of a list, which can omit its kind and version.
    fn check_item(&self, resource: &Resource, kinds: &Kinds, name: Option<&str>) -> Result<(), InvalidResponse> {
        let kind = kinds.kind(resource);
        let is_kind = self.kind.is_empty() || kind.as_ref().is_none_or(|kind| *kind == self.kind);
        let is_version = self.api_version.is_empty() || self.api_version == resource.api_version;
        let is_named = self.metadata.name.as_ref().is_some_and(|name| !name.is_empty());
        match is_kind && is_version && is_named && self.is_at(resource, name) {
            true => Ok(()),
            false => Err(mismatch("a list with something else in it", resource.description(kind.as_deref(), name))),
        }
    }

    fn is_at(&self, resource: &Resource, name: Option<&str>) -> bool {
        let is_name = name.is_none_or(|name| self.metadata.name.as_deref() == Some(name));
        // A bookmark has neither name nor namespace.
        let is_namespace = resource.namespace.is_none() || self.metadata.namespace == resource.namespace;
        is_name && (is_namespace || name.is_none() && self.metadata.name.is_none())
    }

    fn check_list(&self, resource: &Resource, kinds: &Kinds) -> Result<(), InvalidResponse> {
        let kind = kinds.kind(resource);
        let is_kind = match &kind {
            // A CustomResourceDefinition can choose the name of its list kind.
            Some(kind) if resource.is_custom() => !self.kind.is_empty() && self.kind != *kind && !self.is_status(),
            Some(kind) => self.kind.strip_suffix("List") == Some(kind),
            None => self.kind.ends_with("List"),
        };
        match is_kind && self.api_version == resource.api_version {
            true => Ok(()),
            false => {
                let kind = kind.map_or_else(|| "list".to_owned(), |kind| format!("{kind}List"));
                Err(mismatch(self.description(), format!("a {kind} of {}", resource.api_version)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use http::header::ACCEPT;
    use serde_json::json;

    const NAMED: &str = "/api/v1/namespaces/web/configmaps/a";
    const LIST: &str = "/api/v1/namespaces/web/configmaps";

    fn asked(method: Method, uri: &str) -> Expected {
        Expected::of(&method, &uri.parse().unwrap())
    }

    fn kinds() -> Kinds {
        let kinds = Kinds::default();
        let mut known = kinds.0.write().unwrap();
        known.insert(("v1".into(), "configmaps".into()), "ConfigMap".into());
        known.insert(("example.org/v1".into(), "widgets".into()), "Widget".into());
        drop(known);
        kinds
    }

    fn verdict(method: Method, uri: &str, body: &str) -> String {
        let verdict = check_body(&asked(method, uri), &kinds(), StatusCode::OK, body.as_bytes());
        verdict.map_or_else(|invalid| invalid.to_string(), |()| "accepted".to_owned())
    }

    #[test]
    fn a_list_of_metadata_is_accepted_only_if_it_was_requested() {
        let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [
            {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a", "namespace": "web"}}]});
        let judged =
            |expected: &Expected| check_body(expected, &kinds(), StatusCode::OK, list.to_string().as_bytes()).is_ok();
        let plain = asked(Method::GET, LIST);
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1".parse().unwrap();
        let metadata = plain.clone().accepted(&HeaderMap::from_iter([(ACCEPT, accept)]));
        assert!(judged(&metadata) && !judged(&plain.accepted(&HeaderMap::new())));
        assert!(
            check_body(&metadata, &kinds(), StatusCode::OK, b"{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\"}")
                .is_err()
        );
    }

    fn config_map(namespace: &str, name: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}})
    }

    #[test]
    fn a_response_must_fit_the_request() {
        let get = Method::GET;
        let list = |kind: &str, items: serde_json::Value| {
            json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items}).to_string()
        };
        let nameless = json!([{"metadata": {"namespace": "web"}}]);
        let custom = json!({"apiVersion": "example.org/v1", "kind": "WidgetCollection", "items": []}).to_string();
        let success = json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}).to_string();
        let one = "/api/v1/namespaces/web/configmaps?fieldSelector=metadata.name%3Da";
        let cases = [
            (&get, "/version", json!({"major": "1", "gitVersion": "v1.34.4"}).to_string(), "accepted"),
            (
                &get,
                "/version",
                json!({"kind": "Banana", "apiVersion": "v9"}).to_string(),
                "a Banana of v9, but the version of the server was requested",
            ),
            (&get, NAMED, config_map("web", "a").to_string(), "accepted"),
            (
                &get,
                NAMED,
                "{\"kind\":\"Banana\",\"apiVersion\":\"v9\"}".into(),
                "a Banana of v9, but a ConfigMap of v1 web a was requested",
            ),
            (&get, NAMED, "{}".into(), "JSON without a kind, but a ConfigMap of v1 web a was requested"),
            (
                &get,
                NAMED,
                config_map("web", "b").to_string(),
                "a ConfigMap of v1 web b, but a ConfigMap of v1 web a was requested",
            ),
            (
                &get,
                NAMED,
                config_map("dev", "a").to_string(),
                "a ConfigMap of v1 dev a, but a ConfigMap of v1 web a was requested",
            ),
            (&get, NAMED, success.clone(), "a Status of v1, but a ConfigMap of v1 web a was requested"),
            (
                &get,
                NAMED,
                config_map("web", "a").to_string().replace("ConfigMap", "Secret"),
                "a Secret of v1 web a, but a ConfigMap of v1 web a was requested",
            ),
            (&get, NAMED, " ".into(), "an empty body (HTTP 200)"),
            (&get, NAMED, "{\"kind\": \"Conf".into(), "not valid JSON (HTTP 200)"),
            (&get, NAMED, "[]".into(), "JSON that is not an object of the API, but one was requested"),
            (&get, NAMED, "null".into(), "JSON that is not an object of the API, but one was requested"),
            (
                &Method::PATCH,
                NAMED,
                "{\"ok\":true}".into(),
                "JSON without a kind, but a ConfigMap of v1 web a was requested",
            ),
            (&Method::DELETE, NAMED, success.clone(), "accepted"),
            (&Method::DELETE, NAMED, "{}".into(), "JSON without a kind, but a ConfigMap of v1 web a was requested"),
            (&Method::POST, LIST, config_map("web", "new").to_string(), "accepted"),
            (&get, LIST, list("ConfigMapList", json!([config_map("web", "a")])), "accepted"),
            (&get, LIST, list("ConfigMapList", json!(null)), "accepted"),
            (&get, LIST, list("SecretList", json!([])), "a SecretList of v1, but a ConfigMapList of v1 was requested"),
            (&get, LIST, list("ConfigMap", json!([])), "a ConfigMap of v1, but a ConfigMapList of v1 was requested"),
            (
                &get,
                LIST,
                list("ConfigMapList", json!([config_map("dev", "a")])),
                "a list with something else in it, but a ConfigMap of v1 web was requested",
            ),
            (
                &get,
                LIST,
                list("ConfigMapList", nameless),
                "a list with something else in it, but a ConfigMap of v1 web was requested",
            ),
            (
                &get,
                one,
                list("ConfigMapList", json!([config_map("web", "b")])),
                "a list with something else in it, but a ConfigMap of v1 web a was requested",
            ),
            (&get, "/apis/example.org/v1/widgets", custom, "accepted"),
            (&get, "/api", "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"]}".into(), "accepted"),
            (
                &get,
                "/api",
                "{\"kind\":\"APIVersions\",\"versions\":[]}".into(),
                "APIVersions without content, but a list of the served resources was requested",
            ),
            (
                &get,
                "/apis",
                "{\"kind\":\"Banana\",\"apiVersion\":\"v9\"}".into(),
                "a Banana of v9, but APIGroupDiscoveryList or APIGroupList was requested",
            ),
            (
                &get,
                "/apis/example.org/v1",
                "{\"kind\":\"APIResourceList\",\"groupVersion\":\"apps/v1\"}".into(),
                "a APIResourceList without a version, but the resources of example.org/v1 was requested",
            ),
            (&get, "/readyz", "ok".into(), "accepted"),
            (&get, "/readyz", "<html>".into(), "a text, but `ok` was requested"),
            (&get, "/api/v1/nodes/a/proxy/configz", "anything".into(), "accepted"),
        ];
        for (method, uri, body, expected) in cases {
            assert_eq!(verdict(method.clone(), uri, &body), expected, "{method} {uri} {body}");
        }
    }

    #[test]
    fn pages_and_redirects_are_named() {
        let head = |status: u16, name: http::HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
            check_head(&asked(Method::GET, NAMED), StatusCode::from_u16(status).unwrap(), &headers)
        };
        assert_eq!(head(200, CONTENT_TYPE, "application/json; charset=utf-8"), Ok(()));
        let message = |verdict: Result<(), InvalidResponse>| verdict.unwrap_err().to_string();
        assert_eq!(message(head(200, CONTENT_TYPE, "text/html; charset=utf-8")), "a page of type text/html (HTTP 200)");
        assert_eq!(message(head(200, CONTENT_TYPE, "")), "a page of type (none) (HTTP 200)");
        let to = "https://user:secret@sso.example.org/login?token=secret";
        assert_eq!(message(head(302, LOCATION, to)), "a redirect to https://sso.example.org/login");
    }

    #[test]
    fn a_failure_must_come_from_the_api_server() {
        let judged = |uri: &str, code: u16, content_type: &str, body: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            let status = StatusCode::from_u16(code).unwrap();
            match check_failure(&asked(Method::GET, uri), status, &headers, body.as_bytes()) {
                Ok(Failure::Refused) => "refused".to_owned(),
                Ok(Failure::Unavailable(why)) => format!("unavailable: {why}"),
                Err(invalid) => invalid.to_string(),
            }
        };
        let status = |details: serde_json::Value| {
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "details": details}).to_string()
        };
        let (json, html, text) = ("application/json", "text/html", "text/plain");
        let no_path = "HTTP 404 without the name of the object that is not found";
        let cases = [
            (NAMED, 404, json, status(json!({"name": "a", "kind": "configmaps"})), "refused"),
            (NAMED, 404, json, status(json!({"name": "web", "kind": "namespaces"})), "refused"),
            (NAMED, 404, json, status(json!({})), no_path),
            (NAMED, 404, text, "404 page not found\n".to_owned(), no_path),
            (NAMED, 404, html, "<h1>Not Found</h1>".to_owned(), "a page of type text/html (HTTP 404)"),
            (NAMED, 403, json, status(json!({"name": "a"})), "refused"),
            (NAMED, 403, html, "<h1>Log in</h1>".to_owned(), "a page of type text/html (HTTP 403)"),
            (NAMED, 403, json, "{\"error\": \"forbidden\"}".to_owned(), "a page of type application/json (HTTP 403)"),
            (NAMED, 503, html, "<h1>Bad</h1>".to_owned(), "unavailable: a page of type text/html (HTTP 503)"),
            (NAMED, 429, text, "Too many".to_owned(), "unavailable: a page of type text/plain (HTTP 429)"),
            (NAMED, 502, text, String::new(), "unavailable: an empty body (HTTP 502)"),
            ("/apis/example.org/v1", 404, text, "404 page not found\n".to_owned(), "unavailable: it is not served"),
            ("/readyz", 404, html, "<h1>?</h1>".to_owned(), "a page of type text/html (HTTP 404)"),
            (
                "/readyz",
                500,
                text,
                "[+]ping ok\n[-]etcd failed: reason withheld\n[-]etcd-readiness failed: reason withheld\n".to_owned(),
                "unavailable: failed checks: etcd, etcd-readiness",
            ),
            ("/readyz", 500, text, "starting".to_owned(), "unavailable: a page of type text/plain (HTTP 500)"),
            ("/api/v1/nodes/a/proxy/healthz", 404, text, "404 page not found".to_owned(), "refused"),
        ];
        for (uri, code, content_type, body, expected) in cases {
            assert_eq!(judged(uri, code, content_type, &body), expected, "{uri} {code} {body}");
        }
    }

    #[test]
    fn events_must_concern_the_watched_object() {
        let asked = asked(Method::GET, "/api/v1/namespaces/web/configmaps?watch=true&fieldSelector=metadata.name%3Da");
        let event = |kind: &str, object: serde_json::Value| {
            check_event(&asked, &kinds(), json!({"type": kind, "object": object}).to_string().as_bytes())
        };
        assert_eq!(event("ADDED", config_map("web", "a")), Ok(()));
        assert_eq!(event("BOOKMARK", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})), Ok(()));
        assert_eq!(event("ERROR", json!({"apiVersion": "v1", "kind": "Status", "code": 410})), Ok(()));
        assert!(event("DELETED", config_map("web", "b")).is_err());
        assert!(event("DELETED", json!({"kind": "Banana"})).is_err());
        assert!(event("BANANA", config_map("web", "a")).is_err());
        assert_eq!(check_event(&asked, &kinds(), b"<html>"), Err(InvalidResponse::NotJson(200)));
    }
}
