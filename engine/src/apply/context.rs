//! What an apply knows from the plan, and what it has learned since.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use moorfast_state::{Intent, SealKey};

use crate::configuration::expand::{Expanded, Selection};
use crate::configuration::leaving::LeavingNodes;
use crate::configuration::owners::Owners;
use crate::configuration::scope::Values;
use crate::configuration::static_values::StaticValues;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Departure, NodeName, Recorded};
use crate::plan::{Change, Item, Machines, Plan};
use crate::provider::{Action, ProviderError, ResourceType, Target};
use crate::session::Session;

/// The data of an apply.
pub(crate) struct ApplyContext {
    pub plan: Plan,
    pub expanded: Arc<Expanded>,
    pub session: Session,
    /// The records before the apply, also those of instances that are not selected.
    pub records: BTreeMap<Address, Recorded>,
    pub items: HashMap<Address, Box<Item>>,
    pub values: Values,
    /// What was known when the world was read.
    pub static_values: Arc<StaticValues>,
    pub key: SealKey,
    /// The changes that are stale because their object changed after the review, with the differences.
    pub stale: HashMap<Address, Vec<String>>,
    /// The instances that could not be read, with the errors.
    pub unread: HashMap<Address, ProviderError>,
    /// The changes that are not made because nobody approved the machine of their node.
    pub unapproved: HashMap<Address, NodeName>,
    /// The nodes that leave.
    pub leaving: LeavingNodes,
    /// The machines that answer as the nodes.
    pub machines: Machines,
    /// The owner of each object.
    pub owners: Owners,
    /// The instances that `--target` and `--exclude` select. `None` if all are selected.
    pub selected: Option<HashSet<Address>>,
    /// The recorded machines of the nodes.
    pub known_machines: BTreeMap<String, serde_json::Value>,
    /// The intents that an earlier run left open, with their addresses.
    pub open: Vec<(Address, Intent)>,
}

/// The reason why a change is not made.
pub(super) enum Refusal<'a> {
    /// Nobody approved the machine that answers as this node.
    Unapproved(&'a NodeName),
    /// The instance could not be read.
    Unread(&'a ProviderError),
    /// The object changed after the review.
    Stale(&'a [String]),
    /// One of these, but there is nothing to do, and the record stays as it is.
    Untouched,
}

impl ApplyContext {
    pub fn change(&self, i: usize) -> &Change {
        &self.plan.changes[i]
    }

    pub fn item(&self, change: &Change) -> Option<&Item> {
        self.items.get(&change.address).map(AsRef::as_ref)
    }

    /// Returns what a rollout of the plan selects. `None` if the manifest does not have it.
    pub fn selection(&self, rollout: usize) -> Option<&Selection> {
        let name = &self.plan.rollouts[rollout].name;
        self.expanded.rollouts.iter().find(|selection| selection.name == *name)
    }

    /// Returns the target of a change.
    pub fn target(&self, change: &Change) -> Option<Target> {
        self.leaving.target(&self.expanded, &change.address.resource, &change.provider, &change.target)
    }

    /// Whether the machine of a change does not exist any more.
    pub fn is_of_dead_node(&self, change: &Change) -> bool {
        change.node.as_ref().and_then(|node| self.leaving.departure(node)) == Some(Departure::Dead)
    }

    /// Returns the resource type or the data source of a change. `None` if no provider has it any more.
    pub fn resource_type(&self, change: &Change) -> Option<Arc<dyn ResourceType>> {
        self.expanded.catalog.find(&change.address.resource).map(|entry| entry.resource_type.clone())
    }

    /// Returns the reason why a change must not be made.
    pub(super) fn refusal(&self, change: &Change) -> Option<Refusal<'_>> {
        let acts = change.action.is_change() || change.action == Action::Read;
        let address = &change.address;
        let refusal = match (self.unapproved.get(address), self.unread.get(address)) {
            (Some(node), _) => Refusal::Unapproved(node),
            (None, Some(error)) => Refusal::Unread(error),
            (None, None) => return self.stale.get(address).map(|lines| Refusal::Stale(lines)),
        };
        Some(if acts { refusal } else { Refusal::Untouched })
    }

    /// Returns how long an operation may take, from `timeouts`.
    pub fn timeout(&self, address: &Address, operation: &str) -> Option<Duration> {
        self.expanded.instance(address)?.resource.timeouts.get(operation).copied()
    }
}
