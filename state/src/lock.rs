//! The lock: the right to write the state, and the writes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;
use serde_json::Value;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use crate::change::Change;
use crate::lease::{Fence, Taken};
use crate::settings::Settings;
use crate::store::WeakStore;
use crate::{Contents, Intent, LockInfo, Outcome, Output, Record, Run, RunEnd, StateError, Store};

/// The exclusive right to write the state.
///
/// The lock is renewed in the background. Every write checks in its transaction that the lock is still held, and
/// fails with [`StateError::LockLost`] otherwise. When the loss is detected, [`Lock::lost`] is cancelled.
/// A requested write is completed even if its future is dropped.
///
/// Dropping the lock releases it without waiting; [`Lock::release`] waits.
pub struct Lock {
    store: Store,
    info: LockInfo,
    fence: Fence,
    instead_of: Option<LockInfo>,
    hold: Hold,
    heartbeat: AbortHandle,
    released: bool,
}

/// A check whether a lock is still held, for code that acts under the lock without writing the state.
#[derive(Clone)]
pub struct Hold {
    lost: CancellationToken,
    /// The expiry in milliseconds since 1970.
    expires: Arc<AtomicI64>,
    settings: Settings,
}

impl Hold {
    fn new(settings: Settings, expires: Timestamp) -> Self {
        let expires = Arc::new(AtomicI64::new(expires.as_millisecond()));
        Self { lost: CancellationToken::new(), expires, settings }
    }

    /// Returns whether another run may hold the lock. Also true if only the clock shows it, right after a suspended process continues.
    pub fn is_lost(&self) -> bool {
        if self.settings.now().as_millisecond() >= self.expires.load(Ordering::Relaxed) {
            self.lost.cancel();
        }
        self.lost.is_cancelled()
    }

    fn renewed(&self, expires: Timestamp) {
        self.expires.store(expires.as_millisecond(), Ordering::Relaxed);
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hold").field("lost", &self.lost.is_cancelled()).finish_non_exhaustive()
    }
}

impl Lock {
    pub(crate) fn new(store: Store, taken: Taken) -> Self {
        let Taken { info, instead_of } = taken;
        let fence = Fence { id: info.id.clone(), epoch: info.epoch };
        let hold = Hold::new(store.settings().clone(), info.expires);
        let heartbeat = tokio::spawn(heartbeat(store.downgrade(), fence.clone(), hold.clone())).abort_handle();
        Self { store, info, fence, instead_of, hold, heartbeat, released: false }
    }

    /// Returns the public data of the lock at the time it was taken.
    pub fn info(&self) -> &LockInfo {
        &self.info
    }

    /// Returns the abandoned lock that this one replaced: of a run that was killed, or suspended past its expiry.
    pub fn instead_of(&self) -> Option<&LockInfo> {
        self.instead_of.as_ref()
    }

    /// Returns a token that is cancelled when the lock is lost. Start no further operation then, because nothing can be recorded.
    pub fn lost(&self) -> CancellationToken {
        self.hold.lost.clone()
    }

    /// Returns a handle that other tasks use to check whether the lock is lost.
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Records the start of operations. Start them only after it returned.
    ///
    /// # Errors
    /// See [`StateError`]. After an error none of the operations is recorded.
    pub async fn begin(&self, intents: Vec<Intent>) -> Result<(), StateError> {
        self.make(Change::Begin(intents)).await
    }

    /// Records the outcome of an operation and closes its intent, in one transaction.
    ///
    /// # Errors
    /// [`StateError::NoIntent`] if no such operation is open. After an error the operation stays open.
    pub async fn finish(&self, intent: &str, outcome: Outcome) -> Result<(), StateError> {
        self.make(Change::Finish { intent: intent.to_owned(), outcome }).await
    }

    /// Writes a record outside of an operation, for an import or a refresh.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn put(&self, record: impl Into<Arc<Record>>) -> Result<(), StateError> {
        self.make(Change::Put(record.into())).await
    }

    /// Removes a record.
    ///
    /// # Errors
    /// [`StateError::NoRecord`] if there is no record with this address.
    pub async fn remove(&self, address: &str) -> Result<(), StateError> {
        self.make(Change::Remove { address: address.to_owned() }).await
    }

    /// Changes the address of a record, also in other records and open operations that refer to it.
    ///
    /// # Errors
    /// [`StateError::NoRecord`] if there is no record at `from`, [`StateError::RecordExists`] if there is one at `to`.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), StateError> {
        self.make(Change::Rename { from: from.to_owned(), to: to.to_owned() }).await
    }

    /// Replaces all outputs.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn set_outputs(&self, outputs: BTreeMap<String, Output>) -> Result<(), StateError> {
        self.make(Change::SetOutputs(outputs)).await
    }

    /// Records the identity of a node.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn set_node(&self, name: &str, identity: Value) -> Result<(), StateError> {
        self.make(Change::SetNode { name: name.to_owned(), identity }).await
    }

    /// Removes the identity of a node.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn forget_node(&self, name: &str) -> Result<(), StateError> {
        self.make(Change::ForgetNode { name: name.to_owned() }).await
    }

    /// Records the start of a run.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn start_run(&self, run: Run) -> Result<(), StateError> {
        self.make(Change::StartRun(run)).await
    }

    /// Records the end of a run.
    ///
    /// # Errors
    /// [`StateError::NoRun`] if its start was not recorded.
    pub async fn finish_run(&self, id: &str, end: RunEnd) -> Result<(), StateError> {
        self.make(Change::FinishRun { id: id.to_owned(), end }).await
    }

    /// Replaces the whole state by `contents`, with lineage, serial, history and key.
    ///
    /// An open store keeps using the old key: open it again afterwards.
    ///
    /// # Errors
    /// See [`StateError`]. After an error the state is unchanged.
    pub async fn replace(&self, contents: Contents) -> Result<(), StateError> {
        self.make(Change::Replace(Box::new(contents))).await
    }

    /// Releases the lock and waits until it is free. Does nothing if another run holds it.
    ///
    /// # Errors
    /// See [`StateError`]. If the lock could not be released, it is free when this process ends.
    pub async fn release(mut self) -> Result<(), StateError> {
        self.released = true;
        self.store.backend().release(&self.fence).await
    }

    async fn make(&self, change: Change) -> Result<(), StateError> {
        let done = self.store.backend().write(&self.fence, change).await;
        if let Err(StateError::LockLost { .. }) = done {
            self.hold.lost.cancel();
        }
        done
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.heartbeat.abort();
        if self.released {
            return;
        }
        self.store.backend().release_in_background(&self.fence);
    }
}

/// Renews the lock until it is lost or the store is closed. Other failures are retried until the lock expires.
async fn heartbeat(store: WeakStore, fence: Fence, hold: Hold) {
    while let Some(pause) = store.upgrade().map(|store| store.settings().heartbeat) {
        tokio::time::sleep(pause).await;
        let Some(store) = store.upgrade() else { break };
        match store.backend().renew(&fence).await {
            Ok(expires) => hold.renewed(expires),
            Err(StateError::LockLost { .. } | StateError::Closed) => break,
            Err(_) if hold.is_lost() => break,
            Err(_) => {}
        }
    }
    hold.lost.cancel();
}
