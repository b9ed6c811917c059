//! The history of runs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{EnvironmentName, process};

/// A run of a command that can write the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The id, a random UUID. [`Intent::run`](crate::Intent::run) refers to it.
    pub id: String,
    /// The command: `apply`, `destroy`, `state rm`.
    pub command: String,
    /// The environment of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentName>,
    /// The user.
    pub who: String,
    /// The machine.
    pub host: String,
    /// The start of the run.
    pub started_at: Timestamp,
    /// The end of the run. `None` while it runs, and if it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The time.
    pub at: Timestamp,
    /// The result.
    pub result: RunResult,
    /// The number of operations by kind: `added`, `changed`, `destroyed`, `failed`, `skipped`.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// All operations succeeded.
    Succeeded,
    /// An operation failed.
    Failed,
    /// A person or a signal stopped the run.
    Interrupted,
}

impl Run {
    /// Returns a run of `command` that starts now, by this user on this machine.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            command: command.into(),
            environment: None,
            who: process::user(),
            host: process::host(),
            started_at: Timestamp::now(),
            end: None,
        }
    }

    /// Returns this run as one of a manifest in this environment.
    #[must_use]
    pub fn in_environment(self, environment: Option<EnvironmentName>) -> Self {
        Self { environment, ..self }
    }
}
