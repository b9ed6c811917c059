//! Retained values: unknown, but the same as in the last apply.

use std::borrow::Cow;

use moorfast_engine::model::Value;
use moorfast_engine::provider::{Class, Observed, ProviderError};

use super::document::Document;

/// Returns `document` with its retained values replaced by the live ones.
///
/// # Errors
/// If the live object does not have such a value.
pub(super) fn with_retained_values<'a>(
    document: &'a Document,
    observed: Option<&Observed>,
) -> Result<Cow<'a, Document>, ProviderError> {
    if !document.declared.is_retained() {
        return Ok(Cow::Borrowed(document));
    }
    // A YAML text is known or unknown as a whole, so only `manifest` can have retained values.
    let live = observed.and_then(|o| o.attributes.get("manifest"));
    let declared = with_live(&document.declared, live).ok_or_else(|| missing(document))?;
    Ok(Cow::Owned(Document { declared, ..document.clone() }))
}

fn missing(document: &Document) -> ProviderError {
    let summary = format!(
        "{} needs a value that was stored only in the object, such as a retired token, and the object does not have it any more",
        document.key
    );
    ProviderError::new(Class::Invalid, summary)
        .help("create a new value: `--replace` the resource that it comes from")
        .attribute("manifest")
}

fn with_live(declared: &Value, live: Option<&Value>) -> Option<Value> {
    match declared {
        Value::Retained => live.cloned(),
        Value::Sensitive(_) => with_live(declared.reveal(), live).map(Value::sensitive),
        Value::Map(map) => {
            let live = live.and_then(Value::as_map);
            let of = |name: &String| live.and_then(|live| live.get(name));
            let filled = map.iter().map(|(name, value)| Some((name.clone(), with_live(value, of(name))?)));
            filled.collect::<Option<_>>().map(Value::Map)
        }
        Value::List(items) => {
            let live = live.and_then(Value::as_list).unwrap_or_default();
            let filled = items.iter().enumerate().map(|(i, item)| with_live(item, counterpart(i, item, live)));
            filled.collect::<Option<_>>().map(Value::List)
        }
        other => Some(other.clone()),
    }
}

/// Returns the live item that corresponds to `item`: by `name`, because the server may reorder items, else by position.
fn counterpart<'a>(place: usize, item: &Value, live: &'a [Value]) -> Option<&'a Value> {
    let name = |value: &Value| value.as_map().and_then(|map| map.get("name")?.as_str().map(str::to_owned));
    match name(item) {
        Some(wanted) => live.iter().find(|other| name(other).as_ref() == Some(&wanted)),
        None => live.get(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// JSON in which `"?"` stands for a retained value.
    fn value(json: serde_json::Value) -> Value {
        match Value::from(json) {
            Value::String(text) if text == "?" => Value::Retained.sensitive(),
            Value::List(items) => Value::List(items.iter().map(|v| value(v.to_json().unwrap())).collect()),
            Value::Map(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), value(v.to_json().unwrap()))).collect()),
            other => other,
        }
    }

    #[test]
    fn retained_values_are_replaced_by_live_values() {
        let env = |items: serde_json::Value| json!({ "spec": { "env": items } });
        let cases = [
            (json!({"a": "1", "b": "?"}), json!({"a": "0", "b": "x", "c": "y"}), Some(json!({"a": "1", "b": "x"}))),
            (json!({"a": "1", "b": "?"}), json!({"a": "0"}), None),
            (json!(["1", "?"]), json!(["0", "x"]), Some(json!(["1", "x"]))),
            (
                env(json!([{"name": "A", "value": "?"}, {"name": "B", "value": "2"}])),
                env(json!([{"name": "B", "value": "0"}, {"name": "A", "value": "x"}])),
                Some(env(json!([{"name": "A", "value": "x"}, {"name": "B", "value": "2"}]))),
            ),
        ];
        for (declared, live, expected) in cases {
            let filled = with_live(&value(declared.clone()), Some(&Value::from(live)));
            assert_eq!(filled.as_ref().and_then(Value::to_json), expected, "{declared}");
            assert!(filled.is_none_or(|f| f.is_sensitive()), "{declared}");
        }
    }
}
