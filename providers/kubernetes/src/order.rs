//! What comes before what, without anybody writing it.

use moorfast_engine::{Address, Attributes, Target, Value};

use crate::attributes::Read;
use crate::csr::Signer;
use crate::resource::object::{ObjectKey, documents};

/// What an instance is, as far as the order is concerned.
enum Part {
    /// Objects, each with what it declares.
    Objects(Vec<(ObjectKey, Value)>),
    /// Waits until this node joined.
    Node(String),
    /// Waits for this certificate of a node.
    Certificate(Signer, String),
    /// Waits for the configuration of a node's kubelet.
    Configuration(String),
    /// Nothing that has an order.
    Other,
}

/// Kinds that run something under the rights of a ServiceAccount.
const WORKLOADS: [&str; 8] =
    ["Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "ReplicationController"];
/// Kinds that make rights.
const RIGHTS: [&str; 5] = ["ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"];

/// Pairs of places, the first of which comes before the second.
pub(crate) fn implied(instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
    let parts: Vec<_> =
        instances.iter().map(|(address, _, attributes)| part(&address.resource.resource_type, attributes)).collect();
    let mut pairs = Vec::new();
    for (i, before) in parts.iter().enumerate() {
        for (j, after) in parts.iter().enumerate() {
            let same_cluster = instances[i].1.name() == instances[j].1.name();
            if i != j && same_cluster && precedes(before, after) {
                pairs.push((i, j));
            }
        }
    }
    pairs
}

fn part(resource_type: &str, attributes: &Attributes) -> Part {
    let node = || attributes.text("node").unwrap_or_default().to_owned();
    match resource_type {
        "kubernetes_object" => Part::Objects(documents(attributes)),
        "kubernetes_node" => Part::Node(attributes.text("name").unwrap_or_default().to_owned()),
        "kubernetes_certificate_approval" => {
            Part::Certificate(attributes.text("signer").and_then(Signer::of_name).unwrap_or(Signer::Serving), node())
        }
        "kubernetes_kubelet_config" => Part::Configuration(node()),
        _ => Part::Other,
    }
}

fn precedes(before: &Part, after: &Part) -> bool {
    match (before, after) {
        (Part::Objects(before), Part::Objects(after)) => {
            before.iter().any(|b| after.iter().any(|a| object_precedes(b, a)))
        }
        // A kubelet joins by the rights that these give.
        (Part::Objects(before), Part::Node(_) | Part::Certificate(..) | Part::Configuration(_)) => {
            before.iter().any(|(key, _)| key.namespace.is_none() && RIGHTS.contains(&key.kind.as_str()))
        }
        // The kubelet's first certificate registers the node; then it asks for its second, by which its endpoints answer.
        (Part::Certificate(Signer::Client, node), Part::Node(name)) => node == name,
        (Part::Node(name), Part::Certificate(Signer::Serving, node) | Part::Configuration(node)) => name == node,
        (Part::Certificate(Signer::Serving, node), Part::Configuration(other)) => node == other,
        _ => false,
    }
}

fn object_precedes((before, declared): &(ObjectKey, Value), (after, _): &(ObjectKey, Value)) -> bool {
    match before.kind.as_str() {
        "Namespace" => after.namespace.as_deref() == Some(before.name.as_str()),
        "CustomResourceDefinition" => defines(declared, after),
        "Role" | "ClusterRole" if after.kind == "RoleBinding" || after.kind == "ClusterRoleBinding" => true,
        kind if RIGHTS.contains(&kind) && WORKLOADS.contains(&after.kind.as_str()) => {
            before.namespace.is_none() || before.namespace == after.namespace
        }
        _ => false,
    }
}

/// Does this CustomResourceDefinition define the kind of `object`?
fn defines(declared: &Value, object: &ObjectKey) -> bool {
    let at = |value: &Value, name: &str| value.as_map().and_then(|m| m.get(name)).cloned().unwrap_or_default();
    let spec = at(declared, "spec");
    let kind = at(&at(&spec, "names"), "kind");
    at(&spec, "group").as_str() == Some(object.group()) && kind.as_str() == Some(object.kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(manifest: serde_json::Value) -> (&'static str, Attributes) {
        ("kubernetes_object", [("manifest".to_owned(), Value::from(manifest))].into())
    }

    fn of_node(resource_type: &'static str, attributes: serde_json::Value) -> (&'static str, Attributes) {
        let map = Value::from(attributes).as_map().cloned().unwrap();
        (resource_type, map)
    }

    #[test]
    fn orders() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "web"}});
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s", "namespace": "web"}});
        let role =
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}});
        let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "b"}});
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
            "spec": {"group": "example.org", "names": {"kind": "Widget"}}});
        let widget = json!({"apiVersion": "example.org/v1", "kind": "Widget", "metadata": {"name": "w"}});
        let node = of_node("kubernetes_node", json!({"name": "gpu01"}));
        let serving = of_node("kubernetes_certificate_approval", json!({"node": "gpu01"}));
        let config = of_node("kubernetes_kubelet_config", json!({"node": "gpu01"}));
        let other = of_node("kubernetes_kubelet_config", json!({"node": "gpu02"}));
        let cases = [
            (object(namespace.clone()), object(pod.clone()), true),
            (object(pod.clone()), object(namespace), false),
            (object(account), object(pod), true),
            (object(role.clone()), object(binding.clone()), true),
            (object(crd.clone()), object(widget), true),
            (object(crd), object(role), false),
            (object(binding), node.clone(), true),
            (node, serving.clone(), true),
            (serving.clone(), config, true),
            (serving, other, false),
        ];
        let target = Target::Provider("kubernetes".to_owned());
        for (before, after, ordered) in cases {
            let address =
                |resource_type: &str, name: &str| format!("{resource_type}.{name}").parse::<Address>().unwrap();
            let (a, b) = (address(before.0, "a"), address(after.0, "b"));
            let pairs = implied(&[(&a, &target, &before.1), (&b, &target, &after.1)]);
            assert_eq!(pairs.contains(&(0, 1)), ordered, "{before:?} {after:?}");
        }
    }
}
