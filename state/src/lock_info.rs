//! The public data of a lock.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::process;

/// A request for the lock. Machine and process are those of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// The operation: `apply`, `destroy`, `state mv`.
    pub operation: String,
    /// The name of the user.
    pub who: String,
}

impl LockRequest {
    /// Returns a request for `operation` by the user who runs this process.
    pub fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), who: process::user() }
    }
}

/// The holder of the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The id of the lock, a random UUID, for [`Store::force_unlock`](crate::Store::force_unlock).
    pub id: String,
    /// The operation that holds it.
    pub operation: String,
    /// The user.
    pub who: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
    /// When the lock was taken.
    pub since: Timestamp,
    /// The expiry, unless the holder renews it.
    pub expires: Timestamp,
    /// The number of this lock among all locks of the state; grows with every lock.
    pub epoch: u64,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, operation, who, host, pid, since, .. } = self;
        write!(f, "{operation} by {who} on {host} (pid {pid}) since {since:.0}, lock id {id}")
    }
}
