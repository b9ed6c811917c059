//! The order of objects that nobody needs to write: what others live in, or get their rights from, comes first.

use std::collections::HashMap;

use moorfast_engine::{Address, Attributes, Target};

use crate::resource::object::{ObjectKey, Written};

/// Pairs of places in `instances`: the first comes before the second. Of each cluster,
/// - a Namespace comes before what lives in it,
/// - a CustomResourceDefinition before the objects of its kind,
/// - a ServiceAccount, a Role and a ClusterRole before the bindings that name it.
pub(crate) fn implied(instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
    let mut makers: HashMap<(&str, String), usize> = HashMap::new();
    let written: Vec<_> =
        instances.iter().map(|(address, target, attributes)| documents(address, target, attributes)).collect();
    for (place, (target, documents)) in written.iter().enumerate() {
        for (key, body) in documents {
            makers.insert((target, key.identity()), place);
            if let Some(kind) = defined_kind(key, body) {
                makers.insert((target, kind), place);
            }
        }
    }
    let mut pairs = Vec::new();
    for (place, (target, documents)) in written.iter().enumerate() {
        let needs = documents.iter().flat_map(|(key, body)| needs(key, body));
        let before = needs.filter_map(|need| makers.get(&(*target, need)).copied());
        pairs.extend(before.filter(|before| *before != place).map(|before| (before, place)));
    }
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

type Body = serde_json::Value;

fn documents<'a>(address: &Address, target: &'a Target, attributes: &Attributes) -> (&'a str, Vec<(ObjectKey, Body)>) {
    if address.resource.resource_type != "kubernetes_object" {
        return (target.name(), Vec::new());
    }
    let written = Written::read(attributes).ok();
    let documents = written.iter().flat_map(|written| written.documents());
    // What is not known yet names nothing yet.
    let known = documents.map(|document| (document.key.clone(), document.declared.to_json().unwrap_or_default()));
    (target.name(), known.collect())
}

/// `kind GROUP/KIND`, where the object defines a kind.
fn defined_kind(key: &ObjectKey, body: &Body) -> Option<String> {
    if key.kind != "CustomResourceDefinition" {
        return None;
    }
    let (group, kind) = (body.pointer("/spec/group")?.as_str()?, body.pointer("/spec/names/kind")?.as_str()?);
    Some(format!("kind {group}/{kind}"))
}

/// What an object needs, as identities of objects and as kinds.
fn needs(key: &ObjectKey, body: &Body) -> Vec<String> {
    let mut needs = Vec::new();
    if let Some(namespace) = &key.namespace {
        needs.push(format!("Namespace/{namespace}"));
    }
    if let Some((group, _)) = key.api_version.split_once('/') {
        needs.push(format!("kind {group}/{}", key.kind));
    }
    if !key.kind.ends_with("RoleBinding") {
        return needs;
    }
    let text = |value: &Body, name: &str| value.get(name).and_then(Body::as_str).map(str::to_owned);
    let rbac = "rbac.authorization.k8s.io";
    match body.get("roleRef").map(|role| (text(role, "kind"), text(role, "name"))) {
        Some((Some(kind), Some(name))) if kind == "ClusterRole" => needs.push(format!("{kind}.{rbac}/{name}")),
        Some((Some(kind), Some(name))) => {
            let namespace = key.namespace.as_deref().unwrap_or("default");
            needs.push(format!("{kind}.{rbac}/{namespace}/{name}"));
        }
        _ => {}
    }
    for subject in body.get("subjects").and_then(Body::as_array).into_iter().flatten() {
        if let (Some("ServiceAccount"), Some(name)) = (text(subject, "kind").as_deref(), text(subject, "name")) {
            let namespace = text(subject, "namespace").or_else(|| key.namespace.clone());
            needs.push(format!("ServiceAccount/{}/{name}", namespace.as_deref().unwrap_or("default")));
        }
    }
    needs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(yaml: &[&str]) -> Vec<(usize, usize)> {
        let target = Target::Provider("kubernetes".to_owned());
        let address: Address = "kubernetes_object.x".parse().unwrap();
        let attributes: Vec<Attributes> = yaml.iter().map(|y| [("yaml".to_owned(), (*y).into())].into()).collect();
        implied(&attributes.iter().map(|a| (&address, &target, a)).collect::<Vec<_>>())
    }

    #[test]
    fn what_others_need_comes_first() {
        let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: team}\n";
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: team}\n";
        let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: b}\n\
            roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: r}\n\
            subjects: [{kind: ServiceAccount, name: a, namespace: team}]\n";
        let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\nrules: []\n";
        let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: ws.x.io}\n\
            spec: {group: x.io, names: {kind: W, plural: ws}, scope: Namespaced}\n";
        let custom = "apiVersion: x.io/v1\nkind: W\nmetadata: {name: w, namespace: team}\n";
        let found = order(&[account, namespace, binding, role, definition, custom]);
        assert_eq!(found, [(0, 2), (1, 0), (1, 5), (3, 2), (4, 5)]);
    }
}
