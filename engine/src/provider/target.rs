//! The target of an instance.

use std::fmt;
use std::sync::Arc;

use crate::model::Node;

/// The place of an instance: a node or a cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A node of the inventory.
    Node(Arc<Node>),
    /// The cluster that a provider instance connects to, with the name of that provider instance: `kubernetes`, `kubernetes.prod`.
    Provider(String),
}

impl Target {
    /// Returns the name of the target in records and messages.
    pub fn name(&self) -> &str {
        match self {
            Target::Node(node) => &node.name.0,
            Target::Provider(alias) => alias,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
