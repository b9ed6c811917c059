//! How an apply goes about it, and what it did.

use std::collections::BTreeMap;

use moorfast_state::StateError;

use crate::model::{Address, CheckResult, Diagnostic, NodeName, Value};
use crate::plan::{Change, Summary};
use crate::provider::{Action, ProviderError};

/// How one change of the plan ended.
#[derive(Clone, Debug)]
pub struct ChangeOutcome {
    /// Which instance.
    pub address: Address,
    /// What was to be done.
    pub action: Action,
    /// The counts of it, or of its objects where it stands for several.
    pub counts: Summary,
    /// How it ended.
    pub result: ChangeResult,
}

/// How a change ended.
#[derive(Clone, Debug)]
pub enum ChangeResult {
    /// Done.
    Done,
    /// Failed; what it did before it failed is recorded or will be found by the next run.
    Failed(ProviderError),
    /// Begun, or about to be, when the state could not be written any more; the next run finds out how it ended.
    Unrecorded,
    /// Not begun: this one failed.
    Skipped(Address),
    /// Not begun: another machine answers for this node, and nobody approved it.
    Unapproved(NodeName),
    /// Not begun: the person ended the run.
    NotStarted,
    /// Not begun: its rollout stopped before it came to its node.
    RolloutStopped {
        /// Which rollout.
        rollout: String,
        /// Why it stopped: `kubernetes_node.worker["gpu01"] is not healthy`.
        because: String,
    },
    /// Not begun: the object no longer looks as it was reviewed; what differs, one line each.
    Stale(Vec<String>),
}

/// A gate at which a rollout stopped.
#[derive(Clone, Debug)]
pub struct FailedGate {
    /// Which rollout.
    pub rollout: String,
    /// At which node.
    pub node: NodeName,
    /// `kubernetes_node.worker["gpu01"]`, `check.kubelet["gpu01"]`
    pub gate: String,
    /// The instance whose health it is; none for a check.
    pub address: Option<Address>,
    /// Why.
    pub error: ProviderError,
}

/// What an apply did.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each change of the plan, in the order in which they ended.
    pub outcomes: Vec<ChangeOutcome>,
    /// The gates at which rollouts stopped.
    pub gates: Vec<FailedGate>,
    /// The outputs after it, by name; whether each is sensitive is in the value.
    pub outputs: BTreeMap<String, Value>,
    /// What went wrong beside the changes: outputs that could not be evaluated keep their old values.
    pub errors: Vec<Diagnostic>,
    /// What the checks said after it.
    pub checks: Vec<CheckResult>,
    /// How often the world was asked: `("ssh execs", 12)`.
    pub statistics: Vec<(String, u64)>,
    /// Set where the state could not be written any more; the run stopped there.
    pub state_error: Option<StateError>,
    /// True where the person ended the run.
    pub interrupted: bool,
}

/// How an apply goes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyOptions {
    /// The id of the run in the state's history.
    pub run: String,
    /// How many calls of providers may run at once. What is ready on one target at the same time is one call.
    pub parallelism: usize,
    /// How many calls may run at once on one node.
    pub per_target: usize,
    /// Read every object once more before acting, and leave alone what no longer looks as reviewed: for plans that a person approved.
    pub verify: bool,
}

impl ChangeOutcome {
    /// Returns the outcome of `change`.
    pub(crate) fn of(change: &Change, result: ChangeResult) -> Self {
        Self { address: change.address.clone(), action: change.action, counts: change.summary(), result }
    }

    /// Did it come about?
    pub fn is_done(&self) -> bool {
        matches!(self.result, ChangeResult::Done)
    }
}
