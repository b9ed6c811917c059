//! Typed access to attributes.

use std::collections::BTreeMap;
use std::time::Duration;

use moorfast_engine::model::{Attributes, Value, parse_duration};
use serde_json::Value as Json;

/// Reads attributes by name; what is null or not known yet is as if not written.
pub(crate) trait Read {
    /// The text of this attribute.
    fn text(&self, name: &str) -> Option<&str>;
    /// The flag of this attribute; false where it isn't written.
    fn flag(&self, name: &str) -> bool;
    /// The texts of a list.
    fn texts(&self, name: &str) -> Vec<String>;
    /// The texts of a map.
    fn text_map(&self, name: &str) -> BTreeMap<String, String>;
    /// The duration of this attribute.
    fn duration(&self, name: &str) -> Option<Duration>;
    /// Is any part of this attribute unknown or retained?
    fn is_open(&self, name: &str) -> bool;
}

impl Read for Attributes {
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn flag(&self, name: &str) -> bool {
        self.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn texts(&self, name: &str) -> Vec<String> {
        let items = self.get(name).and_then(Value::as_list).unwrap_or_default();
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    fn text_map(&self, name: &str) -> BTreeMap<String, String> {
        let Some(map) = self.get(name).and_then(Value::as_map) else { return BTreeMap::new() };
        map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect()
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.text(name).and_then(parse_duration)
    }

    fn is_open(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v.is_unknown() || v.is_retained())
    }
}

/// Recorded attributes as values: what was sealed stays sealed, and seals to itself again.
pub(crate) fn as_recorded(attributes: &serde_json::Map<String, Json>) -> Attributes {
    attributes.iter().map(|(name, json)| (name.clone(), Value::from(json.clone()))).collect()
}

/// A list of texts.
pub(crate) fn list(texts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::List(texts.into_iter().map(|t| Value::String(t.into())).collect())
}

/// A map of texts.
pub(crate) fn map(texts: &BTreeMap<String, String>) -> Value {
    Value::Map(texts.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect())
}

/// The text, or null.
pub(crate) fn optional(text: Option<impl Into<String>>) -> Value {
    text.map_or(Value::Null, |t| Value::String(t.into()))
}
