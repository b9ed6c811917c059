//! The state in a file: a SQLite database and its key in one folder.

mod change;
mod drift;
mod error;
mod key;
mod lease;
mod open;
mod read;
mod schema;
mod writer;

use std::path::Path;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use self::open::{Files, Opened};
use self::writer::Writer;
#[cfg(fuzzing)]
pub(crate) use self::{change::make, read::load, schema::migrate};
use crate::backend::Backend;
use crate::change::Change;
use crate::drift::DriftNote;
use crate::lease::{Fence, Taken};
use crate::settings::Settings;
use crate::{DriftHistory, LockInfo, LockRequest, Run, SealKey, Snapshot, StateError};

/// `state.db` and its key `state.key` (0600) in one folder.
pub(crate) struct Sqlite {
    place: String,
    files: Files,
    writer: Writer,
    key: SealKey,
    settings: Settings,
}

impl Sqlite {
    /// Opens the state for writing; creates folder (0700), key and database if they do not exist.
    pub(crate) async fn open(dir: &Path, settings: Settings) -> Result<Self, StateError> {
        let files = Files::of(dir);
        let to_open = files.clone();
        let opened = spawn_blocking(move || open::writable(&to_open)).await.map_err(|_| StateError::Closed)??;
        Self::start(files, opened, settings)
    }

    /// Opens the state for reading only. Returns `None` if it does not exist.
    pub(crate) async fn open_existing(dir: &Path, settings: Settings) -> Result<Option<Self>, StateError> {
        let files = Files::of(dir);
        let to_open = files.clone();
        let opened = spawn_blocking(move || open::existing(&to_open)).await.map_err(|_| StateError::Closed)??;
        opened.map(|opened| Self::start(files, opened, settings)).transpose()
    }

    fn start(files: Files, opened: Opened, settings: Settings) -> Result<Self, StateError> {
        let key = opened.key.clone();
        let writer = Writer::start(files.database.clone(), opened)?;
        Ok(Self { place: files.database.display().to_string(), files, writer, key, settings })
    }
}

#[async_trait]
impl Backend for Sqlite {
    fn place(&self) -> &str {
        &self.place
    }

    fn seal_key(&self) -> &SealKey {
        &self.key
    }

    fn settings(&self) -> &Settings {
        &self.settings
    }

    async fn snapshot(&self) -> Result<Snapshot, StateError> {
        self.writer.read("reading the state", read::load).await
    }

    async fn runs(&self, limit: usize) -> Result<Vec<Run>, StateError> {
        self.writer.read("reading the history", move |db| read::load_runs(db, limit)).await
    }

    async fn drift(&self) -> Result<DriftHistory, StateError> {
        self.writer.read("reading the history of drift", drift::load).await
    }

    async fn note_drift(&self, note: &DriftNote) -> Result<(), StateError> {
        let note = note.clone();
        self.writer.write("recording the drift", move |db| drift::note(db, &note)).await
    }

    async fn acquire(&self, request: &LockRequest) -> Result<Taken, StateError> {
        let (request, settings, files) = (request.clone(), self.settings.clone(), self.files.clone());
        let work = move |db: &_| {
            let taken = lease::acquire(db, &request, &settings)?;
            open::remove_unused_next_key(db, &files);
            Ok(taken)
        };
        self.writer.write("taking the lock", work).await
    }

    async fn holder(&self) -> Result<Option<LockInfo>, StateError> {
        let settings = self.settings.clone();
        self.writer.read("reading the lock", move |db| lease::holder(db, &settings)).await
    }

    async fn force_release(&self, id: &str) -> Result<(), StateError> {
        let id = id.to_owned();
        self.writer.write("removing the lock", move |db| lease::force_release(db, &id)).await
    }

    async fn renew(&self, fence: &Fence) -> Result<Timestamp, StateError> {
        let (fence, settings) = (fence.clone(), self.settings.clone());
        self.writer.write("renewing the lock", move |db| lease::renew(db, &fence, &settings)).await
    }

    async fn release(&self, fence: &Fence) -> Result<(), StateError> {
        let fence = fence.clone();
        self.writer.write("releasing the lock", move |db| lease::release(db, &fence)).await
    }

    fn release_in_background(&self, fence: &Fence) {
        let fence = fence.clone();
        self.writer.write_in_background("releasing the lock", move |db| lease::release(db, &fence));
    }

    async fn write(&self, fence: &Fence, change: Change) -> Result<(), StateError> {
        let new_key = match &change {
            Change::Replace(contents) => Some(contents.key.clone()),
            _ => None,
        };
        if let Some(key) = &new_key {
            key::write_next(&self.files.next_key, key)?;
        }
        let (fence, settings, doing) = (fence.clone(), self.settings.clone(), change.doing());
        let work = move |db: &_| {
            lease::check(db, &fence, settings.now())?;
            change::make(&change, db)
        };
        self.writer.write(doing, work).await?;
        // If this is interrupted, the next process that opens the state does it.
        if new_key.is_some() { key::activate_next(&self.files.next_key, &self.files.key) } else { Ok(()) }
    }
}
