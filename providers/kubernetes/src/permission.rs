//! The permissions that instances need.

/// The verbs with which objects are read, applied and deleted.
pub(crate) const MANAGE: &[&str] = &["get", "list", "create", "patch", "delete"];

/// A permission that instances need.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Permission {
    /// The API version, such as `apps/v1`.
    pub(crate) api_version: String,
    /// The kind, such as `Deployment`.
    pub(crate) kind: String,
    /// The namespace as declared. An empty text stands for all namespaces.
    pub(crate) namespace: Option<String>,
    /// The subresource, such as `approval`, or an empty text.
    pub(crate) subresource: &'static str,
    /// The verbs.
    pub(crate) verbs: &'static [&'static str],
}

impl Permission {
    /// Returns the permission for a cluster-scoped kind, or for a kind in `namespace`.
    pub(crate) fn new(
        api_version: &str,
        kind: &str,
        namespace: Option<&str>,
        subresource: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        let namespace = namespace.map(str::to_owned);
        Self { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace, subresource, verbs }
    }
}
