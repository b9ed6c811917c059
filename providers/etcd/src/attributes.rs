//! Reading and building attributes.

use std::collections::BTreeMap;

use moorfast_engine::model::{Attributes, Value};
use serde_json::{Map, Value as Json};

static EMPTY: BTreeMap<String, Value> = BTreeMap::new();

/// Typed reading of attributes by name. A null or unknown value counts as unset.
pub(crate) trait Read {
    /// Returns the text of an attribute.
    fn text(&self, name: &str) -> Option<&str>;
    /// Returns a map, or an empty one.
    fn map(&self, name: &str) -> &BTreeMap<String, Value>;
}

impl Read for Attributes {
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    fn map(&self, name: &str) -> &BTreeMap<String, Value> {
        self.get(name).and_then(Value::as_map).unwrap_or(&EMPTY)
    }
}

/// Builds attributes.
pub(crate) fn attributes(pairs: impl IntoIterator<Item = (&'static str, Value)>) -> Attributes {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Returns the attributes of a record as values.
pub(crate) fn recorded_attributes(attributes: &Map<String, Json>) -> Attributes {
    attributes.iter().map(|(name, json)| (name.clone(), Value::from(json.clone()))).collect()
}
