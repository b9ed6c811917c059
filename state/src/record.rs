//! What is remembered of one resource instance.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Digest;

/// One resource instance as the last apply left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its address in the manifest, as text: `ssh_file.kubelet_config["gpu01"]`.
    pub address: String,
    /// The resource type: `ssh_file`.
    pub resource_type: String,
    /// The provider instance that made it: `ssh`, `kubernetes`, `kubernetes.prod`.
    pub provider: String,
    /// Where it lives: the name of a node, or the provider instance again for what lives in a cluster.
    pub target: String,
    /// The natural key by which it is found there: a path, a unit's name, `v1/Secret/kube-system/x`.
    pub identity: String,
    /// Its attributes as observed after the apply, sealed: sensitive values are `{"$sensitive": "blake3:…"}`.
    pub attributes: Map<String, Value>,
    /// The addresses that it depended on: destroy goes against these.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// For each address of `restart_on` and `replace_triggered_by`, the digest that it had when this resource last acted on it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub triggers: BTreeMap<String, Digest>,
    /// What the provider keeps for itself. Never sensitive.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub private: Value,
    /// True where a destroy is refused until the manifest says otherwise.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub prevent_destroy: bool,
    /// True after an operation that failed half-way: the next plan looks at the world before it believes the attributes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// What operations began to make in its place, under other identities, and did not bring to an end. What of it is there goes, unless it is wanted
    /// by then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<Record>,
    /// The machine-id of the machine that it is of, where it is of one: on another machine nothing is left of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    /// When the record was last written.
    pub updated_at: Timestamp,
}

impl Record {
    /// The digest over the attributes: what others' triggers remember.
    pub fn digest(&self) -> Digest {
        // Maps keep the order they were written in, so the digest is over a canonical form.
        Digest::of(canonical(&Value::Object(self.attributes.clone())).as_bytes())
    }

    /// Gives addresses their new names wherever it says them; `new_name` has those that get one.
    pub fn rename(&mut self, new_name: &impl Fn(&str) -> Option<String>) {
        for address in std::iter::once(&mut self.address).chain(&mut self.dependencies) {
            if let Some(new) = new_name(address) {
                *address = new;
            }
        }
        let triggers = std::mem::take(&mut self.triggers).into_iter();
        self.triggers = triggers.map(|(address, digest)| (new_name(&address).unwrap_or(address), digest)).collect();
        self.pending.iter_mut().for_each(|record| record.rename(new_name));
    }
}

/// JSON with sorted keys: equal values give equal text.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let sorted: BTreeMap<_, _> = map.iter().collect();
            let members: Vec<_> =
                sorted.into_iter().map(|(k, v)| format!("{}:{}", Value::String(k.clone()), canonical(v))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}
