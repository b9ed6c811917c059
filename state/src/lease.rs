//! The lock: who holds it, until when, and under which epoch.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::StateError;
use crate::process::{self, Process};
use crate::settings::Settings;

/// What a lock is wanted for. The machine and the process are always this one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// The operation: `apply`, `destroy`, `state mv`.
    pub operation: String,
    /// The user: a name that others recognise.
    pub who: String,
}

impl LockRequest {
    /// A request for `operation`, by the user who runs this process.
    pub fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), who: process::user() }
    }
}

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The lock's id, a random UUID: what [`Store::force_unlock`](crate::Store::force_unlock) takes.
    pub id: String,
    /// What it is held for.
    pub operation: String,
    /// The user.
    pub who: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless the holder renews it.
    pub expires: Timestamp,
    /// How many locks there were before this one, plus one: grows with every lock.
    pub epoch: u64,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, operation, who, host, pid, since, .. } = self;
        write!(f, "{operation} by {who} on {host} (pid {pid}) since {since:.0}, lock id {id}")
    }
}

/// The lease that a store keeps: what everybody may know of the holder, and what tells that it is dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lease {
    #[serde(flatten)]
    pub(crate) info: LockInfo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

impl Lease {
    /// A lease for this process that begins now.
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

    /// True where its holder is gone.
    pub(crate) fn is_free(&self, now: Timestamp) -> bool {
        self.info.expires <= now || self.process.as_ref().is_some_and(Process::is_dead)
    }

    /// True where it is the one of `fence`.
    pub(crate) fn is(&self, fence: &Fence) -> bool {
        self.info.id == fence.id && self.info.epoch == fence.epoch
    }

    /// Holds it for longer.
    pub(crate) fn renew(&mut self, settings: &Settings) {
        self.info.expires = later(settings.now(), settings.expiry);
    }
}

/// The lease where it is still the one of `fence` and has not run out.
pub(crate) fn own(lease: Option<Lease>, fence: &Fence, now: Timestamp) -> Result<Lease, StateError> {
    match lease {
        Some(lease) if lease.is(fence) && lease.info.expires > now => Ok(lease),
        Some(lease) if !lease.is(fence) => Err(StateError::LockLost { now_held_by: Some(Box::new(lease.info)) }),
        _ => Err(StateError::LockLost { now_held_by: None }),
    }
}

/// An error unless `lease` is the lock of this id.
pub(crate) fn named(lease: Option<Lease>, id: &str) -> Result<(), StateError> {
    match lease {
        None => Err(StateError::NotLocked),
        Some(lease) if lease.info.id == id => Ok(()),
        Some(lease) => Err(StateError::OtherLock { given: id.to_owned(), held: Box::new(lease.info) }),
    }
}

/// What a writer must show with every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) id: String,
    pub(crate) epoch: u64,
}

/// A lock just taken, and the one that stood in its place though its holder was gone.
pub(crate) struct Taken {
    pub(crate) info: LockInfo,
    pub(crate) instead_of: Option<LockInfo>,
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
