//! Consequences of a change that its attributes do not show.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A consequence of a change that its attributes do not show.
///
/// A provider adds consequences to its [`Proposal`](crate::provider::Proposal). They are part of the plan: text, Markdown, HTML, JSON and policies show them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Consequence {
    /// Something that runs is restarted or reloaded.
    Restart {
        /// The cause, as the rest of a sentence: `its definition changes`.
        cause: String,
    },
    /// The object exists, is not in the state, and loses its content. Either moorfast did not create it, or its record is lost.
    Overwrite,
    /// Another object is removed too, for example a package that conflicts with a new one.
    Removal {
        /// The object in words: `package apparmor 3.0.8`.
        object: String,
    },
    /// An object is downgraded to an older version.
    Downgrade {
        /// The object: `package kubelet`.
        object: String,
        /// The installed version.
        from: String,
        /// The older version to install.
        to: String,
    },
    /// Something that is not in the plan becomes invalid, for example what a replaced key encrypted.
    Invalidation {
        /// What becomes invalid: `everything that was encrypted with these bytes`.
        object: String,
    },
    /// The operation will fail unless somebody removes an obstacle first.
    Obstacle {
        /// The obstacle: `a directory is at the path`.
        message: String,
    },
}

impl Consequence {
    /// Whether something that exists is lost.
    pub fn is_loss(&self) -> bool {
        match self {
            Consequence::Overwrite
            | Consequence::Removal { .. }
            | Consequence::Downgrade { .. }
            | Consequence::Invalidation { .. } => true,
            Consequence::Restart { .. } | Consequence::Obstacle { .. } => false,
        }
    }
}

/// Writes the consequence in one line.
impl fmt::Display for Consequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Consequence::Restart { cause } => write!(f, "restart: {cause}"),
            Consequence::Overwrite => f.write_str(
                "overwrites an object that is not in the state: moorfast did not create it, or its record is lost; \
                 import it first with `[[import]]`",
            ),
            Consequence::Removal { object } => write!(f, "also removes {object}"),
            Consequence::Downgrade { object, from, to } => write!(f, "downgrades {object} from {from} to {to}"),
            Consequence::Invalidation { object } => write!(f, "invalidates {object}"),
            Consequence::Obstacle { message } => write!(f, "the apply will fail: {message}"),
        }
    }
}
