//! The subject of a read or an operation: the desired and the recorded attributes of one object.

use moorfast_engine::model::{Attributes, Mark, Schema, Value, unseal};
use moorfast_engine::provider::{Operation, OperationAction, ReadRequest};
use moorfast_engine::state::Record;

/// An instance, as far as it is known before the node is read.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject {
    /// The attributes that identify the object and select what is read: from the manifest, otherwise from the record.
    pub(crate) attributes: Attributes,
    /// The recorded attributes of this object.
    pub(crate) recorded: Option<Attributes>,
    /// The observed attributes before an operation that creates or updates.
    pub(crate) before: Option<Attributes>,
    /// The recorded private data.
    pub(crate) private: serde_json::Value,
    /// The private data to record if there is none yet: the state from before moorfast, of an operation that creates or updates.
    pub(crate) initial_private: serde_json::Value,
    /// Whether the last operation on the object failed half-way.
    pub(crate) incomplete: bool,
}

impl Subject {
    /// Returns the subject of `request`. If record and manifest are two objects (another path), it is the recorded one, which must be replaced.
    pub(crate) fn of_read(request: &ReadRequest) -> Self {
        let schema = request.resource_type.schema();
        let recorded = request.recorded.as_deref();
        let private = recorded.map(|r| r.private.clone()).unwrap_or_default();
        let incomplete = recorded.is_some_and(|r| r.incomplete);
        let recorded = recorded.map(recorded_attributes);
        let attributes = match (&request.desired, &recorded) {
            (Some(desired), Some(recorded)) => match is_different_object(schema, desired, recorded) {
                true => recorded.clone(),
                false => with_recorded_identity(schema, desired, recorded),
            },
            (Some(desired), None) => desired.clone(),
            (None, Some(recorded)) => recorded.clone(),
            (None, None) => Attributes::new(),
        };
        Self { attributes, recorded, private, incomplete, ..Self::default() }
    }

    /// Returns the subject of `operation`: the object as it will be, or the one to remove.
    pub(crate) fn of_operation(operation: &Operation) -> Self {
        let recorded = operation.recorded.as_deref();
        let private = recorded.map(|r| r.private.clone()).unwrap_or_default();
        match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                let before = operation.observed.as_ref().map(|o| o.attributes.clone());
                Self { attributes: with_observed_values(desired, operation), before, private, ..Self::default() }
            }
            OperationAction::Delete => {
                let observed = operation.observed.as_ref().map(|o| o.attributes.clone());
                let attributes = recorded.map(recorded_attributes).or(observed).unwrap_or_default();
                Self { recorded: recorded.map(recorded_attributes), attributes, private, ..Self::default() }
            }
        }
    }

    /// Returns a setting, which cannot be read from the node, as the last apply used it.
    pub(crate) fn setting(&self, name: &str) -> Option<&Value> {
        match &self.recorded {
            Some(recorded) => recorded.get(name).filter(|v| !v.is_retained()).or_else(|| self.attributes.get(name)),
            None => self.attributes.get(name),
        }
        .filter(|v| !v.is_null())
    }

    /// Returns the text of an attribute, if it is known.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.as_str()
    }

    /// Returns the value that decides whether the observed attribute `name` is sensitive: the desired value if it is known, otherwise the
    /// recorded one. Without either, an unknown value makes the observed one sensitive, because it may become a secret.
    pub(crate) fn sensitivity_model(&self, name: &str) -> Option<&Value> {
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

/// Whether these are two objects: they differ in an attribute that forces a replacement.
fn is_different_object(schema: &Schema, desired: &Attributes, recorded: &Attributes) -> bool {
    let known =
        |attributes: &Attributes, name: &str| attributes.get(name).filter(|v| !v.is_null() && !v.is_unknown()).cloned();
    schema.attributes.iter().filter(|a| a.forces_replacement).any(
        |a| matches!((known(desired, a.name), known(recorded, a.name)), (Some(desired), Some(then)) if desired != then),
    )
}

/// Returns `desired` with the recorded values of unknown attributes that force a replacement, so that the existing object is read.
fn with_recorded_identity(schema: &Schema, desired: &Attributes, recorded: &Attributes) -> Attributes {
    let mut attributes = desired.clone();
    for attribute in schema.attributes.iter().filter(|a| a.forces_replacement) {
        let unknown = attributes.get(attribute.name).is_some_and(Value::is_unknown);
        if let (true, Some(then)) = (unknown, recorded.get(attribute.name)) {
            attributes.insert(attribute.name.to_owned(), then.clone());
        }
    }
    attributes
}

/// Returns `desired` with the observed values of retained attributes. A value that cannot be observed is as secret as the rest of the object.
fn with_observed_values(desired: &Attributes, operation: &Operation) -> Attributes {
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

/// Returns the attributes of a record. Sensitive values are only known to exist.
pub(crate) fn recorded_attributes(record: &Record) -> Attributes {
    let stand_in = |mark: Mark| if mark.is_sensitive() { Value::Retained.sensitive() } else { Value::Retained };
    record.attributes.iter().map(|(name, value)| (name.clone(), unseal(value, &stand_in))).collect()
}
