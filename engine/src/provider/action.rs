//! The actions of a plan.

use serde::{Deserialize, Serialize};

/// The planned action for an instance or an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Do nothing.
    NoOp,
    /// Create the object.
    Create,
    /// Change the object in place.
    Update,
    /// Destroy the object, then create it again.
    Replace,
    /// Create the new object, then destroy the old one.
    ReplaceCreateFirst,
    /// Destroy the object.
    Delete,
    /// Record the object, which exists exactly as the manifest declares it.
    Adopt,
    /// Remove the record: the object does not exist any more, or `[[removed]]` released it.
    Forget,
    /// Read a data source during the apply.
    Read,
}

impl Action {
    /// Whether the object is created again.
    pub fn is_replacement(self) -> bool {
        matches!(self, Action::Replace | Action::ReplaceCreateFirst)
    }

    /// Whether an object is destroyed, including objects that are created again.
    pub fn removes(self) -> bool {
        self == Action::Delete || self.is_replacement()
    }

    /// Returns the names of the action in the words of Terraform.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Action::NoOp | Action::Adopt => &["no-op"],
            Action::Create => &["create"],
            Action::Update => &["update"],
            Action::Replace => &["delete", "create"],
            Action::ReplaceCreateFirst => &["create", "delete"],
            Action::Delete => &["delete"],
            Action::Forget => &["forget"],
            Action::Read => &["read"],
        }
    }

    /// Whether the action accesses the target.
    pub fn accesses_target(self) -> bool {
        !matches!(self, Action::NoOp | Action::Adopt | Action::Forget)
    }

    /// Whether the action changes an object or the state.
    pub fn is_change(self) -> bool {
        !matches!(self, Action::NoOp | Action::Read)
    }
}
