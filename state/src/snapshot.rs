//! The whole state as it was at one moment.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{Digest, Intent, Record, Run, SealKey};

/// Everything that the state holds, as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Which state this is.
    pub lineage: Lineage,
    /// Which version of it.
    pub serial: Serial,
    /// The resource instances by address.
    pub records: BTreeMap<String, Record>,
    /// The operations whose outcome is not recorded, in the order in which they began.
    pub intents: Vec<Intent>,
    /// The outputs by name.
    pub outputs: BTreeMap<String, Output>,
    /// What is known of each node's identity, by the node's name.
    pub nodes: BTreeMap<String, Value>,
}

impl Snapshot {
    /// True where there is nothing to lose.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.intents.is_empty() && self.outputs.is_empty() && self.nodes.is_empty()
    }
}

/// An output as the last apply left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output {
    /// Its value, sealed: of what is sensitive only a keyed digest.
    pub value: Value,
    /// True where the value must not be shown.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
}

/// The identity of a state, given at its birth: two states of one lineage are versions of each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lineage(String);

impl Lineage {
    /// A fresh one: a random UUID.
    pub(crate) fn generate() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// Its text.
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

/// The version of a state: it grows with every write that changes records, outputs or nodes, and with nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Serial(u64);

impl Serial {
    /// This number.
    pub(crate) const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
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

/// A state with all that belongs to it: what is moved, kept in a backup and restored.
#[derive(Clone, Debug)]
pub struct Contents {
    /// What it holds.
    pub snapshot: Snapshot,
    /// Its history, newest first.
    pub runs: Vec<Run>,
    /// The key that its sensitive values are sealed with.
    pub key: SealKey,
}

impl Contents {
    /// A state that holds nothing, of a lineage and with a key of its own.
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
    /// What tells whether this is the key of a state.
    pub(crate) fn check(&self, lineage: &Lineage) -> Digest {
        self.digest(lineage.as_str().as_bytes())
    }
}
