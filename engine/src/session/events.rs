//! The events of a run.

use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::model::{Address, CheckResult, NodeChange, NodeName};
use crate::provider::{Action, ProviderError};

/// An event of a run.
#[derive(Clone, Debug)]
pub enum Event {
    /// A target is being read.
    Reading {
        /// The name of the target.
        target: String,
        /// The number of instances.
        instances: usize,
    },
    /// The reading of a target ended, with or without an error.
    ReadDone {
        /// The name of the target.
        target: String,
    },
    /// An intent that an earlier run left open was resolved.
    Recovered {
        /// The address of the instance.
        address: Address,
        /// What happened, and whether the object exists now.
        message: String,
    },
    /// An operation starts.
    Started {
        /// The address of the instance.
        address: Address,
        /// The action.
        action: Action,
    },
    /// A running operation reported its progress.
    Progress {
        /// The address of the instance.
        address: Address,
        /// The progress: `waiting for the Node to be Ready: container runtime is down`.
        message: String,
    },
    /// The run waits for a target, also while it reads.
    Waiting {
        /// What it waits for: `the API server https://10.0.0.1:6443 asks to wait 30 s (HTTP 429)`.
        message: String,
    },
    /// An operation succeeded.
    Finished {
        /// The address of the instance.
        address: Address,
        /// The action.
        action: Action,
        /// The duration of the operation.
        took: Duration,
        /// Messages for the user, one line each.
        notes: Vec<String>,
    },
    /// An operation failed.
    Failed {
        /// The address of the instance.
        address: Address,
        /// The action.
        action: Action,
        /// The error.
        error: ProviderError,
    },
    /// An operation was not started, because one of its dependencies failed or was skipped.
    Skipped {
        /// The address of the instance.
        address: Address,
        /// The address of the dependency that failed.
        because: Address,
    },
    /// A rollout took a step with one of its nodes.
    Rollout {
        /// The name of the rollout.
        rollout: String,
        /// The name of the node.
        node: NodeName,
        /// The step.
        step: RolloutStep,
    },
    /// The operations on a node are not started, because another machine answers as the node and nobody approved it.
    Unapproved {
        /// The change of the node.
        node: NodeChange,
        /// The number of operations that are not started.
        operations: usize,
    },
    /// A check was evaluated.
    Checked(CheckResult),
}

/// A step of a rollout with one node.
#[derive(Clone, Debug)]
pub enum RolloutStep {
    /// The node is being drained. Its changes start after that.
    Draining,
    /// The node is drained, and its changes may start.
    Drained {
        /// Messages for the user, one line each.
        notes: Vec<String>,
    },
    /// The node could not be drained.
    NotDrained {
        /// The reason.
        error: ProviderError,
    },
    /// The node is in service again.
    Uncordoned,
    /// The changes of the node may start.
    Started,
    /// The health gates of the node are evaluated.
    Waiting {
        /// The names of the gates: `kubernetes_node.worker["gpu01"]`.
        gates: Vec<String>,
    },
    /// All gates are healthy. The next node may start after a pause.
    Pausing {
        /// The duration of the pause.
        pause: Duration,
    },
    /// All gates are healthy, and the pause is over.
    Passed,
    /// A gate is not healthy.
    Unhealthy {
        /// The name of the gate.
        gate: String,
        /// The reason.
        error: ProviderError,
    },
    /// The node is skipped, because the rollout stopped before it.
    Skipped {
        /// The reason why the rollout stopped.
        because: String,
    },
}

/// The channel of the events. Without a receiver they are dropped.
#[derive(Clone, Debug, Default)]
pub struct Events(pub Option<UnboundedSender<Event>>);

impl Events {
    /// Sends `event`.
    pub fn send(&self, event: Event) {
        if let Some(sender) = &self.0 {
            // The run goes on if nobody receives its events.
            let _ = sender.send(event);
        }
    }
}

/// The tokens with which the user interrupts a run.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    /// Cancelled by the first Ctrl-C: no operation is started any more, and running operations finish.
    pub stop: CancellationToken,
    /// Cancelled by the second Ctrl-C: running operations are aborted.
    pub cancel: CancellationToken,
}
