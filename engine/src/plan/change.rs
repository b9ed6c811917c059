//! The constructor of changes.

use moorfast_state::Record;

use super::inputs::Inputs;
use super::model::Change;
use super::prior::Prior;
use crate::configuration::expand::Instance;
use crate::model::{Address, NodeName, Recorded};
use crate::provider::Action;

/// The instance that a change is about, as the manifest or its record names it.
struct Subject<'a> {
    address: &'a Address,
    resource_type: &'a str,
    provider: &'a str,
    target: &'a str,
    node: Option<NodeName>,
    dependencies: Vec<Address>,
}

impl Change {
    /// Returns a change of an instance of the manifest, without reasons, attributes and consequences.
    pub(super) fn of_instance(inputs: &Inputs, prior: &Prior, instance: &Instance, action: Action) -> Self {
        let subject = Subject {
            address: &instance.address,
            resource_type: instance.resource_type.name(),
            provider: &instance.provider,
            target: instance.target.name(),
            node: instance.node_name(),
            dependencies: inputs.dependencies(&instance.address).cloned().collect(),
        };
        Self::of(subject, prior, action)
    }

    /// Returns a change of a recorded instance, without reasons, attributes and consequences.
    pub(super) fn of_record(
        inputs: &Inputs,
        prior: &Prior,
        address: &Address,
        record: &Recorded,
        action: Action,
    ) -> Self {
        let Record { resource_type, provider, target, .. } = &**record;
        let bound = inputs.expanded.bound_node(address, provider, target).map(|node| node.name.clone());
        let node = bound.or_else(|| inputs.leaving.node_of(inputs.expanded, address, record).cloned());
        let dependencies = record.dependencies().to_vec();
        let subject = Subject { address, resource_type, provider, target, node, dependencies };
        Self { identity: Some(record.identity.clone()), ..Self::of(subject, prior, action) }
    }

    fn of(subject: Subject, prior: &Prior, action: Action) -> Self {
        let Subject { address, resource_type, provider, target, node, dependencies } = subject;
        Self {
            address: address.clone(),
            moved_from: prior.moved.get(address).cloned(),
            resource_type: resource_type.to_owned(),
            provider: provider.to_owned(),
            target: target.to_owned(),
            node,
            identity: None,
            action,
            reasons: Vec::new(),
            before: None,
            after: None,
            dependencies,
            observed: None,
            objects: Vec::new(),
            consequences: Vec::new(),
            notes: Vec::new(),
        }
    }
}
