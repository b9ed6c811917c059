//! The changes that the holder of the lock can make.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use crate::{Contents, Intent, Outcome, Output, Record, Run, RunEnd};

/// The number of runs in the history.
pub(crate) const RUNS: usize = 1000;

/// An atomic change of the state.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Begin(Vec<Intent>),
    Finish {
        intent: String,
        outcome: Outcome,
    },
    Put(Arc<Record>),
    Remove {
        address: String,
    },
    Rename {
        from: String,
        to: String,
    },
    SetOutputs(BTreeMap<String, Output>),
    SetNode {
        name: String,
        identity: Value,
    },
    ForgetNode {
        name: String,
    },
    StartRun(Run),
    FinishRun {
        id: String,
        end: RunEnd,
    },
    /// Replaces the whole state.
    Replace(Box<Contents>),
}

impl Change {
    /// Describes the change for an error.
    pub(crate) fn doing(&self) -> &'static str {
        match self {
            Self::Begin(_) => "recording the start of operations",
            Self::Finish { .. } => "recording the outcome of an operation",
            Self::Put(_) => "recording a resource",
            Self::Remove { .. } => "removing a resource from the state",
            Self::Rename { .. } => "renaming a resource in the state",
            Self::SetOutputs(_) => "recording the outputs",
            Self::SetNode { .. } => "recording the identity of a node",
            Self::ForgetNode { .. } => "removing the identity of a node",
            Self::StartRun(_) => "recording the start of the run",
            Self::FinishRun { .. } => "recording the end of the run",
            Self::Replace(_) => "replacing the state",
        }
    }
}
