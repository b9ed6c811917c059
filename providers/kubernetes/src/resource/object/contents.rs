//! The objects of an instance, and the contents that are lost with each of them.

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::Object;

use super::document::{Declared, key_of};
use super::key::ObjectKey;
use super::provided::text;

/// Returns the objects of desired or observed attributes.
pub(super) fn objects(attributes: &Attributes) -> Vec<Object> {
    if let Some(held) = attributes.get("objects").and_then(Value::as_map) {
        return held.values().filter_map(|value| Some(object(&key_of(value)?, value))).collect();
    }
    let declared = Declared::read(attributes).unwrap_or(Declared::Unknown);
    declared.documents().iter().map(|document| object(&document.key, &document.declared)).collect()
}

fn object(key: &ObjectKey, value: &Value) -> Object {
    Object { identity: key.identity(), name: key.to_string(), contents: contents(key, value) }
}

/// Describes what the cluster deletes together with the object.
fn contents(key: &ObjectKey, value: &Value) -> Option<String> {
    match (key.group(), key.kind.as_str()) {
        ("", "Namespace") => Some(format!("everything in the namespace {}", key.name)),
        ("", "PersistentVolumeClaim") => {
            Some(format!("the data of the volume of {key}, unless the volume's reclaim policy is Retain"))
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            let kind = match (text(value, &["spec", "names", "kind"]), text(value, &["spec", "group"])) {
                (Some(kind), Some(group)) => format!("{kind}.{group}"),
                _ => key.name.clone(),
            };
            Some(format!("every object of the kind {kind} in the cluster"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_document_is_an_object_with_its_contents() {
        let yaml = "apiVersion: v1\nkind: Namespace\nmetadata: {name: web}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n---\n\
                    apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, namespace: web}\n";
        let declared = objects(&[("yaml".to_owned(), Value::from(yaml))].into());
        let lost = |objects: &[Object]| {
            let line = |o: &Object| (o.identity.clone(), o.contents.clone().unwrap_or_default());
            objects.iter().map(line).collect::<Vec<_>>()
        };
        let volume =
            "the data of the volume of PersistentVolumeClaim/web/data, unless the volume's reclaim policy is Retain";
        let expected = [
            ("Namespace/web", "everything in the namespace web"),
            ("ConfigMap/c", ""),
            ("PersistentVolumeClaim/web/data", volume),
        ];
        assert_eq!(lost(&declared), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));

        let definition = json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": { "name": "pots.example.org" }, "spec": { "group": "example.org", "names": { "kind": "Pot" } } });
        let observed =
            [("objects".to_owned(), Value::from(json!({ "CustomResourceDefinition/pots.example.org": definition })))];
        let found = objects(&observed.into());
        assert_eq!(found[0].contents.as_deref(), Some("every object of the kind Pot.example.org in the cluster"));
    }
}
