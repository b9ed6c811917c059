//! The interface that every store implements. [`Store`](crate::Store) and [`Lock`](crate::Lock) use it.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::change::Change;
use crate::drift::DriftNote;
use crate::lease::{Fence, Taken};
use crate::settings::Settings;
use crate::{DriftHistory, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// A store of a state.
///
/// A request is completed even if its future is dropped after the first poll.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Returns the place of the state for messages.
    fn place(&self) -> &str;

    /// Returns the key of the digests of sensitive values.
    fn seal_key(&self) -> &SealKey;

    /// Returns the clock and the durations.
    fn settings(&self) -> &Settings;

    /// Returns the whole state at one moment.
    async fn snapshot(&self) -> Result<Snapshot, StateError>;

    /// Returns the last runs, newest first.
    async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError>;

    /// Returns the history of drift.
    async fn drift(&self) -> Result<DriftHistory, StateError>;

    /// Adds to the history of drift, without the lock.
    async fn note_drift(&self, note: &DriftNote) -> Result<(), StateError>;

    /// Takes the lock under a new epoch if nobody holds it.
    async fn acquire(&self, request: &LockRequest) -> Result<Taken, StateError>;

    /// Returns the holder of the lock. A lock that expired or whose holder is known to be dead counts as free.
    async fn holder(&self) -> Result<Option<LockInfo>, StateError>;

    /// Releases the lock with this id, whoever holds it. The next write of its holder fails.
    async fn force_release(&self, id: &str) -> Result<(), StateError>;

    /// Renews the lock and returns its new expiry.
    async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError>;

    /// Releases the lock. Does nothing if another process holds it now.
    async fn release(&self, fence: &Fence) -> Result<(), StateError>;

    /// Starts to release the lock without waiting for the result.
    fn release_in_background(&self, fence: &Fence);

    /// Makes a change atomically and returns when it is durable.
    /// Fails with [`StateError::LockLost`] if the lock of `fence` expired or is no longer held.
    async fn write(&self, fence: &Fence, change: Change) -> Result<(), StateError>;
}
