//! The lease of the lock: its holder, expiry and epoch.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::process::{self, Process};
use crate::settings::Settings;
use crate::{LockInfo, LockRequest, StateError};

/// The stored lease: the public data of the holder, and its process, to detect that it is dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lease {
    #[serde(flatten)]
    pub(crate) info: LockInfo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

impl Lease {
    /// Returns a lease for this process that starts now.
    pub(crate) fn new(request: &LockRequest, epoch: u64, settings: &Settings) -> Self {
        let now = settings.now();
        let info = LockInfo {
            id: Uuid::new_v4().to_string(),
            operation: request.operation.clone(),
            who: request.who.clone(),
            host: process::host(),
            pid: std::process::id(),
            since: now,
            expires: later(now, settings.expiry),
            epoch,
        };
        Self { info, process: Process::current() }
    }

    /// Returns whether the lease expired or its holder is dead.
    pub(crate) fn is_free(&self, now: Timestamp) -> bool {
        self.info.expires <= now || self.process.as_ref().is_some_and(Process::is_dead)
    }

    /// Returns whether this is the lease of `fence`.
    pub(crate) fn is(&self, fence: &Fence) -> bool {
        self.info.id == fence.id && self.info.epoch == fence.epoch
    }

    /// Extends the expiry.
    pub(crate) fn renew(&mut self, settings: &Settings) {
        self.info.expires = later(settings.now(), settings.expiry);
    }
}

/// Returns the lease if it belongs to `fence` and has not expired.
pub(crate) fn check_owned(lease: Option<Lease>, fence: &Fence, now: Timestamp) -> Result<Lease, StateError> {
    match lease {
        Some(lease) if lease.is(fence) && lease.info.expires > now => Ok(lease),
        Some(lease) if !lease.is(fence) => Err(StateError::LockLost { now_held_by: Some(Box::new(lease.info)) }),
        _ => Err(StateError::LockLost { now_held_by: None }),
    }
}

/// Checks that `lease` has this id.
pub(crate) fn check_id(lease: Option<Lease>, id: &str) -> Result<(), StateError> {
    match lease {
        None => Err(StateError::NotLocked),
        Some(lease) if lease.info.id == id => Ok(()),
        Some(lease) => Err(StateError::OtherLock { given: id.to_owned(), held: Box::new(lease.info) }),
    }
}

/// The id and epoch of a lock, which every write checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) id: String,
    pub(crate) epoch: u64,
}

/// A new lock, and the abandoned one that it replaced.
pub(crate) struct Taken {
    pub(crate) info: LockInfo,
    pub(crate) instead_of: Option<LockInfo>,
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
