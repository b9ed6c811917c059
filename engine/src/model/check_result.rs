//! The results of checks.

use serde::{Deserialize, Serialize};

/// The result of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// The name: `check.NAME` or `check.NAME["key"]`.
    pub name: String,
    /// The status.
    pub status: CheckStatus,
    /// The failures and errors, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<String>,
}

/// The status of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// All assertions are true.
    Pass,
    /// An assertion is false.
    Fail,
    /// The result depends on values that are known only after apply.
    Unknown,
    /// The check could not be evaluated.
    Error,
    /// The check was not evaluated, because `--target` or `--exclude` select nothing that it depends on.
    Skipped,
}
