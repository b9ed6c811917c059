//! The results of policies.

use serde::{Deserialize, Serialize};

use crate::manifest::PolicySeverity;

/// What a policy says of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyResult {
    /// `policy.NAME`
    pub name: String,
    /// What a violation means.
    pub severity: PolicySeverity,
    /// Why the plan violates it; none where it does not.
    pub violation: Option<String>,
    /// Where it stands in the manifest: `policies.toml:3`.
    pub place: String,
}

impl PolicyResult {
    /// Does it forbid to apply the plan?
    pub fn denies(&self) -> bool {
        self.violation.is_some() && self.severity == PolicySeverity::Deny
    }
}
