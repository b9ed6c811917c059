//! The tables and their migrations.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::StateError;

/// The `application_id` of moorfast's databases: "moor".
pub(crate) const APPLICATION_ID: i64 = 0x6d6f_6f72;

/// Step N migrates a database of format N to format N + 1. A released step is never edited.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE state (
        one       INTEGER PRIMARY KEY CHECK (one = 1),
        lineage   TEXT    NOT NULL,
        serial    INTEGER NOT NULL,
        epoch     INTEGER NOT NULL,
        key_check TEXT    NOT NULL
    ) STRICT;
    CREATE TABLE records (
        address  TEXT PRIMARY KEY,
        body     TEXT NOT NULL
    ) STRICT;
    CREATE TABLE intents (
        seq      INTEGER PRIMARY KEY AUTOINCREMENT,
        id       TEXT NOT NULL UNIQUE,
        address  TEXT NOT NULL,
        body     TEXT NOT NULL
    ) STRICT;
    CREATE TABLE outputs (
        name     TEXT PRIMARY KEY,
        body     TEXT NOT NULL
    ) STRICT;
    CREATE TABLE nodes (
        name     TEXT PRIMARY KEY,
        identity TEXT NOT NULL
    ) STRICT;
    CREATE TABLE runs (
        seq      INTEGER PRIMARY KEY AUTOINCREMENT,
        id       TEXT NOT NULL UNIQUE,
        body     TEXT NOT NULL
    ) STRICT;
    CREATE TABLE lock (
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        body     TEXT NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE drift (
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        body     TEXT NOT NULL
    ) STRICT;
",
    // From this format on, bodies have a checksum, which an older moorfast cannot read. Older bodies have none until they change.
    "",
];

/// Checks that `db` is a state in this format or an older one.
pub(crate) fn check(db: &Connection, path: &Path) -> Result<(), StateError> {
    let value = |pragma| db.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let (id, found) = value("application_id")
        .and_then(|id| Ok((id, value("user_version")?)))
        .map_err(|error| StateError::sqlite(path, "reading its format", &error))?;
    if id == 0 && found == 0 && !db.table_exists(None, "state").unwrap_or(true) {
        return Err(StateError::Corrupt { place: path.display().to_string(), detail: "it is empty".into() });
    }
    if id != APPLICATION_ID {
        return Err(StateError::Foreign { place: path.display().to_string() });
    }
    let (found, supported) = (found.unsigned_abs(), MIGRATIONS.len() as u64);
    if found > supported {
        return Err(StateError::Newer { place: path.display().to_string(), found, supported });
    }
    Ok(())
}

/// Migrates `db` to the current format in one transaction.
pub(crate) fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    apply(db, MIGRATIONS)
}

fn apply(db: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    // SQLite stores it in 32 bits.
    let target = u32::try_from(steps.len()).unwrap_or(u32::MAX);
    let version = |db: &Connection| db.pragma_query_value(None, "user_version", |row| row.get::<_, u32>(0));
    if version(db)? >= target {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process can have migrated while this one waited for the write lock.
    let found = version(&transaction)?;
    for step in steps.iter().skip(found as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", target)?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_runs_once_and_only_on_an_older_format() {
        let mut db = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1);";
        let second = "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = 'from ' || x;";
        apply(&mut db, &[first]).unwrap();
        apply(&mut db, &[first]).unwrap();
        apply(&mut db, &[first, second]).unwrap();
        let rows: (i64, String) = db.query_row("SELECT x, y FROM a", [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(rows, (1, "from 1".into()));
    }

    #[test]
    fn a_failed_step_changes_nothing() {
        let mut db = Connection::open_in_memory().unwrap();
        let first = "CREATE TABLE a (x INTEGER);";
        apply(&mut db, &[first]).unwrap();
        assert!(apply(&mut db, &[first, "CREATE TABLE b (x INTEGER); nonsense;"]).is_err());
        let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
        assert_eq!(version, 1);
        assert!(!db.table_exists(None, "b").unwrap());
    }
}
