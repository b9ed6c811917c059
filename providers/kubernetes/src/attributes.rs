//! Typed access to attributes.

use std::collections::BTreeMap;
use std::time::Duration;

use moorfast_engine::model::{Attributes, Value, parse_duration};
use serde_json::Value as Json;

/// Typed reading of attributes by name. A null or unknown value counts as unset.
pub(crate) trait Read {
    /// Returns the text of the attribute.
    fn text(&self, name: &str) -> Option<&str>;
    /// Returns the flag of the attribute, or false if it is unset.
    fn flag(&self, name: &str) -> bool;
    /// Returns the texts of a list.
    fn texts(&self, name: &str) -> Vec<String>;
    /// Returns the texts of a map.
    fn text_map(&self, name: &str) -> BTreeMap<String, String>;
    /// Returns the duration of the attribute.
    fn duration(&self, name: &str) -> Option<Duration>;
    /// Whether a part of the attribute is unknown or retained.
    fn is_unknown_or_retained(&self, name: &str) -> bool;
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

    fn is_unknown_or_retained(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| v.is_unknown() || v.is_retained())
    }
}

/// Converts recorded attributes to values. Sealed values stay sealed.
pub(crate) fn as_recorded(attributes: &serde_json::Map<String, Json>) -> Attributes {
    attributes.iter().map(|(name, json)| (name.clone(), Value::from(json.clone()))).collect()
}

/// Builds a list of texts.
pub(crate) fn list(texts: impl IntoIterator<Item = impl Into<String>>) -> Value {
    Value::List(texts.into_iter().map(|t| Value::String(t.into())).collect())
}

/// Builds a map of texts.
pub(crate) fn map(texts: &BTreeMap<String, String>) -> Value {
    Value::Map(texts.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect())
}

/// Returns the text, or null.
pub(crate) fn optional(text: Option<impl Into<String>>) -> Value {
    text.map_or(Value::Null, |t| Value::String(t.into()))
}
