//! A state, wherever it is kept.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use crate::backend::Backend;
use crate::drift::DriftNote;
use crate::settings::Settings;
use crate::sqlite::Sqlite;
use crate::{Contents, DriftHistory, Location, Lock, LockInfo, LockRequest, Look, Run, SealKey, Snapshot, StateError};

/// A state, in one of the places that a [`Location`] names.
///
/// Cloning is cheap. The last clone that is dropped closes it, which may take a few milliseconds.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
}

/// A store that somebody else keeps open.
pub(crate) struct WeakStore(Weak<dyn Backend>);

impl WeakStore {
    pub(crate) fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(|backend| Store { backend })
    }
}

impl Store {
    /// Opens the SQLite state in `dir` for writing, making folder (0700), key and database where there are none.
    ///
    /// # Errors
    /// See [`StateError`]: a newer format, a damaged file, a key that is missing or that others can read, a full or read-only file system.
    pub async fn open(dir: &Path) -> Result<Self, StateError> {
        Self::open_with(dir, Settings::default()).await
    }

    pub(crate) async fn open_with(dir: &Path, settings: Settings) -> Result<Self, StateError> {
        Sqlite::open(dir, settings).await.map(Self::of)
    }

    /// Opens the SQLite state in `dir` for reading only. None where there is none yet.
    ///
    /// It works while other processes write, and on a read-only file system. It makes no state; SQLite's `-wal` and `-shm` files
    /// may appear beside the database as long as it is open.
    ///
    /// # Errors
    /// See [`StateError`]. Whatever would write fails with [`StateError::ReadOnly`].
    pub async fn open_existing(dir: &Path) -> Result<Option<Self>, StateError> {
        Ok(Sqlite::open_existing(dir, Settings::default()).await?.map(Self::of))
    }

    /// Opens the state at `location` for writing, making it where there is none; `dir` is the folder of a state in a file.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn open_at(location: &Location, dir: &Path) -> Result<Self, StateError> {
        location.open(dir, Settings::default()).await
    }

    /// Opens the state at `location` for reading only. None where there is none yet.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn open_existing_at(location: &Location, dir: &Path) -> Result<Option<Self>, StateError> {
        location.open_existing(dir, Settings::default()).await
    }

    pub(crate) fn of(backend: impl Backend + 'static) -> Self {
        Self { backend: Arc::new(backend) }
    }

    /// Where it is: the path of a file, the name of an object.
    pub fn place(&self) -> &str {
        self.backend.place()
    }

    /// The key under which sensitive values are digested.
    pub fn seal_key(&self) -> &SealKey {
        self.backend.seal_key()
    }

    /// Everything that the state holds, as it is at one moment.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.backend.snapshot().await
    }

    /// The last runs, newest first.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError> {
        self.backend.runs(limit).await
    }

    /// What looks for drift saw so far.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn drift(&self) -> Result<DriftHistory, StateError> {
        self.backend.drift().await
    }

    /// Adds a look to the history of drift. It takes no lock, waits for no run, and makes no new version of the state. Of two looks that are
    /// added at the same moment both are kept.
    ///
    /// # Errors
    /// See [`StateError`]: where the store can only be read, it can't be kept.
    pub async fn note_drift(&self, look: &Look) -> Result<(), StateError> {
        self.backend.note_drift(&DriftNote::Look(look.clone())).await
    }

    /// Adds the history of drift of another place, from where the state was moved.
    ///
    /// # Errors
    /// See [`Store::note_drift`].
    pub async fn add_drift(&self, history: DriftHistory) -> Result<(), StateError> {
        self.backend.note_drift(&DriftNote::Moved(history)).await
    }

    /// The state with its history and its key, for a backup or a move. Of one moment only while its lock is held.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn contents(&self) -> Result<Contents, StateError> {
        let (snapshot, runs) = (self.snapshot().await?, self.runs(usize::MAX).await?);
        Ok(Contents { snapshot, runs, key: self.seal_key().clone() })
    }

    /// Takes the lock, waiting up to `timeout` for whoever holds it. Zero tries once.
    ///
    /// The lock of a process that is dead on this very machine is free at once, any other when it expires.
    ///
    /// # Errors
    /// [`StateError::Locked`] with the holder where it is still held in the end.
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

    /// Who holds the lock, if anybody does.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn lock_info(&self) -> Result<Option<LockInfo>, StateError> {
        self.backend.holder().await
    }

    /// Takes the lock away from whoever holds it under this id; their next write fails.
    ///
    /// # Errors
    /// [`StateError::NotLocked`] where nobody holds it, [`StateError::OtherLock`] where somebody holds it under another id.
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
