//! Building values.

use std::collections::BTreeMap;

use moorfast_engine::model::Value;

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
