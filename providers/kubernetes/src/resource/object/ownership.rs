//! Fields that leave the manifest although somebody else manages them too.
//!
//! Server-side apply removes a field only when nobody else manages it. `kubectl apply` without `--server-side` leaves its name on every field that it
//! wrote: these are taken over, as `kubectl apply --server-side` does it. Anybody else's are a conflict.

use std::collections::BTreeSet;

use moorfast_engine::provider::{Class, ProviderError};
use serde_json::{Map, Value as Json, json};

use super::FIELD_MANAGER;
use super::document::{LAST_APPLIED, ObjectKey};
use super::fields::{FieldSet, is_ours};

/// A field, or a list item with all its fields, that is to be removed and that others manage too.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Held {
    /// The steps to it, as managedFields writes them.
    path: Vec<String>,
    /// Who manages it, apart from `kubectl apply`.
    managers: BTreeSet<String>,
}

/// The fields of `object` that `kubectl apply` wrote, which moorfast takes over when it adopts the object.
pub(super) fn of_kubectl(object: &Json) -> FieldSet {
    FieldSet::of(object, is_of_kubectl_apply).within(&last_applied(object))
}

/// What `kubectl apply` wrote last. A field that the server defaulted bears kubectl's name as well, and is not in it.
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

/// Whether the entry is of a manager that keeps what it applied in an annotation, or of the time before anybody applied by server-side apply.
fn is_of_kubectl_apply(entry: &Json) -> bool {
    let annotation = format!("f:{LAST_APPLIED}");
    let keeps = entry["fieldsV1"]["f:metadata"]["f:annotations"].get(annotation.as_str()).is_some();
    entry["operation"] == "Update"
        && entry.get("subresource").is_none()
        && (keeps || entry["manager"] == "before-first-apply")
}

/// The fields of `before` that `declared` leaves out and that others manage in `object`.
///
/// A field that is managed through a subresource, such as the scale, is handed over and stays.
pub(super) fn held(before: &FieldSet, declared: &Json, object: &Json) -> Vec<Held> {
    let mut found: Vec<Held> = Vec::new();
    for entry in entries(object).iter().filter(|e| !is_ours(e) && e.get("subresource").is_none()) {
        let theirs = FieldSet::of_entry(entry);
        let manager = (!is_of_kubectl_apply(entry)).then(|| entry["manager"].as_str().unwrap_or("(nobody)").to_owned());
        for path in before.beyond(Some(declared), &theirs) {
            match found.iter_mut().find(|held| held.path == path) {
                Some(held) => held.managers.extend(manager.clone()),
                None => found.push(Held { path, managers: manager.clone().into_iter().collect() }),
            }
        }
    }
    found
}

fn entries(object: &Json) -> &[Json] {
    object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Checks that whoever else manages the fields to be removed may be overruled.
///
/// # Errors
/// If somebody other than `kubectl apply` manages one and `force` is not set.
pub(super) fn check(key: &ObjectKey, held: &[Held], force: bool) -> Result<(), ProviderError> {
    let foreign: Vec<_> = held.iter().filter(|held| !force && !held.managers.is_empty()).collect();
    if foreign.is_empty() {
        return Ok(());
    }
    let fields: Vec<_> = foreign.iter().map(|held| place(&held.path)).collect();
    let managers: BTreeSet<_> = foreign.iter().flat_map(|held| &held.managers).map(|m| format!("{m:?}")).collect();
    let managers = managers.into_iter().collect::<Vec<_>>().join(", ");
    let summary = format!("cannot remove {} of {key}: {managers} manages it too", fields.join(", "));
    let summary = if fields.len() > 1 { summary.replace("manages it too", "manages them too") } else { summary };
    Err(ProviderError::new(Class::Conflict, summary)
        .help("keep it in the manifest, have it removed there first, or take it over with `force_conflicts = true`")
        .attribute("manifest"))
}

/// The error for fields that are still there after an apply that was to remove them.
pub(super) fn still_there(key: &ObjectKey, held: &[Held]) -> ProviderError {
    let fields: Vec<_> = held.iter().map(|held| place(&held.path)).collect();
    let summary = format!("{} of {key} was to be removed and is still there", fields.join(", "));
    ProviderError::new(Class::Conflict, summary)
        .help("another client writes it again; run the apply again, or keep it in the manifest")
}

/// The managedFields of `object` with the held fields taken from the others and given to moorfast, whose next apply removes them.
pub(super) fn taken_over(object: &Json, held: &[Held]) -> Json {
    let mut entries = entries(object).to_vec();
    let mut taken = json!({});
    for entry in entries.iter_mut().filter(|e| !is_ours(e) && e.get("subresource").is_none()) {
        for Held { path, .. } in held {
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
    for (step, below) in from {
        merge(into.entry(step.clone()).or_insert_with(|| Json::Object(Map::new())), below);
    }
}

/// `spec.ports[port=80,protocol=TCP].name`, for a person.
fn place(path: &[String]) -> String {
    let mut place = String::new();
    for step in path {
        match step.split_once(':') {
            Some(("f", name)) if name.contains(['.', '/']) => place.push_str(&format!("[{name:?}]")),
            Some(("f", name)) if place.is_empty() => place.push_str(name),
            Some(("f", name)) => place.push_str(&format!(".{name}")),
            Some(("k", keys)) => {
                let keys: Map<String, Json> = serde_json::from_str(keys).unwrap_or_default();
                let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let keys: Vec<_> = keys.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
                place.push_str(&format!("[{}]", keys.join(",")));
            }
            Some((_, value)) => place.push_str(&format!("[{value}]")),
            None => place.push_str(step),
        }
    }
    place
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

    fn places(held: &[Held]) -> Vec<String> {
        held.iter().map(|held| place(&held.path)).collect()
    }

    #[test]
    fn what_kubectl_wrote_is_adopted_and_what_the_server_defaulted_is_not() {
        let ports = json!({ "f:ports": { "k:{\"port\":80,\"protocol\":\"TCP\"}": { ".": {}, "f:port": {}, "f:protocol": {} } }, "f:type": {} });
        let applied = json!({ "metadata": { "annotations": {} }, "spec": { "ports": [{ "port": 80 }] } });
        let object = object(applied, vec![entry_of_kubectl(json!({ "f:spec": ports }))]);
        assert_eq!(
            of_kubectl(&object).field("metadata"),
            None,
            "the annotation of kubectl is no field of the manifest"
        );
        let held = held(&of_kubectl(&object), &json!({ "spec": { "ports": [{ "port": 81 }] } }), &object);
        assert_eq!(places(&held), ["spec.ports[port=80,protocol=TCP]"]);
        assert_eq!(check(&key(), &held, false), Ok(()));
        let ours = FieldSet::ours(&json!({ "metadata": { "managedFields": taken_over(&object, &held) } }));
        assert!(
            ours.field("spec").is_some_and(|spec| spec.field("ports").is_some() && spec.field("type").is_none()),
            "{ours:?}"
        );
    }

    #[test]
    fn what_others_manage_is_a_conflict_and_what_a_scale_manages_is_handed_over() {
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
        let held = held(&FieldSet::ours(&object), &json!({ "data": { "a": "1" } }), &object);
        assert_eq!(places(&held), ["data.b"]);
        let conflict = check(&key(), &held, false).unwrap_err();
        assert_eq!(
            (conflict.class, conflict.summary.as_str()),
            (Class::Conflict, "cannot remove data.b of ConfigMap/default/a: \"helm\" manages it too")
        );
        assert_eq!(check(&key(), &held, true), Ok(()));
        let after = taken_over(&object, &held);
        assert_eq!(after[1]["fieldsV1"], json!({ "f:data": { "f:a": {} } }), "the rest stays with the others");
        let again = json!({ "metadata": { "managedFields": after } });
        assert_eq!(super::held(&FieldSet::ours(&again), &json!({ "data": { "a": "1" } }), &again), []);
    }
}
