//! What can go wrong with a state, with the data that a message needs.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Lineage, LockInfo, Serial};

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Somebody else holds the lock.
    #[error("the state is locked: {0}")]
    Locked(Box<LockInfo>),
    /// The lock is not ours any more: it expired, or somebody took it. Nothing was written.
    #[error("the lock of this run is lost{}; nothing more is written", by(.now_held_by.as_deref()))]
    LockLost {
        /// Who holds it now, if anybody does.
        now_held_by: Option<Box<LockInfo>>,
    },
    /// A lock was to be removed and there is none.
    #[error("the state is not locked")]
    NotLocked,
    /// A lock was to be removed by an id that is not that of the lock.
    #[error("the lock has another id than `{given}`: {held}")]
    OtherLock {
        /// The id that was given.
        given: String,
        /// The lock that is held.
        held: Box<LockInfo>,
    },
    /// A newer moorfast wrote the state.
    #[error("{place} has the format {found}, written by a newer moorfast; this one knows formats up to {supported}")]
    Newer {
        /// The database.
        place: String,
        /// Its format.
        found: u64,
        /// The newest format that this program knows.
        supported: u64,
    },
    /// The file is a database of another program.
    #[error("{place} is not a state of moorfast")]
    Foreign {
        /// The database.
        place: String,
    },
    /// The state cannot be what moorfast wrote.
    #[error("{place} is damaged: {detail}; restore it from a backup")]
    Corrupt {
        /// The database.
        place: String,
        /// What does not fit.
        detail: String,
    },
    /// No room is left; what was acknowledged before is safe.
    #[error("no space left on the file system of {} while {doing}", .path.display())]
    DiskFull {
        /// The file or folder that was to be written.
        path: PathBuf,
        /// What was under way.
        doing: &'static str,
    },
    /// The file system, the folder or the way it was opened allows no writes.
    #[error("{} cannot be written (read-only) while {doing}", .path.display())]
    ReadOnly {
        /// The file or folder that was to be written.
        path: PathBuf,
        /// What was under way.
        doing: &'static str,
    },
    /// Another process kept the database to itself for longer than anybody should.
    #[error("{} is busy: another process stands still in the middle of a write (stopped?) while {doing}", .path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// What was under way.
        doing: &'static str,
    },
    /// Records exist, but the key that sealed them does not.
    #[error(
        "the key {place} is missing, but the state beside it holds values sealed with it; restore the key from a backup"
    )]
    KeyMissing {
        /// Where the key should be.
        place: String,
    },
    /// Others than the owner may read the key.
    #[error("the key {path} has mode {mode:04o}, so others than its owner can use it; run `chmod 600 {path}`, or 640 for a group that reads the state", path = .path.display())]
    KeyPermissions {
        /// The key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file does not hold a key.
    #[error("the key {place} has {len} bytes instead of 32; restore it from a backup")]
    KeyInvalid {
        /// The key.
        place: String,
        /// How many bytes it has.
        len: u64,
    },
    /// The key is one of another state.
    #[error("the key {place} is not the one that sealed the state beside it; restore the right one from a backup")]
    KeyMismatch {
        /// The key.
        place: String,
    },
    /// The state has no such resource.
    #[error("the state has no resource `{address}`")]
    NoRecord {
        /// The address that was asked for.
        address: String,
    },
    /// The address is taken.
    #[error("the state already has a resource `{address}`")]
    RecordExists {
        /// The address that was to be used.
        address: String,
    },
    /// No operation with this id is open: its outcome was written before, or it never began.
    #[error("no operation with the id {id} is open in the state")]
    NoIntent {
        /// The id of the intent.
        id: String,
    },
    /// An operation with this id is open already.
    #[error("an operation with the id {id} is open in the state already")]
    IntentExists {
        /// The id of the intent.
        id: String,
    },
    /// A run with this id began already.
    #[error("a run with the id {id} is in the state already")]
    RunExists {
        /// The id of the run.
        id: String,
    },
    /// The state knows no run with this id.
    #[error("the state knows no run with the id {id}")]
    NoRun {
        /// The id of the run.
        id: String,
    },
    /// The store does not answer, or broke off. It is unknown whether the last request was done; the next run finds out.
    #[error("{place} cannot be reached while {doing}: {detail}")]
    Unreachable {
        /// The store.
        place: String,
        /// What was under way.
        doing: &'static str,
        /// What was seen.
        detail: String,
    },
    /// The store refused: no right to do it, a wrong name, a quota.
    #[error("{place} refused it while {doing}: {detail}")]
    Refused {
        /// The store.
        place: String,
        /// What was under way.
        doing: &'static str,
        /// What the store said.
        detail: String,
    },
    /// The backend is configured in a way that cannot work.
    #[error("{0}")]
    Config(String),
    /// Another state is in the place where one was to be put.
    #[error("{place} holds another state already: lineage {found}, not {given}")]
    OtherLineage {
        /// The store.
        place: String,
        /// The lineage there.
        found: Lineage,
        /// The lineage that was to be put there.
        given: Lineage,
    },
    /// A newer version of the state is in the place where one was to be put.
    #[error("{place} holds version {found} of the state already, and version {given} is not newer")]
    OlderSerial {
        /// The store.
        place: String,
        /// The version there.
        found: Serial,
        /// The version that was to be put there.
        given: Serial,
    },
    /// The operating system refused.
    #[error("{}: {source} while {doing}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was under way.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// SQLite refused for a reason that has no case of its own.
    #[error("{}: {detail} while {doing}", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// What was under way.
        doing: &'static str,
        /// What SQLite said.
        detail: String,
    },
    /// The part that writes the state ended before it answered. It is unknown whether the request was done.
    #[error("the state was closed before it answered")]
    Closed,
}

fn by(holder: Option<&LockInfo>) -> String {
    holder.map(|info| format!(", now held by {info}")).unwrap_or_default()
}

impl StateError {
    /// The error for what the operating system said, full disk and read-only told apart.
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, doing },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, doing },
            _ => Self::Io { path, doing, source },
        }
    }
}
