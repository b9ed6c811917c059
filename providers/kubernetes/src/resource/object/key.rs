//! The identification of an object.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The namespace of a namespaced object that declares none.
pub(crate) const DEFAULT_NAMESPACE: &str = "default";
/// The cluster-scoped kinds of Kubernetes. A namespace in such an object, as some charts write it, is not part of the key.
const CLUSTER_SCOPED: [&str; 15] = [
    "Namespace",
    "Node",
    "PersistentVolume",
    "APIService.apiregistration.k8s.io",
    "CSIDriver.storage.k8s.io",
    "CertificateSigningRequest.certificates.k8s.io",
    "ClusterRole.rbac.authorization.k8s.io",
    "ClusterRoleBinding.rbac.authorization.k8s.io",
    "CustomResourceDefinition.apiextensions.k8s.io",
    "IngressClass.networking.k8s.io",
    "MutatingWebhookConfiguration.admissionregistration.k8s.io",
    "PriorityClass.scheduling.k8s.io",
    "RuntimeClass.node.k8s.io",
    "StorageClass.storage.k8s.io",
    "ValidatingWebhookConfiguration.admissionregistration.k8s.io",
];

/// The identification of an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectKey {
    /// The API version, such as `apps/v1`.
    pub(crate) api_version: String,
    /// The kind, such as `Deployment`.
    pub(crate) kind: String,
    /// The namespace as declared, or as applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// The name.
    pub(crate) name: String,
}

impl ObjectKey {
    /// Returns the API group; empty for the core group.
    pub(crate) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns the natural key. It has no version, because an object is served in several versions, and no `default` namespace, because that can be omitted.
    pub(crate) fn identity(&self) -> String {
        self.normalized().with_kind(&self.kind_and_group())
    }

    /// Returns `Deployment.apps`, or only the kind in the core group.
    fn kind_and_group(&self) -> String {
        match self.group() {
            "" => self.kind.clone(),
            group => format!("{}.{group}", self.kind),
        }
    }

    /// Whether the kind is a cluster-scoped kind of Kubernetes.
    pub(crate) fn is_cluster_scoped(&self) -> bool {
        CLUSTER_SCOPED.contains(&self.kind_and_group().as_str())
    }

    /// Returns the key without a redundant namespace: `default`, or any namespace of a cluster-scoped object.
    fn normalized(&self) -> Self {
        let is_cluster_scoped = self.is_cluster_scoped();
        Self {
            namespace: self.namespace.clone().filter(|n| !is_cluster_scoped && n != DEFAULT_NAMESPACE),
            ..self.clone()
        }
    }

    /// Whether the declared key identifies the object `applied`.
    ///
    /// A namespace that only one of the keys has does not count: the cluster fills in a missing namespace, and drops it from a cluster-scoped object.
    pub(crate) fn means(&self, applied: &ObjectKey) -> bool {
        let namespace = self.namespace.is_none() || applied.namespace.is_none() || self.namespace == applied.namespace;
        namespace && (self.group(), &self.kind, &self.name) == (applied.group(), &applied.kind, &applied.name)
    }

    fn with_kind(&self, kind: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{kind}/{namespace}/{}", self.name),
            None => format!("{kind}/{}", self.name),
        }
    }
}

/// Writes `Deployment/web/frontend`: the key in the attribute `objects` and the name in messages.
impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_kind(&self.kind))
    }
}
