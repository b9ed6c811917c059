//! The requests to read and to plan.

use std::sync::Arc;
use std::time::Duration;

use moorfast_state::Record;

use super::{Action, Consequence, ObjectChange, Proposal, ProposedAction, ResourceType, loses};
use crate::model::{Address, AttributePath, Attributes, DrainOptions};

/// A request to read an instance.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// The address of the instance.
    pub address: Address,
    /// The resource type.
    pub resource_type: Arc<dyn ResourceType>,
    /// The desired attributes, which may contain unknown values. They define which fields are read. `None` if the instance is not in the manifest.
    pub desired: Option<Attributes>,
    /// The record of the instance. If `desired` is `None`, the record alone defines what is read.
    pub recorded: Option<Arc<Record>>,
}

/// A request to drain a node, or to put it back into service.
#[derive(Clone, Debug)]
pub struct DrainRequest {
    /// The object that represents the node in its cluster.
    pub object: ReadRequest,
    /// The owner of the drain: the lineage of the state. Only the owner puts the node back into service.
    pub owner: String,
    /// The options.
    pub options: DrainOptions,
}

/// The result of reading an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// The observed attributes.
    pub attributes: Attributes,
    /// Data that the provider needs again when it plans and applies. It is not compared.
    pub private: serde_json::Value,
}

/// A request to plan an instance of the manifest.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// The address of the instance.
    pub address: Address,
    /// The resource type.
    pub resource_type: Arc<dyn ResourceType>,
    /// The desired attributes, validated and with defaults. They may contain unknown and retained values.
    pub desired: Attributes,
    /// The record of the instance.
    pub recorded: Option<Arc<Record>>,
    /// The observed object. `None` if the object does not exist.
    pub observed: Option<Observed>,
    /// The paths in the observed attributes that `lifecycle.ignore_changes` names.
    pub ignored: Vec<AttributePath>,
    /// Whether the observed object is foreign: it is in no record of the state, and no `[[import]]` names it.
    pub foreign: bool,
    /// The addresses of `restart_on` that change, or that changed since the last operation on this instance.
    pub triggers: Vec<Address>,
    /// The direct dependencies of the instance, with their planned changes. Empty unless
    /// [`ResourceType::planning_needs_dependencies`].
    pub dependencies: Vec<Dependency>,
}

/// A dependency of a planned instance.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// The address of the dependency.
    pub address: Address,
    /// The planned action. `None` if the dependency is not planned yet.
    pub action: Option<Action>,
    /// The planned changes of its objects. Empty if the dependency is one object.
    pub objects: Vec<ObjectChange>,
    /// The desired attributes, as far as they are known.
    pub desired: Attributes,
}

/// A request to read a data source.
#[derive(Clone, Debug)]
pub struct DataRequest {
    /// The address of the instance.
    pub address: Address,
    /// The data source.
    pub data_source: Arc<dyn ResourceType>,
    /// The arguments. All values are known.
    pub arguments: Attributes,
    /// How long the reading may take.
    pub timeout: Option<Duration>,
}

impl ReadRequest {
    /// Returns the identity of the object: that of the desired attributes, or of the record if the manifest no longer has the instance.
    ///
    /// Returns `None` if the identity depends on an unknown value.
    pub fn identity(&self) -> Option<String> {
        match &self.desired {
            Some(desired) => self.resource_type.identity(desired),
            None => self.recorded.as_ref().map(|record| record.identity.clone()),
        }
    }
}

impl PlanRequest {
    /// Returns [`Consequence::Overwrite`] if `proposal` overwrites content of a foreign object: it replaces the object, or changes an observed value of one of
    /// the attributes `contents`.
    pub fn overwrite(&self, proposal: &Proposal, contents: &[&str]) -> Option<Consequence> {
        let observed = self.observed.as_ref().filter(|_| self.foreign)?;
        let is_lost = |name: &&str| match (observed.attributes.get(name), proposal.planned.get(name)) {
            (Some(now), Some(then)) => loses(now, then),
            _ => false,
        };
        let overwrites = match &proposal.action {
            ProposedAction::NoOp | ProposedAction::Create => false,
            ProposedAction::Replace(_) => true,
            ProposedAction::Update | ProposedAction::Compare => contents.iter().any(is_lost),
        };
        overwrites.then_some(Consequence::Overwrite)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Value;
    use crate::provider::Declaration;

    struct File;

    impl ResourceType for File {
        fn declaration(&self) -> &Declaration {
            unreachable!("nothing asks for it")
        }

        fn identity(&self, _: &Attributes) -> Option<String> {
            None
        }
    }

    fn attributes(json: serde_json::Value) -> Attributes {
        match Value::from(json) {
            Value::Map(map) => map,
            other => panic!("{other:?} is not a map"),
        }
    }

    #[test]
    fn an_update_that_changes_content_overwrites_a_foreign_object() {
        let overwritten = |foreign, action, now: serde_json::Value, then: serde_json::Value| {
            let observed = Observed { attributes: attributes(now), private: json!(null) };
            let request = PlanRequest {
                address: "ssh_file.a".parse().unwrap(),
                resource_type: Arc::new(File),
                desired: Attributes::new(),
                recorded: None,
                observed: Some(observed),
                foreign,
                ignored: Vec::new(),
                triggers: Vec::new(),
                dependencies: Vec::new(),
            };
            request.overwrite(&Proposal::new(action, attributes(then)), &["content", "parts"]).is_some()
        };
        let update = || ProposedAction::Update;
        assert!(overwritten(true, update(), json!({"content": "theirs"}), json!({"content": "mine"})));
        assert!(!overwritten(false, update(), json!({"content": "theirs"}), json!({"content": "mine"})));
        // Another mode and an added member lose no content.
        assert!(!overwritten(
            true,
            update(),
            json!({"content": "x", "mode": "1"}),
            json!({"content": "x", "mode": "2"})
        ));
        assert!(!overwritten(true, update(), json!({"parts": {"a": 1}}), json!({"parts": {"a": 1, "b": 2}})));
        assert!(!overwritten(true, update(), json!({}), json!({"content": "mine"})));
        assert!(overwritten(true, update(), json!({"parts": {"a": 1, "b": 2}}), json!({"parts": {"a": 1}})));
        assert!(overwritten(true, update(), json!({"parts": {"a": {"b": 1}}}), json!({"parts": {"a": {"b": 2}}})));
        assert!(overwritten(true, ProposedAction::Replace(vec![]), json!({"mode": "1"}), json!({"mode": "2"})));
        assert!(!overwritten(true, ProposedAction::NoOp, json!({"content": "x"}), json!({"content": "y"})));
    }
}
