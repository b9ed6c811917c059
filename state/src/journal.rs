//! Operations that are under way: the intent is durable before the act, the outcome before anything that depends on it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Record;

/// An operation that began and whose outcome is not recorded yet.
///
/// One that is found at the start of a run was interrupted: whether the world changed is learned by reading what it points at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// Its own id, see [`Intent::new_id`].
    pub id: String,
    /// The address of the resource instance.
    pub address: String,
    /// What is done: `create`, `update` or `delete`.
    pub action: String,
    /// The resource type: `ssh_file`.
    pub resource_type: String,
    /// The provider instance that does it: `ssh`, `kubernetes.prod`.
    pub provider: String,
    /// Where it is done: the name of a node, or the provider instance again for what lives in a cluster.
    pub target: String,
    /// The natural key of the resource there, where it is known before the act.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// When the operation began.
    pub started_at: Timestamp,
    /// The id of the run that began it.
    pub run: String,
}

impl Intent {
    /// A fresh id: a random UUID.
    pub fn new_id() -> String {
        Uuid::new_v4().to_string()
    }
}

/// How an operation ended, as far as the state is concerned.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every outcome is a record")]
pub enum Outcome {
    /// The resource is now as this record says, which takes the place of what was recorded under its address.
    Put(Record),
    /// The resource is gone.
    Remove,
    /// It failed or was cancelled before anything happened.
    Unchanged,
}
