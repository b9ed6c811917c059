//! The sensitive values of a chart: replacing them for a second rendering, and marking what depends on them.

use moorfast_engine::model::Value;

/// Texts and numbers that stand for sensitive values. The second one is used if a sensitive value equals the first.
const TEXTS: [&str; 2] = ["moorfast-stands-in-for-a-secret", "moorfast-stands-in-for-another-secret"];
const NUMBERS: [i64; 2] = [7_654_321, 1_234_567];

/// The sensitive parts of the values of a chart.
#[derive(Debug, PartialEq)]
pub(super) enum Secrets {
    /// No value is sensitive.
    None,
    /// Only texts, numbers and bools are sensitive. These are the values with others in their place.
    Replaced(Value),
    /// A whole list or table is sensitive, so its keys and its length are too. Nothing can stand in for it.
    Whole,
}

impl Secrets {
    pub(super) fn of(values: &Value) -> Self {
        match (values.is_sensitive(), replaced(values)) {
            (false, _) => Self::None,
            (true, Some(others)) => Self::Replaced(others),
            (true, None) => Self::Whole,
        }
    }
}

/// Returns `value` with another value in the place of each sensitive one. Returns `None` if a list or table is sensitive.
fn replaced(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Sensitive(_) => match value.reveal() {
            Value::String(text) => Value::from(*TEXTS.iter().find(|other| *other != text)?),
            Value::Number(_) => Value::from(*NUMBERS.iter().find(|other| Some(**other) != value.as_i64())?),
            Value::Bool(truth) => Value::Bool(!truth),
            _ => return None,
        },
        Value::List(items) => Value::List(items.iter().map(replaced).collect::<Option<_>>()?),
        Value::Map(map) => {
            let members = map.iter().map(|(name, member)| Some((name.clone(), replaced(member)?)));
            Value::Map(members.collect::<Option<_>>()?)
        }
        other => other.clone(),
    })
}

/// Marks the parts of `value` that differ from `other`, which was made without the secrets. Whatever is equal can be made without them.
pub(super) fn marked_where_different(value: Value, other: &Value) -> Value {
    // A null cannot be sensitive, so what contains it is.
    let can_mark = |value: &Value, other: &Value| !value.is_null() || other.is_null();
    match (value, other) {
        (value, other) if value == *other => value,
        (Value::Map(map), Value::Map(others))
            if map.keys().eq(others.keys()) && map.values().zip(others.values()).all(|(v, o)| can_mark(v, o)) =>
        {
            let members = map.into_iter().zip(others.values());
            Value::Map(members.map(|((name, value), other)| (name, marked_where_different(value, other))).collect())
        }
        (Value::List(items), Value::List(others))
            if items.len() == others.len() && items.iter().zip(others).all(|(v, o)| can_mark(v, o)) =>
        {
            Value::List(
                items.into_iter().zip(others).map(|(item, other)| marked_where_different(item, other)).collect(),
            )
        }
        (value, _) => value.sensitive(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn map<const N: usize>(members: [(&str, Value); N]) -> Value {
        Value::Map(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    #[test]
    fn only_sensitive_values_are_replaced() {
        let values = map([
            ("image", Value::from("web")),
            ("list", Value::List(vec![Value::from("s3cr3t").sensitive(), Value::from(1)])),
            ("port", Value::from(NUMBERS[0]).sensitive()),
            ("tls", Value::from(true).sensitive()),
            ("text", Value::from(TEXTS[0]).sensitive()),
        ]);
        let expected =
            json!({"image": "web", "list": [TEXTS[0], 1], "port": NUMBERS[1], "tls": false, "text": TEXTS[1]});
        assert_eq!(Secrets::of(&values), Secrets::Replaced(Value::from(expected)));
        assert_eq!(Secrets::of(&map([("image", Value::from("web"))])), Secrets::None);
        assert_eq!(Secrets::of(&map([("users", map([("alice", Value::from(1))]).sensitive())])), Secrets::Whole);
    }

    #[test]
    fn what_differs_is_sensitive() {
        let real = json!({"same": 1, "differs": {"a": "s3cr3t", "b": 2}, "keys": {"s3cr3t": 1}, "length": [1, 2], "items": [1, 2]});
        let other = json!({"same": 1, "differs": {"a": "x", "b": 2}, "keys": {"x": 1}, "length": [1], "items": [1, 3]});
        let marked = marked_where_different(Value::from(real), &Value::from(other));
        let expected = "{\"differs\": {\"a\": (sensitive), \"b\": 2}, \"items\": [1, (sensitive)], \"keys\": (sensitive), \"length\": (sensitive), \"same\": 1}";
        assert_eq!(format!("{marked:?}"), expected);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), "[ab]{0,2}".prop_map(Value::from)];
        leaf.prop_recursive(3, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::List),
                prop::collection::btree_map("[a-c]", inner, 0..3).prop_map(|members| Value::Map(members.into())),
            ]
        })
    }

    /// Whether the parts of `marked` that are not sensitive are in `other` too.
    fn shows_only_parts_of(marked: &Value, other: &Value) -> bool {
        match (marked, other) {
            (Value::Sensitive(_), _) => true,
            (Value::Map(map), Value::Map(others)) => {
                map.keys().eq(others.keys())
                    && map.iter().all(|(name, value)| shows_only_parts_of(value, &others[name]))
            }
            (Value::List(items), Value::List(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| shows_only_parts_of(item, other))
            }
            (value, other) => value == other,
        }
    }

    proptest! {
        #[test]
        fn a_result_shows_only_what_the_rendering_without_secrets_shows(real in any_value(), other in any_value()) {
            prop_assume!(!real.is_null());
            let marked = marked_where_different(real.clone(), &other);
            prop_assert_eq!(marked.reveal_deep(), real);
            prop_assert!(shows_only_parts_of(&marked, &other));
        }
    }
}
