//! The data of a plan, which can be shown, stored, reviewed and applied. It contains no sensitive values.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::sync::Arc;

use jiff::Timestamp;
use moorfast_state::{Digest, EnvironmentName, Lineage, Serial};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::planned_rollout::PlannedRollout;
use super::policy_result::PolicyResult;
use crate::configuration::expand::Expanded;
use crate::model::{Address, CheckResult, Departure, LeavingNode, Node, NodeChange, NodeName, Pattern, Replacement};
use crate::provider::{Action, Consequence, ObjectChange};

/// The version of the plan file format that this version of moorfast writes and reads.
pub const PLAN_FORMAT: u32 = 1;

/// The changes that an apply would make, and the observations that they are based on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The format version of the plan.
    pub format_version: u32,
    /// The version of moorfast that made the plan.
    pub moorfast_version: String,
    /// The name of the site in reports. Empty if it is not set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub site: String,
    /// The environment of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// The time when the plan was made.
    pub created_at: Timestamp,
    /// The options of the plan.
    pub options: PlanOptions,
    /// The lineage of the state.
    pub lineage: Lineage,
    /// The serial of the state. If the state has another serial now, the plan is stale.
    pub serial: Serial,
    /// The digest of the manifest.
    pub manifest: Digest,
    /// The digest of each file that expressions read, by path, and of the result of each data source that read this machine, by address.
    pub inputs: BTreeMap<String, Digest>,
    /// The values of the variables, sealed.
    pub variables: Map<String, Json>,
    /// The change of each instance of the manifest and of the state, including unchanged instances, ordered by dependencies.
    pub changes: Vec<Change>,
    /// The changes made outside moorfast since the last apply, whether or not the plan reverts them.
    pub drift: Vec<Drift>,
    /// The outputs, including unchanged outputs.
    pub outputs: BTreeMap<String, OutputChange>,
    /// The results of the checks.
    pub checks: Vec<CheckResult>,
    /// The results of the policies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub policies: Vec<PolicyResult>,
    /// The rollouts: nodes that are changed one after the other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<PlannedRollout>,
    /// The nodes whose machines differ from the recorded ones, the most severe first.
    pub nodes: Vec<NodeChange>,
    /// The nodes that leave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<LeavingNode>,
    /// Warnings for the user, one line each.
    pub warnings: Vec<String>,
    /// Whether an apply also changes the storage of a provider itself, as a warning announces.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub maintains: bool,
}

/// The options of a plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// The mode of the plan.
    pub mode: PlanMode,
    /// Whether a refresh records the objects of the targets that the state does not have, instead of those that it has. Such a plan is not saved.
    #[serde(skip)]
    pub imports: bool,
    /// The selected addresses. Their dependencies are selected too. Empty selects everything.
    pub targets: Vec<Pattern>,
    /// The excluded addresses. Their dependants are excluded too.
    pub exclude: Vec<Pattern>,
    /// The addresses that are replaced even if nothing changed.
    pub replace: Vec<Pattern>,
    /// The nodes whose recorded machine another machine may replace.
    #[serde(default)]
    pub replace_nodes: Vec<Replacement>,
    /// The nodes whose machine does not exist any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dead_nodes: Vec<NodeName>,
}

/// The mode of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanMode {
    /// Apply the manifest.
    #[default]
    Normal,
    /// Destroy all recorded objects.
    Destroy,
    /// Update the state to the observed objects, without changing any object.
    RefreshOnly,
}

/// The planned change of one instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The address of the instance.
    pub address: Address,
    /// The address of its record before a `[[moved]]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_from: Option<Address>,
    /// The resource type.
    pub resource_type: String,
    /// The provider instance.
    pub provider: String,
    /// The name of the target: a node or a provider instance.
    pub target: String,
    /// The node that the instance belongs to: the one that `on` selects, or else the node of its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// The identity of the object, if it is known.
    pub identity: Option<String>,
    /// The planned action.
    pub action: Action,
    /// The reasons for the action.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The observed attributes, sealed. `None` if the object does not exist.
    pub before: Option<Map<String, Json>>,
    /// The planned attributes, sealed. `None` if the object will not exist.
    pub after: Option<Map<String, Json>>,
    /// The instances that this one depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<Address>,
    /// The digest of the observed attributes. `apply FILE` compares it before it changes the object.
    pub observed: Option<Digest>,
    /// The planned change of each object of the instance. Empty if the instance is one object or is not changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<ObjectChange>,
    /// The consequences that the attributes do not show.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub consequences: Vec<Consequence>,
    /// Notes of the provider, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// The reason for a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Reason {
    /// The instance is new in the manifest.
    New,
    /// The manifest changed, or a value that it refers to.
    Manifest,
    /// The object was changed outside moorfast since the last apply.
    Drift,
    /// The object does not exist any more.
    Gone,
    /// The resource is not in the manifest any more.
    Removed,
    /// The resource is in the manifest, but it has no instance with this key any more.
    Deselected {
        /// The argument that does not give the key any more.
        by: Selector,
    },
    /// These attributes cannot be changed in place.
    Immutable {
        /// The names of the attributes.
        attributes: Vec<String>,
    },
    /// The instance restarts or is replaced, because an instance that it watches changes.
    Trigger {
        /// The address of the watched instance.
        address: Address,
        /// Whether the restart is pending: an earlier run made the change, but did not restart this instance.
        #[serde(rename = "owed")]
        pending: bool,
    },
    /// The user requested a replacement with `--replace`.
    Requested,
    /// Everything is destroyed.
    Destroy,
    /// An earlier operation on the instance did not complete.
    Incomplete,
    /// An earlier replacement did not complete, and left an object with this identity that is not needed any more. The object is removed.
    #[serde(rename = "leftover")]
    Superseded {
        /// The identity of the superseded object.
        identity: String,
    },
    /// The object belongs to a machine that another machine replaced.
    OtherMachine,
    /// The node of the instance leaves.
    NodeLeaves {
        /// How it leaves.
        how: Departure,
    },
}

/// The argument of a resource that selects its instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    /// `on` does not select the node any more.
    On,
    /// `for_each` does not have the element any more.
    ForEach,
    /// Neither of them: instances have keys now and had none before, or the other way round.
    Keys,
}

/// A change of one instance that was made outside moorfast since the last apply.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// The address of the instance.
    pub address: Address,
    /// The name of the target.
    pub target: String,
    /// The recorded attributes, sealed.
    pub before: Map<String, Json>,
    /// The observed attributes, sealed. `None` if the object does not exist any more.
    pub after: Option<Map<String, Json>>,
}

/// The planned change of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputChange {
    /// The recorded value, sealed.
    pub before: Option<Json>,
    /// The new value, sealed. `None` if the output is removed.
    pub after: Option<Json>,
}

/// The number of changes of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Created objects, including replacements.
    pub add: usize,
    /// Objects that are changed in place.
    pub change: usize,
    /// Destroyed objects, including replacements.
    pub destroy: usize,
    /// Adopted objects.
    pub adopt: usize,
    /// Records that are removed from the state.
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
    /// Whether `--target` or `--exclude` select a part of the manifest.
    pub fn is_partial(&self) -> bool {
        !self.targets.is_empty() || !self.exclude.is_empty()
    }

    /// Returns these options, in which each approval of a replaced node names the host key of the machine that was observed.
    pub(crate) fn with_observed_machines(&self, nodes: &[NodeChange]) -> Self {
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

    /// Returns the identities of the superseded objects that the change removes too.
    pub fn superseded(&self) -> impl Iterator<Item = &str> {
        self.reasons.iter().filter_map(|reason| match reason {
            Reason::Superseded { identity } => Some(identity.as_str()),
            _ => None,
        })
    }

    /// Whether the change is made because its node leaves.
    pub(crate) fn is_of_leaving_node(&self) -> bool {
        self.reasons.iter().any(|reason| matches!(reason, Reason::NodeLeaves { .. }))
    }

    /// Whether something that runs is restarted or reloaded, because of a watched instance or of its own definition.
    pub fn restarts(&self) -> bool {
        let triggered = || self.reasons.iter().any(|reason| matches!(reason, Reason::Trigger { .. }));
        let restarted = || self.consequences.iter().any(|c| matches!(c, Consequence::Restart { .. }));
        self.action == Action::Update && (triggered() || restarted())
    }

    /// Whether an object is destroyed, including objects that are created again.
    pub fn removes(&self) -> bool {
        self.action.removes() || self.objects.iter().any(|object| object.action.removes())
    }

    /// Returns the names of the actions in the words of Terraform: those of its objects, if it has several.
    pub fn action_names(&self) -> Vec<&'static str> {
        if self.objects.is_empty() {
            return self.action.names().to_vec();
        }
        let is_among = |name: &&str| self.objects.iter().any(|object| object.action.names().contains(name));
        let names: Vec<_> = ["delete", "create", "update", "forget"].into_iter().filter(is_among).collect();
        if names.is_empty() { vec!["no-op"] } else { names }
    }

    /// Returns the attributes that cannot be changed in place, as paths from the instance.
    pub fn replace_paths(&self) -> impl Iterator<Item = &str> {
        let own = self.reasons.iter().flat_map(|reason| match reason {
            Reason::Immutable { attributes } => attributes.as_slice(),
            _ => &[],
        });
        own.chain(self.objects.iter().flat_map(|object| &object.replace_paths)).map(String::as_str)
    }

    /// Returns the number of changes: those of its objects, if it has several.
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
    /// Returns the counts of the summary line.
    pub fn summary(&self) -> Summary {
        self.changes.iter().map(Change::summary).sum()
    }

    /// Returns the number of nodes whose machines differ from the recorded ones.
    pub fn mismatches(&self) -> usize {
        self.nodes.iter().filter(|node| node.kind.is_mismatch()).count()
    }

    /// Returns the nodes without changes that an earlier run drained. They are only put back into service.
    pub fn returning(&self) -> impl Iterator<Item = &NodeName> {
        let nodes = self.rollouts.iter().flat_map(|rollout| &rollout.nodes);
        nodes.filter(|node| node.changes.is_empty()).map(|node| &node.name)
    }

    /// Whether an apply would change anything: an object, the state, an output, or the storage of a provider.
    pub fn has_changes(&self) -> bool {
        self.maintains
            || self.changes.iter().any(|c| c.action.is_change() || c.moved_from.is_some())
            || self.returning().next().is_some()
            || self.outputs.values().any(|o| o.before != o.after)
            || (self.options.mode == PlanMode::RefreshOnly && !self.drift.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Machine, NodeChangeKind};
    use crate::plan::samples::change;

    #[test]
    fn a_change_lists_the_superseded_objects_and_the_immutable_attributes() {
        let immutable = |path: &str| ObjectChange {
            identity: path.to_owned(),
            name: path.to_owned(),
            action: Action::Replace,
            replace_paths: vec![path.to_owned()],
        };
        let change = Change {
            reasons: vec![
                Reason::Manifest,
                Reason::Superseded { identity: "old".to_owned() },
                Reason::Immutable { attributes: vec!["path".to_owned(), "mode".to_owned()] },
                Reason::Superseded { identity: "older".to_owned() },
            ],
            objects: vec![immutable("objects.a.spec")],
            ..change("mem_file.a", Action::Replace, &[])
        };
        assert_eq!(change.superseded().collect::<Vec<_>>(), ["old", "older"]);
        assert_eq!(change.replace_paths().collect::<Vec<_>>(), ["path", "mode", "objects.a.spec"]);
    }

    #[test]
    fn a_summary_counts_each_object_once_and_a_replacement_twice() {
        let summary = |action| change("mem_file.a", action, &[]).summary();
        let none = Summary::default();
        assert_eq!(summary(Action::Create), Summary { add: 1, ..none });
        assert_eq!(summary(Action::Update), Summary { change: 1, ..none });
        assert_eq!(summary(Action::Replace), Summary { add: 1, destroy: 1, ..none });
        assert_eq!(summary(Action::ReplaceCreateFirst), Summary { add: 1, destroy: 1, ..none });
        assert_eq!(summary(Action::Delete), Summary { destroy: 1, ..none });
        assert_eq!(summary(Action::Adopt), Summary { adopt: 1, ..none });
        assert_eq!(summary(Action::Forget), Summary { forget: 1, ..none });
        assert_eq!((summary(Action::NoOp), summary(Action::Read)), (none, none));
        let all = [Action::Create, Action::Update, Action::Delete, Action::Adopt, Action::Forget, Action::Replace];
        let sum: Summary = all.into_iter().chain(all).map(summary).sum();
        assert_eq!(sum, Summary { add: 4, change: 2, destroy: 4, adopt: 2, forget: 2 });
    }

    #[test]
    fn an_approval_names_the_host_key_of_its_own_node() {
        let name = |name: &str| NodeName(name.to_owned());
        let approval = |node: &str, host_key: Option<&str>| Replacement {
            node: name(node),
            host_key: host_key.map(str::to_owned),
        };
        let seen = |node: &str| NodeChange {
            node: name(node),
            kind: NodeChangeKind::Replaced,
            before: Machine::default(),
            after: Machine {
                host_keys: vec![format!("key of {node}"), "another key".to_owned()],
                ..Machine::default()
            },
            approved: true,
            pinned: false,
        };
        let options = PlanOptions {
            replace_nodes: vec![approval("n1", None), approval("n2", None), approval("n3", Some("mine"))],
            ..PlanOptions::default()
        };
        let observed = options.with_observed_machines(&["n3", "n2", "n1"].map(seen));
        let expected = [("n1", "key of n1"), ("n2", "key of n2"), ("n3", "mine")];
        assert_eq!(observed.replace_nodes, expected.map(|(node, key)| approval(node, Some(key))));
    }
}
