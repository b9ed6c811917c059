//! The results of checks.

use serde::{Deserialize, Serialize};

/// What a check said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// `check.NAME` or `check.NAME["key"]`
    pub name: String,
    /// How it went.
    pub status: CheckStatus,
    /// What was wrong, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// Everything holds.
    Pass,
    /// Something does not hold.
    Fail,
    /// It depends on what is made by the apply.
    Unknown,
    /// It could not look.
    Error,
}
