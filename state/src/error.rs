//! Errors of the state, with the data that their messages need.

use std::io;
use std::path::{Path, PathBuf};

use crate::{Lineage, LockInfo, Serial};

/// An error that occurred while the state was read or written.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// Another run holds the lock.
    #[error("the state is locked: {0}")]
    Locked(Box<LockInfo>),
    /// This run lost its lock: the lock expired, or another run took it. Nothing was written.
    #[error("the lock of this run is lost{}; nothing more is written", held_by(.now_held_by.as_deref()))]
    LockLost {
        /// The current holder of the lock.
        now_held_by: Option<Box<LockInfo>>,
    },
    /// There is no lock to release.
    #[error("the state is not locked")]
    NotLocked,
    /// The lock to release has another id.
    #[error("the id of the lock is not `{given}`: {held}")]
    OtherLock {
        /// The id in the request.
        given: String,
        /// The lock that is held.
        held: Box<LockInfo>,
    },
    /// A newer moorfast wrote the state.
    #[error(
        "{place} has the format {found}, written by a newer moorfast; this version supports formats up to {supported}"
    )]
    Newer {
        /// The database.
        place: String,
        /// Its format.
        found: u64,
        /// The newest supported format.
        supported: u64,
    },
    /// The file is a database of another program.
    #[error("{place} is not a state of moorfast")]
    Foreign {
        /// The database.
        place: String,
    },
    /// The content of the state is damaged.
    #[error("{place} is damaged: {detail}; restore it from a backup")]
    Corrupt {
        /// The database.
        place: String,
        /// The damaged part.
        detail: String,
    },
    /// The file system is full. Earlier acknowledged writes are stored.
    #[error("no space left on the file system of {} while {doing}", .path.display())]
    DiskFull {
        /// The file or folder to write.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
    },
    /// The file system or the folder is read-only, or the store was opened read-only.
    #[error("{} cannot be written (read-only) while {doing}", .path.display())]
    ReadOnly {
        /// The file or folder to write.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
    },
    /// Another process holds the write lock of the database for too long.
    #[error("{} is busy while {doing}: another process does not finish its write, it may be suspended", .path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
    },
    /// Records exist, but their key does not.
    #[error(
        "the key {place} is missing, but the state contains digests that were made with it; restore the key from a backup"
    )]
    KeyMissing {
        /// The place of the key.
        place: String,
    },
    /// Users other than the owner can use the key.
    #[error("the key {path} has mode {mode:04o}, so other users can use it; run `chmod 600 {path}`, or `chmod 640 {path}` if a group reads the state", path = .path.display())]
    KeyPermissions {
        /// The key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file does not contain a key.
    #[error("the key {place} has {len} bytes instead of 32; restore it from a backup")]
    KeyInvalid {
        /// The key.
        place: String,
        /// Its size in bytes.
        len: u64,
    },
    /// The key belongs to another state.
    #[error("the key {place} does not belong to the state beside it; restore its key from a backup")]
    KeyMismatch {
        /// The key.
        place: String,
    },
    /// The state has no resource with this address.
    #[error("the state has no resource `{address}`")]
    NoRecord {
        /// The address in the request.
        address: String,
    },
    /// The state already has a resource with this address.
    #[error("the state already has a resource `{address}`")]
    RecordExists {
        /// The address in the request.
        address: String,
    },
    /// No operation with this id is open: its outcome is already recorded, or it never started.
    #[error("no operation with the id {id} is open in the state")]
    NoIntent {
        /// The id of the intent.
        id: String,
    },
    /// An operation with this id is already open.
    #[error("the state already has an open operation with the id {id}")]
    IntentExists {
        /// The id of the intent.
        id: String,
    },
    /// The state already has a run with this id.
    #[error("the state already has a run with the id {id}")]
    RunExists {
        /// The id of the run.
        id: String,
    },
    /// The state has no run with this id.
    #[error("the state has no run with the id {id}")]
    NoRun {
        /// The id of the run.
        id: String,
    },
    /// The store does not answer. Whether the last request was done is unknown; the next run reads the state again.
    #[error("{place} cannot be reached while {doing}: {detail}")]
    Unreachable {
        /// The store.
        place: String,
        /// The operation.
        doing: &'static str,
        /// The cause.
        detail: String,
    },
    /// The store refused the request: missing rights, a wrong name, a quota.
    #[error("{place} refused the request while {doing}: {detail}")]
    Refused {
        /// The store.
        place: String,
        /// The operation.
        doing: &'static str,
        /// The answer of the store.
        detail: String,
    },
    /// The configuration of the backend is invalid.
    #[error("{0}")]
    Config(String),
    /// The destination contains another state.
    #[error("{place} already contains another state: lineage {found}, not {given}")]
    OtherLineage {
        /// The store.
        place: String,
        /// The lineage of the existing state.
        found: Lineage,
        /// The lineage of the new state.
        given: Lineage,
    },
    /// The destination contains the same or a newer version of the state.
    #[error("{place} already contains version {found} of the state, and version {given} is not newer")]
    OlderSerial {
        /// The store.
        place: String,
        /// The existing version.
        found: Serial,
        /// The new version.
        given: Serial,
    },
    /// An error of the operating system.
    #[error("{}: {source} while {doing}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Any other error of SQLite.
    #[error("{}: {detail} while {doing}", .path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The operation.
        doing: &'static str,
        /// The message of SQLite.
        detail: String,
    },
    /// The writer of the state ended before it answered. Whether the request was done is unknown.
    #[error("the state was closed before it answered")]
    Closed,
}

fn held_by(holder: Option<&LockInfo>) -> String {
    holder.map(|info| format!(", now held by {info}")).unwrap_or_default()
}

impl StateError {
    /// Returns the error for an I/O error; a full disk and a read-only file system have variants of their own.
    pub(crate) fn io(path: &Path, doing: &'static str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path, doing },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path, doing },
            _ => Self::Io { path, doing, source },
        }
    }
}
