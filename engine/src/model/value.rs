//! Values, which can be unknown or sensitive.

mod map;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde_json::{Number, json};
use zeroize::{Zeroize, Zeroizing};

use crate::model::number::{canonical, integer};

pub use map::ValueMap;

/// The attributes of a resource by name.
pub type Attributes = ValueMap;

/// A value in a manifest, a record or an observed object.
#[derive(Clone, PartialEq, Default)]
pub enum Value {
    /// No value: the attribute counts as not set.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer or a float.
    Number(Number),
    /// Text.
    String(String),
    /// An ordered list.
    List(Vec<Value>),
    /// A map or an object, ordered by key.
    Map(ValueMap),
    /// A value that is known only after apply.
    Unknown,
    /// A value that the last apply used and that cannot be read again, such as an expired bootstrap token. A retained attribute does not change its resource.
    Retained,
    /// A value that is never shown or stored. It contains no other sensitive value.
    Sensitive(Secret),
}

/// The content of a sensitive value. It is cleared from memory when dropped.
#[derive(Clone)]
pub struct Secret {
    value: Box<Value>,
    parts: Parts,
}

/// The sensitive texts that a value was computed from, such as the token in `"Bearer ${token}"`. A message can quote only such a part.
///
/// They are shared, because all values that are taken out of one value have its parts.
type Parts = Arc<[Zeroizing<String>]>;

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        wipe(&mut self.value);
    }
}

/// Whether a result is sensitive, and the sensitive texts that it was computed from.
#[derive(Clone, Default)]
pub(crate) struct Secrecy(Option<Parts>);

impl Secrecy {
    /// Returns the secrecy of a value that reveals something about each of `values`.
    pub(crate) fn of<'v>(values: impl IntoIterator<Item = &'v Value>) -> Self {
        let mut secrecy = Self::default();
        values.into_iter().for_each(|value| secrecy.add_marks(value));
        secrecy
    }

    /// Whether the result is sensitive.
    pub(crate) fn is_sensitive(&self) -> bool {
        self.0.is_some()
    }

    /// Makes the result as sensitive as `other` too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.0 = match (self.0.take(), &other.0) {
            (Some(own), Some(other)) => Some(united(own, other)),
            (own, other) => own.or_else(|| other.clone()),
        };
    }

    fn add_marks(&mut self, value: &Value) {
        match value {
            Value::Sensitive(_) => self.add(&value.secrecy()),
            Value::List(items) => items.iter().for_each(|item| self.add_marks(item)),
            Value::Map(map) => map.values().for_each(|value| self.add_marks(value)),
            _ => {}
        }
    }
}

fn united(parts: Parts, more: &Parts) -> Parts {
    if parts.is_empty() {
        return Arc::clone(more);
    }
    if more.is_empty() || Arc::ptr_eq(&parts, more) {
        return parts;
    }
    let known: BTreeSet<&str> = parts.iter().map(|part| part.as_str()).collect();
    let new: Vec<_> = more.iter().filter(|part| !known.contains(part.as_str())).cloned().collect();
    if new.is_empty() { parts } else { parts.iter().cloned().chain(new).collect() }
}

/// Sensitive values in plain form for a calculation. They are cleared from memory when dropped.
pub(crate) struct RevealedValues(pub(crate) Vec<Value>);

impl Drop for RevealedValues {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::List(items) => items.iter_mut().for_each(wipe),
        // The last of several copies is cleared.
        Value::Map(map) => map.unshared().for_each(wipe),
        _ => {}
    }
}

impl Value {
    /// Marks the value as sensitive. The marks of inner values are removed. A null stays null.
    pub fn sensitive(self) -> Self {
        match self {
            Value::Null => Value::Null,
            Value::Sensitive(_) => self,
            other => {
                let parts = Secrecy::of([&other]).0.unwrap_or_default();
                Value::Sensitive(Secret { value: Box::new(other.reveal_deep()), parts })
            }
        }
    }

    /// Marks the value as sensitive if `secrecy` is.
    pub(crate) fn with(self, secrecy: &Secrecy) -> Self {
        let Some(parts) = &secrecy.0 else { return self };
        let mut value = self.sensitive();
        if let Value::Sensitive(secret) = &mut value {
            secret.parts = united(std::mem::take(&mut secret.parts), parts);
        }
        value
    }

    /// Marks a value that was computed from `sources` as sensitive. The secrets in them become its parts.
    pub(crate) fn sensitive_from<'v>(self, sources: impl IntoIterator<Item = &'v Value>) -> Self {
        let secrets: BTreeSet<_> = sources.into_iter().flat_map(Value::secrets).collect();
        // A bool is a word of many messages, and one bit of a secret.
        let is_part = |text: &Cow<str>| text != "true" && text != "false" && self.as_str() != Some(text);
        let parts = secrets.into_iter().filter(is_part).map(|text| Zeroizing::new(text.into_owned())).collect();
        self.with(&Secrecy(Some(parts)))
    }

    /// Returns the secrecy of what is taken out of the value: that of the mark at its top.
    pub(crate) fn secrecy(&self) -> Secrecy {
        match self {
            Value::Sensitive(secret) => Secrecy(Some(Arc::clone(&secret.parts))),
            _ => Secrecy::default(),
        }
    }

    /// Returns the texts in which a message can quote the sensitive values in this value: each as a whole, what is in it, and its parts.
    pub(crate) fn secrets(&self) -> BTreeSet<Cow<'_, str>> {
        let mut texts = BTreeSet::new();
        self.add_secrets(&mut texts);
        texts
    }

    fn add_secrets<'v>(&'v self, texts: &mut BTreeSet<Cow<'v, str>>) {
        match self {
            Value::Sensitive(secret) => {
                secret.value.add_texts(texts);
                texts.extend(secret.parts.iter().map(|part| Cow::from(part.as_str())));
            }
            Value::List(items) => items.iter().for_each(|item| item.add_secrets(texts)),
            Value::Map(map) => map.values().for_each(|value| value.add_secrets(texts)),
            _ => {}
        }
    }

    fn add_texts<'v>(&'v self, texts: &mut BTreeSet<Cow<'v, str>>) {
        match self {
            Value::String(text) => _ = texts.insert(text.into()),
            Value::Number(number) => _ = texts.insert(number.to_string().into()),
            // One of them reveals the other.
            Value::Bool(_) => texts.extend(["true", "false"].map(Cow::from)),
            Value::List(items) => items.iter().for_each(|item| item.add_texts(texts)),
            sealed if sealed.is_sealed() => {}
            // The names of a sensitive map are as sensitive as its values.
            Value::Map(map) => map.iter().for_each(|(name, value)| {
                texts.insert(name.into());
                value.add_texts(texts);
            }),
            _ => {}
        }
    }

    /// Returns the value without the sensitive mark at its top. The caller must not show or store it.
    pub fn reveal(&self) -> &Value {
        match self {
            Value::Sensitive(secret) => &secret.value,
            other => other,
        }
    }

    /// Returns a copy without sensitive marks at any depth. The caller must not show or store it.
    pub fn reveal_deep(&self) -> Value {
        match self {
            Value::Sensitive(secret) => secret.value.reveal_deep(),
            Value::List(items) => Value::List(items.iter().map(Value::reveal_deep).collect()),
            Value::Map(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), v.reveal_deep())).collect()),
            other => other.clone(),
        }
    }

    /// Whether the value or any inner value is sensitive.
    pub fn is_sensitive(&self) -> bool {
        self.any(&|v| matches!(v, Value::Sensitive(_)))
    }

    /// Whether the value or any inner value is unknown.
    pub fn is_unknown(&self) -> bool {
        self.any(&|v| matches!(v, Value::Unknown))
    }

    /// Whether the value or any inner value is retained.
    pub fn is_retained(&self) -> bool {
        self.any(&|v| matches!(v, Value::Retained))
    }

    fn any(&self, test: &impl Fn(&Value) -> bool) -> bool {
        test(self)
            || match self {
                Value::Sensitive(secret) => secret.value.any(test),
                Value::List(items) => items.iter().any(|v| v.any(test)),
                Value::Map(map) => map.values().any(|v| v.any(test)),
                _ => false,
            }
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Returns a string, sensitive or not.
    pub fn as_str(&self) -> Option<&str> {
        match self.reveal() {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Returns a bool, sensitive or not.
    pub fn as_bool(&self) -> Option<bool> {
        match self.reveal() {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// Returns a whole number that fits into 64 bits, sensitive or not.
    pub fn as_i64(&self) -> Option<i64> {
        match self.reveal() {
            Value::Number(n) => integer(n)?.try_into().ok(),
            _ => None,
        }
    }

    /// Returns a whole number, sensitive or not.
    pub fn as_i128(&self) -> Option<i128> {
        match self.reveal() {
            Value::Number(n) => integer(n),
            _ => None,
        }
    }

    /// Returns the items of a list, sensitive or not.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self.reveal() {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// Returns the members of a map, sensitive or not.
    pub fn as_map(&self) -> Option<&ValueMap> {
        match self.reveal() {
            Value::Map(map) => Some(map),
            _ => None,
        }
    }

    /// Returns the name of the type for messages.
    pub fn type_name(&self) -> &'static str {
        match self.reveal() {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::List(_) => "list",
            Value::Map(_) => "map",
            Value::Unknown | Value::Retained => "unknown",
            Value::Sensitive(_) => "sensitive",
        }
    }

    /// Returns the plain JSON of the value, sensitive or not, for a request of a provider. `None` if any inner value is unknown.
    pub fn to_json(&self) -> Option<serde_json::Value> {
        Some(match self.reveal() {
            Value::Unknown | Value::Retained | Value::Sensitive(_) => return None,
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => json!(b),
            Value::Number(n) => serde_json::Value::Number(n.clone()),
            Value::String(text) => json!(text),
            Value::List(items) => serde_json::Value::Array(items.iter().map(Value::to_json).collect::<Option<_>>()?),
            Value::Map(map) => serde_json::Value::Object(
                map.iter().map(|(k, v)| Some((k.clone(), v.to_json()?))).collect::<Option<_>>()?,
            ),
        })
    }
}

impl fmt::Debug for Value {
    /// Formats the value without showing sensitive values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Number(n) => write!(f, "{n}"),
            Value::String(text) => write!(f, "{text:?}"),
            Value::List(items) => f.debug_list().entries(items).finish(),
            Value::Map(map) => f.debug_map().entries(map).finish(),
            Value::Unknown => f.write_str("(known after apply)"),
            Value::Retained => f.write_str("(as applied before)"),
            Value::Sensitive(_) => f.write_str("(sensitive)"),
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(b) => Value::Bool(b),
            serde_json::Value::Number(n) => Value::Number(canonical(n)),
            serde_json::Value::String(s) => Value::String(s),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(Value::from).collect()),
            serde_json::Value::Object(map) => Value::Map(map.into_iter().map(|(k, v)| (k, Value::from(v))).collect()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Number(n.into())
    }
}

impl<T: Into<Value>> From<Vec<T>> for Value {
    fn from(items: Vec<T>) -> Self {
        Value::List(items.into_iter().map(Into::into).collect())
    }
}

impl From<ValueMap> for Value {
    fn from(map: ValueMap) -> Self {
        Value::Map(map)
    }
}

#[cfg(test)]
mod tests {
    use moorfast_state::SealKey;

    use super::*;

    #[test]
    fn debug_and_seal_never_show_a_secret() {
        let key = SealKey::generate();
        let value = Value::Map([("token".to_owned(), Value::from("s3cr3t").sensitive())].into());
        assert!(!format!("{value:?}").contains("s3cr3t"));
        assert!(!value.seal(&key).to_string().contains("s3cr3t"));
    }

    #[test]
    fn inner_sensitive_marks_are_removed() {
        let inner = Value::List(vec![Value::from("x").sensitive()]);
        let outer = inner.sensitive();
        assert!(!outer.reveal().is_sensitive());
    }
}
