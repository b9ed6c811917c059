//! Sealed values: values as JSON for plans and records, with a mark in place of each value that must not or cannot be written.

use moorfast_state::SealKey;
use serde_json::{Map, Value as Json};
use zeroize::Zeroize;

use super::value::{Attributes, Value};

/// The key of the mark of a sensitive value.
const SENSITIVE_KEY: &str = "$sensitive";
/// The key of the mark of an unknown value.
const UNKNOWN_KEY: &str = "$unknown";
/// The key of the mark of a retained value.
const RETAINED_KEY: &str = "$retained";

/// A mark in sealed JSON. It stands for a value that is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark<'a> {
    /// The keyed digest of a sensitive value.
    Digest(&'a str),
    /// A value that is known only after apply.
    Unknown {
        /// Whether the value will be sensitive.
        sensitive: bool,
    },
    /// The value that the last apply used.
    Retained {
        /// Whether the value is sensitive.
        sensitive: bool,
    },
}

impl<'a> Mark<'a> {
    /// Returns the mark that a part of a sealed value is. `None` if the part is a value that can be shown.
    ///
    /// An object that only resembles a mark is one too: in doubt, a value is not shown.
    pub fn of(sealed: &'a Json) -> Option<Self> {
        let object = sealed.as_object()?;
        let digest = object.get(SENSITIVE_KEY);
        let sensitive = digest.is_some();
        if object.contains_key(UNKNOWN_KEY) {
            return Some(Mark::Unknown { sensitive });
        }
        if object.contains_key(RETAINED_KEY) {
            return Some(Mark::Retained { sensitive });
        }
        digest.map(|digest| Mark::Digest(digest.as_str().unwrap_or_default()))
    }

    /// Whether the mark stands for a sensitive value.
    pub fn is_sensitive(self) -> bool {
        match self {
            Mark::Digest(_) => true,
            Mark::Unknown { sensitive } | Mark::Retained { sensitive } => sensitive,
        }
    }

    /// Whether the mark stands for an unknown value.
    pub fn is_unknown(self) -> bool {
        matches!(self, Mark::Unknown { .. })
    }

    /// Whether the mark stands for a retained value.
    pub fn is_retained(self) -> bool {
        matches!(self, Mark::Retained { .. })
    }
}

impl From<Mark<'_>> for Json {
    fn from(mark: Mark<'_>) -> Self {
        let (key, is_also_sensitive) = match mark {
            Mark::Digest(_) => (SENSITIVE_KEY, false),
            Mark::Unknown { sensitive } => (UNKNOWN_KEY, sensitive),
            Mark::Retained { sensitive } => (RETAINED_KEY, sensitive),
        };
        let value = match mark {
            Mark::Digest(digest) => digest.into(),
            Mark::Unknown { .. } | Mark::Retained { .. } => true.into(),
        };
        // A plan has many marks, so they are as small as they can be.
        let mut members = Map::with_capacity(1);
        members.insert(key.to_owned(), value);
        if is_also_sensitive {
            members.insert(SENSITIVE_KEY.to_owned(), true.into());
        }
        Json::Object(members)
    }
}

/// Whether a part of a sealed value stands for a sensitive value.
pub(crate) fn is_sensitive(sealed: &Json) -> bool {
    Mark::of(sealed).is_some_and(Mark::is_sensitive)
}

impl Value {
    /// Returns the sealed value: JSON that can be shown and stored.
    pub fn seal(&self, key: &SealKey) -> Json {
        match self {
            Value::Sensitive(_) if self.is_unknown() => Mark::Unknown { sensitive: true }.into(),
            Value::Sensitive(_) if self.is_retained() => Mark::Retained { sensitive: true }.into(),
            Value::Sensitive(_) => {
                let mut text = moorfast_state::canonical(&self.reveal().seal(key));
                let digest = key.digest(&text);
                text.zeroize();
                Mark::Digest(digest.as_str()).into()
            }
            Value::Unknown => Mark::Unknown { sensitive: false }.into(),
            Value::Retained => Mark::Retained { sensitive: false }.into(),
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => Json::Number(n.clone()),
            Value::String(text) => Json::String(text.clone()),
            Value::List(items) => items.iter().map(|v| v.seal(key)).collect(),
            Value::Map(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), v.seal(key))).collect()),
        }
    }

    /// Whether the value is exactly the mark of a sensitive value, which a provider took from a record.
    pub fn is_sealed(&self) -> bool {
        let Value::Map(map) = self else { return false };
        match map.get(SENSITIVE_KEY) {
            Some(Value::String(digest)) => map.len() == 1 && digest.starts_with("blake3:"),
            Some(Value::Bool(true)) => {
                map.len() == 2 && [UNKNOWN_KEY, RETAINED_KEY].iter().any(|key| map.contains_key(key))
            }
            _ => false,
        }
    }
}

/// Seals `attributes` for a plan or a state. Nulls are omitted, because they count as not set.
pub fn seal_attributes(attributes: &Attributes, key: &SealKey) -> Map<String, Json> {
    let mut sealed = Map::with_capacity(attributes.len());
    sealed.extend(attributes.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.seal(key))));
    sealed
}

/// Returns the value of a sealed value. `stand_in` returns the value in place of a mark.
pub fn unseal(sealed: &Json, stand_in: &impl Fn(Mark) -> Value) -> Value {
    match (Mark::of(sealed), sealed) {
        (Some(mark), _) => stand_in(mark),
        (None, Json::Object(map)) => Value::Map(map.iter().map(|(k, v)| (k.clone(), unseal(v, stand_in))).collect()),
        (None, Json::Array(items)) => Value::List(items.iter().map(|item| unseal(item, stand_in)).collect()),
        (None, scalar) => Value::from(scalar.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_of_a_mark_never_changes() {
        let cases = [
            (Mark::Digest("blake3:00"), r#"{"$sensitive":"blake3:00"}"#),
            (Mark::Unknown { sensitive: false }, r#"{"$unknown":true}"#),
            (Mark::Unknown { sensitive: true }, r#"{"$unknown":true,"$sensitive":true}"#),
            (Mark::Retained { sensitive: false }, r#"{"$retained":true}"#),
            (Mark::Retained { sensitive: true }, r#"{"$retained":true,"$sensitive":true}"#),
        ];
        for (mark, text) in cases {
            let json = Json::from(mark);
            assert_eq!((json.to_string().as_str(), Mark::of(&json)), (text, Some(mark)));
            assert_eq!(Value::from(json).is_sealed(), mark.is_sensitive());
        }
    }

    #[test]
    fn a_value_is_sealed_part_by_part() {
        let key = SealKey::from_bytes([7; 32]);
        let secret = Value::from("s3cr3t").sensitive();
        let list = |items: [Value; 2]| Value::List(items.into());
        let cases = [
            (Value::Null, "null"),
            (list([Value::from(true), Value::from("x")]), r#"[true,"x"]"#),
            (Value::Map([("token".to_owned(), secret)].into()), r#"{"token":{"$sensitive":"DIGEST"}}"#),
            (Value::Unknown.sensitive(), r#"{"$unknown":true,"$sensitive":true}"#),
            (list([Value::Unknown, Value::from(1)]).sensitive(), r#"{"$unknown":true,"$sensitive":true}"#),
            (list([Value::Retained, Value::Unknown]), r#"[{"$retained":true},{"$unknown":true}]"#),
        ];
        let digest = key.digest(br#""s3cr3t""#);
        for (value, text) in cases {
            assert_eq!(value.seal(&key).to_string(), text.replace("DIGEST", digest.as_str()));
        }
    }

    #[test]
    fn an_object_that_resembles_a_mark_is_not_shown() {
        for object in [json!({ "$sensitive": 5 }), json!({ "$sensitive": "x", "y": "z" })] {
            assert!(is_sensitive(&object));
            assert!(!Value::from(object).is_sealed());
        }
        assert_eq!(Mark::of(&json!({ "token": { "$unknown": true } })), None);
    }

    #[test]
    fn equal_secrets_seal_equally_under_one_key() {
        let (a, b) = (SealKey::generate(), SealKey::generate());
        let secret = Value::from("s3cr3t").sensitive();
        assert_eq!(secret.seal(&a), secret.clone().seal(&a));
        assert_ne!(secret.seal(&a), secret.seal(&b));
    }
}
