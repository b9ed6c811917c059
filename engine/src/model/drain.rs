//! How the workloads of a node are moved away before the node is changed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The options of a drain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainOptions {
    /// How long the drain of one node may take.
    pub timeout: Duration,
    /// How long each workload may take to stop. `None`: as the workload declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<Duration>,
    /// Whether workloads are moved that nothing starts again elsewhere.
    #[serde(default)]
    pub force: bool,
    /// Whether workloads are moved that lose data which is only on the node.
    #[serde(default)]
    pub delete_emptydir_data: bool,
}
