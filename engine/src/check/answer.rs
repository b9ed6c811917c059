//! The answer to a probe.

use crate::model::Value;
use crate::provider::ProbeError;

/// The answer to a probe.
pub(super) struct Answer {
    /// What assertions see as `self`.
    pub value: Value,
    /// The violated expectations.
    pub violations: Vec<String>,
}

impl Answer {
    /// The answer to a probe that has none but success.
    pub fn success() -> Self {
        Self { value: Value::Null, violations: Vec::new() }
    }
}

/// Returns the error with `subject` before its reason: "no connection to 10.0.0.1:1: Connection refused".
pub(super) fn about(error: ProbeError, subject: &str) -> ProbeError {
    match error {
        ProbeError::NoAnswer(reason) => ProbeError::NoAnswer(format!("{subject}: {reason}")),
        error => error,
    }
}
