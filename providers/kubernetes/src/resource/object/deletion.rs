//! How an object is deleted.

use kube::api::DeleteParams;

use super::key::ObjectKey;

/// The kinds of Kubernetes that own no other objects: nothing needs to be waited for after they are gone.
const OWNERLESS: [(&str, &[&str]); 13] = [
    (
        "",
        &[
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ResourceQuota",
            "Secret",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiregistration.k8s.io", &["APIService"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("certificates.k8s.io", &["CertificateSigningRequest"]),
    ("coordination.k8s.io", &["Lease"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("storage.k8s.io", &["CSIDriver", "CSINode", "StorageClass", "VolumeAttachment"]),
];

/// Returns the parameters to delete an object: in the foreground, so that its dependents are gone too when it is gone.
///
/// An object of a kind that owns nothing is deleted in the background. In the foreground, the garbage collector must release it first, and it releases
/// only some 10 objects a second.
///
/// See <https://kubernetes.io/docs/concepts/architecture/garbage-collection/#cascading-deletion>.
pub(super) fn parameters(key: &ObjectKey) -> DeleteParams {
    let owns_nothing =
        OWNERLESS.iter().any(|(group, kinds)| *group == key.group() && kinds.contains(&key.kind.as_str()));
    if owns_nothing { DeleteParams::background() } else { DeleteParams::foreground() }
}

#[cfg(test)]
mod tests {
    use kube::api::PropagationPolicy;

    use super::*;

    #[test]
    fn only_objects_that_own_nothing_are_deleted_in_the_background() {
        let cases = [
            ("v1", "ConfigMap", PropagationPolicy::Background),
            ("rbac.authorization.k8s.io/v1", "Role", PropagationPolicy::Background),
            ("v1", "Service", PropagationPolicy::Foreground),
            ("apps/v1", "Deployment", PropagationPolicy::Foreground),
            ("example.org/v1", "ConfigMap", PropagationPolicy::Foreground),
        ];
        for (version, kind, expected) in cases {
            let (api_version, kind) = (version.to_owned(), kind.to_owned());
            let key = ObjectKey { api_version, kind, namespace: None, name: "x".to_owned() };
            assert_eq!(parameters(&key).propagation_policy, Some(expected), "{key}");
        }
    }
}
