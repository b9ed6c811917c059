//! The implied order of instances, which needs no `depends_on`.
//!
//! Instances are found by key, never by comparing all pairs: a manifest can have thousands of objects.

use std::collections::{BTreeMap, HashMap};

use moorfast_engine::model::{Address, Attributes, ReadAttributes, Value};
use moorfast_engine::provider::Target;

use crate::csr::Signer;
use crate::resource::object::{DEFAULT_NAMESPACE, ObjectKey, at, documents, text};

/// The phases in which a machine joins the cluster. Each phase needs the previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum JoinPhase {
    /// The token with which the kubelet requests its first certificate.
    Token,
    /// The certificate with which the kubelet registers the Node.
    ClientCertificate,
    /// The Node object.
    Node,
    /// The certificate of the endpoints of the kubelet.
    ServingCertificate,
    /// The live configuration, read from these endpoints.
    Configuration,
}

/// Returns pairs of indexes: the first instance is applied before the second.
pub(crate) fn implied(instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
    let mut clusters: BTreeMap<&str, Cluster> = BTreeMap::new();
    for (place, (address, target, attributes)) in instances.iter().enumerate() {
        clusters.entry(target.name()).or_default().add(place, &address.resource.resource_type, attributes);
    }
    let mut pairs: Vec<_> =
        clusters.values().flat_map(Cluster::pairs).filter(|(before, after)| before != after).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// The instances of one cluster, by index.
#[derive(Default)]
struct Cluster {
    objects: Vec<(usize, ObjectKey, Value)>,
    /// The phases of each node whose name is known.
    nodes: BTreeMap<String, Vec<(JoinPhase, usize)>>,
    /// The instances whose node is not known yet.
    nameless: Vec<usize>,
}

impl Cluster {
    fn add(&mut self, place: usize, resource_type: &str, attributes: &Attributes) {
        let (phase, name) = match resource_type {
            "kubernetes_object" => {
                self.objects.extend(documents(attributes).into_iter().map(|(key, declared)| (place, key, declared)));
                return;
            }
            "kubernetes_bootstrap_token" => (JoinPhase::Token, "node"),
            "kubernetes_certificate_approval" => match attributes.text("signer").and_then(Signer::of_name) {
                Some(Signer::Client) => (JoinPhase::ClientCertificate, "node"),
                _ => (JoinPhase::ServingCertificate, "node"),
            },
            "kubernetes_node" => (JoinPhase::Node, "name"),
            "kubernetes_kubelet_config" => (JoinPhase::Configuration, "node"),
            _ => return,
        };
        match attributes.text(name) {
            Some(node) => self.nodes.entry(node.to_owned()).or_default().push((phase, place)),
            None => self.nameless.push(place),
        }
    }

    fn pairs(&self) -> Vec<(usize, usize)> {
        let index = Index::of(&self.objects);
        let mut pairs = Vec::new();
        for (place, key, declared) in &self.objects {
            let before = index.before(key, declared);
            pairs.extend(before.map(|before| (before, *place)));
        }
        let mut first: Vec<_> = self.nameless.clone();
        for phases in self.nodes.values() {
            let mut phases = phases.clone();
            phases.sort_unstable();
            pairs.extend(phases.windows(2).map(|two| (two[0].1, two[1].1)));
            first.extend(phases.first().map(|(_, place)| *place));
        }
        // These bindings grant the rights with which a kubelet joins and is read.
        pairs.extend(index.joining.iter().flat_map(|binding| first.iter().map(|instance| (*binding, *instance))));
        pairs
    }
}

/// The objects that other objects need, by the key with which those refer to them.
#[derive(Default)]
struct Index<'a> {
    namespaces: HashMap<&'a str, Vec<usize>>,
    /// CustomResourceDefinitions, by group and kind.
    kinds: HashMap<(&'a str, &'a str), Vec<usize>>,
    /// Roles, ClusterRoles and ServiceAccounts, by kind, namespace and name.
    named: HashMap<(&'a str, &'a str, &'a str), Vec<usize>>,
    /// Bindings, by the user or group to which they grant rights.
    bindings: HashMap<String, Vec<usize>>,
    /// ClusterRoleBindings for subjects other than ServiceAccounts.
    joining: Vec<usize>,
}

impl<'a> Index<'a> {
    fn of(objects: &'a [(usize, ObjectKey, Value)]) -> Self {
        let mut index = Self::default();
        for (place, key, declared) in objects {
            match key.kind.as_str() {
                "Namespace" => index.namespaces.entry(&key.name).or_default().push(*place),
                "CustomResourceDefinition" => {
                    if let (Some(group), Some(kind)) =
                        (text(declared, &["spec", "group"]), text(declared, &["spec", "names", "kind"]))
                    {
                        index.kinds.entry((group, kind)).or_default().push(*place);
                    }
                }
                "ClusterRole" => index.named.entry(("ClusterRole", "", &key.name)).or_default().push(*place),
                kind @ ("Role" | "ServiceAccount") => {
                    index.named.entry((kind, namespace(key), &key.name)).or_default().push(*place);
                }
                "RoleBinding" | "ClusterRoleBinding" => index.add_binding(*place, key, declared),
                _ => {}
            }
        }
        index
    }

    fn add_binding(&mut self, place: usize, key: &'a ObjectKey, declared: &'a Value) {
        for subject in subjects(declared) {
            let Some(name) = text(subject, &["name"]) else { continue };
            let user = match account_namespace(subject, key) {
                Some(namespace) => account(namespace, name),
                None => name.to_owned(),
            };
            self.bindings.entry(user).or_default().push(place);
        }
        let is_of_accounts = !subjects(declared).is_empty()
            && subjects(declared).iter().all(|subject| account_namespace(subject, key).is_some());
        if key.kind == "ClusterRoleBinding" && !is_of_accounts {
            self.joining.push(place);
        }
    }

    /// Returns the indexes of the instances that the object of `key` needs.
    fn before<'b>(&'b self, key: &'b ObjectKey, declared: &'b Value) -> impl Iterator<Item = usize> + 'b {
        let namespaces = key.namespace.as_deref().and_then(|namespace| self.namespaces.get(namespace));
        let kind = self.kinds.get(&(key.group(), key.kind.as_str()));
        let others = match key.kind.as_str() {
            "RoleBinding" | "ClusterRoleBinding" => self.of_binding(key, declared),
            _ => pod_spec(&key.kind, declared).map(|pod| self.of_pod(key, pod)).unwrap_or_default(),
        };
        namespaces.into_iter().chain(kind).chain(others).flatten().copied()
    }

    /// Returns the role of a binding and the ServiceAccounts among its subjects.
    fn of_binding<'b>(&'b self, key: &'b ObjectKey, declared: &'b Value) -> Vec<&'b Vec<usize>> {
        let role = match (text(declared, &["roleRef", "kind"]), text(declared, &["roleRef", "name"])) {
            (Some("ClusterRole"), Some(name)) => self.named.get(&("ClusterRole", "", name)),
            (Some("Role"), Some(name)) => self.named.get(&("Role", namespace(key), name)),
            _ => None,
        };
        let accounts = subjects(declared).iter().filter_map(|subject| {
            let namespace = account_namespace(subject, key)?;
            self.named.get(&("ServiceAccount", namespace, text(subject, &["name"])?))
        });
        role.into_iter().chain(accounts).collect()
    }

    /// Returns the ServiceAccount of a pod and the bindings that grant it rights.
    fn of_pod<'b>(&'b self, key: &'b ObjectKey, pod: &'b Value) -> Vec<&'b Vec<usize>> {
        let namespace = namespace(key);
        let name = text(pod, &["serviceAccountName"]).unwrap_or("default");
        let account = account(namespace, name);
        let group = format!("system:serviceaccounts:{namespace}");
        let users = [account.as_str(), group.as_str(), "system:serviceaccounts", "system:authenticated"];
        let bindings = users.into_iter().filter_map(|user| self.bindings.get(user));
        self.named.get(&("ServiceAccount", namespace, name)).into_iter().chain(bindings).collect()
    }
}

fn namespace(key: &ObjectKey) -> &str {
    key.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE)
}

/// Returns the user name of a ServiceAccount.
fn account(namespace: &str, name: &str) -> String {
    format!("system:serviceaccount:{namespace}:{name}")
}

fn subjects(binding: &Value) -> &[Value] {
    at(binding, &["subjects"]).and_then(Value::as_list).unwrap_or_default()
}

/// Returns the namespace of a subject of the binding `key`, if the subject is a ServiceAccount.
fn account_namespace<'a>(subject: &'a Value, key: &'a ObjectKey) -> Option<&'a str> {
    let is_account = text(subject, &["kind"]) == Some("ServiceAccount");
    is_account.then(|| text(subject, &["namespace"]).unwrap_or(namespace(key)))
}

/// Returns the pod spec of a workload.
fn pod_spec<'a>(kind: &str, object: &'a Value) -> Option<&'a Value> {
    match kind {
        "Pod" => at(object, &["spec"]),
        "CronJob" => at(object, &["spec", "jobTemplate", "spec", "template", "spec"]),
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "ReplicationController" => {
            at(object, &["spec", "template", "spec"])
        }
        _ => None,
    }
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

    fn pairs(instances: &[(&'static str, Attributes)]) -> Vec<(usize, usize)> {
        let target = Target::Provider("kubernetes".to_owned());
        let address = |i: usize, of: &str| format!("{of}.x{i}").parse::<Address>().unwrap();
        let addresses: Vec<_> = instances.iter().enumerate().map(|(i, (of, _))| address(i, of)).collect();
        let all: Vec<_> = addresses.iter().zip(instances).map(|(address, (_, of))| (address, &target, of)).collect();
        implied(&all)
    }

    fn binding(kind: &str, role: serde_json::Value, subject: serde_json::Value) -> (&'static str, Attributes) {
        object(
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "b", "namespace": "web"},
            "roleRef": role, "subjects": [subject]}),
        )
    }

    #[test]
    fn the_implied_order_of_two_instances() {
        let rbac = |kind: &str, name: &str| {
            object(
                json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": name, "namespace": "web"}}),
            )
        };
        let namespace = object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}}));
        let pod = |account: &str| {
            object(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "web"}, "spec": {"serviceAccountName": account}}),
            )
        };
        let deployment = object(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "web"},
            "spec": {"template": {"spec": {"serviceAccountName": "s"}}}}),
        );
        let account = object(
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s", "namespace": "web"}}),
        );
        let to_role = |kind: &str, name: &str| json!({"kind": kind, "name": name});
        let to_account = json!({"kind": "ServiceAccount", "name": "s", "namespace": "web"});
        let to_group = |name: &str| json!({"kind": "Group", "name": name});
        let of_account = binding("RoleBinding", to_role("Role", "r"), to_account.clone());
        let of_nodes = binding("ClusterRoleBinding", to_role("ClusterRole", "r"), to_group("system:bootstrappers"));
        let crd = object(
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
            "spec": {"group": "example.org", "names": {"kind": "Widget"}}}),
        );
        let widget = |group: &str| {
            object(json!({"apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": {"name": "w"}}))
        };
        let node = of_node("kubernetes_node", json!({"name": "gpu01"}));
        let token = of_node("kubernetes_bootstrap_token", json!({"node": "gpu01"}));
        let client = of_node(
            "kubernetes_certificate_approval",
            json!({"node": "gpu01", "signer": "kubernetes.io/kube-apiserver-client-kubelet"}),
        );
        let serving = of_node("kubernetes_certificate_approval", json!({"node": "gpu01"}));
        let config = of_node("kubernetes_kubelet_config", json!({"node": "gpu01"}));
        let other = of_node("kubernetes_kubelet_config", json!({"node": "gpu02"}));
        let nameless = ("kubernetes_node", Attributes::from([("name".to_owned(), Value::Unknown)]));
        let cases = [
            (&namespace, &pod("s"), true),
            (&pod("s"), &namespace, false),
            (&account, &pod("s"), true),
            (&account, &pod("t"), false),
            (&account, &deployment, true),
            (&account, &of_account, true),
            (&of_account, &deployment, true),
            (&of_account, &pod("default"), false),
            (&binding("RoleBinding", to_role("Role", "r"), to_group("system:serviceaccounts:web")), &pod("t"), true),
            (&rbac("Role", "r"), &of_account, true),
            (&rbac("Role", "q"), &of_account, false),
            (&rbac("ClusterRole", "r"), &of_account, false),
            (&rbac("ClusterRole", "r"), &of_nodes, true),
            (&crd, &widget("example.org"), true),
            (&crd, &widget("example.com"), false),
            (&of_nodes, &node, true),
            (&of_nodes, &nameless, true),
            (&binding("ClusterRoleBinding", to_role("ClusterRole", "r"), to_account), &node, false),
            (&token, &client, true),
            (&client, &node, true),
            (&node, &serving, true),
            (&serving, &config, true),
            (&node, &config, true),
            (&serving, &other, false),
        ];
        for (before, after, ordered) in cases {
            let found = pairs(&[before.clone(), after.clone()]);
            assert_eq!(found.contains(&(0, 1)), ordered, "{before:?} {after:?}");
        }
    }

    #[test]
    fn pairs_grow_linearly_with_the_objects() {
        let mut instances = Vec::new();
        for i in 0..2_000 {
            let meta = json!({"name": format!("n{i}"), "namespace": format!("ns{}", i % 50)});
            let of = |api_version: &str, kind: &str, more: serde_json::Value| {
                let mut manifest = json!({"apiVersion": api_version, "kind": kind, "metadata": meta});
                manifest.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                object(manifest)
            };
            let rbac = "rbac.authorization.k8s.io/v1";
            let account = json!({"kind": "ServiceAccount", "name": meta["name"]});
            instances.extend([
                of("v1", "ConfigMap", json!({})),
                of("v1", "ServiceAccount", json!({})),
                of(rbac, "Role", json!({})),
                of(
                    rbac,
                    "RoleBinding",
                    json!({"roleRef": {"kind": "Role", "name": meta["name"]}, "subjects": [account]}),
                ),
                of("v1", "Pod", json!({"spec": {"serviceAccountName": meta["name"]}})),
            ]);
        }
        // Of each five: the account and the role before the binding, the account and the binding before the pod.
        assert_eq!(pairs(&instances).len(), 2_000 * 4);
    }

    #[test]
    fn instances_of_different_clusters_have_no_order() {
        let namespace = object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "web"}})).1;
        let inside =
            object(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "web"}})).1;
        let [here, there] = ["kubernetes", "kubernetes.prod"].map(|name| Target::Provider(name.to_owned()));
        let address: Address = "kubernetes_object.x".parse().unwrap();
        assert!(implied(&[(&address, &here, &namespace), (&address, &there, &inside)]).is_empty());
    }
}
