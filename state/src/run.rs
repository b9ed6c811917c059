//! The history: who ran what, when, and how it ended.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::process;

/// One run of a command that may write the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its id, a random UUID: what [`Intent::run`](crate::Intent::run) points at.
    pub id: String,
    /// The command as it was given: `apply`, `destroy`, `state rm`.
    pub command: String,
    /// The user.
    pub who: String,
    /// The machine.
    pub host: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How it ended. None while it runs, and for ever where it was killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub result: RunResult,
    /// How many operations of each kind were done: `added`, `changed`, `destroyed`, `failed`, `skipped`.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunResult {
    /// Everything was done.
    Succeeded,
    /// Something failed.
    Failed,
    /// A person or a signal stopped it.
    Interrupted,
}

impl Run {
    /// A run of `command` that begins now, by this user on this machine.
    pub fn new(command: impl Into<String>) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            command: command.into(),
            who: process::user(),
            host: process::host(),
            started_at: Timestamp::now(),
            end: None,
        }
    }
}
