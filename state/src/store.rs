//! A state in any store.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Backend;
use crate::drift::DriftNote;
use crate::settings::Settings;
use crate::{
    Contents, DriftHistory, Location, Lock, LockInfo, LockRequest, Observation, Run, SealKey, Snapshot, StateError,
};

/// A state at a [`Location`].
///
/// Cloning is cheap. Dropping the last clone closes the store, which can take a few milliseconds.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

/// A reference that does not keep the store open.
pub(crate) struct WeakStore(Weak<dyn Backend>);

impl WeakStore {
    pub(crate) fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(|backend| Store { backend })
    }
}

impl Store {
    /// Opens the SQLite state in `dir` for writing, creating folder (0700), key and database if they do not exist.
    ///
    /// # Errors
    /// See [`StateError`]: a newer format, a damaged file, a missing key or one that others can read, a full or read-only file system.
    pub async fn open(dir: &Path) -> Result<Self, StateError> {
        Self::open_at(&Location::Sqlite {}, dir).await
    }

    /// Opens the SQLite state in `dir` for reading only. Returns `None` if it does not exist.
    ///
    /// This works while other processes write, and on a read-only file system. It does not create a state. SQLite's `-wal` and `-shm` files
    /// can exist beside the database while it is open.
    ///
    /// # Errors
    /// See [`StateError`]. Every later write fails with [`StateError::ReadOnly`].
    pub async fn open_existing(dir: &Path) -> Result<Option<Self>, StateError> {
        Self::open_existing_at(&Location::Sqlite {}, dir).await
    }

    /// Opens the state at `location` for writing, creating it if it does not exist. `dir` is the folder of a SQLite state.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn open_at(location: &Location, dir: &Path) -> Result<Self, StateError> {
        Self::open_with(location, dir, Settings::default()).await
    }

    /// Opens the state at `location` for reading only. Returns `None` if it does not exist.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn open_existing_at(location: &Location, dir: &Path) -> Result<Option<Self>, StateError> {
        Ok(location.open_existing(dir, Settings::default()).await?.map(|backend| Self { backend }))
    }

    pub(crate) async fn open_with(location: &Location, dir: &Path, settings: Settings) -> Result<Self, StateError> {
        Ok(Self { backend: location.open(dir, settings).await? })
    }

    /// Returns the place of the state for messages: a path or a name.
    pub fn place(&self) -> &str {
        self.backend.place()
    }

    /// Returns the key of the digests of sensitive values.
    pub fn seal_key(&self) -> &SealKey {
        self.backend.seal_key()
    }

    /// Returns the whole state at one moment.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.backend.snapshot().await
    }

    /// Returns the last runs, newest first.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError> {
        self.backend.runs(limit).await
    }

    /// Returns the history of drift.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn drift(&self) -> Result<DriftHistory, StateError> {
        self.backend.drift().await
    }

    /// Adds an observation to the history of drift. Takes no lock, waits for no run, and does not change the serial. Two observations that are
    /// added at the same moment are both kept.
    ///
    /// # Errors
    /// See [`StateError`]. Fails if the store is read-only.
    pub async fn note_drift(&self, observation: &Observation) -> Result<(), StateError> {
        self.backend.note_drift(&DriftNote::Observation(observation.clone())).await
    }

    /// Adds the history of drift of the store from which the state was moved.
    ///
    /// # Errors
    /// See [`Store::note_drift`].
    pub async fn add_drift(&self, history: DriftHistory) -> Result<(), StateError> {
        self.backend.note_drift(&DriftNote::Moved(history)).await
    }

    /// Returns the state with its history and its key, for a backup or a move. Hold the lock to get all parts of one moment.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn contents(&self) -> Result<Contents, StateError> {
        let (snapshot, runs) = (self.snapshot().await?, self.runs(usize::MAX).await?);
        Ok(Contents { snapshot, runs, key: self.seal_key().clone() })
    }

    /// Takes the lock, waiting up to `timeout` for its holder. A `timeout` of zero tries once.
    ///
    /// The lock of a process that died on this machine is free at once, any other when it expires.
    ///
    /// # Errors
    /// [`StateError::Locked`] with the holder if the lock is still held after `timeout`.
    pub async fn lock(&self, request: LockRequest, timeout: Duration) -> Result<Lock, StateError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.backend.acquire(&request).await {
                Ok(taken) => return Ok(Lock::new(self.clone(), taken)),
                Err(StateError::Locked(_)) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + self.settings().retry)).await;
        }
    }

    /// Returns the current holder of the lock.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn lock_info(&self) -> Result<Option<LockInfo>, StateError> {
        self.backend.holder().await
    }

    /// Releases the lock with this id, whoever holds it. The next write of its holder fails.
    ///
    /// # Errors
    /// [`StateError::NotLocked`] if there is no lock, [`StateError::OtherLock`] if the lock has another id.
    pub async fn force_unlock(&self, id: &str) -> Result<(), StateError> {
        self.backend.force_release(id).await
    }

    pub(crate) fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.backend))
    }

    pub(crate) fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    pub(crate) fn settings(&self) -> &Settings {
        self.backend.settings()
    }
}
