//! The objects of Kubernetes manifests by kind, namespace and name, so that each of them can be an element of `for_each`.

use std::collections::BTreeMap;

use super::yaml::{YamlDocument, YamlError, yaml_documents};
use super::{Value, ValueMap};

/// An object of a Kubernetes manifest, with the place where it is written, for messages.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectDocument {
    /// The object.
    pub object: Value,
    /// The place: `web.yaml, line 3`.
    pub place: String,
}

/// The identity of an object. It has no version, because the same object is served in several versions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl Identity {
    /// Reads the identity.
    ///
    /// # Errors
    /// If the object has no kind or no name, the reason in one line.
    fn of(object: &Value) -> Result<Self, String> {
        let map = object.as_map().ok_or_else(|| format!("an object must be a map, not a {}", object.type_name()))?;
        let metadata = map.get("metadata").and_then(Value::as_map);
        let of_metadata = |name: &str| text(metadata.and_then(|metadata| metadata.get(name)));
        let required = |value: Option<&str>, name: &str| {
            value.map(str::to_owned).ok_or_else(|| format!("the object has no `{name}`, or it is not a string"))
        };
        let version = required(text(map.get("apiVersion")), "apiVersion")?;
        Ok(Self {
            group: version.split_once('/').map_or("", |(group, _)| group).to_owned(),
            kind: required(text(map.get("kind")), "kind")?,
            namespace: of_metadata("namespace").map(str::to_owned),
            name: required(of_metadata("name"), "metadata.name")?,
        })
    }

    /// Returns `Deployment/web/frontend`, or `Namespace/web` without a namespace.
    fn key(&self) -> String {
        self.key_with(&self.kind)
    }

    /// Returns the key with the API group: `Service.serving.knative.dev/web/frontend`.
    fn key_with_group(&self) -> String {
        match self.group.as_str() {
            "" => self.key(),
            group => self.key_with(&format!("{}.{group}", self.kind)),
        }
    }

    fn key_with(&self, kind: &str) -> String {
        match &self.namespace {
            Some(namespace) => format!("{kind}/{namespace}/{}", self.name),
            None => format!("{kind}/{}", self.name),
        }
    }
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Returns the objects of a YAML text with their first lines. The items of a `List` are objects of their own, and empty documents are left out.
///
/// # Errors
/// Returns the first error of the YAML.
pub fn object_documents(text: &str) -> Result<Vec<YamlDocument>, YamlError> {
    let documents = yaml_documents(text)?.into_iter();
    Ok(documents
        .flat_map(|YamlDocument { value, line }| items(value).map(move |value| YamlDocument { value, line }))
        .collect())
}

/// Returns the items of a `List`, or the object itself; nothing for an empty document.
fn items(object: Value) -> impl Iterator<Item = Value> {
    let items = match object {
        Value::Null => Vec::new(),
        Value::Map(mut map) if map.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List")) => {
            match map.remove("items") {
                Some(Value::List(items)) => items,
                Some(Value::Null) => Vec::new(),
                Some(other) => {
                    map.insert("items".to_owned(), other);
                    vec![Value::Map(map)]
                }
                None => vec![Value::Map(map)],
            }
        }
        other => vec![other],
    };
    items.into_iter()
}

/// Returns the objects by `Kind/namespace/name`, or `Kind/name` without a namespace.
///
/// If objects of several API groups have the same kind, namespace and name, the keys of those with a group contain it: `Service.serving.knative.dev/web/x`.
///
/// # Errors
/// If an object has no kind or no name, or if one object is written twice: the reason in one line, with the places.
pub fn objects_by_key(documents: impl IntoIterator<Item = ObjectDocument>) -> Result<ValueMap, String> {
    let mut found: BTreeMap<Identity, ObjectDocument> = BTreeMap::new();
    let mut same_key: BTreeMap<String, usize> = BTreeMap::new();
    for document in documents {
        let identity = Identity::of(&document.object).map_err(|reason| format!("{}: {reason}", document.place))?;
        *same_key.entry(identity.key()).or_default() += 1;
        if let Some(first) = found.get(&identity) {
            return Err(format!("{} is written twice: {}, and {}", identity.key(), first.place, document.place));
        }
        found.insert(identity, document);
    }
    let key = |identity: &Identity| match identity.key() {
        key if same_key.get(&key) == Some(&1) => key,
        _ => identity.key_with_group(),
    };
    Ok(found.iter().map(|(identity, document)| (key(identity), document.object.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Vec<String>, String> {
        let documents = object_documents(text).unwrap().into_iter();
        let placed = documents.map(|d| ObjectDocument { object: d.value, place: format!("line {}", d.line) });
        Ok(objects_by_key(placed)?.keys().cloned().collect())
    }

    fn object(version: &str, kind: &str, metadata: &str) -> String {
        format!("---\n{{apiVersion: {version}, kind: {kind}, metadata: {metadata}}}\n")
    }

    #[test]
    fn objects_have_readable_keys() {
        let text = [
            object("v1", "Namespace", "{name: web}"),
            "---\n# nothing\n".to_owned(),
            object("apps/v1", "Deployment", "{name: frontend, namespace: web}"),
            "---\n{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: Secret, metadata: {name: a}}]}\n"
                .to_owned(),
        ];
        assert_eq!(keys(&text.concat()).unwrap(), ["Deployment/web/frontend", "Namespace/web", "Secret/a"]);
    }

    #[test]
    fn objects_of_several_groups_with_one_name_have_their_group_in_the_key() {
        let text = object("v1", "Service", "{name: a}") + &object("serving.knative.dev/v1", "Service", "{name: a}");
        assert_eq!(keys(&text).unwrap(), ["Service.serving.knative.dev/a", "Service/a"]);
    }

    #[test]
    fn an_object_that_is_written_twice_or_has_no_name_is_an_error() {
        let twice = object("apps/v1", "Deployment", "{name: a}") + &object("apps/v1beta1", "Deployment", "{name: a}");
        assert_eq!(keys(&twice).unwrap_err(), "Deployment/a is written twice: line 2, and line 4");
        for (text, reason) in [
            (
                object("v1", "ConfigMap", "{generateName: a-}"),
                "the object has no `metadata.name`, or it is not a string",
            ),
            (
                "{kind: ConfigMap, metadata: {name: a}}".to_owned(),
                "the object has no `apiVersion`, or it is not a string",
            ),
            ("{apiVersion: v1, metadata: {name: a}}".to_owned(), "the object has no `kind`, or it is not a string"),
            ("just text".to_owned(), "an object must be a map, not a string"),
            ("[]".to_owned(), "an object must be a map, not a list"),
        ] {
            let error = keys(&text).unwrap_err();
            assert!(error.ends_with(&format!(": {reason}")), "{text}: {error}");
        }
    }
}
