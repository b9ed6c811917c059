//! Fields that `ignore_changes` names, where the manifest writes the objects as one YAML text.
//!
//! `manifest.spec.replicas` means that field of every object, `objects["Deployment/web/a"].spec.replicas` that of one. The engine puts the observed
//! values of these fields into the attribute `objects`, and they replace what the text says.

use std::collections::BTreeMap;

use moorfast_engine::model::{AttributePath, Attributes, PathStep, Value};

use super::document::{DEFAULT_NAMESPACE, Document, ObjectKey};

/// Returns the paths into the observed attributes that `path` stands for.
pub(crate) fn resolve_ignored_path(
    path: AttributePath,
    desired: &Attributes,
    observed: &Attributes,
) -> Vec<AttributePath> {
    let is_yaml = desired.get("yaml").is_some_and(|yaml| !yaml.is_null());
    match (path.0.split_first(), observed.get("objects").and_then(Value::as_map)) {
        (Some((PathStep::Name(first), rest)), Some(objects)) if is_yaml && first == "manifest" => {
            let of_object = |key: &String| {
                let head = ["objects".to_owned(), key.clone()].map(PathStep::Name);
                AttributePath(head.into_iter().chain(rest.iter().cloned()).collect())
            };
            objects.keys().map(of_object).collect()
        }
        _ => vec![path],
    }
}

/// `document` with the observed values of its ignored fields.
pub(super) fn with_observed(mut document: Document, attributes: &Attributes) -> Document {
    let Some(objects) = attributes.get("objects").and_then(Value::as_map) else { return document };
    let placed = ObjectKey {
        namespace: document.key.namespace.clone().or(Some(DEFAULT_NAMESPACE.to_owned())),
        ..document.key.clone()
    };
    let in_none = ObjectKey { namespace: None, ..document.key.clone() };
    let keys = [document.key.to_string(), placed.to_string(), in_none.to_string()];
    if let Some(Value::Map(fields)) = keys.iter().find_map(|key| objects.get(key)) {
        overlay(fields, &mut document.declared);
    }
    document
}

/// Puts `fields` into `declared`, and takes out what is null.
fn overlay(fields: &BTreeMap<String, Value>, declared: &mut Value) {
    let Value::Map(declared) = declared else { return };
    for (name, value) in fields {
        match (value, declared.get_mut(name)) {
            (Value::Null, _) => _ = declared.remove(name),
            (Value::Map(inside), Some(there @ Value::Map(_))) => overlay(inside, there),
            (Value::List(items), Some(Value::List(there))) => overlay_items(items, there),
            // What is not declared stays with whoever manages it.
            (_, None) => {}
            (value, Some(there)) => *there = value.clone(),
        }
    }
}

/// An item with a name is the one of that name; one without is the one at its place.
fn overlay_items(items: &[Value], declared: &mut [Value]) {
    let name = |item: &Value| item.as_map().and_then(|map| map.get("name")?.as_str().map(str::to_owned));
    for (i, item) in items.iter().enumerate() {
        let place = match name(item) {
            Some(wanted) => declared.iter().position(|other| name(other).as_ref() == Some(&wanted)),
            None => Some(i).filter(|i| *i < declared.len()),
        };
        match (item, place.map(|place| &mut declared[place])) {
            (Value::Null, _) | (_, None) => {}
            (Value::Map(inside), Some(there @ Value::Map(_))) => overlay(inside, there),
            (item, Some(there)) => *there = item.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attributes(json: serde_json::Value) -> Attributes {
        Value::from(json).as_map().cloned().unwrap()
    }

    #[test]
    fn a_path_into_the_manifest_is_one_into_every_object_of_a_text() {
        let observed = attributes(json!({"objects": {"A/x": {}, "B/y": {}}}));
        let told = |path: &str, desired: serde_json::Value| {
            let paths = resolve_ignored_path(path.parse().unwrap(), &attributes(desired), &observed);
            paths.into_iter().map(|path| format!("{:?}", path.0)).collect::<Vec<_>>()
        };
        let yaml = json!({"yaml": "..."});
        assert_eq!(told("manifest.spec", yaml.clone()).len(), 2);
        assert_eq!(told("objects[\"A/x\"].spec", yaml).len(), 1);
        assert_eq!(told("manifest.spec", json!({"manifest": {}})), ["[Name(\"manifest\"), Name(\"spec\")]"]);
    }

    #[test]
    fn observed_fields_replace_those_of_the_text() {
        let declared = json!({"spec": {"replicas": 1, "paused": true, "c": [{"name": "a", "image": "1"}]}});
        let key =
            ObjectKey { api_version: "apps/v1".into(), kind: "Deployment".into(), namespace: None, name: "a".into() };
        let document = Document { key, declared: Value::from(declared) };
        let seen = json!({"objects": {"Deployment/default/a": {"spec": {"replicas": 3, "paused": null, "other": 1, "c": [{"name": "a", "image": "2"}]}}}});
        let found = with_observed(document, &attributes(seen)).declared.to_json().unwrap();
        assert_eq!(found, json!({"spec": {"replicas": 3, "c": [{"name": "a", "image": "2"}]}}));
    }
}
