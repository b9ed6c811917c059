//! Whether an answer is one of a Kubernetes API server to the request that was sent.
//!
//! A gateway, a login page or another server answers with 200 as well. What such an answer says about the cluster is not true.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, Method, StatusCode, Uri};
use kube::discovery::Discovery;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The largest answer with one object. etcd takes 1.5 MiB, eight times that is left to whoever raised this.
pub(crate) const OBJECT_LIMIT: usize = 16 << 20;
/// The largest page of a list, and the largest discovery document.
const LIST_LIMIT: usize = 64 << 20;
/// The version of answers that hold the metadata of objects only.
/// See <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>.
const METADATA_VERSION: &str = "meta.k8s.io/v1";
/// What the API server answers on a path that it does not know.
const NO_PATH: &[u8] = b"404 page not found";

/// An answer that is not one of a Kubernetes API server to what was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Misanswer {
    /// It leads elsewhere.
    #[error("a redirect to {0}")]
    Redirect(String),
    /// Nothing.
    #[error("an empty body (HTTP {0})")]
    Empty(u16),
    /// Another content type, such as that of a login page.
    #[error("a page of type {1} (HTTP {0})")]
    Page(u16, String),
    /// A content type of JSON around something else, or around a part of it.
    #[error("not valid JSON (HTTP {0})")]
    NotJson(u16),
    /// An object of another kind, version or name.
    #[error("{found}, where {wanted} was asked for")]
    Other {
        /// What it is.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// The path is not known, although discovery named it.
    #[error("HTTP 404 without the name of the object that is not found")]
    NoPath,
    /// It is not read to its end.
    #[error("larger than {} MiB", .0 >> 20)]
    TooLarge(usize),
}

/// The kinds of the resources that the API serves, by API version and plural. Shared by those who ask and those who judge.
#[derive(Clone, Debug)]
pub(crate) struct Kinds(Arc<RwLock<HashMap<(String, String), String>>>);

impl Default for Kinds {
    /// The kinds that are asked for without discovery.
    fn default() -> Self {
        const CORE: [(&str, &str); 5] = [
            ("namespaces", "Namespace"),
            ("nodes", "Node"),
            ("pods", "Pod"),
            ("secrets", "Secret"),
            ("serviceaccounts", "ServiceAccount"),
        ];
        const OTHERS: [(&str, &str, &str); 2] = [
            ("certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest"),
            ("coordination.k8s.io/v1", "leases", "Lease"),
        ];
        let core = CORE.into_iter().map(|(plural, kind)| ("v1", plural, kind));
        let known = core.chain(OTHERS).map(|(version, plural, kind)| ((version.into(), plural.into()), kind.into()));
        Self(Arc::new(RwLock::new(known.collect())))
    }
}

impl Kinds {
    /// Adds what `discovery` found.
    pub(crate) fn learn(&self, discovery: &Discovery) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for group in discovery.groups() {
            for (resource, _) in group.versions().flat_map(|version| group.versioned_resources(version)) {
                known.insert((resource.api_version, resource.plural), resource.kind);
            }
        }
    }

    fn kind(&self, resource: &Resource) -> Option<String> {
        if resource.api_version == METADATA_VERSION {
            return Some("PartialObjectMetadata".to_owned());
        }
        let key = (resource.api_version.clone(), resource.plural.clone());
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

/// The resource that a path names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    api_version: String,
    namespace: Option<String>,
    plural: String,
}

/// What a request asks for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Asked {
    /// A discovery document of one of these kinds.
    Discovery(&'static [&'static str]),
    /// The resources of this group and version.
    GroupVersion(String),
    /// The objects of a resource; only the one of this name.
    List(Resource, Option<String>),
    /// One object: its name, which a request to create it does not tell.
    Object(Resource, Option<String>),
    /// The deletion of an object.
    Deletion(Resource, String),
    /// Something of an object, such as its eviction.
    Subresource(Resource, String),
    /// Whether the API server is ready.
    Readiness,
    /// What somebody else answers: a kubelet, through the API server.
    Foreign,
}

impl Asked {
    /// Returns what a request with this method and URI asks for.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let steps: Vec<&str> = uri.path().split('/').filter(|step| !step.is_empty()).collect();
        let (api_version, rest) = match steps.as_slice() {
            ["api"] => return Self::Discovery(&["APIGroupDiscoveryList", "APIVersions"]),
            ["apis"] => return Self::Discovery(&["APIGroupDiscoveryList", "APIGroupList"]),
            ["apis", _] => return Self::Discovery(&["APIGroup"]),
            ["readyz"] => return Self::Readiness,
            ["api", version] => return Self::GroupVersion((*version).to_owned()),
            ["apis", group, version] => return Self::GroupVersion(format!("{group}/{version}")),
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return Self::Foreign,
        };
        // `namespaces/web/status` is of the namespace, `namespaces/web/pods` of what lives in it.
        let (namespace, rest) = match rest {
            ["namespaces", namespace, inside @ ..] if !matches!(inside, [] | ["status" | "finalize"]) => {
                (Some((*namespace).to_owned()), inside)
            }
            rest => (None, rest),
        };
        let resource = |plural: &str| Resource { api_version, namespace, plural: plural.to_owned() };
        match rest {
            [plural] if method == Method::POST => Self::Object(resource(plural), None),
            [plural] => Self::List(resource(plural), selected_name(uri)),
            [plural, name] if method == Method::DELETE => Self::Deletion(resource(plural), (*name).to_owned()),
            [plural, name] => Self::Object(resource(plural), Some((*name).to_owned())),
            [_, _, "proxy", ..] => Self::Foreign,
            [plural, name, ..] => Self::Subresource(resource(plural), (*name).to_owned()),
            [] => Self::Foreign,
        }
    }

    /// Returns what is asked for in the representation that these headers of the request accept.
    pub(crate) fn accepted(self, headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        match self {
            Self::List(resource, name) if accept.contains("as=PartialObjectMetadata") => {
                Self::List(Resource { api_version: METADATA_VERSION.to_owned(), ..resource }, name)
            }
            other => other,
        }
    }

    /// How many bytes an answer may have.
    pub(crate) fn limit(&self) -> usize {
        match self {
            Self::Discovery(_) | Self::GroupVersion(_) | Self::List(..) | Self::Foreign => LIST_LIMIT,
            _ => OBJECT_LIMIT,
        }
    }
}

/// The name of the only object that the request selects.
fn selected_name(uri: &Uri) -> Option<String> {
    let selector = form_urlencoded::parse(uri.query()?.as_bytes()).find(|(name, _)| name == "fieldSelector")?.1;
    selector.strip_prefix("metadata.name=").filter(|name| !name.contains(',')).map(str::to_owned)
}

/// Checks what precedes the body of a success.
///
/// # Errors
/// If it leads elsewhere or announces a page.
pub(crate) fn judge_head(asked: &Asked, status: StatusCode, headers: &HeaderMap) -> Result<(), Misanswer> {
    if *asked == Asked::Foreign {
        return Ok(());
    }
    if status.is_redirection() {
        return Err(Misanswer::Redirect(destination(headers)));
    }
    let content_type = content_type(headers);
    let expected = match asked {
        Asked::Readiness => content_type == "text/plain",
        _ => content_type == "application/json",
    };
    match expected {
        true => Ok(()),
        false => Err(Misanswer::Page(status.as_u16(), content_type)),
    }
}

/// Checks the body of a success.
///
/// # Errors
/// If it is not what was asked for.
pub(crate) fn judge(asked: &Asked, kinds: &Kinds, status: StatusCode, body: &[u8]) -> Result<(), Misanswer> {
    let code = status.as_u16();
    if *asked == Asked::Foreign {
        return Ok(());
    }
    if body.trim_ascii().is_empty() {
        return Err(Misanswer::Empty(code));
    }
    if *asked == Asked::Readiness {
        let ready = body.trim_ascii() == b"ok";
        return if ready { Ok(()) } else { Err(other("a text", "`ok`")) };
    }
    let head: Head = parse(body, code)?;
    match asked {
        Asked::Foreign | Asked::Readiness => Ok(()),
        Asked::Discovery(wanted) => {
            if !wanted.contains(&head.kind.as_str()) {
                return Err(other(head.described(), wanted.join(" or ")));
            }
            let document: Document = parse(body, code)?;
            let named = document.items.len() + document.groups.len() + document.versions.len();
            if named == 0 {
                Err(other(format!("{} without content", head.kind), "what the API serves"))
            } else {
                Ok(())
            }
        }
        Asked::GroupVersion(wanted) => {
            let document: Document = parse(body, code)?;
            match head.kind == "APIResourceList" && document.group_version.as_ref() == Some(wanted) {
                true => Ok(()),
                false => Err(other(head.described(), format!("the resources of {wanted}"))),
            }
        }
        Asked::Object(resource, name) => head.is_object(resource, kinds, name.as_deref()),
        Asked::Deletion(_, _) if head.is_status() => Ok(()),
        Asked::Deletion(resource, name) => head.is_object(resource, kinds, Some(name)),
        Asked::Subresource(resource, name) => match head.metadata.name.as_ref().is_none_or(|found| found == name) {
            true if !head.kind.is_empty() && !head.api_version.is_empty() => Ok(()),
            _ => Err(other(head.described(), format!("something of {}/{name}", resource.plural))),
        },
        Asked::List(resource, name) => {
            head.is_list(resource, kinds)?;
            let list: List = parse(body, code)?;
            list.items.iter().flatten().try_for_each(|item| item.is_item(resource, kinds, name.as_deref()))
        }
    }
}

/// Checks one line of a watch.
///
/// # Errors
/// If it is not an event of what is watched.
pub(crate) fn judge_event(asked: &Asked, kinds: &Kinds, line: &[u8]) -> Result<(), Misanswer> {
    let event: Event = parse(line, StatusCode::OK.as_u16())?;
    let Asked::List(resource, name) = asked else { return Ok(()) };
    match event.kind.as_str() {
        "ADDED" | "MODIFIED" | "DELETED" => event.object.is_object(resource, kinds, name.as_deref()),
        "BOOKMARK" => event.object.is_object(resource, kinds, None),
        "ERROR" if event.object.is_status() => Ok(()),
        _ => Err(other(event.object.described(), "an event")),
    }
}

/// What to make of an answer that is a failure by its HTTP status.
#[derive(Debug, PartialEq)]
pub(crate) enum Failure {
    /// The API server refuses.
    Refusal,
    /// The server or something before it is not able to answer at the moment, which this says in few words.
    Inability(String),
}

/// Checks the body of a failure.
///
/// # Errors
/// If the API server did not give it.
pub(crate) fn judge_failure(
    asked: &Asked,
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Failure, Misanswer> {
    let code = status.as_u16();
    let refusal: Result<Refusal, _> = parse(body, code);
    let is_refusal = content_type(headers) == "application/json" && refusal.as_ref().is_ok_and(|r| r.head.is_status());
    if *asked == Asked::Foreign || is_refusal && (code != 404 || refusal.is_ok_and(|r| r.is_of(asked))) {
        return Ok(Failure::Refusal);
    }
    if code == 404 && (is_refusal || body.trim_ascii() == NO_PATH) {
        // Of a group it means that the group is not served.
        let of_group = matches!(asked, Asked::GroupVersion(_));
        return if of_group { Ok(Failure::Inability("it is not served".to_owned())) } else { Err(Misanswer::NoPath) };
    }
    let page = match (content_type(headers), body.trim_ascii().is_empty()) {
        (_, true) => Misanswer::Empty(code),
        (content_type, false) => Misanswer::Page(code, content_type),
    };
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if passes { Ok(Failure::Inability(page.to_string())) } else { Err(page) }
}

fn other(found: impl Into<String>, wanted: impl Into<String>) -> Misanswer {
    Misanswer::Other { found: found.into(), wanted: wanted.into() }
}

fn parse<T: DeserializeOwned>(body: &[u8], code: u16) -> Result<T, Misanswer> {
    let parsed = serde_json::from_slice(body).map_err(|error| error.is_data());
    match parsed {
        // A list with the right members would do for serde.
        Ok(parsed) if body.trim_ascii_start().starts_with(b"{") => Ok(parsed),
        Ok(_) | Err(true) => Err(other("JSON that is not an object of the API", "one")),
        Err(false) => Err(Misanswer::NotJson(code)),
    }
}

/// The media type, without its parameters and without what a terminal would obey.
fn content_type(headers: &HeaderMap) -> String {
    let written = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media = written.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if media.is_empty() { "(none)".to_owned() } else { shown(&media) }
}

/// Where a redirect leads, without its query, which may hold credentials.
fn destination(headers: &HeaderMap) -> String {
    let written = headers.get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or("(nowhere)");
    let end = written.find(['?', '#']).unwrap_or(written.len());
    match written[..end].split_once("://") {
        Some((scheme, rest)) => shown(&format!("{scheme}://{}", rest.rsplit('@').next().unwrap_or(rest))),
        None => shown(&written[..end]),
    }
}

/// A word of somebody else, cut where it is long.
fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    text.chars().take(LONGEST).flat_map(char::escape_default).collect()
}

/// What every object says about itself.
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

/// What discovery documents hold.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Document {
    group_version: Option<String>,
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

/// A Status.
#[derive(Debug, Deserialize)]
struct Refusal {
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

impl Refusal {
    /// Whether it is about the object that was asked for, or about its namespace.
    fn is_of(&self, asked: &Asked) -> bool {
        let (Asked::Object(_, Some(name)) | Asked::Deletion(_, name)) = asked else { return true };
        let Some(details) = &self.details else { return false };
        details.kind.as_deref() == Some("namespaces") || details.name.as_ref() == Some(name)
    }
}

impl Head {
    fn described(&self) -> String {
        let Metadata { name, namespace } = &self.metadata;
        let place: String = namespace.iter().chain(name).map(|part| format!(" {}", shown(part))).collect();
        match (self.kind.as_str(), self.api_version.as_str()) {
            ("", _) => "JSON without a kind".to_owned(),
            (kind, "") => format!("a {} without a version", shown(kind)),
            (kind, version) => format!("a {} of {}{place}", shown(kind), shown(version)),
        }
    }

    fn is_status(&self) -> bool {
        self.kind == "Status" && self.api_version == "v1"
    }

    fn is_object(&self, resource: &Resource, kinds: &Kinds, name: Option<&str>) -> Result<(), Misanswer> {
        let kind = kinds.kind(resource);
        let is_kind = !self.kind.is_empty() && kind.as_ref().is_none_or(|kind| *kind == self.kind) && !self.is_status();
        match is_kind && self.api_version == resource.api_version && self.is_at(resource, name) {
            true => Ok(()),
            false => Err(other(self.described(), resource.described(kind.as_deref(), name))),
        }
    }

    /// As [`Head::is_object`]; an item need not say its kind.
    fn is_item(&self, resource: &Resource, kinds: &Kinds, name: Option<&str>) -> Result<(), Misanswer> {
        let kind = kinds.kind(resource);
        let is_kind = self.kind.is_empty() || kind.as_ref().is_none_or(|kind| *kind == self.kind);
        let is_version = self.api_version.is_empty() || self.api_version == resource.api_version;
        let is_named = self.metadata.name.as_ref().is_some_and(|name| !name.is_empty());
        match is_kind && is_version && is_named && self.is_at(resource, name) {
            true => Ok(()),
            false => Err(other("a list with something else in it", resource.described(kind.as_deref(), name))),
        }
    }

    fn is_at(&self, resource: &Resource, name: Option<&str>) -> bool {
        let is_name = name.is_none_or(|name| self.metadata.name.as_deref() == Some(name));
        // A bookmark has no name and no namespace.
        let is_namespace = resource.namespace.is_none() || self.metadata.namespace == resource.namespace;
        is_name && (is_namespace || name.is_none() && self.metadata.name.is_none())
    }

    fn is_list(&self, resource: &Resource, kinds: &Kinds) -> Result<(), Misanswer> {
        let kind = kinds.kind(resource);
        let is_kind = match &kind {
            // A CustomResourceDefinition may call its list as it likes.
            Some(kind) if resource.is_custom() => !self.kind.is_empty() && self.kind != *kind && !self.is_status(),
            Some(kind) => self.kind.strip_suffix("List") == Some(kind),
            None => self.kind.ends_with("List"),
        };
        match is_kind && self.api_version == resource.api_version {
            true => Ok(()),
            false => {
                let kind = kind.map_or_else(|| "list".to_owned(), |kind| format!("{kind}List"));
                Err(other(self.described(), format!("a {kind} of {}", resource.api_version)))
            }
        }
    }
}

impl Resource {
    fn is_custom(&self) -> bool {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        group.contains('.') && !group.ends_with(".k8s.io")
    }

    fn described(&self, kind: Option<&str>, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        let namespace = self.namespace.as_ref().map(|namespace| format!(" {namespace}")).unwrap_or_default();
        let kind = kind.map_or_else(|| format!("an object of {}", self.plural), |kind| format!("a {kind}"));
        format!("{kind} of {}{namespace}{name}", self.api_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NAMED: &str = "/api/v1/namespaces/web/configmaps/a";
    const LIST: &str = "/api/v1/namespaces/web/configmaps";

    fn asked(method: Method, uri: &str) -> Asked {
        Asked::of(&method, &uri.parse().unwrap())
    }

    fn kinds() -> Kinds {
        let kinds = Kinds::default();
        let mut known = kinds.0.write().unwrap();
        known.insert(("v1".into(), "configmaps".into()), "ConfigMap".into());
        known.insert(("example.org/v1".into(), "widgets".into()), "Widget".into());
        drop(known);
        kinds
    }

    fn told(method: Method, uri: &str, body: &str) -> String {
        let verdict = judge(&asked(method, uri), &kinds(), StatusCode::OK, body.as_bytes());
        verdict.map_or_else(|misanswer| misanswer.to_string(), |()| "believed".to_owned())
    }

    #[test]
    fn a_list_of_metadata_is_believed_only_if_it_was_asked_for() {
        let list = json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": [
            {"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": {"name": "a", "namespace": "web"}}]});
        let judged = |asked: &Asked| judge(asked, &kinds(), StatusCode::OK, list.to_string().as_bytes()).is_ok();
        let plain = asked(Method::GET, LIST);
        let accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1".parse().unwrap();
        let metadata = plain.clone().accepted(&HeaderMap::from_iter([(ACCEPT, accept)]));
        assert!(judged(&metadata) && !judged(&plain.accepted(&HeaderMap::new())));
        assert!(
            judge(&metadata, &kinds(), StatusCode::OK, b"{\"kind\":\"ConfigMapList\",\"apiVersion\":\"v1\"}").is_err()
        );
    }

    fn config_map(namespace: &str, name: &str) -> serde_json::Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}})
    }

    #[test]
    fn an_answer_is_what_was_asked_for_or_is_not_believed() {
        let get = Method::GET;
        let list = |kind: &str, items: serde_json::Value| {
            json!({"apiVersion": "v1", "kind": kind, "metadata": {}, "items": items}).to_string()
        };
        let nameless = json!([{"metadata": {"namespace": "web"}}]);
        let custom = json!({"apiVersion": "example.org/v1", "kind": "WidgetCollection", "items": []}).to_string();
        let success = json!({"apiVersion": "v1", "kind": "Status", "status": "Success"}).to_string();
        let one = "/api/v1/namespaces/web/configmaps?fieldSelector=metadata.name%3Da";
        let cases = [
            (&get, NAMED, config_map("web", "a").to_string(), "believed"),
            (
                &get,
                NAMED,
                "{\"kind\":\"Banana\",\"apiVersion\":\"v9\"}".into(),
                "a Banana of v9, where a ConfigMap of v1 web a was asked for",
            ),
            (&get, NAMED, "{}".into(), "JSON without a kind, where a ConfigMap of v1 web a was asked for"),
            (
                &get,
                NAMED,
                config_map("web", "b").to_string(),
                "a ConfigMap of v1 web b, where a ConfigMap of v1 web a was asked for",
            ),
            (
                &get,
                NAMED,
                config_map("dev", "a").to_string(),
                "a ConfigMap of v1 dev a, where a ConfigMap of v1 web a was asked for",
            ),
            (&get, NAMED, success.clone(), "a Status of v1, where a ConfigMap of v1 web a was asked for"),
            (
                &get,
                NAMED,
                config_map("web", "a").to_string().replace("ConfigMap", "Secret"),
                "a Secret of v1 web a, where a ConfigMap of v1 web a was asked for",
            ),
            (&get, NAMED, " ".into(), "an empty body (HTTP 200)"),
            (&get, NAMED, "{\"kind\": \"Conf".into(), "not valid JSON (HTTP 200)"),
            (&get, NAMED, "[]".into(), "JSON that is not an object of the API, where one was asked for"),
            (&get, NAMED, "null".into(), "JSON that is not an object of the API, where one was asked for"),
            (
                &Method::PATCH,
                NAMED,
                "{\"ok\":true}".into(),
                "JSON without a kind, where a ConfigMap of v1 web a was asked for",
            ),
            (&Method::DELETE, NAMED, success.clone(), "believed"),
            (&Method::DELETE, NAMED, "{}".into(), "JSON without a kind, where a ConfigMap of v1 web a was asked for"),
            (&Method::POST, LIST, config_map("web", "new").to_string(), "believed"),
            (&get, LIST, list("ConfigMapList", json!([config_map("web", "a")])), "believed"),
            (&get, LIST, list("ConfigMapList", json!(null)), "believed"),
            (
                &get,
                LIST,
                list("SecretList", json!([])),
                "a SecretList of v1, where a ConfigMapList of v1 was asked for",
            ),
            (&get, LIST, list("ConfigMap", json!([])), "a ConfigMap of v1, where a ConfigMapList of v1 was asked for"),
            (
                &get,
                LIST,
                list("ConfigMapList", json!([config_map("dev", "a")])),
                "a list with something else in it, where a ConfigMap of v1 web was asked for",
            ),
            (
                &get,
                LIST,
                list("ConfigMapList", nameless),
                "a list with something else in it, where a ConfigMap of v1 web was asked for",
            ),
            (
                &get,
                one,
                list("ConfigMapList", json!([config_map("web", "b")])),
                "a list with something else in it, where a ConfigMap of v1 web a was asked for",
            ),
            (&get, "/apis/example.org/v1/widgets", custom, "believed"),
            (&get, "/api", "{\"kind\":\"APIVersions\",\"versions\":[\"v1\"]}".into(), "believed"),
            (
                &get,
                "/api",
                "{\"kind\":\"APIVersions\",\"versions\":[]}".into(),
                "APIVersions without content, where what the API serves was asked for",
            ),
            (
                &get,
                "/apis",
                "{\"kind\":\"Banana\",\"apiVersion\":\"v9\"}".into(),
                "a Banana of v9, where APIGroupDiscoveryList or APIGroupList was asked for",
            ),
            (
                &get,
                "/apis/example.org/v1",
                "{\"kind\":\"APIResourceList\",\"groupVersion\":\"apps/v1\"}".into(),
                "a APIResourceList without a version, where the resources of example.org/v1 was asked for",
            ),
            (&get, "/readyz", "ok".into(), "believed"),
            (&get, "/readyz", "<html>".into(), "a text, where `ok` was asked for"),
            (&get, "/api/v1/nodes/a/proxy/configz", "anything".into(), "believed"),
        ];
        for (method, uri, body, expected) in cases {
            assert_eq!(told(method.clone(), uri, &body), expected, "{method} {uri} {body}");
        }
    }

    #[test]
    fn pages_and_redirects_are_called_so() {
        let head = |status: u16, name: http::HeaderName, value: &str| {
            let headers = HeaderMap::from_iter([(name, value.parse().unwrap())]);
            judge_head(&asked(Method::GET, NAMED), StatusCode::from_u16(status).unwrap(), &headers)
        };
        assert_eq!(head(200, CONTENT_TYPE, "application/json; charset=utf-8"), Ok(()));
        let told = |verdict: Result<(), Misanswer>| verdict.unwrap_err().to_string();
        assert_eq!(told(head(200, CONTENT_TYPE, "text/html; charset=utf-8")), "a page of type text/html (HTTP 200)");
        assert_eq!(told(head(200, CONTENT_TYPE, "")), "a page of type (none) (HTTP 200)");
        let to = "https://user:secret@sso.example.org/login?token=secret";
        assert_eq!(told(head(302, LOCATION, to)), "a redirect to https://sso.example.org/login");
    }

    #[test]
    fn a_failure_is_a_refusal_of_the_api_server_or_is_not_believed() {
        let judged = |uri: &str, code: u16, content_type: &str, body: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())]);
            let status = StatusCode::from_u16(code).unwrap();
            match judge_failure(&asked(Method::GET, uri), status, &headers, body.as_bytes()) {
                Ok(Failure::Refusal) => "refusal".to_owned(),
                Ok(Failure::Inability(why)) => format!("inability: {why}"),
                Err(misanswer) => misanswer.to_string(),
            }
        };
        let status = |details: serde_json::Value| {
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "details": details}).to_string()
        };
        let (json, html, text) = ("application/json", "text/html", "text/plain");
        let no_path = "HTTP 404 without the name of the object that is not found";
        let cases = [
            (NAMED, 404, json, status(json!({"name": "a", "kind": "configmaps"})), "refusal"),
            (NAMED, 404, json, status(json!({"name": "web", "kind": "namespaces"})), "refusal"),
            (NAMED, 404, json, status(json!({})), no_path),
            (NAMED, 404, text, "404 page not found\n".to_owned(), no_path),
            (NAMED, 404, html, "<h1>Not Found</h1>".to_owned(), "a page of type text/html (HTTP 404)"),
            (NAMED, 403, json, status(json!({"name": "a"})), "refusal"),
            (NAMED, 403, html, "<h1>Log in</h1>".to_owned(), "a page of type text/html (HTTP 403)"),
            (NAMED, 403, json, "{\"error\": \"forbidden\"}".to_owned(), "a page of type application/json (HTTP 403)"),
            (NAMED, 503, html, "<h1>Bad</h1>".to_owned(), "inability: a page of type text/html (HTTP 503)"),
            (NAMED, 429, text, "Too many".to_owned(), "inability: a page of type text/plain (HTTP 429)"),
            (NAMED, 502, text, String::new(), "inability: an empty body (HTTP 502)"),
            ("/apis/example.org/v1", 404, text, "404 page not found\n".to_owned(), "inability: it is not served"),
            ("/readyz", 404, html, "<h1>?</h1>".to_owned(), "a page of type text/html (HTTP 404)"),
            ("/api/v1/nodes/a/proxy/healthz", 404, text, "404 page not found".to_owned(), "refusal"),
        ];
        for (uri, code, content_type, body, expected) in cases {
            assert_eq!(judged(uri, code, content_type, &body), expected, "{uri} {code} {body}");
        }
    }

    #[test]
    fn events_of_a_watch_are_of_what_is_watched() {
        let asked = asked(Method::GET, "/api/v1/namespaces/web/configmaps?watch=true&fieldSelector=metadata.name%3Da");
        let event = |kind: &str, object: serde_json::Value| {
            judge_event(&asked, &kinds(), json!({"type": kind, "object": object}).to_string().as_bytes())
        };
        assert_eq!(event("ADDED", config_map("web", "a")), Ok(()));
        assert_eq!(event("BOOKMARK", json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {}})), Ok(()));
        assert_eq!(event("ERROR", json!({"apiVersion": "v1", "kind": "Status", "code": 410})), Ok(()));
        assert!(event("DELETED", config_map("web", "b")).is_err());
        assert!(event("DELETED", json!({"kind": "Banana"})).is_err());
        assert!(event("BANANA", config_map("web", "a")).is_err());
        assert_eq!(judge_event(&asked, &kinds(), b"<html>"), Err(Misanswer::NotJson(200)));
    }
}
