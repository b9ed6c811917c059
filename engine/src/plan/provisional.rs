//! Provisional plans: objects in a cluster that the same plan starts. The cluster cannot be read yet, so only the manifest is used.

use super::Change;
use super::objects::all_created;
use super::planner::{Item, Planner};
use super::reading::{Reading, observed_digest};
use crate::configuration::expand::Instance;
use crate::configuration::graph::provider_dependencies;
use crate::configuration::static_values::with_unknown;
use crate::model::{Address, Attributes, seal_attributes};
use crate::provider::{Action, Class, ProviderError};

impl Planner<'_> {
    /// Whether the target of an instance does not answer because the same plan starts it.
    ///
    /// This is assumed if no complete operation is recorded for the instance, and if the plan changes something that its provider depends on.
    pub(super) fn is_provisional(&self, instance: &Instance, failure: &ProviderError) -> bool {
        let changes = |address: &Address| self.actions.get(address).is_some_and(|action| action.accesses_target());
        failure.class == Class::Unreachable
            && self.records.get(&instance.address).is_none_or(|record| record.incomplete)
            && !self.is_to_be_imported(&instance.address)
            && provider_dependencies(self.expanded, &instance.provider).any(|address| changes(&address))
    }

    /// Whether the reading failed for the reason of [`Planner::is_provisional`].
    pub(super) fn is_unreadable_yet(&self, instance: &Instance, reading: Option<&Reading>) -> bool {
        matches!(reading, Some(Err(failure)) if self.is_provisional(instance, failure))
    }

    /// Plans the creation of an instance from the manifest alone, with a note.
    pub(super) fn plan_provisionally(&mut self, instance: &Instance, desired: Attributes) {
        let address = instance.address.clone();
        let planned = with_unknown(instance, self.marked(&address, desired.clone()));
        let after = seal_attributes(&planned, self.key);
        let item = Item { recorded: self.records.get(&address).cloned(), ..Item::default() };
        self.draft.changes.push(Change {
            moved_from: None,
            resource_type: instance.resource_type.name().to_owned(),
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            node: instance.node_name(),
            identity: instance.identity(&desired),
            action: Action::Create,
            reasons: self.reasons(instance, &item, None, &after),
            before: None,
            after: Some(after),
            dependencies: self.dependencies(&address),
            observed: Some(observed_digest(None, self.key)),
            objects: all_created(instance, &desired),
            consequences: Vec::new(),
            notes: vec![format!("provisional: {} does not answer yet; this plan starts it", instance.target)],
            address: address.clone(),
        });
        self.actions.insert(address.clone(), Action::Create);
        self.draft.values.insert(address.clone(), planned);
        self.draft.items.insert(address, item);
    }
}
