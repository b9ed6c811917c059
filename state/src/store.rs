//! The state beside a manifest: a SQLite database and its key in one folder.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::lease::{self, Fence};
use crate::open::{self, Files, Opened};
use crate::settings::Settings;
use crate::snapshot::{load, load_runs};
use crate::writer::Writer;
use crate::{Lock, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// The SQLite state beside a manifest: `state.db` and its key `state.key` (0600) in the folder `.moorfast`.
///
/// Cloning is cheap. The last clone that is dropped closes the database, which may take a few milliseconds.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    key: SealKey,
    settings: Settings,
}

/// A store that somebody else keeps open.
pub(crate) struct WeakStore(Weak<Inner>);

impl WeakStore {
    pub(crate) fn upgrade(&self) -> Option<Store> {
        self.0.upgrade().map(|inner| Store { inner })
    }
}

impl Store {
    /// Opens the state in `dir` for writing, making folder (0700), key and database where there are none.
    ///
    /// # Errors
    /// See [`StateError`]: a newer format, a damaged file, a key that is missing or that others can read, a full or read-only file system.
    pub async fn open(dir: &Path) -> Result<Self, StateError> {
        Self::open_with(dir, Settings::default()).await
    }

    pub(crate) async fn open_with(dir: &Path, settings: Settings) -> Result<Self, StateError> {
        let files = Files::of(dir);
        let path = files.database.clone();
        let opened = spawn_blocking(move || open::writable(&files)).await.map_err(|_| StateError::Closed)??;
        Self::start(&path, opened, settings)
    }

    /// Opens the state in `dir` for reading only. None where there is none yet.
    ///
    /// It works while other processes write, and on a read-only file system. It makes no state; SQLite's `-wal` and `-shm` files
    /// may appear beside the database as long as it is open.
    ///
    /// # Errors
    /// See [`StateError`]. Whatever would write fails with [`StateError::ReadOnly`].
    pub async fn open_existing(dir: &Path) -> Result<Option<Self>, StateError> {
        let files = Files::of(dir);
        let path = files.database.clone();
        let opened = spawn_blocking(move || open::existing(&files)).await.map_err(|_| StateError::Closed)??;
        opened.map(|opened| Self::start(&path, opened, Settings::default())).transpose()
    }

    fn start(path: &Path, opened: Opened, settings: Settings) -> Result<Self, StateError> {
        let key = opened.key.clone();
        let writer = Writer::start(path.to_owned(), opened)?;
        Ok(Self { inner: Arc::new(Inner { writer, key, settings }) })
    }

    /// The key under which sensitive values are digested.
    pub fn seal_key(&self) -> &SealKey {
        &self.inner.key
    }

    /// Everything that the state holds, as it is at one moment.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.writer().read("reading the state", load).await
    }

    /// The last runs, newest first.
    ///
    /// # Errors
    /// See [`StateError`].
    pub async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError> {
        self.writer().read("reading the history", move |db| load_runs(db, limit)).await
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
            let (request, settings) = (request.clone(), self.settings().clone());
            let work = move |db: &_| lease::acquire(db, &request, &settings);
            match self.writer().write("taking the lock", work).await {
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
        let settings = self.settings().clone();
        self.writer().read("reading the lock", move |db| lease::holder(db, &settings)).await
    }

    /// Takes the lock away from whoever holds it under this id; their next write fails.
    ///
    /// # Errors
    /// [`StateError::NotLocked`] where nobody holds it, [`StateError::OtherLock`] where somebody holds it under another id.
    pub async fn force_unlock(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.writer().write("removing the lock", move |db| lease::force_release(db, &id)).await
    }

    pub(crate) async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError> {
        let (fence, settings) = (fence.clone(), self.settings().clone());
        self.writer().write("renewing the lock", move |db| lease::renew(db, &fence, &settings)).await
    }

    pub(crate) fn downgrade(&self) -> WeakStore {
        WeakStore(Arc::downgrade(&self.inner))
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.inner.writer
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.inner.settings
    }
}
