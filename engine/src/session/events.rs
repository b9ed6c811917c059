//! What the engine tells while it works, for whoever shows it.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::model::{Address, CheckResult, NodeChange, NodeName};
use crate::provider::{Action, ProviderError};

/// News of a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// A target is being read.
    Reading {
        /// Its name.
        target: String,
        /// How many instances.
        instances: usize,
    },
    /// A target was read (or failed to be).
    ReadDone {
        /// Its name.
        target: String,
    },
    /// An intent that an earlier run left open was resolved.
    Recovered {
        /// Whose.
        address: String,
        /// What was found: `ssh_file.motd["gpu01"]: was created before the run died`.
        message: String,
    },
    /// An operation starts.
    Started {
        /// On which instance.
        address: Address,
        /// What is done.
        action: Action,
    },
    /// A running operation tells where it is.
    Progress {
        /// On which instance.
        address: Address,
        /// `waiting for the Node to be Ready: container runtime is down`.
        message: String,
    },
    /// An operation is done.
    Finished {
        /// On which instance.
        address: Address,
        /// What was done.
        action: Action,
        /// How long it took.
        took: Duration,
        /// What the person should know, one line each.
        notes: Vec<String>,
    },
    /// An operation failed.
    Failed {
        /// On which instance.
        address: Address,
        /// What was tried.
        action: Action,
        /// Why.
        error: ProviderError,
    },
    /// An operation was not begun, because one that it depends on failed or was skipped.
    Skipped {
        /// On which instance.
        address: Address,
        /// The one that failed.
        because: Address,
    },
    /// A rollout came to a step with one of its nodes.
    Rollout {
        /// Which rollout.
        rollout: String,
        /// Which node.
        node: NodeName,
        /// Which step.
        step: RolloutStep,
    },
    /// Nothing is done on a node, because another machine answers for it that nobody approved.
    Withheld {
        /// What happened to the node.
        node: NodeChange,
        /// How many operations are left.
        operations: usize,
    },
    /// A check was looked at.
    Checked(CheckResult),
}

/// What a rollout does with a node.
#[derive(Clone, Debug)]
pub enum RolloutStep {
    /// It is the node's turn.
    Begun,
    /// These must be healthy.
    Waiting {
        /// `kubernetes_node.worker["gpu01"]`
        gates: Vec<String>,
    },
    /// They are; the next node may not begin before this is over.
    Pausing {
        /// How long.
        pause: Duration,
    },
    /// The gates are passed, and the pause is over.
    Passed,
    /// A gate is not passed.
    Unhealthy {
        /// Which one.
        gate: String,
        /// Why.
        error: ProviderError,
    },
    /// The rollout stopped before it came to the node.
    Left {
        /// Why.
        because: String,
    },
}

/// Where events go; events are dropped where nobody listens.
#[derive(Clone, Debug, Default)]
pub struct Events(pub Option<UnboundedSender<Event>>);

impl Events {
    /// Tells `event`.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // Nobody listening is no failure of the run.
            let _ = sender.send(event);
        }
    }
}

/// The person's wish to end the run.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// Set by the first Ctrl-C: no operation is started any more, running ones finish.
    pub stop: CancellationToken,
    /// Set by the second: running operations are cancelled.
    pub cancel: CancellationToken,
}
