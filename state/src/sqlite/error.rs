//! Converts errors of SQLite and the file system.

use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{AccessFlags, access};
use rusqlite::ErrorCode;

use crate::StateError;

impl StateError {
    /// Returns the error for an error of SQLite.
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
            // SQLite reports only "I/O error" if its shared memory or a quota is exhausted.
            Some(ErrorCode::SystemIoFailure) if is_full(&path) => Self::DiskFull { path, doing },
            Some(ErrorCode::ReadOnly) => Self::ReadOnly { path, doing },
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Self::Busy { path, doing },
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::Corrupt { place: path.display().to_string(), detail }
            }
            _ => Self::Database { path, doing, detail },
        }
    }
}

/// Returns whether the system refuses access to the database or to its folder, and why. SQLite does not report this.
fn refused(path: &Path) -> Option<(&Path, Errno)> {
    let reasons =
        [(path, AccessFlags::R_OK | AccessFlags::W_OK), (path.parent()?, AccessFlags::W_OK | AccessFlags::X_OK)];
    reasons.into_iter().find_map(|(path, wanted)| Some((path, access(path, wanted).err()?)))
}

/// Returns whether the file system is full.
pub(crate) fn is_full(path: &Path) -> bool {
    let folder = path.parent().unwrap_or(path);
    nix::sys::statvfs::statvfs(folder).is_ok_and(|fs| fs.blocks_available() == 0)
}

/// The error of a statement, without the file and the operation.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An error of SQLite.
    Sqlite(rusqlite::Error),
    /// A damaged row.
    Row(String),
    /// The request is invalid.
    State(StateError),
}

impl Failure {
    /// Adds the file and the operation.
    pub(crate) fn at(self, path: &Path, doing: &'static str) -> StateError {
        match self {
            Self::Sqlite(error) => StateError::sqlite(path, doing, &error),
            Self::Row(detail) => StateError::Corrupt { place: path.display().to_string(), detail },
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
