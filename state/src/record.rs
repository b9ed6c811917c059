//! The record of a resource instance.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::Digest;

/// A resource instance as the last apply left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The address as text: `ssh_file.kubelet_config["gpu01"]`.
    pub address: String,
    /// The resource type: `ssh_file`.
    pub resource_type: String,
    /// The provider instance that created it: `ssh`, `kubernetes`, `kubernetes.prod`.
    pub provider: String,
    /// The target: the name of a node, or the provider instance for an object in a cluster.
    pub target: String,
    /// The identity of the object in its target: a path, the name of a unit, `v1/Secret/kube-system/x`.
    pub identity: String,
    /// The attributes as observed after the apply; sensitive values are `{"$sensitive": "blake3:…"}`.
    #[serde(deserialize_with = "without_room")]
    pub attributes: Map<String, Value>,
    /// The addresses of its dependencies. A destroy uses the reverse order.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// For each address of `restart_on` and `replace_triggered_by`, the digest of that resource when this one was last restarted or replaced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers: BTreeMap<String, Digest>,
    /// The private data of the provider. Never sensitive.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub private: Value,
    /// Whether a destroy is refused until the manifest permits it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prevent_destroy: bool,
    /// Whether an operation failed halfway, so that the attributes may be wrong: the next plan reads the object first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// Unfinished replacements under other identities. The next apply removes those that exist, unless the manifest declares them
    /// by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Record>,
    /// The machine-id of the machine on which the object exists. On another machine the record is stale.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// When the record was last written.
    pub updated_at: Timestamp,
}

impl Record {
    /// Returns the digest of the attributes, which [`Record::triggers`] of other records contain.
    pub fn digest(&self) -> Digest {
        // Maps keep their insertion order, so the digest uses a canonical form.
        Digest::of(&canonical_object(&self.attributes))
    }

    /// Replaces addresses in all fields. `new_name` returns the new address, or `None` if an address stays.
    pub fn rename(&mut self, new_name: &impl Fn(&str) -> Option<String>) {
        for address in std::iter::once(&mut self.address).chain(&mut self.dependencies) {
            if let Some(new) = new_name(address) {
                *address = new;
            }
        }
        // A new address was free until now, so an entry that already has it is of a record that is gone: the renamed one replaces it.
        let renamed: Vec<_> = self.triggers.keys().filter_map(|old| Some((old.clone(), new_name(old)?))).collect();
        let taken: Vec<_> =
            renamed.into_iter().filter_map(|(old, new)| Some((new, self.triggers.remove(&old)?))).collect();
        self.triggers.extend(taken);
        self.pending.iter_mut().for_each(|record| record.rename(new_name));
    }
}

/// Reads a map without room for more members: a map that grew as it was read has room for three more.
fn without_room<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    Ok(Map::deserialize(deserializer)?.into_iter().collect())
}

/// Returns the text of a JSON value with sorted keys, so that equal values have equal digests.
pub fn canonical(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    write_canonical(value, &mut text);
    text
}

/// Returns the text of a JSON object as [`canonical`] does.
pub fn canonical_object(map: &Map<String, Value>) -> Vec<u8> {
    let mut text = Vec::new();
    write_canonical_object(map, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(map) => write_canonical_object(map, text),
        Value::Array(items) => {
            text.push(b'[');
            for (i, item) in items.iter().enumerate() {
                separate(i, text);
                write_canonical(item, text);
            }
            text.push(b']');
        }
        scalar => write_json(scalar, text),
    }
}

fn write_canonical_object(map: &Map<String, Value>, text: &mut Vec<u8>) {
    let mut members: Vec<_> = map.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    text.push(b'{');
    for (i, (name, value)) in members.into_iter().enumerate() {
        separate(i, text);
        write_json(name, text);
        text.push(b':');
        write_canonical(value, text);
    }
    text.push(b'}');
}

fn separate(place: usize, text: &mut Vec<u8>) {
    if place > 0 {
        text.push(b',');
    }
}

fn write_json(scalar: &impl Serialize, text: &mut Vec<u8>) {
    // A scalar can always be written to memory.
    _ = serde_json::to_writer(text, scalar);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_renamed_trigger_replaces_an_entry_of_a_record_that_is_gone() {
        let (current, stale) = (Digest::of(b"current"), Digest::of(b"stale"));
        let mut record: Record = serde_json::from_value(json!({
            "address": "ssh_systemd_unit.web", "resource_type": "ssh_systemd_unit", "provider": "ssh", "target": "gpu01",
            "identity": "unit:web.service", "attributes": {}, "updated_at": "2026-01-01T00:00:00Z",
            "triggers": { "ssh_file.a": current.clone(), "ssh_file.b": stale },
        }))
        .unwrap();
        record.rename(&|address| (address == "ssh_file.a").then(|| "ssh_file.b".to_owned()));
        assert_eq!(record.triggers, [("ssh_file.b".to_owned(), current)].into());
    }
}
