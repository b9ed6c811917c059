//! The whole state at one moment.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Digest, Intent, Record, Run, SealKey};

/// The whole state at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The identity of the state.
    pub lineage: Lineage,
    /// The version of the state.
    pub serial: Serial,
    /// The records by address. They are shared, because a plan holds each of them several times.
    pub records: BTreeMap<String, Arc<Record>>,
    /// The operations without a recorded outcome, in the order of their start.
    pub intents: Vec<Intent>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, Output>,
    /// The identity of each node, by the name of the node.
    pub nodes: BTreeMap<String, Value>,
}

impl Snapshot {
    /// Returns whether the state contains no record, intent, output or node.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.intents.is_empty() && self.outputs.is_empty() && self.nodes.is_empty()
    }
}

/// An output as the last apply left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// The value; a keyed digest if it is sensitive.
    pub value: Value,
    /// Whether the value is sensitive and must not be shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
}

/// The identity of a state, assigned at its creation. Two states with the same lineage are versions of each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(String);

impl Lineage {
    /// Generates a lineage: a random UUID.
    pub(crate) fn generate() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Lineage {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a state. It grows with every write that changes records, outputs or nodes, and with no other write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(u64);

impl Serial {
    /// Returns the serial with this number.
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl From<u64> for Serial {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A state with history and key, as it is moved, backed up and restored.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The state.
    pub snapshot: Snapshot,
    /// The history, newest first.
    pub runs: Vec<Run>,
    /// The key of the digests of sensitive values.
    pub key: SealKey,
}

impl Contents {
    /// Returns an empty state with a new lineage and a new key.
    pub fn nothing() -> Self {
        let snapshot = Snapshot {
            lineage: Lineage::generate(),
            serial: Serial::from(0),
            records: BTreeMap::new(),
            intents: Vec::new(),
            outputs: BTreeMap::new(),
            nodes: BTreeMap::new(),
        };
        Self { snapshot, runs: Vec::new(), key: SealKey::generate() }
    }
}

impl SealKey {
    /// Returns the digest that shows whether this is the key of a state.
    pub(crate) fn check(&self, lineage: &Lineage) -> Digest {
        self.digest(lineage.as_str().as_bytes())
    }
}
