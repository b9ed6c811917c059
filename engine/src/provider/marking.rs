//! The marks of sensitive values in the results of providers.

use serde_json::{Map, Value as Json};

use super::{Observed, ReadRequest};
use crate::model::sealed::is_sensitive;
use crate::model::{Attributes, Schema, Value};

/// Marks the attributes that `schema` declares sensitive.
pub(super) fn marked(schema: &Schema, attributes: Attributes) -> Attributes {
    let mark = |(name, value): (String, Value)| match schema.attribute(&name) {
        // A value that the provider took from the record is sealed already.
        Some(attribute) if !value.is_sealed() => (name, attribute.mark(value)),
        _ => (name, value),
    };
    attributes.into_iter().map(mark).collect()
}

/// Marks the sensitive values of a reading, by the schema and by the record.
///
/// A value that was recorded as sensitive stays sensitive until it is overwritten, whatever the manifest declares now.
pub(super) fn marked_reading(request: &ReadRequest, observed: Observed) -> Observed {
    let marked = marked(request.resource_type.schema(), observed.attributes);
    let attributes = match &request.recorded {
        Some(record) => sensitive_as_recorded(marked, &record.attributes),
        None => marked,
    };
    Observed { attributes, ..observed }
}

/// Returns `values` with the marks of the record: sensitive if the recorded value is sensitive, or if nothing is recorded for a value and a value beside it
/// is sensitive.
fn sensitive_as_recorded(values: Attributes, recorded: &Map<String, Json>) -> Attributes {
    let beside_secrets = recorded.values().any(is_sensitive);
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
        (value, recorded) if is_sensitive(recorded) => value.sensitive(),
        (Value::Map(map), Json::Object(recorded)) => Value::Map(sensitive_as_recorded(map, recorded)),
        (Value::List(items), Json::Array(recorded)) if items.len() == recorded.len() => Value::List(
            items.into_iter().zip(recorded).map(|(item, recorded)| sensitive_like(item, recorded)).collect(),
        ),
        // It is unknown which item corresponds to which.
        (Value::List(items), recorded) if holds_sensitive(recorded) => Value::List(items).sensitive(),
        (value, _) => value,
    }
}

fn holds_sensitive(recorded: &Json) -> bool {
    match recorded {
        Json::Object(map) => is_sensitive(recorded) || map.values().any(holds_sensitive),
        Json::Array(items) => items.iter().any(holds_sensitive),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use moorfast_state::SealKey;
    use serde_json::json;

    use super::*;
    use crate::model::{Mark, seal_attributes};

    #[test]
    fn a_sealed_value_is_not_sealed_again() {
        let sealed = Json::from(Mark::Digest("blake3:00"));
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
