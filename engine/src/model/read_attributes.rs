//! Typed reading of attributes by name.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value as Json};

use super::{Attributes, Value, parse_duration};

/// Reads attributes by name. An attribute that is null, unknown or of another type counts as unset.
pub trait ReadAttributes {
    /// Whether the attribute is set.
    fn is_set(&self, name: &str) -> bool;
    /// Returns a text.
    fn text(&self, name: &str) -> Option<&str>;
    /// Returns a flag, false if it is unset.
    fn flag(&self, name: &str) -> bool;
    /// Returns a duration.
    fn duration(&self, name: &str) -> Option<Duration>;
    /// Returns the texts of a list.
    fn texts(&self, name: &str) -> Vec<String>;
    /// Returns the texts of a map.
    fn text_map(&self, name: &str) -> BTreeMap<String, String>;
    /// Whether a part of the attribute is unknown or retained.
    fn is_unknown_or_retained(&self, name: &str) -> bool;
}

impl ReadAttributes for Attributes {
    fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.is_null())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        parse_duration(self.text(name)?)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let items = self.get(name).and_then(Value::as_list).unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn text_map(&self, name: &str) -> BTreeMap<String, String> {
        let map = self.get(name).and_then(Value::as_map);
        map.into_iter().flatten().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect()
    }

    fn is_unknown_or_retained(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.is_unknown() || value.is_retained())
    }
}

/// Returns the attributes of a record, or others in JSON, as values. Sealed values stay sealed.
pub fn recorded_values(attributes: &Map<String, Json>) -> Attributes {
    attributes.iter().map(|(name, json)| (name.clone(), Value::from(json.clone()))).collect()
}
