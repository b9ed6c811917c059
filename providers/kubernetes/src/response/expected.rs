//! The response that a request to an API server expects.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use http::header::ACCEPT;
use http::{HeaderMap, Method, Uri};
use kube::discovery::Discovery;

/// The size limit of a response with one object. The limit of etcd is 1.5 MiB by default, and some clusters raise it.
pub(crate) const OBJECT_LIMIT: usize = 16 << 20;
/// The size limit of a page of a list and of a discovery document.
const LIST_LIMIT: usize = 64 << 20;
/// The API version of responses that contain only the metadata of objects.
/// See <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>.
const METADATA_VERSION: &str = "meta.k8s.io/v1";
/// The served kinds by API version and plural name. Shared by the discovery and the response check.
#[derive(Clone, Debug)]
pub(crate) struct Kinds(pub(super) Arc<RwLock<HashMap<(String, String), String>>>);

impl Default for Kinds {
    /// Returns the kinds that are requested without discovery.
    fn default() -> Self {
        const CORE: [(&str, &str); 5] = [
            ("namespaces", "Namespace"),
            ("nodes", "Node"),
            ("pods", "Pod"),
            ("secrets", "Secret"),
            ("serviceaccounts", "ServiceAccount"),
        ];
        const OTHERS: [(&str, &str, &str); 3] = [
            ("authorization.k8s.io/v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
            ("certificates.k8s.io/v1", "certificatesigningrequests", "CertificateSigningRequest"),
            ("coordination.k8s.io/v1", "leases", "Lease"),
        ];
        let core = CORE.into_iter().map(|(plural, kind)| ("v1", plural, kind));
        let known = core.chain(OTHERS).map(|(version, plural, kind)| ((version.into(), plural.into()), kind.into()));
        Self(Arc::new(RwLock::new(known.collect())))
    }
}

impl Kinds {
    /// Adds the kinds of `discovery`.
    pub(crate) fn add(&self, discovery: &Discovery) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for group in discovery.groups() {
            for (resource, _) in group.versions().flat_map(|version| group.versioned_resources(version)) {
                known.insert((resource.api_version, resource.plural), resource.kind);
            }
        }
    }

    /// Returns the kind of a resource, if it is known.
    pub(super) fn kind(&self, resource: &Resource) -> Option<String> {
        if resource.api_version == METADATA_VERSION {
            return Some("PartialObjectMetadata".to_owned());
        }
        let key = (resource.api_version.clone(), resource.plural.clone());
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }
}

/// The API resource that a path names.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    pub(super) api_version: String,
    pub(super) namespace: Option<String>,
    pub(super) plural: String,
}

/// The response that a request expects.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expected {
    /// A discovery document of one of these kinds.
    Discovery(&'static [&'static str]),
    /// The resources of this group and version.
    GroupVersion(String),
    /// A list of objects; with a name, only the object of that name.
    List(Resource, Option<String>),
    /// One object. A request that creates an object has no name.
    Object(Resource, Option<String>),
    /// A Status, or the object that is being deleted.
    Deletion(Resource, String),
    /// A subresource of an object, such as its eviction.
    Subresource(Resource, String),
    /// The text `ok`.
    Readiness,
    /// The version of the server.
    Version,
    /// The response of another server, such as a kubelet behind the API server.
    Foreign,
}

impl Expected {
    /// Returns the expected response for a method and URI.
    pub(crate) fn of(method: &Method, uri: &Uri) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let (api_version, rest) = match segments.as_slice() {
            ["api"] => return Self::Discovery(&["APIGroupDiscoveryList", "APIVersions"]),
            ["apis"] => return Self::Discovery(&["APIGroupDiscoveryList", "APIGroupList"]),
            ["apis", _] => return Self::Discovery(&["APIGroup"]),
            ["readyz"] => return Self::Readiness,
            ["version"] => return Self::Version,
            ["api", version] => return Self::GroupVersion((*version).to_owned()),
            ["apis", group, version] => return Self::GroupVersion(format!("{group}/{version}")),
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return Self::Foreign,
        };
        // `namespaces/web/status` belongs to the Namespace, `namespaces/web/pods` to objects in it.
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

    /// Returns the expected response in the representation that the `Accept` header requests.
    pub(crate) fn accepted(self, headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        match self {
            Self::List(resource, name) if accept.contains("as=PartialObjectMetadata") => {
                Self::List(Resource { api_version: METADATA_VERSION.to_owned(), ..resource }, name)
            }
            other => other,
        }
    }

    /// Returns the size limit of the response in bytes.
    pub(crate) fn limit(&self) -> usize {
        match self {
            Self::Discovery(_) | Self::GroupVersion(_) | Self::List(..) | Self::Foreign => LIST_LIMIT,
            _ => OBJECT_LIMIT,
        }
    }
}

/// Returns the object name in the field selector.
fn selected_name(uri: &Uri) -> Option<String> {
    let selector = form_urlencoded::parse(uri.query()?.as_bytes()).find(|(name, _)| name == "fieldSelector")?.1;
    selector.strip_prefix("metadata.name=").filter(|name| !name.contains(',')).map(str::to_owned)
}

impl Resource {
    /// Whether its kind is defined by a CustomResourceDefinition.
    pub(super) fn is_custom(&self) -> bool {
        let group = self.api_version.split_once('/').map_or("", |(group, _)| group);
        group.contains('.') && !group.ends_with(".k8s.io")
    }

    /// Returns the kind or an object of it in a message.
    pub(super) fn description(&self, kind: Option<&str>, name: Option<&str>) -> String {
        let name = name.map(|name| format!(" {name}")).unwrap_or_default();
        let namespace = self.namespace.as_ref().map(|namespace| format!(" {namespace}")).unwrap_or_default();
        let kind = kind.map_or_else(|| format!("an object of {}", self.plural), |kind| format!("a {kind}"));
        format!("{kind} of {}{namespace}{name}", self.api_version)
    }
}
