//! Reading the world: one call per provider instance and target, however many instances live there.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::join_all;
use moorfast_state::{Digest, Record, SealKey, canonical};
use serde_json::{Map, Value as Json};

use super::PlanMode;
use super::planner::Planner;
use super::requests::{Requests, or_unanswered};
use crate::configuration::expand::{Expanded, Instance};
use crate::model::{Address, Attributes, SENSITIVE_KEY, Value, seal_attributes};
use crate::provider::{Connection, Observed, ProviderError, ReadRequest, Target};
use crate::session::{Event, Events};

/// Which reading a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Which {
    /// What is there under the identity that the manifest says.
    Current(Address),
    /// What is there under the recorded identity, which the manifest no longer says.
    Former(Address),
    /// What is there under another identity, where a replacement that did not finish began to make something.
    Pending(Address, String),
}

/// How a reading went.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

impl Planner<'_> {
    /// Reads all that can be named already on these targets: one call per provider and target.
    pub(super) async fn read_all(&self, targets: impl Fn(&Target) -> bool) -> HashMap<Which, Reading> {
        let mut requests: Requests<(Which, ReadRequest)> = Requests::default();
        for (address, record) in &self.records {
            if !self.is_selected(address) {
                continue;
            }
            let instance = self.expanded.instance(address).filter(|_| self.options.mode != PlanMode::Destroy);
            // Under a new identity the old object is read by the record alone, the new one by the manifest alone.
            let same = instance.is_some_and(|i| self.continues_early(i, record));
            let request = ReadRequest {
                address: address.clone(),
                resource_type: record.resource_type.clone(),
                desired: if same { self.early.get(address).cloned() } else { None },
                recorded: Some(record.clone()),
            };
            let kind = if same { Which::Current(address.clone()) } else { Which::Former(address.clone()) };
            let Some(target) = self.target_of(record) else { continue };
            requests.add(&record.provider, &target, (kind, request));
            if self.options.mode == PlanMode::RefreshOnly {
                continue;
            }
            for pending in &record.pending {
                let request = ReadRequest {
                    address: address.clone(),
                    resource_type: pending.resource_type.clone(),
                    desired: None,
                    recorded: Some(Arc::new(pending.clone())),
                };
                let kind = Which::Pending(address.clone(), pending.identity.clone());
                requests.add(&record.provider, &target, (kind, request));
            }
        }
        if self.options.mode == PlanMode::Normal {
            for i in &self.selected {
                let instance = &self.expanded.instances[*i];
                if self.early_identity(instance).is_none() {
                    continue;
                }
                let recorded = self.records.get(&instance.address);
                if recorded.is_some_and(|r| self.continues_early(instance, r)) {
                    continue;
                }
                let request = ReadRequest {
                    address: instance.address.clone(),
                    resource_type: instance.resource_type.name.to_owned(),
                    desired: self.early.get(&instance.address).cloned(),
                    recorded: None,
                };
                requests.add(&instance.provider, &instance.target, (Which::Current(instance.address.clone()), request));
            }
        }
        requests.0.retain(|_, (_, target, _)| targets(target));
        self.read(requests).await
    }

    pub(super) async fn read(&self, requests: Requests<(Which, ReadRequest)>) -> HashMap<Which, Reading> {
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let (kinds, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let Some(connection) = self.session.connection(&alias) else { return Vec::new() };
            let readings = read(connection, &target, &requests, self.expanded, &self.session.events).await;
            kinds.into_iter().zip(readings).collect::<Vec<_>>()
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    /// Reads those whose identity, or whose reading, depended on what was read before.
    pub(super) async fn read_late(&self, wanted: &[(&Instance, Attributes)], readings: &mut HashMap<Which, Reading>) {
        let mut requests = Requests::default();
        for (instance, attributes) in wanted {
            let kind = Which::Current(instance.address.clone());
            let is_read = readings.contains_key(&kind) && !self.was_read_too_early(instance);
            if self.identity(instance, attributes).is_none() || is_read || self.is_on_a_stranger(instance) {
                continue;
            }
            let recorded = self.records.get(&instance.address);
            let request = ReadRequest {
                address: instance.address.clone(),
                resource_type: instance.resource_type.name.to_owned(),
                desired: Some(attributes.clone()),
                recorded: recorded.filter(|r| self.expanded.continues(instance, r, attributes)).cloned(),
            };
            requests.add(&instance.provider, &instance.target, (kind, request));
        }
        readings.extend(self.read(requests).await);
    }

    /// Was the instance read by attributes that were not all known then, of which its reading depends?
    fn was_read_too_early(&self, instance: &Instance) -> bool {
        let open = self.early.get(&instance.address).is_some_and(|early| early.values().any(Value::is_unknown));
        let provider = self.expanded.catalog.provider(&instance.provider);
        open && provider.is_some_and(|p| p.reads_by_desired(instance.resource_type.name))
    }

    /// Where a record's object lives; `None` where its node or its type is gone.
    pub(super) fn target_of(&self, record: &Record) -> Option<Target> {
        let address: Address = record.address.parse().ok()?;
        self.expanded.target(&address.resource, &record.provider, &record.target)
    }
}

/// What is there of `requests` now, each with the marks of what is sensitive.
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
    let marked = or_unanswered(readings)
        .zip(requests)
        .map(|(reading, request)| reading.map(|found| found.map(|o| marked_reading(expanded, request, o))));
    marked.collect()
}

/// What was read, with the marks of what is sensitive: by the schema, and by the record. What was a secret when it was written is one until it is
/// overwritten, whatever the manifest says by now.
fn marked_reading(expanded: &Expanded, request: &ReadRequest, observed: Observed) -> Observed {
    let marked = expanded.marked(&request.address.resource, observed.attributes);
    let attributes = match &request.recorded {
        Some(record) => hidden_as_recorded(marked, &record.attributes),
        None => marked,
    };
    Observed { attributes, ..observed }
}

/// `values`, sensitive wherever they are recorded as sensitive, and where nothing is recorded of them beside something that is.
fn hidden_as_recorded(values: Attributes, recorded: &Map<String, Json>) -> Attributes {
    let beside_secrets = recorded.values().any(is_sealed);
    let hidden = |(name, value): (String, Value)| {
        let value = match recorded.get(&name) {
            Some(recorded) => hidden_like(value, recorded),
            None if beside_secrets && !value.is_sealed() => value.sensitive(),
            None => value,
        };
        (name, value)
    };
    values.into_iter().map(hidden).collect()
}

fn hidden_like(value: Value, recorded: &Json) -> Value {
    match (value, recorded) {
        // What a provider knows from the record alone is sealed already.
        (value, _) if value.is_sealed() => value,
        (value, recorded) if is_sealed(recorded) => value.sensitive(),
        (Value::Map(map), Json::Object(recorded)) => Value::Map(hidden_as_recorded(map, recorded)),
        (Value::List(items), Json::Array(recorded)) if items.len() == recorded.len() => {
            Value::List(items.into_iter().zip(recorded).map(|(item, recorded)| hidden_like(item, recorded)).collect())
        }
        // Which of the items is which is not known.
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

/// What a record holds once what was observed is taken into it: what is remembered and was not looked at stays.
pub(crate) fn taken_over(known: Option<&Record>, observed: &Observed, key: &SealKey) -> Map<String, Json> {
    let mut attributes = seal_attributes(&observed.attributes, key);
    let lost =
        known.into_iter().flat_map(|k| &k.attributes).filter(|(name, _)| !observed.attributes.contains_key(*name));
    attributes.extend(lost.map(|(name, value)| (name.clone(), value.clone())));
    attributes
}

/// The digest that stands for what was observed.
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
    fn what_is_sealed_is_not_sealed_once_more() {
        let sealed = json!({ SENSITIVE_KEY: "blake3:00" });
        let recorded = json!({ "token": sealed, "path": "/etc/token" });
        let values: Attributes = [("token", Value::from(sealed.clone())), ("new", Value::from(sealed))]
            .map(|(name, value)| (name.to_owned(), value))
            .into();
        let hidden = hidden_as_recorded(values.clone(), recorded.as_object().unwrap());
        assert_eq!(
            seal_attributes(&hidden, &SealKey::from_bytes([7; 32])),
            seal_attributes(&values, &SealKey::from_bytes([7; 32]))
        );
        let clear: Attributes = [("token".to_owned(), Value::from("x"))].into();
        assert!(hidden_as_recorded(clear, recorded.as_object().unwrap())["token"].is_sensitive());
    }
}
