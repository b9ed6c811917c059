//! The proposal of a provider for one instance.

use super::{Consequence, ObjectChange};
use crate::model::{Attributes, Value};

/// A provider's proposal for one instance.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The proposed action.
    pub action: ProposedAction,
    /// The planned attributes, in which values that become known only after the operation are unknown.
    ///
    /// The plan shows the difference between the observed attributes and these. An observed attribute that is missing here is not compared.
    pub planned: Attributes,
    /// The proposed change of each object of the instance, including unchanged objects. Empty if each instance of the type is one object.
    pub objects: Vec<ObjectChange>,
    /// The consequences that the attributes do not show.
    pub consequences: Vec<Consequence>,
    /// Explanations that the attributes do not show, one line each.
    pub notes: Vec<String>,
}

impl Proposal {
    /// Returns a proposal without objects, consequences and notes.
    pub fn new(action: ProposedAction, planned: Attributes) -> Self {
        Self { action, planned, objects: Vec::new(), consequences: Vec::new(), notes: Vec::new() }
    }
}

/// The proposed action for an instance of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposedAction {
    /// Do nothing.
    NoOp,
    /// Create the object, which does not exist.
    Create,
    /// Change the object in place.
    Update,
    /// Do nothing if the sealed attributes are equal, otherwise change the object in place. For secrets that only the state knows, as digests.
    Compare,
    /// Destroy the object and create it again, because these attributes cannot be changed in place.
    Replace(Vec<String>),
}

/// Whether a part of `now` is missing or different in `then`. Added members lose nothing.
pub fn loses(now: &Value, then: &Value) -> bool {
    match (now.reveal_deep(), then.reveal_deep()) {
        (Value::Null, _) => false,
        (Value::Map(now), Value::Map(then)) => {
            now.iter().any(|(name, now)| then.get(name).is_none_or(|then| loses(now, then)))
        }
        (now, then) => now != then,
    }
}
