//! The sensitive values of readings.

use serde_json::{Map, Value as Json};

use crate::configuration::expand::Expanded;
use crate::model::{Attributes, SENSITIVE_KEY, Value};
use crate::provider::{Observed, ReadRequest};

/// Marks the sensitive values of a reading, by the schema and by the record.
///
/// A value that was recorded as sensitive stays sensitive until it is overwritten, whatever the manifest declares now.
pub(super) fn marked_reading(expanded: &Expanded, request: &ReadRequest, observed: Observed) -> Observed {
    let marked = expanded.marked(&request.address.resource, observed.attributes);
    let attributes = match &request.recorded {
        Some(record) => sensitive_as_recorded(marked, &record.attributes),
        None => marked,
    };
    Observed { attributes, ..observed }
}

/// Returns `values` with the marks of the record: sensitive if the recorded value is sensitive, or if nothing is recorded for a value and a value beside it
/// is sensitive.
fn sensitive_as_recorded(values: Attributes, recorded: &Map<String, Json>) -> Attributes {
    let beside_secrets = recorded.values().any(is_sealed);
    let hidden = |(name, value): (String, Value)| {
        let value = match recorded.get(&name) {
            Some(recorded) => sensitive_like(value, recorded),
            None if beside_secrets && !value.is_sealed() => value.sensitive(),
            None => value,
        };
        (name, value)
    };
    values.into_iter().map(hidden).collect()
}

fn sensitive_like(value: Value, recorded: &Json) -> Value {
    match (value, recorded) {
        // A value that the provider took from the record is sealed already.
        (value, _) if value.is_sealed() => value,
        (value, recorded) if is_sealed(recorded) => value.sensitive(),
        (Value::Map(map), Json::Object(recorded)) => Value::Map(sensitive_as_recorded(map, recorded)),
        (Value::List(items), Json::Array(recorded)) if items.len() == recorded.len() => Value::List(
            items.into_iter().zip(recorded).map(|(item, recorded)| sensitive_like(item, recorded)).collect(),
        ),
        // It is unknown which item corresponds to which.
        (Value::List(items), recorded) if holds_sealed(recorded) => Value::List(items).sensitive(),
        (value, _) => value,
    }
}

fn is_sealed(recorded: &Json) -> bool {
    recorded.get(SENSITIVE_KEY).is_some()
}

fn holds_sealed(recorded: &Json) -> bool {
    match recorded {
        Json::Object(map) => is_sealed(recorded) || map.values().any(holds_sealed),
        Json::Array(items) => items.iter().any(holds_sealed),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use moorfast_state::SealKey;
    use serde_json::json;

    use super::*;
    use crate::model::seal_attributes;

    #[test]
    fn a_sealed_value_is_not_sealed_again() {
        let sealed = json!({ SENSITIVE_KEY: "blake3:00" });
        let recorded = json!({ "token": sealed, "path": "/etc/token" });
        let values: Attributes = [("token", Value::from(sealed.clone())), ("new", Value::from(sealed))]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let hidden = sensitive_as_recorded(values.clone(), recorded.as_object().unwrap());
        assert_eq!(
            seal_attributes(&hidden, &SealKey::from_bytes([7; 32])),
            seal_attributes(&values, &SealKey::from_bytes([7; 32]))
        );
        let clear: Attributes = [("token".to_owned(), Value::from("x"))].into();
        assert!(sensitive_as_recorded(clear, recorded.as_object().unwrap())["token"].is_sensitive());
    }
}
