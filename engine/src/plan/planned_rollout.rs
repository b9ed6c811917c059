//! The rollouts of a plan as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Address, NodeName};

/// The nodes of one rollout. An apply changes only a few of them at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedRollout {
    /// The name of the rollout.
    pub name: String,
    /// How many nodes may be changed at the same time.
    pub max_unavailable: usize,
    /// The health gates of a node, as the manifest names them.
    pub gates: Vec<String>,
    /// How long each gate may take.
    pub timeout: Duration,
    /// The pause after a node before the next one starts.
    pub pause: Duration,
    /// The nodes with changes, in the order of the rollout.
    pub nodes: Vec<RolledNode>,
    /// The nodes without changes. Each of them that is not healthy reduces `max_unavailable`.
    pub settled: Vec<NodeName>,
}

/// A node of a rollout with changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolledNode {
    /// The name of the node.
    pub name: NodeName,
    /// The changes that must be complete before the next node may start.
    pub changes: Vec<Address>,
}
