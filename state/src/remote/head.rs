//! The data of a remote state as a whole.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Digest, Lineage};

/// The data of a state as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) lineage: Lineage,
    pub(crate) serial: u64,
    /// The number of locks so far.
    pub(crate) epoch: u64,
    /// The id of the lock that can write. A write requires this lock and this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    /// The id of the last write. A writer without an answer finds out here whether its write was done.
    pub(crate) write: String,
    /// The digest that identifies the key of the state.
    pub(crate) key_check: Digest,
}

impl Head {
    /// Generates the id of a write.
    pub(crate) fn new_write() -> String {
        Uuid::new_v4().simple().to_string()
    }
}
