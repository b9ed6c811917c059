//! What a read or an operation is about: what the manifest wants, and what is remembered.

use moorfast_engine::model::{Attributes, SENSITIVE_KEY, Value};
use moorfast_engine::provider::{Operation, OperationAction, ReadRequest};
use moorfast_engine::state::Record;

use crate::resource::Resource;

/// One instance, as far as it is known before the node is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// What says which object it is and what is worth reading of it: the manifest, else what is remembered.
    pub(crate) attributes: Attributes,
    /// What is remembered of this very object.
    pub(crate) recorded: Option<Attributes>,
    /// What was on the node before an operation that creates or updates.
    pub(crate) before: Option<Attributes>,
    /// What the provider kept for itself.
    pub(crate) private: serde_json::Value,
    /// Did the last operation on it fail half-way?
    pub(crate) incomplete: bool,
}

impl Subject {
    /// What `request` is about. The object that is remembered goes before the one that is wanted, where they are two
    /// (another path): it is this one that must be replaced.
    pub(crate) fn of_read(resource: &dyn Resource, request: &ReadRequest) -> Self {
        let recorded = request.recorded.as_deref();
        let private = recorded.map(|r| r.private.clone()).unwrap_or_default();
        let incomplete = recorded.is_some_and(|r| r.incomplete);
        let remembered = recorded.map(remembered);
        let attributes = match (&request.desired, &remembered) {
            (Some(desired), Some(remembered)) => match is_another(resource, desired, remembered) {
                true => remembered.clone(),
                false => with_known_key(resource, desired, remembered),
            },
            (Some(desired), None) => desired.clone(),
            (None, Some(remembered)) => remembered.clone(),
            (None, None) => Attributes::new(),
        };
        Self { attributes, recorded: remembered, before: None, private, incomplete }
    }

    /// What `operation` is about: the object as it will be, or the one to remove.
    pub(crate) fn of_operation(operation: &Operation) -> Self {
        let recorded = operation.recorded.as_deref();
        let private = recorded.map(|r| r.private.clone()).unwrap_or_default();
        match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                let before = operation.observed.as_ref().map(|o| o.attributes.clone());
                Self { attributes: settled(desired, operation), before, private, ..Self::default() }
            }
            OperationAction::Delete => {
                let observed = operation.observed.as_ref().map(|o| o.attributes.clone());
                let attributes = recorded.map(remembered).or(observed).unwrap_or_default();
                Self { recorded: recorded.map(remembered), attributes, private, ..Self::default() }
            }
        }
    }

    /// The attribute `name` of something that cannot be read from the node, as the last apply used it.
    pub(crate) fn setting(&self, name: &str) -> Option<&Value> {
        match &self.recorded {
            Some(recorded) => recorded.get(name).filter(|v| !v.is_retained()).or_else(|| self.attributes.get(name)),
            None => self.attributes.get(name),
        }
        .filter(|v| !v.is_null())
    }

    /// The text of an attribute, if it is known.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// The value by which what is observed of the attribute `name` is marked sensitive: the manifest's as soon as it is known, until then the
    /// remembered one. Where there is neither, what is unknown hides what is there: it may turn out to be a secret.
    pub(crate) fn model(&self, name: &str) -> Option<&Value> {
        let recorded = || self.recorded.as_ref().and_then(|r| r.get(name));
        match self.attributes.get(name).filter(|v| !v.is_null()) {
            Some(value) if (value.is_retained() || value.is_unknown()) && !value.is_sensitive() => {
                recorded().or(Some(value))
            }
            Some(value) => Some(value),
            None => recorded(),
        }
    }
}

/// Are these two objects? They are where an attribute differs that is theirs for life.
fn is_another(resource: &dyn Resource, desired: &Attributes, remembered: &Attributes) -> bool {
    let schema = resource.resource_type().schema;
    let known =
        |attributes: &Attributes, name: &str| attributes.get(name).filter(|v| !v.is_null() && !v.is_unknown()).cloned();
    schema.attributes.iter().filter(|a| a.forces_replacement).any(
        |a| matches!((known(desired, a.name), known(remembered, a.name)), (Some(wanted), Some(then)) if wanted != then),
    )
}

/// `desired`, with what is for life and not known yet as it is remembered: what is there now is looked at.
fn with_known_key(resource: &dyn Resource, desired: &Attributes, remembered: &Attributes) -> Attributes {
    let schema = resource.resource_type().schema;
    let mut attributes = desired.clone();
    for attribute in schema.attributes.iter().filter(|a| a.forces_replacement) {
        let unknown = attributes.get(attribute.name).is_some_and(Value::is_unknown);
        if let (true, Some(then)) = (unknown, remembered.get(attribute.name)) {
            attributes.insert(attribute.name.to_owned(), then.clone());
        }
    }
    attributes
}

/// `desired`, with what is retained as it was observed. What cannot be observed is as secret as the rest of the object.
fn settled(desired: &Attributes, operation: &Operation) -> Attributes {
    let observed = operation.observed.as_ref().map(|o| &o.attributes);
    let secret = observed.is_some_and(|o| o.values().any(Value::is_sensitive));
    let settle = |(name, value): (&String, &Value)| {
        let value = match observed.and_then(|o| o.get(name)).filter(|_| value.is_retained()) {
            Some(now) => now.clone(),
            None if value.is_retained() && secret => value.clone().sensitive(),
            None => value.clone(),
        };
        (name.clone(), value)
    };
    desired.iter().filter(|(_, v)| !v.is_null()).map(settle).collect()
}

/// The attributes of a record; what is sensitive is known only to have been there.
pub(crate) fn remembered(record: &Record) -> Attributes {
    record.attributes.iter().map(|(name, value)| (name.clone(), unseal(value))).collect()
}

fn unseal(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Object(map) if map.contains_key(SENSITIVE_KEY) => Value::Retained.sensitive(),
        serde_json::Value::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), unseal(v))).collect()),
        serde_json::Value::Array(items) => Value::List(items.iter().map(unseal).collect()),
        scalar => Value::from(scalar.clone()),
    }
}
