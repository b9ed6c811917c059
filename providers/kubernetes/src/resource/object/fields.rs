//! Field sets: who manages which fields of an object, as `metadata.managedFields` tells it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::FIELD_MANAGER;

/// A set of fields. A field without fields below it is managed as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct FieldSet(BTreeMap<Step, FieldSet>);

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
enum Step {
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
    /// The fields of `object` that moorfast manages by server-side apply.
    pub(crate) fn ours(object: &Json) -> Self {
        Self::of(object, is_ours)
    }

    /// The fields of `object` that anyone manages: how its lists are keyed, and what is managed as a whole.
    pub(crate) fn everyones(object: &Json) -> Self {
        Self::of(object, |_| true)
    }

    /// The fields of `object` in those entries of managedFields that belong.
    pub(super) fn of(object: &Json, belongs: impl Fn(&Json) -> bool) -> Self {
        let entries = object["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
        entries.iter().filter(|e| belongs(e)).map(Self::of_entry).fold(Self::default(), Self::union)
    }

    /// The fields of one entry of managedFields.
    pub(super) fn of_entry(entry: &Json) -> Self {
        let mut set = Self::default();
        if let Some(fields) = entry["fieldsV1"].as_object() {
            set.add(fields);
        }
        set
    }

    /// The fields of both sets.
    pub(super) fn union(mut self, other: Self) -> Self {
        for (step, below) in other.0 {
            let joined = self.0.remove(&step).unwrap_or_default().union(below);
            self.0.insert(step, joined);
        }
        self
    }

    /// The fields that `declared` has too.
    pub(super) fn within(&self, declared: &Json) -> Self {
        let kept = self.0.iter().filter_map(|(step, below)| {
            let within = below.within(step.find(declared)?);
            // A table of which nothing is kept is not managed as a whole.
            (below.is_leaf() || !within.is_leaf()).then(|| (step.clone(), within))
        });
        Self(kept.collect())
    }

    /// Whether there are fields that `declared` leaves out.
    pub(super) fn exceeds(&self, declared: &Json) -> bool {
        !self.beyond(Some(declared), self).is_empty()
    }

    /// The paths of the fields, and of the list items as a whole, that `declared` leaves out and that are in `other` too.
    pub(super) fn beyond(&self, declared: Option<&Json>, other: &Self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        for (step, below) in &self.0 {
            let Some(theirs) = other.0.get(step) else { continue };
            let name = String::from(step.clone());
            let found = declared.and_then(|declared| step.find(declared));
            let is_whole = !matches!(step, Step::Field(_)) || below.is_leaf() && theirs.is_leaf();
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
            let Some(step) = Step::parse(key) else { continue };
            let set = self.0.entry(step).or_default();
            if let Some(below) = below.as_object() {
                set.add(below);
            }
        }
    }

    /// Is nothing distinguished below here?
    pub(crate) fn is_leaf(&self) -> bool {
        self.0.is_empty()
    }

    /// The set below a field.
    pub(crate) fn field(&self, name: &str) -> Option<&FieldSet> {
        self.0.get(&Step::Field(name.to_owned()))
    }

    /// The fields with what is below each.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &FieldSet)> {
        self.0.iter().filter_map(|(step, below)| match step {
            Step::Field(name) => Some((name.as_str(), below)),
            _ => None,
        })
    }

    /// The names of the keys by which the items of this list are told apart, where it is such a list.
    pub(crate) fn merge_keys(&self) -> Option<Vec<String>> {
        self.0.keys().find_map(|step| match step {
            Step::Keys(json) => Some(serde_json::from_str::<Map<String, Json>>(json).ok()?.keys().cloned().collect()),
            _ => None,
        })
    }

    /// Is this a list whose items are told apart by their values?
    pub(crate) fn is_set(&self) -> bool {
        self.0.keys().any(|step| matches!(step, Step::Value(_)))
    }

    /// The set below the item `item` of a list, which is at `index`.
    pub(crate) fn item(&self, index: usize, item: &Json) -> Option<&FieldSet> {
        self.0.iter().find_map(|(step, below)| step.names(index, item).then_some(below))
    }
}

/// Whether the entry of managedFields is of moorfast's server-side apply.
pub(super) fn is_ours(entry: &Json) -> bool {
    entry["manager"] == FIELD_MANAGER && entry["operation"] == "Apply" && entry.get("subresource").is_none()
}

impl Step {
    /// What `declared` has at this step. A key of a list item that is left out is one that the server defaults.
    fn find<'a>(&self, declared: &'a Json) -> Option<&'a Json> {
        match self {
            Step::Field(name) => declared.get(name),
            Step::Index(i) => declared.get(i),
            Step::Value(json) => {
                let value: Json = serde_json::from_str(json).ok()?;
                declared.as_array()?.iter().find(|item| **item == value)
            }
            Step::Keys(json) => {
                let keys: Map<String, Json> = serde_json::from_str(json).ok()?;
                let has =
                    |item: &Json| keys.iter().all(|(name, value)| item.get(name).is_none_or(|found| found == value));
                declared.as_array()?.iter().find(|item| has(item))
            }
        }
    }

    fn parse(key: &str) -> Option<Step> {
        let (sort, rest) = key.split_once(':')?;
        match sort {
            "f" => Some(Step::Field(rest.to_owned())),
            "k" => Some(Step::Keys(rest.to_owned())),
            "v" => Some(Step::Value(rest.to_owned())),
            "i" => rest.parse().ok().map(Step::Index),
            _ => None,
        }
    }

    fn names(&self, index: usize, item: &Json) -> bool {
        match self {
            Step::Field(_) => false,
            Step::Index(i) => *i == index,
            Step::Value(json) => serde_json::from_str::<Json>(json).is_ok_and(|v| v == *item),
            Step::Keys(json) => serde_json::from_str::<Map<String, Json>>(json)
                .is_ok_and(|keys| keys.iter().all(|(name, value)| item.get(name) == Some(value))),
        }
    }
}

impl From<Step> for String {
    fn from(step: Step) -> Self {
        match step {
            Step::Field(name) => format!("f:{name}"),
            Step::Keys(json) => format!("k:{json}"),
            Step::Value(json) => format!("v:{json}"),
            Step::Index(i) => format!("i:{i}"),
        }
    }
}

impl TryFrom<String> for Step {
    type Error = String;

    fn try_from(key: String) -> Result<Self, String> {
        Step::parse(&key).ok_or(key)
    }
}
