//! Sets of fields, as in `metadata.managedFields`.

use std::collections::BTreeMap;

use moorfast_engine::model::Value;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::cluster::FIELD_MANAGER;

/// A set of fields. A field without nested fields is managed as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct FieldSet(BTreeMap<PathElement, FieldSet>);

/// One element of a path into an object, in the terms of structured-merge-diff.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
enum PathElement {
    /// A field of an object.
    Field(String),
    /// The list item with these keys, as JSON.
    Keys(String),
    /// The list item of this value, as JSON.
    Value(String),
    /// The list item at this index.
    Index(usize),
}

impl FieldSet {
    /// Returns the fields of `object` that moorfast manages by server-side apply.
    pub(crate) fn ours(object: &Json) -> Self {
        Self::of(object, is_ours)
    }

    /// Returns the fields of `object` that any manager has. They show how lists are keyed and which fields are atomic.
    pub(crate) fn everyones(object: &Json) -> Self {
        Self::of(object, |_| true)
    }

    /// Returns the fields of `object` in the entries of managedFields that `selects` accepts.
    pub(super) fn of(object: &Json, selects: impl Fn(&Json) -> bool) -> Self {
        let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        entries.iter().filter(|e| selects(e)).map(Self::of_entry).fold(Self::default(), Self::union)
    }

    /// Returns the fields of one entry of managedFields.
    pub(super) fn of_entry(entry: &Json) -> Self {
        let mut set = Self::default();
        if let Some(fields) = entry["fieldsV1"].as_object() {
            set.add(fields);
        }
        set
    }

    /// Returns the union of both sets.
    pub(super) fn union(mut self, other: Self) -> Self {
        for (element, below) in other.0 {
            let joined = self.0.remove(&element).unwrap_or_default().union(below);
            self.0.insert(element, joined);
        }
        self
    }

    /// Returns the fields that `declared` has too.
    pub(super) fn within(&self, declared: &Json) -> Self {
        let kept = self.0.iter().filter_map(|(element, below)| {
            let within = below.within(element.find(declared)?);
            // An object without remaining fields is left out, because a leaf would mean that it is managed as a whole.
            (below.is_leaf() || !within.is_leaf()).then(|| (element.clone(), within))
        });
        Self(kept.collect())
    }

    /// Returns the fields that are in both sets.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        self.selected(&mut |element, below| {
            let both = below.intersection(other.0.get(element)?);
            (below.is_leaf() || !both.is_leaf()).then_some(both)
        })
    }

    /// Returns the fields that `other` does not have.
    pub(super) fn difference(&self, other: &Self) -> Self {
        self.selected(&mut |element, below| match other.0.get(element) {
            None => Some(below.clone()),
            Some(_) if below.is_leaf() => None,
            Some(theirs) => Some(below.difference(theirs)).filter(|rest| !rest.is_leaf()),
        })
    }

    /// Returns the fields that `declared` does not have.
    pub(super) fn undeclared(&self, declared: &Json) -> Self {
        self.selected(&mut |element, below| match element.find(declared) {
            None => Some(below.clone()),
            Some(_) if below.is_leaf() => None,
            Some(value) => Some(below.undeclared(value)).filter(|rest| !rest.is_leaf()),
        })
    }

    /// Returns the fields with an empty value in `declared` that `object` does not have: the API server dropped them.
    pub(super) fn dropped(&self, declared: &Json, object: &Json) -> Self {
        self.selected(&mut |element, below| {
            let value = element.find(declared)?;
            match element.find(object).filter(|found| !found.is_null()) {
                None if is_empty(value) => Some(Self::default()),
                Some(found) if !below.is_leaf() => Some(below.dropped(value, found)).filter(|rest| !rest.is_leaf()),
                _ => None,
            }
        })
    }

    /// Removes the fields from `value` that are empty there.
    pub(super) fn remove_empty_from(&self, value: &mut Value) {
        for (element, below) in &self.0 {
            match (element, &mut *value) {
                (PathElement::Field(name), Value::Map(map)) if below.is_leaf() => {
                    let is_empty = |value: &Value| value.to_json().is_some_and(|json| is_empty(&json));
                    map.retain(|other, value| other != name || !is_empty(value));
                }
                (PathElement::Field(name), Value::Map(map)) => {
                    map.get_mut(name).into_iter().for_each(|inside| below.remove_empty_from(inside));
                }
                (PathElement::Keys(json), Value::List(items)) => {
                    let keys: Map<String, Json> = serde_json::from_str(json).unwrap_or_default();
                    let item = |item: &&mut Value| {
                        let found = |name: &String| item.as_map().and_then(|map| map.get(name)?.to_json());
                        keys.iter().all(|(name, value)| found(name).is_none_or(|found| found == *value))
                    };
                    items.iter_mut().find(item).into_iter().for_each(|inside| below.remove_empty_from(inside));
                }
                _ => {}
            }
        }
    }

    /// Builds a set of the elements for which `select` returns the set below them.
    fn selected(&self, select: &mut dyn FnMut(&PathElement, &Self) -> Option<Self>) -> Self {
        Self(self.0.iter().filter_map(|(element, below)| Some((element.clone(), select(element, below)?))).collect())
    }

    /// Whether the set has all fields of the declared object, except those that identify it, and no others.
    pub(super) fn is_declaration(&self, declared: &Json) -> bool {
        let mut declared = declared.clone();
        if let Some(object) = declared.as_object_mut() {
            object.retain(|name, _| !["apiVersion", "kind"].contains(&name.as_str()));
            let metadata = object.get_mut("metadata").and_then(Json::as_object_mut);
            if let Some(metadata) = metadata {
                metadata.retain(|name, _| !["name", "namespace"].contains(&name.as_str()));
                if metadata.is_empty() {
                    object.shift_remove("metadata");
                }
            }
        }
        self.covers(&declared) && self.undeclared(&declared).is_leaf()
    }

    /// Whether the set has all fields and list items of `declared`.
    fn covers(&self, declared: &Json) -> bool {
        let has = |element: &PathElement, value| {
            self.0.get(element).is_some_and(|below| below.is_leaf() || below.covers(value))
        };
        match declared {
            Json::Object(fields) => fields.iter().all(|(name, value)| has(&PathElement::Field(name.clone()), value)),
            Json::Array(items) => items.iter().all(|item| {
                let names = |element: &&PathElement| element.find(&Json::Array(vec![item.clone()])).is_some();
                self.0.keys().find(names).is_some_and(|element| has(element, item))
            }),
            _ => true,
        }
    }

    /// Whether the set has fields that `declared` does not have.
    pub(super) fn exceeds(&self, declared: &Json) -> bool {
        !self.beyond(Some(declared), self).is_empty()
    }

    /// Returns the paths of the fields and list items that are in both sets and not in `declared`.
    pub(super) fn beyond(&self, declared: Option<&Json>, other: &Self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for (element, below) in &self.0 {
            let Some(theirs) = other.0.get(element) else { continue };
            let name = String::from(element.clone());
            let found = declared.and_then(|declared| element.find(declared));
            let is_whole = !matches!(element, PathElement::Field(_)) || below.is_leaf() && theirs.is_leaf();
            match found {
                None if is_whole => paths.push(vec![name]),
                Some(scalar) if !scalar.is_object() && !scalar.is_array() => {}
                found => {
                    let inside = below.beyond(found, theirs);
                    paths.extend(inside.into_iter().map(|rest| [vec![name.clone()], rest].concat()));
                }
            }
        }
        paths
    }

    fn add(&mut self, fields: &Map<String, Json>) {
        for (key, below) in fields {
            let Some(element) = PathElement::parse(key) else { continue };
            let set = self.0.entry(element).or_default();
            if let Some(below) = below.as_object() {
                set.add(below);
            }
        }
    }

    /// Whether the set has no nested fields.
    pub(crate) fn is_leaf(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the set below a field.
    pub(crate) fn field(&self, name: &str) -> Option<&FieldSet> {
        self.0.get(&PathElement::Field(name.to_owned()))
    }

    /// Returns the fields with the set below each of them.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &FieldSet)> {
        self.0.iter().filter_map(|(element, below)| match element {
            PathElement::Field(name) => Some((name.as_str(), below)),
            _ => None,
        })
    }

    /// Returns the names of the merge keys, if this is a list of keyed items.
    pub(crate) fn merge_keys(&self) -> Option<Vec<String>> {
        self.0.keys().find_map(|element| match element {
            PathElement::Keys(json) => {
                Some(serde_json::from_str::<Map<String, Json>>(json).ok()?.keys().cloned().collect())
            }
            _ => None,
        })
    }

    /// Whether this is a list with set semantics: its items are identified by their values.
    pub(crate) fn is_set(&self) -> bool {
        self.0.keys().any(|element| matches!(element, PathElement::Value(_)))
    }

    /// Returns the set below the list item `item` at `index`.
    pub(crate) fn item(&self, index: usize, item: &Json) -> Option<&FieldSet> {
        self.0.iter().find_map(|(element, below)| element.names(index, item).then_some(below))
    }
}

/// Whether a declared value is empty, so that the API server may drop it.
fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// Whether the entry of managedFields belongs to the server-side apply of moorfast.
pub(super) fn is_ours(entry: &Json) -> bool {
    entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply" && entry.get("subresource").is_none()
}

impl PathElement {
    /// Returns the value of `declared` at this element. A missing merge key matches any value, because the server sets its default.
    fn find<'a>(&self, declared: &'a Json) -> Option<&'a Json> {
        match self {
            PathElement::Field(name) => declared.get(name),
            PathElement::Index(i) => declared.get(i),
            PathElement::Value(json) => {
                let value: Json = serde_json::from_str(json).ok()?;
                declared.as_array()?.iter().find(|item| **item == value)
            }
            PathElement::Keys(json) => {
                let keys: Map<String, Json> = serde_json::from_str(json).ok()?;
                let has =
                    |item: &Json| keys.iter().all(|(name, value)| item.get(name).is_none_or(|found| found == value));
                declared.as_array()?.iter().find(|item| has(item))
            }
        }
    }

    fn parse(key: &str) -> Option<PathElement> {
        let (sort, rest) = key.split_once(':')?;
        match sort {
            "f" => Some(PathElement::Field(rest.to_owned())),
            "k" => Some(PathElement::Keys(rest.to_owned())),
            "v" => Some(PathElement::Value(rest.to_owned())),
            "i" => rest.parse().ok().map(PathElement::Index),
            _ => None,
        }
    }

    fn names(&self, index: usize, item: &Json) -> bool {
        match self {
            PathElement::Field(_) => false,
            PathElement::Index(i) => *i == index,
            PathElement::Value(json) => serde_json::from_str::<Json>(json).is_ok_and(|v| v == *item),
            PathElement::Keys(json) => serde_json::from_str::<Map<String, Json>>(json)
                .is_ok_and(|keys| keys.iter().all(|(name, value)| item.get(name) == Some(value))),
        }
    }
}

impl From<PathElement> for String {
    fn from(element: PathElement) -> Self {
        match element {
            PathElement::Field(name) => format!("f:{name}"),
            PathElement::Keys(json) => format!("k:{json}"),
            PathElement::Value(json) => format!("v:{json}"),
            PathElement::Index(i) => format!("i:{i}"),
        }
    }
}

impl TryFrom<String> for PathElement {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        PathElement::parse(&key).ok_or(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn dropped_fields_are_removed_only_while_they_are_declared_empty() {
        let webhook = |bundle: Json| json!({ "webhooks": [{ "name": "b" }, { "name": "a", "client": { "bundle": bundle, "url": "u" } }] });
        let entry = json!({ "f:webhooks": { "k:{\"name\":\"a\"}": { ".": {}, "f:name": {}, "f:client": { "f:bundle": {}, "f:url": {} } } } });
        let ours = FieldSet::of_entry(&json!({ "fieldsV1": entry }));
        let live = json!({ "webhooks": [{ "name": "a", "client": { "url": "u" } }, { "name": "b" }] });
        for empty in [json!(null), json!("")] {
            let dropped = ours.dropped(&webhook(empty.clone()), &live);
            assert_eq!(
                serde_json::to_string(&dropped).unwrap(),
                r#"{"f:webhooks":{"k:{\"name\":\"a\"}":{"f:client":{"f:bundle":{}}}}}"#
            );
            let removed = |bundle: Json| {
                let mut value = Value::from(webhook(bundle));
                dropped.remove_empty_from(&mut value);
                value.to_json().unwrap()["webhooks"][1]["client"].clone()
            };
            assert_eq!(removed(empty), json!({ "url": "u" }));
            assert_eq!(removed(json!("x")), json!({ "bundle": "x", "url": "u" }));
        }
        assert!(ours.dropped(&webhook(json!("x")), &live).is_leaf());
    }

    #[test]
    fn a_declaration_has_exactly_the_managed_fields() {
        let port = r#"k:{"port":80,"protocol":"TCP"}"#;
        let managed = json!({ "f:metadata": { "f:labels": { "f:a": {} } },
            "f:spec": { "f:ports": { (port): { ".": {}, "f:port": {} } }, "f:list": {}, "f:set": { "v:\"x\"": {} } } });
        let managed = FieldSet::of_entry(&json!({ "fieldsV1": managed }));
        let declared = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "s", "namespace": "n", "labels": { "a": "1" } },
            "spec": { "ports": [{ "port": 80 }], "list": [{ "b": 1 }], "set": ["x"] } });
        assert!(managed.is_declaration(&declared));
        let changed = |path: &str, value: Json| {
            let mut declared = declared.clone();
            *declared.pointer_mut(path).unwrap() = value;
            declared
        };
        let others = [
            ("a label that moorfast does not manage", changed("/metadata/labels", json!({ "a": "1", "b": "2" }))),
            ("a managed label that is not declared", changed("/metadata/labels", json!({}))),
            ("another port", changed("/spec/ports", json!([{ "port": 80 }, { "port": 81 }]))),
            ("a field of a port", changed("/spec/ports/0", json!({ "port": 80, "name": "web" }))),
            ("another item of a set", changed("/spec/set", json!(["x", "y"]))),
            (
                "a field",
                changed("/spec", json!({ "ports": [{ "port": 80 }], "list": [], "set": ["x"], "type": "NodePort" })),
            ),
            (
                "a managed field that is not declared",
                changed("/spec", json!({ "ports": [{ "port": 80 }], "set": ["x"] })),
            ),
        ];
        for (what, declared) in others {
            assert!(!managed.is_declaration(&declared), "{what}");
        }
        let bare = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" } });
        assert!(FieldSet::default().is_declaration(&bare));
    }
}
