//! The actions of a plan.

use serde::{Deserialize, Serialize};

/// What would be done with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing.
    NoOp,
    /// Made.
    Create,
    /// Changed in place.
    Update,
    /// Deleted, then made again.
    Replace,
    /// Made again, then the old one deleted.
    ReplaceCreateFirst,
    /// Deleted.
    Delete,
    /// It is there as the manifest wants it, but not in the state: recorded.
    Adopt,
    /// It is in the state, but gone from the world (or released by `[[removed]]`): its record goes.
    Forget,
    /// A data source that can be read only while applying.
    Read,
}

impl Action {
    /// Is the object made again?
    pub fn is_replacement(self) -> bool {
        matches!(self, Action::Replace | Action::ReplaceCreateFirst)
    }

    /// Does an object go, if only to come again?
    pub fn removes(self) -> bool {
        self == Action::Delete || self.is_replacement()
    }

    /// The names of what is done, in Terraform's words.
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

    /// Does it ask anything of the world?
    pub fn acts_on_world(self) -> bool {
        !matches!(self, Action::NoOp | Action::Adopt | Action::Forget)
    }

    /// Does it change the world or the state?
    pub fn is_change(self) -> bool {
        !matches!(self, Action::NoOp | Action::Read)
    }
}
