//! Reading attributes: their texts, flags and paths.

use moorfast_engine::model::{Attributes, Value};

/// Returns the attribute `name` if it is a known text.
pub(crate) fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name)?.as_str()
}

/// Whether the attribute `name` is true.
pub(crate) fn flag(attributes: &Attributes, name: &str) -> bool {
    attributes.get(name).and_then(Value::as_bool).unwrap_or_default()
}

/// Whether the attribute `name` is set.
pub(crate) fn is_set(attributes: &Attributes, name: &str) -> bool {
    attributes.get(name).is_some_and(|v| !v.is_null())
}

/// Returns the known texts of a list.
pub(crate) fn texts(attributes: &Attributes, name: &str) -> Vec<String> {
    let items = attributes.get(name).and_then(Value::as_list).unwrap_or_default();
    items.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

/// Returns the directory that contains `path`.
pub(crate) fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(end) => &path[..end],
    }
}
