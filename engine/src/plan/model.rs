//! What a plan is: data that can be shown, stored, reviewed and applied. Nothing in it is sensitive.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::Arc;

use jiff::Timestamp;
use moorfast_state::{Digest, Lineage, Serial};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{PlannedRollout, PolicyResult};
use crate::configuration::expand::Expanded;
use crate::model::{Address, CheckResult, Node, NodeChange, NodeName, Replacement};
use crate::provider::{Action, Consequence, ObjectChange};

/// The version of the plan file's format that this binary writes and reads.
pub const PLAN_FORMAT: u32 = 1;

/// What would be done, against what was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_FORMAT`] of the writer.
    pub format_version: u32,
    /// The version of moorfast that made it.
    pub moorfast_version: String,
    /// The name of the site and environment that it is for, as reports show it. Empty if the writer gave none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// What was asked for.
    pub options: PlanOptions,
    /// Which state it was made against.
    pub lineage: Lineage,
    /// The state's serial then; a state that moved on makes the plan stale.
    pub serial: Serial,
    /// The digest of the manifest's texts.
    pub manifest: Digest,
    /// The digest of every file that expressions read, by path.
    pub inputs: BTreeMap<String, Digest>,
    /// The values of the variables, sealed.
    pub variables: Map<String, Json>,
    /// One for each instance of the manifest and of the state, those without a change included, in an order that respects dependencies.
    pub changes: Vec<Change>,
    /// What the world did since the last apply, whether or not the plan mends it.
    pub drift: Vec<Drift>,
    /// The outputs, those without a change included.
    pub outputs: BTreeMap<String, OutputChange>,
    /// What the checks said.
    pub checks: Vec<CheckResult>,
    /// What the policies said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyResult>,
    /// The nodes that are changed one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<PlannedRollout>,
    /// Nodes whose machines are not as they were seen last, what is worst first.
    pub nodes: Vec<NodeChange>,
    /// What the person should know, one line each.
    pub warnings: Vec<String>,
}

/// What a plan is asked to look at and to do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// What the plan is for.
    pub mode: PlanMode,
    /// Only these and what they depend on; empty: everything.
    pub targets: Vec<Address>,
    /// Not these and what depends on them.
    pub exclude: Vec<Address>,
    /// These are replaced even where nothing changed.
    pub replace: Vec<Address>,
    /// On these nodes another machine may take the place of the recorded one.
    #[serde(default)]
    pub replace_nodes: Vec<Replacement>,
}

/// What a plan is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanMode {
    /// Bring the world to the manifest.
    #[default]
    Normal,
    /// Remove everything that is recorded.
    Destroy,
    /// Only bring the state to the world.
    RefreshOnly,
}

/// What would be done with one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Which instance.
    pub address: Address,
    /// Where its record was before a `[[moved]]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<Address>,
    /// Its resource type.
    pub resource_type: String,
    /// Its provider instance.
    pub provider: String,
    /// Its node, or the provider instance again.
    pub target: String,
    /// The node that it is bound to: that of `on`, else the one that it lives on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// Its natural key, where it is known.
    pub identity: Option<String>,
    /// What would be done.
    pub action: Action,
    /// Why the plan has this action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The attributes as observed, sealed; none where there is no such object.
    pub before: Option<Map<String, Json>>,
    /// The attributes as they will be, sealed; none where there will be no such object.
    pub after: Option<Map<String, Json>>,
    /// The instances that come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Address>,
    /// The digest over what was observed: what the promise is checked against.
    pub observed: Option<Digest>,
    /// What is done with each of its objects; empty for an instance of one object, and for one without a change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectChange>,
    /// What it does beyond its attributes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consequences: Vec<Consequence>,
    /// What its provider adds, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// Why an instance has a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// It is new in the manifest.
    New,
    /// The manifest (or a value in it) changed.
    Manifest,
    /// The world changed since the last apply.
    Drift,
    /// The world lost it.
    Gone,
    /// It is no longer in the manifest.
    Removed,
    /// The resource is in the manifest, and makes no instance for this key any more.
    Deselected {
        /// The argument that no longer gives the key.
        by: Selector,
    },
    /// These attributes can't be changed in place.
    Immutable {
        /// Their names.
        attributes: Vec<String>,
    },
    /// It restarts or is replaced because of a change of this one.
    Trigger {
        /// Which one.
        address: Address,
        /// True where the change was done by an earlier run, which did not come to this instance.
        owed: bool,
    },
    /// `--replace`
    Requested,
    /// `--destroy`
    Destroy,
    /// An earlier operation on it did not finish.
    Incomplete,
    /// An earlier replacement that did not finish left an object under this identity, which nobody wants: it is removed.
    Leftover {
        /// The identity.
        identity: String,
    },
    /// It was of a machine that is not its node any more.
    OtherMachine,
}

/// The argument of a resource that makes its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// `on` does not select the node.
    On,
    /// `for_each` does not have the element.
    ForEach,
    /// Neither: the resource has keys and the instance has none, or the other way round.
    Keys,
}

/// What the world did to one instance since the last apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Which instance.
    pub address: Address,
    /// Its target.
    pub target: String,
    /// Its attributes as recorded, sealed.
    pub before: Map<String, Json>,
    /// Its attributes as observed, sealed; none where it is gone.
    pub after: Option<Map<String, Json>>,
}

/// What becomes of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputChange {
    /// The recorded value, sealed.
    pub before: Option<Json>,
    /// The new value, sealed; none where the output goes.
    pub after: Option<Json>,
}

/// How many changes of each sort a plan has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Made, replacements included.
    pub add: usize,
    /// Changed in place.
    pub change: usize,
    /// Deleted, replacements included.
    pub destroy: usize,
    /// Taken over as they are.
    pub adopt: usize,
    /// Records that go.
    pub forget: usize,
}

impl Summary {
    /// Counts one object.
    fn count(&mut self, action: Action) {
        match action {
            Action::Create => self.add += 1,
            Action::Update => self.change += 1,
            Action::Replace | Action::ReplaceCreateFirst => {
                self.add += 1;
                self.destroy += 1;
            }
            Action::Delete => self.destroy += 1,
            Action::Adopt => self.adopt += 1,
            Action::Forget => self.forget += 1,
            Action::NoOp | Action::Read => {}
        }
    }
}

impl Sum for Summary {
    fn sum<I: Iterator<Item = Self>>(summaries: I) -> Self {
        summaries.fold(Self::default(), |sum, one| Self {
            add: sum.add + one.add,
            change: sum.change + one.change,
            destroy: sum.destroy + one.destroy,
            adopt: sum.adopt + one.adopt,
            forget: sum.forget + one.forget,
        })
    }
}

impl PlanOptions {
    /// These options, with what is approved narrowed down to the machines that were seen.
    pub(crate) fn seen(&self, nodes: &[NodeChange]) -> Self {
        let mut options = self.clone();
        for replacement in options.replace_nodes.iter_mut().filter(|r| r.host_key.is_none()) {
            let seen = nodes.iter().find(|change| change.node == replacement.node);
            replacement.host_key = seen.and_then(|change| change.after.host_keys.first().cloned());
        }
        options
    }
}

impl Change {
    /// Returns the node that the instance is bound to.
    pub(crate) fn bound_node(&self, expanded: &Expanded) -> Option<Arc<Node>> {
        expanded.bound_node(&self.address, &self.provider, &self.target)
    }

    /// The identities under which it also removes what an earlier replacement left.
    pub fn leftovers(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| match reason {
            Reason::Leftover { identity } => Some(identity.as_str()),
            _ => None,
        })
    }

    /// Is something that runs disturbed: restarted or reloaded, because of what it watches or of its own definition?
    pub fn restarts(&self) -> bool {
        let triggered = || self.reasons.iter().any(|reason| matches!(reason, Reason::Trigger { .. }));
        let restarted = || self.consequences.iter().any(|c| matches!(c, Consequence::Restart { .. }));
        self.action == Action::Update && (triggered() || restarted())
    }

    /// Whether an object is removed, if only to be created again.
    pub fn removes(&self) -> bool {
        self.action.removes() || self.objects.iter().any(|object| object.action.removes())
    }

    /// The names of what is done with it, or with its objects where it stands for several, in Terraform's words.
    pub fn action_names(&self) -> Vec<&'static str> {
        if self.objects.is_empty() {
            return self.action.names().to_vec();
        }
        let is_among = |name: &&str| self.objects.iter().any(|object| object.action.names().contains(name));
        let names: Vec<_> = ["delete", "create", "update", "forget"].into_iter().filter(is_among).collect();
        if names.is_empty() { vec!["no-op"] } else { names }
    }

    /// The attributes that cannot be changed in place, as paths from the instance.
    pub fn replace_paths(&self) -> impl Iterator<Item = &str> {
        let own = self.reasons.iter().flat_map(|reason| match reason {
            Reason::Immutable { attributes } => attributes.as_slice(),
            _ => &[],
        });
        own.chain(self.objects.iter().flat_map(|object| &object.replace_paths)).map(String::as_str)
    }

    /// The counts of what is done with it, or with its objects where it stands for several.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        match self.objects.as_slice() {
            [] => summary.count(self.action),
            objects => objects.iter().for_each(|object| summary.count(object.action)),
        }
        summary
    }

    /// Whether something that exists is lost or disturbed.
    pub fn is_dangerous(&self) -> bool {
        self.removes() || self.restarts() || self.consequences.iter().any(Consequence::is_loss)
    }
}

impl Plan {
    /// The counts for the summary line.
    pub fn summary(&self) -> Summary {
        self.changes.iter().map(Change::summary).sum()
    }

    /// How many nodes are not the machines they were.
    pub fn mismatches(&self) -> usize {
        self.nodes.iter().filter(|node| node.kind.is_mismatch()).count()
    }

    /// Would an apply change anything: the world, the state or an output?
    pub fn has_changes(&self) -> bool {
        self.changes.iter().any(|c| c.action.is_change() || c.moved_from.is_some())
            || self.outputs.values().any(|o| o.before != o.after)
            || (self.options.mode == PlanMode::RefreshOnly && !self.drift.is_empty())
    }
}
