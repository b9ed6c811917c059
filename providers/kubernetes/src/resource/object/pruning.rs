//! Fields of custom resources that the API server prunes.
//!
//! The API server refuses an unknown field of a custom resource, except inside an embedded resource or an object that a webhook converts: there it
//! silently removes the field.

use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;

use super::key::ObjectKey;

/// The API groups of Kubernetes itself.
const BUILT_IN_GROUPS: [&str; 21] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
];

/// Checks that a custom resource still has all declared fields after the dry run.
///
/// # Errors
/// If the API server pruned a field.
pub(super) fn check(key: &ObjectKey, declared: &Json, object: &Json) -> Result<(), ProviderError> {
    if BUILT_IN_GROUPS.contains(&key.group()) {
        return Ok(());
    }
    let pruned = pruned(declared, object);
    if pruned.is_empty() {
        return Ok(());
    }
    let paths = pruned.iter().map(|path| format!("`{path}`")).collect::<Vec<_>>().join(", ");
    Err(ProviderError::new(
        Class::Invalid,
        format!("cannot plan {key}: the API server removes {paths} from the object"),
    )
    .help("the schema of the kind probably does not have the field: correct its name, or remove it from the manifest")
    .attribute("manifest"))
}

/// Returns the paths of the declared fields that `object` does not have. The metadata and status of the object itself are not compared.
fn pruned(declared: &Json, object: &Json) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in declared.as_object().into_iter().flatten() {
        if !["metadata", "status"].contains(&name.as_str()) {
            collect(name, value, &object[name], &mut found);
        }
    }
    found
}

fn collect(path: &str, declared: &Json, live: &Json, found: &mut Vec<String>) {
    match (declared, live) {
        (declared, Json::Null) if !is_zero(declared) => found.push(path.to_owned()),
        (Json::Object(declared), Json::Object(live)) => {
            for (name, value) in declared {
                collect(&format!("{path}.{name}"), value, live.get(name).unwrap_or(&Json::Null), found);
            }
        }
        (Json::Array(declared), Json::Array(live)) => {
            for (i, item) in declared.iter().enumerate() {
                found.extend(pruned_of_item(&format!("{path}[{i}]"), item, live));
            }
        }
        _ => {}
    }
}

/// Returns the pruned fields of a list item, compared with the most similar live item, because the server may reorder items.
fn pruned_of_item(path: &str, item: &Json, live: &[Json]) -> Vec<String> {
    let compared = live.iter().map(|other| {
        let mut found = Vec::new();
        collect(path, item, other, &mut found);
        found
    });
    compared.min_by_key(Vec::len).unwrap_or_default()
}

/// Whether the API server may omit the value because it is a zero value.
fn is_zero(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(flag) => !flag,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.values().all(is_zero),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn pruned_fields_are_found() {
        let live =
            json!({"metadata": {"name": "x"}, "spec": {"size": 1, "items": [{"name": "b", "port": 1}, {"name": "a"}]}});
        let cases = [
            (json!({"spec": {"size": 2}}), vec![]),
            (json!({"spec": {"colour": "red", "paused": false, "labels": {}}}), vec!["spec.colour"]),
            (json!({"spec": {"template": {"spec": {"a": 1}}}}), vec!["spec.template"]),
            (
                json!({"spec": {"items": [{"name": "b", "port": 1}, {"name": "a", "colour": "red"}]}}),
                vec!["spec.items[1].colour"],
            ),
            (json!({"spec": {"items": [{"colour": "red"}]}}), vec!["spec.items[0].colour"]),
            (json!({"metadata": {"labels": {"a": "b"}}, "status": {"a": 1}}), vec![]),
        ];
        for (declared, expected) in cases {
            assert_eq!(pruned(&declared, &live), expected, "{declared}");
        }
    }
}
