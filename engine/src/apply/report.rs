//! The options and the report of an apply.

use std::collections::{BTreeMap, BTreeSet};

use moorfast_state::StateError;

use crate::model::{Address, CheckResult, Diagnostic, NodeName, Value};
use crate::plan::{Change, Summary};
use crate::provider::{Action, ProviderError};

/// The outcome of one change of the plan.
#[derive(Clone, Debug)]
pub struct ChangeOutcome {
    /// The address of the instance.
    pub address: Address,
    /// The planned action.
    pub action: Action,
    /// The number of changes: those of its objects, if it has several.
    pub counts: Summary,
    /// The result.
    pub result: ChangeResult,
}

/// The result of a change.
#[derive(Clone, Debug)]
pub enum ChangeResult {
    /// The change is complete.
    Done,
    /// The change failed. A part that was done is recorded, or the next run finds it.
    Failed(ProviderError),
    /// The state could not be written when the change had started or was about to start. The next run reads the object.
    Unrecorded,
    /// Not started: the change of this instance did not succeed.
    Skipped(Address),
    /// Not started: another machine answers as this node, and nobody approved it.
    Unapproved(NodeName),
    /// Not started: the run was interrupted.
    NotStarted,
    /// Not started: the rollout stopped before the node.
    RolloutStopped {
        /// The name of the rollout.
        rollout: String,
        /// The reason why it stopped: `kubernetes_node.worker["gpu01"] is not healthy`.
        because: String,
    },
    /// Not started: the object changed after the review. One line for each difference.
    Stale(Vec<String>),
}

/// A gate that stopped a rollout.
#[derive(Clone, Debug)]
pub struct FailedGate {
    /// The name of the rollout.
    pub rollout: String,
    /// The node.
    pub node: NodeName,
    /// The name of the gate: `kubernetes_node.worker["gpu01"]`, `check.kubelet["gpu01"]`.
    pub gate: String,
    /// The instance whose health was evaluated. `None` for a check.
    pub address: Option<Address>,
    /// The reason.
    pub error: ProviderError,
}

/// The report of an apply.
#[derive(Debug, Default)]
pub struct Report {
    /// The outcome of each change, in the order in which they ended.
    pub outcomes: Vec<ChangeOutcome>,
    /// The gates that stopped rollouts.
    pub gates: Vec<FailedGate>,
    /// The nodes that were drained and are still out of service. The next run finds them.
    pub out_of_service: BTreeSet<NodeName>,
    /// The outputs by name. Each value is marked if it is sensitive.
    pub outputs: BTreeMap<String, Value>,
    /// Errors that are not errors of a change: an output that cannot be evaluated keeps its old value.
    pub errors: Vec<Diagnostic>,
    /// The results of the checks.
    pub checks: Vec<CheckResult>,
    /// How often the providers accessed their targets: `("ssh execs", 12)`.
    pub statistics: Vec<(String, u64)>,
    /// The error of the state that stopped the run.
    pub state_error: Option<StateError>,
    /// Whether the user interrupted the run.
    pub interrupted: bool,
}

/// The options of an apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyOptions {
    /// The id of the run in the history of the state.
    pub run: String,
    /// How many provider calls may run at the same time. Everything that is ready on one target at the same time is one call.
    pub parallelism: usize,
    /// How many calls may run on one node at the same time.
    pub per_target: usize,
    /// Whether to read every object again and skip objects that changed after the review. For a plan that a person approved since it was made.
    pub verify: bool,
}

impl ChangeOutcome {
    /// Returns the outcome of `change`.
    pub(crate) fn of(change: &Change, result: ChangeResult) -> Self {
        Self { address: change.address.clone(), action: change.action, counts: change.summary(), result }
    }

    /// Whether the change is complete.
    pub fn is_done(&self) -> bool {
        matches!(self.result, ChangeResult::Done)
    }
}
