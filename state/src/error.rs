//! What can go wrong with a state, with the data that a message needs.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use rusqlite::ErrorCode;

use crate::LockInfo;

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
    #[error("{} has the format {found}, written by a newer moorfast; this one knows formats up to {supported}", .path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest format that this program knows.
        supported: u64,
    },
    /// The file is a database of another program.
    #[error("{} is not a state of moorfast", .path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// The state cannot be what moorfast wrote.
    #[error("{} is damaged: {detail}; restore it from a backup", .path.display())]
    Corrupt {
        /// The database.
        path: PathBuf,
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
    #[error("the key {} is missing, but the state beside it holds values sealed with it; restore the key from a backup", .path.display())]
    KeyMissing {
        /// Where the key should be.
        path: PathBuf,
    },
    /// Others than the owner may read the key.
    #[error("the key {path} has mode {mode:04o}, so others than its owner can use it; run `chmod 600 {path}`", path = .path.display())]
    KeyPermissions {
        /// The key.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file does not hold a key.
    #[error("the key {} has {len} bytes instead of 32; restore it from a backup", .path.display())]
    KeyInvalid {
        /// The key.
        path: PathBuf,
        /// How many bytes it has.
        len: u64,
    },
    /// The key is one of another state.
    #[error("the key {} is not the one that sealed the state beside it; restore the right one from a backup", .path.display())]
    KeyMismatch {
        /// The key.
        path: PathBuf,
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
    /// The state knows no run with this id.
    #[error("the state knows no run with the id {id}")]
    NoRun {
        /// The id of the run.
        id: String,
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

    /// The error for what SQLite said.
    pub(crate) fn sqlite(path: &Path, doing: &'static str, error: &rusqlite::Error) -> Self {
        let code = error.sqlite_error_code();
        if matches!(code, Some(ErrorCode::CannotOpen))
            && let Some((path, errno)) = refused(path)
        {
            return Self::io(path, doing, errno.into());
        }
        let path = path.to_owned();
        let detail = error.to_string();
        match code {
            Some(ErrorCode::DiskFull) => Self::DiskFull { path, doing },
            // SQLite says no more than "I/O error" where its shared memory or a quota is what ran out.
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => Self::DiskFull { path, doing },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path, doing },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, doing },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt { path, detail },
            _ => Self::Database { path, doing, detail },
        }
    }
}

/// What SQLite keeps to itself where it cannot open something: which of the database and its folder the system refuses, and why.
fn refused(path: &Path) -> Option<(&Path, Errno)> {
    let reasons =
        [(path, AccessFlags::R_OK | AccessFlags::W_OK), (path.parent()?, AccessFlags::W_OK | AccessFlags::X_OK)];
    reasons.into_iter().find_map(|(path, wanted)| Some((path, access(path, wanted).err()?)))
}

/// True where the file system has no room left.
pub(crate) fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    nix::sys::statvfs::statvfs(folder).is_ok_and(|fs| fs.blocks_available() == 0)
}

/// What a statement failed with, before it is known which file and which request it belongs to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// SQLite refused.
    Sqlite(rusqlite::Error),
    /// A row does not hold what we write there.
    Row(String),
    /// The request itself cannot be done.
    State(StateError),
}

impl Failure {
    /// The error to hand out.
    pub(crate) fn at(self, path: &Path, doing: &'static str) -> StateError {
        match self {
            Self::Sqlite(error) => StateError::sqlite(path, doing, &error),
            Self::Row(detail) => StateError::Corrupt { path: path.to_owned(), detail },
            Self::State(error) => error,
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(error)
    }
}
