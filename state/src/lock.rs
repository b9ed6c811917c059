//! The right to write, and what can be written with it.

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

/// The right to write the state, which nobody else has meanwhile.
///
/// It renews itself in the background. Every write checks that the lock is still ours, in the transaction that writes, and
/// fails with [`StateError::LockLost`] where it is not; the first who notices also cancels [`Lock::lost`].
/// A write that was asked for is done even where its future is dropped.
///
/// Dropping it gives it back without waiting for that; [`Lock::release`] waits.
pub struct Lock {
    store: Store,
    info: LockInfo,
    fence: Fence,
    instead_of: Option<LockInfo>,
    hold: Hold,
    heartbeat: AbortHandle,
    released: bool,
}

/// Whether a lock is still ours, for those who act under it and write nothing.
#[derive(Clone)]
pub struct Hold {
    lost: CancellationToken,
    /// Until when it is ours unless it is renewed, in milliseconds since 1970.
    expires: Arc<AtomicI64>,
    settings: Settings,
}

impl Hold {
    fn new(settings: Settings, expires: Timestamp) -> Self {
        let expires = Arc::new(AtomicI64::new(expires.as_millisecond()));
        Self { lost: CancellationToken::new(), expires, settings }
    }

    /// True as soon as the lock may be somebody else's: also where the clock alone says so, right after a process that stood still goes on.
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

    /// The lock as others see it, as it was when it was taken.
    pub fn info(&self) -> &LockInfo {
        &self.info
    }

    /// The lock that stood in the way though its holder was gone: a run that was killed, or that stood still past its expiry.
    pub fn instead_of(&self) -> Option<&LockInfo> {
        self.instead_of.as_ref()
    }

    /// Cancelled as soon as it is known that the lock is lost: stop acting then, nothing can be recorded any more.
    pub fn lost(&self) -> CancellationToken {
        self.hold.lost.clone()
    }

    /// What tells others, at any moment, whether it is lost.
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Records that operations begin. Act only after it returned.
    ///
    /// # Errors
    /// See [`StateError`]; where it fails none of them is recorded.
    pub async fn begin(&self, intents: Vec<Intent>) -> Result<(), StateError> {
        self.make(Change::Begin(intents)).await
    }

    /// Records how the operation of an intent ended, in one step: its record, and that it is not open any more.
    ///
    /// # Errors
    /// [`StateError::NoIntent`] where no such operation is open; where it fails the operation stays open.
    pub async fn finish(&self, intent: &str, outcome: Outcome) -> Result<(), StateError> {
        self.make(Change::Finish { intent: intent.to_owned(), outcome }).await
    }

    /// Records a resource outside of an operation: an import, a refresh.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn put(&self, record: Record) -> Result<(), StateError> {
        self.make(Change::Put(record)).await
    }

    /// Forgets a resource.
    ///
    /// # Errors
    /// [`StateError::NoRecord`] where there is none under this address.
    pub async fn remove(&self, address: &str) -> Result<(), StateError> {
        self.make(Change::Remove { address: address.to_owned() }).await
    }

    /// Gives a resource another address, also where other records and open operations name it.
    ///
    /// # Errors
    /// [`StateError::NoRecord`] where there is nothing at `from`, [`StateError::RecordExists`] where there is something at `to`.
    pub async fn rename(&self, from: &str, to: &str) -> Result<(), StateError> {
        self.make(Change::Rename { from: from.to_owned(), to: to.to_owned() }).await
    }

    /// Records the outputs; those that are not named are forgotten.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn set_outputs(&self, outputs: BTreeMap<String, Output>) -> Result<(), StateError> {
        self.make(Change::SetOutputs(outputs)).await
    }

    /// Records what is known of the identity of a node.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn set_node(&self, name: &str, identity: Value) -> Result<(), StateError> {
        self.make(Change::SetNode { name: name.to_owned(), identity }).await
    }

    /// Forgets the identity of a node.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn forget_node(&self, name: &str) -> Result<(), StateError> {
        self.make(Change::ForgetNode { name: name.to_owned() }).await
    }

    /// Records that a run began.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn start_run(&self, run: Run) -> Result<(), StateError> {
        self.make(Change::StartRun(run)).await
    }

    /// Records how a run ended.
    ///
    /// # Errors
    /// [`StateError::NoRun`] where it never began.
    pub async fn finish_run(&self, id: &str, end: RunEnd) -> Result<(), StateError> {
        self.make(Change::FinishRun { id: id.to_owned(), end }).await
    }

    /// Puts `contents` in the place of everything that the state holds, with its lineage, its serial, its history and its key.
    ///
    /// Whoever has the store open goes on with the old key, so open it again afterwards.
    ///
    /// # Errors
    /// See [`StateError`]; where it fails the state is as it was.
    pub async fn replace(&self, contents: Contents) -> Result<(), StateError> {
        self.make(Change::Replace(Box::new(contents))).await
    }

    /// Gives the lock back and waits until it is free. One that was lost is left to whom it belongs.
    ///
    /// # Errors
    /// See [`StateError`]; a lock that could not be given back is free once this process ended.
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
        self.store.backend().release_unheard(&self.fence);
    }
}

/// Renews the lock until it is lost or the store is closed. A renewal that fails otherwise is tried again while the lock lasts.
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
