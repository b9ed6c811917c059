//! What a store must be able to do. [`Store`](crate::Store) and [`Lock`](crate::Lock) are made of it.

use async_trait::async_trait;
use jiff::Timestamp;

use crate::change::Change;
use crate::drift::DriftNote;
use crate::lease::{Fence, Taken};
use crate::settings::Settings;
use crate::{DriftHistory, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// A place that keeps a state.
///
/// What is asked for is done even where the future is dropped after its first poll.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    /// Where it is, for messages.
    fn place(&self) -> &str;

    /// The key under which sensitive values are digested.
    fn seal_key(&self) -> &SealKey;

    /// The clock and the times of the lock.
    fn settings(&self) -> &Settings;

    /// Everything, as it is at one moment.
    async fn snapshot(&self) -> Result<Snapshot, StateError>;

    /// The last runs, newest first.
    async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError>;

    /// The history of drift.
    async fn drift(&self) -> Result<DriftHistory, StateError>;

    /// Adds to the history of drift, without the lock.
    async fn note_drift(&self, note: &DriftNote) -> Result<(), StateError>;

    /// Takes the lock under a new epoch where nobody holds it.
    async fn acquire(&self, request: &LockRequest) -> Result<Taken, StateError>;

    /// Who holds the lock. One that has run out or whose holder is known to be dead counts as none.
    async fn holder(&self) -> Result<Option<LockInfo>, StateError>;

    /// Takes the lock away from whoever holds it under this id: their next write fails.
    async fn force_release(&self, id: &str) -> Result<(), StateError>;

    /// Holds the lock for longer; answers until when.
    async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError>;

    /// Gives the lock back. One that is not ours any more stays with whom it belongs to.
    async fn release(&self, fence: &Fence) -> Result<(), StateError>;

    /// Like [`Backend::release`], for who cannot wait.
    fn release_unheard(&self, fence: &Fence);

    /// Makes a change, as a whole or not at all, and answers when it is durable.
    /// Fails with [`StateError::LockLost`] where the lock is not the one of `fence` any more or has run out.
    async fn write(&self, fence: &Fence, change: Change) -> Result<(), StateError>;
}
