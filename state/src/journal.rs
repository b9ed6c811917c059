//! The journal of operations: the intent is durable before an operation starts, the outcome before its dependants start.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Record;

/// An operation that started and has no recorded outcome.
///
/// An intent that exists at the start of a run was interrupted. The run reads the object to find out whether it changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// The id of the operation, see [`Intent::new_id`].
    pub id: String,
    /// The address of the resource instance.
    pub address: String,
    /// The action: `create`, `update` or `delete`.
    pub action: String,
    /// The resource type: `ssh_file`.
    pub resource_type: String,
    /// The provider instance: `ssh`, `kubernetes.prod`.
    pub provider: String,
    /// The target: the name of a node, or the provider instance for an object in a cluster.
    pub target: String,
    /// The identity of the object, if it is known before the operation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// The start of the operation.
    pub started_at: Timestamp,
    /// The id of the run that started it.
    pub run: String,
}

impl Intent {
    /// Generates an id: a random UUID.
    pub fn new_id() -> String {
        Uuid::new_v4().to_string()
    }
}

/// The result of an operation for the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The record of the object, which replaces the record with the same address.
    Put(Arc<Record>),
    /// The object does not exist any more.
    Remove,
    /// The operation changed nothing: it failed or was cancelled before it started.
    Unchanged,
}
