//! Removal of fields that another manager owns too.
//!
//! Server-side apply removes a field only if no other manager owns it. `kubectl apply` without `--server-side` owns every field that it wrote: moorfast
//! takes over these fields, as `kubectl apply --server-side` does. A field of any other manager is a conflict.

use std::collections::BTreeSet;

use moorfast_engine::provider::{Class, ProviderError};
use serde_json::{Map, Value as Json, json};

use crate::cluster::FIELD_MANAGER;

use super::document::LAST_APPLIED;
use super::fields::{FieldSet, is_ours};
use super::key::ObjectKey;

/// A field or list item that is to be removed and that other managers own too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SharedField {
    /// The path, in the notation of managedFields.
    path: Vec<String>,
    /// The other managers, except `kubectl apply`.
    managers: BTreeSet<String>,
}

/// Returns the fields of `object` that `kubectl apply` wrote. Moorfast takes them over when it adopts the object.
pub(super) fn of_kubectl(object: &Json) -> FieldSet {
    FieldSet::of(object, is_of_kubectl_apply).within(&last_applied(object))
}

/// Returns the object that `kubectl apply` wrote last. Unlike managedFields, it does not contain defaults of the server.
fn last_applied(object: &Json) -> Json {
    let text = object["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap_or_default();
    let mut applied: Json = serde_json::from_str(text).unwrap_or_default();
    if let Some(Json::Object(texts)) = applied.get_mut("stringData").map(Json::take)
        && let Some(applied) = applied.as_object_mut()
        && let Some(data) = applied.entry("data").or_insert_with(|| json!({})).as_object_mut()
    {
        data.extend(texts);
    }
    applied
}

/// Whether the entry belongs to a client-side apply: its manager sets the last-applied annotation, or it dates from before the first server-side apply.
fn is_of_kubectl_apply(entry: &Json) -> bool {
    let annotation = format!("f:{LAST_APPLIED}");
    let keeps = entry["fieldsV1"]["f:metadata"]["f:annotations"].get(annotation.as_str()).is_some();
    entry["operation"] == "Update"
        && entry.get("subresource").is_none()
        && (keeps || entry["manager"] == "before-first-apply")
}

/// Returns the fields of `before` that `declared` does not have and that other managers own in `object`.
///
/// A field that is managed through a subresource, such as `scale`, is not included: it stays with that manager.
pub(super) fn shared_fields(before: &FieldSet, declared: &Json, object: &Json) -> Vec<SharedField> {
    let mut found: Vec<SharedField> = Vec::new();
    for entry in entries(object).iter().filter(|e| !is_ours(e) && e.get("subresource").is_none()) {
        let theirs = FieldSet::of_entry(entry);
        let manager =
            (!is_of_kubectl_apply(entry)).then(|| entry["manager"].as_str().unwrap_or("(unknown)").to_owned());
        for path in before.beyond(Some(declared), &theirs) {
            match found.iter_mut().find(|field| field.path == path) {
                Some(field) => field.managers.extend(manager.clone()),
                None => found.push(SharedField { path, managers: manager.clone().into_iter().collect() }),
            }
        }
    }
    found
}

fn entries(object: &Json) -> &[Json] {
    object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Returns the fields of `before` that `declared` does not have and that stay in `object`, because another manager sets them through a subresource.
///
/// An autoscaler sets `spec.replicas` in this way, through `scale`.
pub(super) fn handed_over(before: &FieldSet, declared: &Json, object: &Json) -> FieldSet {
    let of_subresources = FieldSet::of(object, |entry| entry.get("subresource").is_some());
    before.undeclared(declared).intersection(&of_subresources)
}

/// Returns the note about fields that stay in the object with another manager.
pub(super) fn handover_note(key: &ObjectKey, fields: &FieldSet, object: &Json) -> String {
    let owners = entries(object).iter().filter(|entry| entry.get("subresource").is_some());
    let owners = owners.filter(|entry| !fields.intersection(&FieldSet::of_entry(entry)).is_leaf());
    let owners: BTreeSet<_> = owners.map(|entry| entry["manager"].to_string()).collect();
    let paths: Vec<_> = fields.beyond(None, fields).iter().map(|path| readable_path(path)).collect();
    let (paths, owners) = (paths.join(", "), owners.into_iter().collect::<Vec<_>>().join(", "));
    format!("{key}: moorfast no longer manages {paths}, which stays with {owners}")
}

/// Checks that moorfast may remove the shared fields.
///
/// # Errors
/// If a manager other than `kubectl apply` owns one of them, unless `force` is set.
pub(super) fn check(key: &ObjectKey, shared: &[SharedField], force: bool) -> Result<(), ProviderError> {
    let foreign: Vec<_> = shared.iter().filter(|field| !force && !field.managers.is_empty()).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let fields: Vec<_> = foreign.iter().map(|field| readable_path(&field.path)).collect();
    let managers: BTreeSet<_> = foreign.iter().flat_map(|field| &field.managers).map(|m| format!("{m:?}")).collect();
    let managers = managers.into_iter().collect::<Vec<_>>().join(", ");
    let summary = format!("cannot remove {} of {key}: {managers} owns it too", fields.join(", "));
    let summary = if fields.len() > 1 { summary.replace("owns it too", "owns them too") } else { summary };
    Err(ProviderError::new(Class::Conflict, summary)
        .help("keep the field in the manifest, remove it with the other manager first, or set `force_conflicts = true` to take it over")
        .attribute("manifest"))
}

/// Returns the error for fields that still exist after an apply that should have removed them.
pub(super) fn not_removed(key: &ObjectKey, shared: &[SharedField]) -> ProviderError {
    let fields: Vec<_> = shared.iter().map(|field| readable_path(&field.path)).collect();
    let summary = format!("cannot remove {} of {key}: the object still has it after the apply", fields.join(", "));
    ProviderError::new(Class::Conflict, summary)
        .help("another client probably set it again: apply again, or keep the field in the manifest")
}

/// Returns the managedFields of `object` with the shared fields transferred to moorfast, whose next apply removes them.
pub(super) fn transferred(object: &Json, shared: &[SharedField]) -> Json {
    let mut entries = entries(object).to_vec();
    let mut taken = json!({});
    for entry in entries.iter_mut().filter(|e| !is_ours(e) && e.get("subresource").is_none()) {
        for SharedField { path, .. } in shared {
            if let Some(fields) = remove(&mut entry["fieldsV1"], path) {
                insert(&mut taken, path, fields);
            }
        }
    }
    entries.retain(|entry| entry["fieldsV1"].as_object().is_none_or(|fields| !fields.is_empty()));
    match entries.iter_mut().find(|entry| is_ours(entry)) {
        Some(ours) => merge(&mut ours["fieldsV1"], &taken),
        None => entries.push(json!({
            "manager": FIELD_MANAGER, "operation": "Apply", "apiVersion": object["apiVersion"],
            "fieldsType": "FieldsV1", "fieldsV1": taken,
        })),
    }
    Json::Array(entries)
}

fn remove(fields: &mut Json, path: &[String]) -> Option<Json> {
    match path {
        [] => None,
        [last] => fields.as_object_mut()?.shift_remove(last.as_str()),
        [first, rest @ ..] => remove(fields.get_mut(first.as_str())?, rest),
    }
}

fn insert(fields: &mut Json, path: &[String], value: Json) {
    match path {
        [] => merge(fields, &value),
        [first, rest @ ..] => {
            if let Some(map) = fields.as_object_mut() {
                insert(map.entry(first.clone()).or_insert_with(|| json!({})), rest, value);
            }
        }
    }
}

fn merge(into: &mut Json, from: &Json) {
    let (Some(into), Some(from)) = (into.as_object_mut(), from.as_object()) else { return };
    for (element, below) in from {
        merge(into.entry(element.clone()).or_insert_with(|| Json::Object(Map::new())), below);
    }
}

/// Returns the path in a readable form: `spec.ports[port=80,protocol=TCP].name`.
fn readable_path(path: &[String]) -> String {
    let mut text = String::new();
    for element in path {
        match element.split_once(':') {
            Some(("f", name)) if name.contains(['.', '/']) => text.push_str(&format!("[{name:?}]")),
            Some(("f", name)) if text.is_empty() => text.push_str(name),
            Some(("f", name)) => text.push_str(&format!(".{name}")),
            Some(("k", keys)) => {
                let keys: Map<String, Json> = serde_json::from_str(keys).unwrap_or_default();
                let plain = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={}", plain(value))).collect();
                text.push_str(&format!("[{}]", keys.join(",")));
            }
            Some((_, value)) => text.push_str(&format!("[{value}]")),
            None => text.push_str(element),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(manager: &str, operation: &str, fields: Json) -> Json {
        json!({ "manager": manager, "operation": operation, "apiVersion": "v1", "fieldsType": "FieldsV1", "fieldsV1": fields })
    }

    fn entry_of_kubectl(mut fields: Json) -> Json {
        fields["f:metadata"]["f:annotations"][format!("f:{LAST_APPLIED}")] = json!({});
        entry("kubectl-client-side-apply", "Update", fields)
    }

    fn object(last_applied: Json, entries: Vec<Json>) -> Json {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "a", "annotations": { LAST_APPLIED: last_applied.to_string() }, "managedFields": entries } })
    }

    fn key() -> ObjectKey {
        ObjectKey {
            api_version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: Some("default".into()),
            name: "a".into(),
        }
    }

    fn paths(shared: &[SharedField]) -> Vec<String> {
        shared.iter().map(|field| readable_path(&field.path)).collect()
    }

    #[test]
    fn fields_of_kubectl_are_adopted_and_defaults_of_the_server_are_not() {
        let ports = json!({ "f:ports": { "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {}, "f:protocol": {} } }, "f:type": {} });
        let applied = json!({ "metadata": { "annotations": {} }, "spec": { "ports": [{ "port": 80 }] } });
        let object = object(applied, vec![entry_of_kubectl(json!({ "f:spec": ports }))]);
        assert_eq!(
            of_kubectl(&object).field("metadata"),
            None,
            "the annotation of kubectl is not a field of the manifest"
        );
        let shared = shared_fields(&of_kubectl(&object), &json!({ "spec": { "ports": [{ "port": 81 }] } }), &object);
        assert_eq!(paths(&shared), ["spec.ports[port=80,protocol=TCP]"]);
        assert_eq!(check(&key(), &shared, false), Ok(()));
        let ours = FieldSet::ours(&json!({ "metadata": { "managedFields": transferred(&object, &shared) } }));
        assert!(
            ours.field("spec").is_some_and(|spec| spec.field("ports").is_some() && spec.field("type").is_none()),
            "{ours:?}"
        );
    }

    #[test]
    fn a_field_of_another_manager_is_a_conflict_except_through_the_scale_subresource() {
        let mut scale = entry("controller", "Update", json!({ "f:spec": { "f:replicas": {} } }));
        scale["subresource"] = json!("scale");
        let fields = json!({ "f:data": { "f:a": {}, "f:b": {} } });
        let ours = json!({ "f:data": { "f:a": {}, "f:b": {} }, "f:spec": { "f:replicas": {} } });
        let entries = vec![
            entry(FIELD_MANAGER, "Apply", ours),
            entry("helm", "Update", fields.clone()),
            entry_of_kubectl(fields),
            scale,
        ];
        let object = object(json!({}), entries);
        let shared = shared_fields(&FieldSet::ours(&object), &json!({ "data": { "a": "1" } }), &object);
        assert_eq!(paths(&shared), ["data.b"]);
        let conflict = check(&key(), &shared, false).unwrap_err();
        assert_eq!(
            (conflict.class, conflict.summary.as_str()),
            (Class::Conflict, "cannot remove data.b of ConfigMap/default/a: \"helm\" owns it too")
        );
        assert_eq!(check(&key(), &shared, true), Ok(()));
        let after = transferred(&object, &shared);
        assert_eq!(
            after[1]["fieldsV1"],
            json!({ "f:data": { "f:a": {} } }),
            "the other fields stay with their managers"
        );
        let again = json!({ "metadata": { "managedFields": after } });
        assert_eq!(super::shared_fields(&FieldSet::ours(&again), &json!({ "data": { "a": "1" } }), &again), []);
    }
}
