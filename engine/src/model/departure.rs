//! How a node leaves.

use serde::{Deserialize, Serialize};

use super::NodeName;

/// How a node leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// The objects on its machine are destroyed over the connection that the state remembers.
    Destroyed,
    /// Its machine and its objects stay as they are, and are removed from the state: `[[removed]]` with `destroy = false`.
    Released,
    /// Its machine is another node of the inventory now. Objects on it stay, and are removed from the state.
    Renamed,
    /// Its machine does not exist any more. Objects on it are removed from the state, and its objects in clusters are destroyed: `--dead-node`.
    Dead,
}

/// A node that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeavingNode {
    /// The node.
    pub node: NodeName,
    /// How it leaves.
    pub departure: Departure,
}
