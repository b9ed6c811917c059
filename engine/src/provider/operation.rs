//! The operations of an apply.

use std::sync::Arc;
use std::time::Duration;

use moorfast_state::Record;

use super::{Consequence, ObjectChange, Observed, ResourceType};
use crate::model::{Address, Attributes, DrainOptions};

/// An operation on one instance.
#[derive(Clone, Debug)]
pub struct Operation {
    /// The address of the instance.
    pub address: Address,
    /// The resource type.
    pub resource_type: Arc<dyn ResourceType>,
    /// The action.
    pub action: OperationAction,
    /// The record of the instance.
    pub recorded: Option<Arc<Record>>,
    /// The object as it was observed when it was planned.
    pub observed: Option<Observed>,
    /// The addresses of `restart_on` that changed.
    pub triggers: Vec<Address>,
    /// The planned change of each object of the instance. Empty if the instance is one object, or if its objects were unknown when it was planned.
    ///
    /// A provider removes no object that the plan does not remove.
    pub objects: Vec<ObjectChange>,
    /// The consequences that the plan showed. A provider causes no consequence that is not in this list.
    pub consequences: Vec<Consequence>,
    /// Whether this is a deletion because the machine of the object was replaced or does not exist any more.
    pub machine_gone: bool,
    /// How the workloads of the node are moved away before its object is deleted. `None` if no rollout drains the node: then all of them are.
    pub drain: Option<Box<DrainOptions>>,
    /// How long the operation may take in all, from `timeouts`.
    pub timeout: Option<Duration>,
}

impl Operation {
    /// Returns the identity of the object that the operation creates, changes or deletes.
    ///
    /// Returns `None` if nothing names the object.
    pub fn identity(&self) -> Option<String> {
        let of_object = |attributes: &Attributes| self.resource_type.identity(attributes);
        match &self.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => of_object(desired),
            OperationAction::Delete => {
                let observed = self.observed.as_ref().and_then(|observed| of_object(&observed.attributes));
                observed.or_else(|| self.recorded.as_ref().map(|record| record.identity.clone()))
            }
        }
    }
}

/// The action of an operation. The engine splits a replacement into a deletion and a creation.
#[derive(Clone, Debug)]
pub enum OperationAction {
    /// Create the object with these attributes. All values are known or retained.
    Create(Attributes),
    /// Give the object these attributes. All values are known or retained.
    Update(Attributes),
    /// Delete the object. If the object does not exist, the operation succeeds.
    Delete,
}

/// The result of a successful operation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The attributes as [`Connection::read`](super::Connection::read) would observe them now, and the computed attributes. Empty after a deletion.
    pub attributes: Attributes,
    /// Private data to record. The provider gets it back in `recorded.private`. It must not contain sensitive values.
    pub private: serde_json::Value,
    /// Messages for the user, one line each.
    pub notes: Vec<String>,
}
