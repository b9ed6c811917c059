//! The fields of `ignore_changes` in objects that are declared as a YAML text.
//!
//! `manifest.spec.replicas` names the field of every object, `objects["Deployment/web/a"].spec.replicas` the field of one object. The engine puts the
//! observed values of these fields into the attribute `objects`, where they replace the values of the text.

use moorfast_engine::model::{AttributePath, Attributes, PathStep, Value, ValueMap};

use super::key::{DEFAULT_NAMESPACE, ObjectKey};

/// Returns the paths into the observed attributes that `path` names.
pub(super) fn resolve_ignored_path(
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

/// Overwrites the ignored fields of `declared`, the declaration of the object of `key`, with their observed values.
pub(super) fn overlay_observed(key: &ObjectKey, declared: &mut Value, attributes: &Attributes) {
    let Some(objects) = attributes.get("objects").and_then(Value::as_map) else { return };
    let in_default =
        ObjectKey { namespace: key.namespace.clone().or(Some(DEFAULT_NAMESPACE.to_owned())), ..key.clone() };
    let cluster_scoped = ObjectKey { namespace: None, ..key.clone() };
    let keys = [key.to_string(), in_default.to_string(), cluster_scoped.to_string()];
    if let Some(Value::Map(fields)) = keys.iter().find_map(|key| objects.get(key)) {
        overlay(fields, declared);
    }
}

/// Overwrites fields of `declared` with `fields`; a null removes the field.
fn overlay(fields: &ValueMap, declared: &mut Value) {
    let Value::Map(declared) = declared else { return };
    for (name, value) in fields {
        match (value, declared.get_mut(name)) {
            (Value::Null, _) => _ = declared.remove(name),
            (Value::Map(inside), Some(found @ Value::Map(_))) => overlay(inside, found),
            (Value::List(items), Some(Value::List(found))) => overlay_items(items, found),
            // A field that is not declared stays with its manager.
            (_, None) => {}
            (value, Some(found)) => *found = value.clone(),
        }
    }
}

/// Overwrites list items: an item with a `name` by that name, another item by its position.
fn overlay_items(items: &[Value], declared: &mut [Value]) {
    let name = |item: &Value| item.as_map().and_then(|map| map.get("name")?.as_str().map(str::to_owned));
    for (i, item) in items.iter().enumerate() {
        let place = match name(item) {
            Some(wanted) => declared.iter().position(|other| name(other).as_ref() == Some(&wanted)),
            None => Some(i).filter(|i| *i < declared.len()),
        };
        match (item, place.map(|place| &mut declared[place])) {
            (Value::Null, _) | (_, None) => {}
            (Value::Map(inside), Some(found @ Value::Map(_))) => overlay(inside, found),
            (item, Some(found)) => *found = item.clone(),
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
    fn a_manifest_path_names_the_field_of_every_yaml_object() {
        let observed = attributes(json!({"objects": {"A/x": {}, "B/y": {}}}));
        let paths = |path: &str, desired: serde_json::Value| {
            let observed = resolve_ignored_path(path.parse().unwrap(), &attributes(desired), &observed);
            observed.into_iter().map(|path| format!("{:?}", path.0)).collect::<Vec<_>>()
        };
        let yaml = json!({"yaml": "..."});
        assert_eq!(paths("manifest.spec", yaml.clone()).len(), 2);
        assert_eq!(paths("objects[\"A/x\"].spec", yaml).len(), 1);
        assert_eq!(paths("manifest.spec", json!({"manifest": {}})), ["[Name(\"manifest\"), Name(\"spec\")]"]);
    }

    #[test]
    fn observed_fields_replace_declared_fields() {
        let declared = json!({"spec": {"replicas": 1, "paused": true, "c": [{"name": "a", "image": "1"}]}});
        let key =
            ObjectKey { api_version: "apps/v1".into(), kind: "Deployment".into(), namespace: None, name: "a".into() };
        let mut declared = Value::from(declared);
        let seen = json!({"objects": {"Deployment/default/a": {"spec": {"replicas": 3, "paused": null, "other": 1, "c": [{"name": "a", "image": "2"}]}}}});
        overlay_observed(&key, &mut declared, &attributes(seen));
        assert_eq!(declared.to_json().unwrap(), json!({"spec": {"replicas": 3, "c": [{"name": "a", "image": "2"}]}}));
    }
}
