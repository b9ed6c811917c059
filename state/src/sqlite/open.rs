//! Opens the database for writing or for reading only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, params};
use tempfile::TempDir;

use super::read::contains_digests;
use super::{key, schema};
use crate::{Lineage, SealKey, StateError};

/// How long a write waits for another process. Writes take milliseconds, so this allows for a machine under load.
const BUSY: Duration = Duration::from_secs(10);

/// The files of a state.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) dir: PathBuf,
    pub(crate) database: PathBuf,
    pub(crate) key: PathBuf,
    /// The new key while it replaces `key`.
    pub(crate) next_key: PathBuf,
}

impl Files {
    pub(crate) fn of(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
            database: dir.join("state.db"),
            key: dir.join("state.key"),
            next_key: dir.join("state.key.next"),
        }
    }
}

/// An open database with its key.
pub(crate) struct Opened {
    pub(crate) db: Connection,
    pub(crate) key: SealKey,
    /// The folder of the copy, if a copy of the database is open.
    pub(crate) _copy: Option<TempDir>,
}

/// Opens the state for writing; creates missing files.
pub(crate) fn writable(files: &Files) -> Result<Opened, StateError> {
    let path = &files.database;
    let fail = |error: &rusqlite::Error| StateError::sqlite(path, "opening the state", error);
    if !exists(path)? {
        create(files)?;
    }
    let mut db = connect(path).map_err(|error| fail(&error))?;
    schema::check(&db, path)?;
    schema::migrate(&mut db)
        .map_err(|error| StateError::sqlite(path, "migrating the state to the current format", &error))?;
    let key = match find_key(&db, files)? {
        Some((key, path)) => {
            if path == &files.next_key {
                key::activate_next(path, &files.key)?;
            }
            key
        }
        None if !has_digests(&db, path)? => assign_key(&db, files)?,
        None => return Err(StateError::KeyMissing { place: files.key.display().to_string() }),
    };
    Ok(Opened { db, key, _copy: None })
}

/// Opens the state for reading only. Returns `None` if there is no database.
pub(crate) fn existing(files: &Files) -> Result<Option<Opened>, StateError> {
    let path = &files.database;
    if !exists(path)? {
        return Ok(None);
    }
    let (db, copy) = reader(path)?;
    schema::check(&db, path)?;
    let Some((key, _)) = find_key(&db, files)? else {
        // A state without a key and without digests counts as no state.
        return if has_digests(&db, path)? {
            Err(StateError::KeyMissing { place: files.key.display().to_string() })
        } else {
            Ok(None)
        };
    };
    Ok(Some(Opened { db, key, _copy: copy }))
}

/// Returns the key of the state and its path, or `None` if there is no key.
fn find_key<'f>(db: &Connection, files: &'f Files) -> Result<Option<(SealKey, &'f PathBuf)>, StateError> {
    let mut other_key = false;
    for path in [&files.key, &files.next_key] {
        match key::read(path)? {
            Some(key) if is_key_of(db, &files.database, &key)? => return Ok(Some((key, path))),
            Some(_) => other_key = true,
            None => {}
        }
    }
    if other_key && has_digests(db, &files.database)? {
        return Err(StateError::KeyMismatch { place: files.key.display().to_string() });
    }
    Ok(None)
}

/// Removes the next key of an earlier holder of the lock who did not complete the replacement. A failure is ignored: the next run tries again.
pub(crate) fn remove_unused_next_key(db: &Connection, files: &Files) {
    if matches!(find_key(db, files), Ok(Some((_, path))) if path == &files.key) {
        fs::remove_file(&files.next_key).ok();
    }
}

fn exists(path: &Path) -> Result<bool, StateError> {
    match fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StateError::io(path, "opening the state", error)),
    }
}

/// Creates folder, key and database, in this order, so that no database exists without its key.
fn create(files: &Files) -> Result<(), StateError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&files.dir)
        .map_err(|error| StateError::io(&files.dir, "creating the folder of the state", error))?;
    if let Some(parent) = files.dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        // A parent that cannot be opened existed before.
        File::open(parent).and_then(|folder| folder.sync_all()).ok();
    }
    let key = key::read_or_create(&files.key)?;
    let path = &files.database;
    let doing = "creating the state";
    // The database is built under another name, so that no reader finds a partial one.
    let temporary = tempfile::Builder::new()
        .prefix(".state.db.")
        .tempfile_in(&files.dir)
        .map_err(|error| StateError::io(path, doing, error))?
        .into_temp_path();
    build(&temporary, &key).map_err(|error| StateError::sqlite(path, doing, &error))?;
    // If another process was faster, its database is used.
    key::place(temporary, path).map_err(|error| StateError::io(path, doing, error))?;
    Ok(())
}

/// Writes an empty state into an empty file.
fn build(path: &Path, key: &SealKey) -> rusqlite::Result<()> {
    let mut db = connect(path)?;
    schema::migrate(&mut db)?;
    let lineage = Lineage::generate();
    db.execute("INSERT INTO state VALUES (1, ?1, 0, 0, ?2)", params![lineage.as_str(), key.check(&lineage).as_str()])?;
    db.pragma_update(None, "journal_mode", "WAL")?;
    // Closing merges the log into the database; only this call returns its errors.
    db.close().map_err(|(_, error)| error)
}

fn is_key_of(db: &Connection, path: &Path, key: &SealKey) -> Result<bool, StateError> {
    let (lineage, check): (String, String) = db
        .query_row("SELECT lineage, key_check FROM state", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .map_err(|error| StateError::sqlite(path, "reading the state", &error))?;
    Ok(key.digest(lineage.as_bytes()).as_str() == check)
}

fn has_digests(db: &Connection, path: &Path) -> Result<bool, StateError> {
    contains_digests(db).map_err(|failure| failure.at(path, "reading the state"))
}

/// Assigns a new key to an empty state.
fn assign_key(db: &Connection, files: &Files) -> Result<SealKey, StateError> {
    let fail = |error| StateError::sqlite(&files.database, "assigning a new key to the state", &error);
    let key = key::read_or_create(&files.key)?;
    let lineage: String = db.query_row("SELECT lineage FROM state", [], |row| row.get(0)).map_err(fail)?;
    let check = key.digest(lineage.as_bytes());
    db.execute("UPDATE state SET key_check = ?1", [check.as_str()]).map_err(fail)?;
    Ok(key)
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    db.busy_timeout(BUSY)?;
    db.pragma_update(None, "synchronous", "FULL")?;
    db.pragma_update(None, "foreign_keys", true)?;
    Ok(db)
}

/// Returns a connection that does not write. It is opened for writing if possible, because only then does a reader take part in
/// SQLite's locking, recover the log of a killed process, and leave no side files behind.
fn reader(path: &Path) -> Result<(Connection, Option<TempDir>), StateError> {
    let fail = |error: &rusqlite::Error| StateError::sqlite(path, "opening the state for reading", error);
    match try_reader(path) {
        Ok(db) => Ok((db, None)),
        Err(error) if cannot_create_side_files(path, &error) => {
            let copy = copy(path).map_err(|error| StateError::io(path, "copying the state to read it", error))?;
            let db = try_reader(&copy.path().join("state.db")).map_err(|error| fail(&error))?;
            Ok((db, Some(copy)))
        }
        Err(error) => Err(fail(&error)),
    }
}

fn try_reader(path: &Path) -> rusqlite::Result<Connection> {
    let db = connect(path)?;
    db.pragma_update(None, "query_only", true)?;
    // SQLite opens the log with the first read.
    db.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))?;
    Ok(db)
}

/// Returns whether SQLite's shared memory beside the database does not exist and cannot be created. Then a copy can be read instead.
fn cannot_create_side_files(path: &Path, error: &rusqlite::Error) -> bool {
    let reason = StateError::sqlite(path, "opening the state for reading", error);
    matches!(reason, StateError::ReadOnly { .. } | StateError::DiskFull { .. } | StateError::Io { .. })
}

/// Returns a private copy of the database and its log.
fn copy(path: &Path) -> io::Result<TempDir> {
    let dir = tempfile::Builder::new().prefix("moorfast-").tempdir()?;
    duplicate(path, &dir.path().join("state.db"))?;
    match duplicate(&path.with_file_name("state.db-wal"), &dir.path().join("state.db-wal")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(dir),
    }
}

/// Copies the content without the mode, because the copy must be writable.
fn duplicate(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut File::create_new(to)?).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_commit_is_synced_to_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let opened = writable(&Files::of(dir.path())).unwrap();
        let value =
            |pragma| opened.db.pragma_query_value(None, pragma, |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        assert_eq!(value("journal_mode"), "wal".to_owned().into());
        assert_eq!(value("synchronous"), 2.into(), "FULL");
    }
}
