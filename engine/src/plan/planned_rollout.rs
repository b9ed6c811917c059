//! The rollouts of a plan as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Address, DrainOptions, NodeName};

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
    /// The names of the rollouts of the plan that must be complete before the first node of this one starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// How nodes are drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainOptions>,
    /// The nodes with changes, in the order of the rollout. A node without changes is one that an earlier run drained and did not put back into service.
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
    /// Whether the node is drained before its changes.
    #[serde(default, skip_serializing_if = "NodeDrain::is_not_needed")]
    pub drain: NodeDrain,
    /// Whether an earlier run drained the node and did not put it back into service.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_drained: bool,
}

/// Whether a node is drained before its changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeDrain {
    /// No change of the node needs it.
    #[default]
    NotNeeded,
    /// The node is drained, and put back into service after its health gates.
    Planned,
    /// The node is not drained: it is not in the cluster, or the cluster does not answer because this plan starts it.
    Absent,
}

impl NodeDrain {
    fn is_not_needed(&self) -> bool {
        *self == Self::NotNeeded
    }
}

impl RolledNode {
    /// Whether the node is put back into service after its health gates.
    pub fn returns(&self) -> bool {
        self.drain == NodeDrain::Planned || self.was_drained
    }
}

impl PlannedRollout {
    /// Returns a node with changes.
    pub fn node(&self, name: &NodeName) -> Option<&RolledNode> {
        self.nodes.iter().find(|node| node.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_json_of_a_node_has_a_drain_only_if_it_is_needed() {
        let node = |drain: NodeDrain| RolledNode {
            name: NodeName("n1".to_owned()),
            changes: Vec::new(),
            drain,
            was_drained: false,
        };
        let cases = [
            (NodeDrain::NotNeeded, json!({ "name": "n1", "changes": [] })),
            (NodeDrain::Planned, json!({ "name": "n1", "changes": [], "drain": "planned" })),
            (NodeDrain::Absent, json!({ "name": "n1", "changes": [], "drain": "absent" })),
        ];
        for (drain, json) in cases {
            assert_eq!(serde_json::to_value(node(drain)).unwrap(), json);
            assert_eq!(serde_json::from_value::<RolledNode>(json).unwrap(), node(drain));
        }
    }
}
