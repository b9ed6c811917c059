//! The results of policies.

use serde::{Deserialize, Serialize};

use crate::manifest::PolicySeverity;

/// The result of a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyResult {
    /// The name: `policy.NAME`.
    pub name: String,
    /// The severity of a violation.
    pub severity: PolicySeverity,
    /// The message of the violation. `None` if the plan does not violate the policy.
    pub violation: Option<String>,
    /// The place of the policy in the manifest: `policies.toml:3`.
    pub place: String,
}

impl PolicyResult {
    /// Whether the policy denies the plan.
    pub fn denies(&self) -> bool {
        self.violation.is_some() && self.severity == PolicySeverity::Deny
    }
}
