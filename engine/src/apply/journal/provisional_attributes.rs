//! Attributes that are recorded before an object is created.

use moorfast_state::SealKey;
use serde_json::{Map, Value as Json};

use crate::model::{Attributes, Mark, Value};

/// Returns the sealed attributes of an object that is about to be created.
///
/// Only the provider knows which of its values are secret, and it marked them in the plan. A value that the plan shows is recorded unchanged. A value that was
/// unknown in the plan is recorded as a digest, unless the identity contains it anyway. An attribute that the plan does not have, such as a YAML text that the
/// provider replaced by its objects, is recorded only if it is sensitive: a digest of it would make the attributes beside it sensitive.
pub(super) fn provisional_attributes(
    desired: &Attributes,
    planned: Option<&Map<String, Json>>,
    identity: &str,
    key: &SealKey,
) -> Map<String, Json> {
    let sealed = |(name, value): (&String, &Value)| {
        (name.clone(), part(value, planned.and_then(|shown| shown.get(name)), identity, key))
    };
    let is_planned = |name: &str| planned.is_none_or(|planned| planned.contains_key(name));
    let is_recorded =
        |(name, value): &(&String, &Value)| !value.is_null() && (is_planned(name) || value.is_sensitive());
    desired.iter().filter(is_recorded).map(sealed).collect()
}

fn part(desired: &Value, planned: Option<&Json>, identity: &str, key: &SealKey) -> Json {
    let known = planned.filter(|shown| !Mark::of(shown).is_some_and(Mark::is_unknown));
    match (desired, known) {
        (Value::Map(map), shown) if shown.is_none_or(is_open) => {
            let member = |(name, value): (&String, &Value)| {
                (name.clone(), part(value, shown.and_then(|shown| shown.get(name)), identity, key))
            };
            Json::Object(map.iter().map(member).collect())
        }
        (Value::List(items), shown) if shown.is_none_or(Json::is_array) => {
            let item = |(i, value)| part(value, shown.and_then(|shown| shown.get(i)), identity, key);
            items.iter().enumerate().map(item).collect()
        }
        (_, Some(shown)) => shown.clone(),
        (Value::Null, None) => Json::Null,
        (Value::String(text), None) if identity.contains(text.as_str()) => Json::String(text.clone()),
        (hidden, None) => hidden.clone().sensitive().seal(key),
    }
}

fn is_open(shown: &Json) -> bool {
    shown.is_object() && Mark::of(shown).is_none()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_values_in_the_plan_or_the_identity_are_recorded_unchanged() {
        let secret = json!({ "$sensitive": "blake3:1" });
        let unknown = json!({ "$unknown": true });
        let cases = [
            // Values that the plan shows, and values that it hides.
            (json!({ "mode": "0644" }), json!({ "mode": "0644" }), json!({ "mode": "0644" })),
            (json!({ "content": "hidden" }), json!({ "content": secret }), json!({ "content": secret })),
            // Values that were unknown in the plan.
            (json!({ "content": "hidden" }), json!({ "content": unknown }), json!({ "content": "digest" })),
            (json!({ "path": "/srv/a" }), json!({ "path": unknown }), json!({ "path": "/srv/a" })),
            // An attribute that the plan does not have.
            (json!({ "yaml": "kind: A", "mode": "0644" }), json!({ "mode": "0644" }), json!({ "mode": "0644" })),
            // Nested values.
            (
                json!({ "manifest": { "kind": "Secret", "data": { "a": "hidden" } } }),
                json!({ "manifest": unknown }),
                json!({ "manifest": { "kind": "Secret", "data": { "a": "digest" } } }),
            ),
            (
                json!({ "manifest": { "labels": ["shown", "hidden"], "data": { "a": "hidden" } } }),
                json!({ "manifest": { "labels": ["shown", unknown], "data": secret } }),
                json!({ "manifest": { "labels": ["shown", "digest"], "data": secret } }),
            ),
        ];
        let key = SealKey::from_bytes([7; 32]);
        let digest = Value::from("hidden").sensitive().seal(&key).to_string();
        for (desired, planned, expected) in cases {
            let Value::Map(attributes) = Value::from(desired.clone()) else { panic!("a map") };
            let recorded = provisional_attributes(&attributes, planned.as_object(), "v1/Secret/srv path:/srv/a", &key);
            let text = Json::Object(recorded).to_string().replace(&digest, "\"digest\"");
            assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), expected, "{desired} {planned}");
        }
        let sensitive = Attributes::from([("yaml".to_owned(), Value::from("hidden").sensitive())]);
        let recorded = provisional_attributes(&sensitive, Some(&Map::new()), "", &key);
        assert_eq!(recorded["yaml"].to_string(), digest, "a sensitive value hides what is beside it");
    }
}
