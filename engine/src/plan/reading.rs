//! Readings: one call for each provider instance and target, however many instances it has.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use moorfast_state::{Digest, Record, SealKey, canonical};
use serde_json::{Map, Value as Json};

use super::PlanMode;
use super::planner::Planner;
use super::requests::{Requests, with_missing_answers};
use crate::configuration::expand::{Expanded, Instance};
use crate::model::{Address, Attributes, SENSITIVE_KEY, Value, seal_attributes};
use crate::provider::{Connection, Observed, ProviderError, ReadRequest, Target};
use crate::session::{Event, Events};

/// The key of a reading.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum ReadingKey {
    /// The object with the identity that the manifest declares.
    Current(Address),
    /// The object with the recorded identity, which the manifest does not declare any more.
    Former(Address),
    /// An object with another identity, which an incomplete replacement started to create.
    Pending(Address, String),
}

/// The result of a reading. `None` if the object does not exist.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

impl Planner<'_> {
    /// Reads all objects on these targets whose identity is known already.
    pub(super) async fn read_all(&self, targets: impl Fn(&Target) -> bool) -> HashMap<ReadingKey, Reading> {
        let mut requests: Requests<(ReadingKey, ReadRequest)> = Requests::default();
        for (address, record) in &self.records {
            if !self.is_selected(address) {
                continue;
            }
            let resource_type = self.expanded.catalog.resource_type(&record.resource_type);
            let Some((resource_type, target)) = resource_type.zip(self.target_of(record)) else { continue };
            let instance = self.expanded.instance(address).filter(|_| self.options.mode != PlanMode::Destroy);
            // If the identity changed, the old object is read by its record and the new one by the manifest.
            let same = instance.is_some_and(|i| self.is_same_object(i, record));
            let request = ReadRequest {
                address: address.clone(),
                resource_type: resource_type.clone(),
                desired: if same { self.static_values.get(address).cloned() } else { None },
                recorded: Some(record.clone()),
            };
            let kind = if same { ReadingKey::Current(address.clone()) } else { ReadingKey::Former(address.clone()) };
            requests.add(&record.provider, &target, (kind, request));
            if self.options.mode == PlanMode::RefreshOnly {
                continue;
            }
            for pending in &record.pending {
                let Some(resource_type) = self.expanded.catalog.resource_type(&pending.resource_type) else { continue };
                let request = ReadRequest {
                    address: address.clone(),
                    resource_type: resource_type.clone(),
                    desired: None,
                    recorded: Some(Arc::new(pending.clone())),
                };
                let kind = ReadingKey::Pending(address.clone(), pending.identity.clone());
                requests.add(&record.provider, &target, (kind, request));
            }
        }
        if self.options.mode == PlanMode::Normal {
            for i in &self.selected {
                let instance = &self.expanded.instances[*i];
                if self.static_identity(instance).is_none() {
                    continue;
                }
                let recorded = self.records.get(&instance.address);
                if recorded.is_some_and(|r| self.is_same_object(instance, r)) {
                    continue;
                }
                let request = ReadRequest {
                    address: instance.address.clone(),
                    resource_type: instance.resource_type.clone(),
                    desired: self.static_values.get(&instance.address).cloned(),
                    recorded: None,
                };
                requests.add(
                    &instance.provider,
                    &instance.target,
                    (ReadingKey::Current(instance.address.clone()), request),
                );
            }
        }
        requests.0.retain(|_, (_, target, _)| targets(target));
        self.read(requests).await
    }

    pub(super) async fn read(&self, requests: Requests<(ReadingKey, ReadRequest)>) -> HashMap<ReadingKey, Reading> {
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let (kinds, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let Some(connection) = self.session.connection(&alias) else { return Vec::new() };
            let readings = read(connection, &target, &requests, self.expanded, &self.session.events).await;
            kinds.into_iter().zip(readings).collect::<Vec<_>>()
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// Reads the instances whose identity or reading depended on earlier readings.
    pub(super) async fn read_remaining(
        &self,
        desired: &[(&Instance, Attributes)],
        readings: &mut HashMap<ReadingKey, Reading>,
    ) {
        let mut requests = Requests::default();
        for (instance, attributes) in desired {
            let kind = ReadingKey::Current(instance.address.clone());
            let is_read = readings.contains_key(&kind) && !self.needs_second_read(instance);
            if instance.identity(attributes).is_none() || is_read || self.is_on_unapproved_node(instance) {
                continue;
            }
            let recorded = self.records.get(&instance.address);
            let request = ReadRequest {
                address: instance.address.clone(),
                resource_type: instance.resource_type.clone(),
                desired: Some(attributes.clone()),
                recorded: recorded.filter(|r| instance.continues(r, attributes)).cloned(),
            };
            requests.add(&instance.provider, &instance.target, (kind, request));
        }
        readings.extend(self.read(requests).await);
    }

    /// Whether the instance was read while some of its attributes were unknown, and its reading depends on them.
    fn needs_second_read(&self, instance: &Instance) -> bool {
        let open = self
            .static_values
            .get(&instance.address)
            .is_some_and(|static_values| static_values.values().any(Value::is_unknown));
        open && instance.resource_type.reading_needs_desired()
    }

    /// Returns the target of a record. Returns `None` if its node or its type does not exist any more.
    pub(super) fn target_of(&self, record: &Record) -> Option<Target> {
        let address: Address = record.address.parse().ok()?;
        self.expanded.target(&address.resource, &record.provider, &record.target)
    }
}

/// Reads the objects of `requests`, and marks their sensitive values.
pub(crate) async fn read(
    connection: &Arc<dyn Connection>,
    target: &Target,
    requests: &[ReadRequest],
    expanded: &Expanded,
    events: &Events,
) -> Vec<Reading> {
    events.send(Event::Reading { target: target.to_string(), instances: requests.len() });
    let readings = connection.read(target, requests).await;
    events.send(Event::ReadDone { target: target.to_string() });
    let marked = with_missing_answers(readings)
        .zip(requests)
        .map(|(reading, request)| reading.map(|observed| observed.map(|o| marked_reading(expanded, request, o))));
    marked.collect()
}

/// Marks the sensitive values of a reading, by the schema and by the record.
///
/// A value that was recorded as sensitive stays sensitive until it is overwritten, whatever the manifest declares now.
fn marked_reading(expanded: &Expanded, request: &ReadRequest, observed: Observed) -> Observed {
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

/// Returns the attributes of a record after a reading. Recorded attributes that were not read are kept.
pub(crate) fn merged_attributes(known: Option<&Record>, observed: &Observed, key: &SealKey) -> Map<String, Json> {
    let mut attributes = seal_attributes(&observed.attributes, key);
    let lost =
        known.into_iter().flat_map(|k| &k.attributes).filter(|(name, _)| !observed.attributes.contains_key(*name));
    attributes.extend(lost.map(|(name, value)| (name.clone(), value.clone())));
    attributes
}

/// Returns the digest of the observed attributes.
pub(crate) fn observed_digest(observed: Option<&Observed>, key: &SealKey) -> Digest {
    match observed {
        Some(observed) => Digest::of(canonical(&Json::Object(seal_attributes(&observed.attributes, key))).as_bytes()),
        None => Digest::of(b"absent"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
