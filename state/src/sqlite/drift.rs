//! The history of drift as a row.

use rusqlite::{Connection, OptionalExtension};

use super::error::Failure;
use super::read::{body, parse};
use crate::DriftHistory;
use crate::drift::DriftNote;

/// Reads the history. A database of an older format that is open for reading has no history.
pub(crate) fn load(db: &Connection) -> Result<DriftHistory, Failure> {
    if !db.table_exists(None, "drift")? {
        return Ok(DriftHistory::default());
    }
    let text: Option<String> = db.query_row("SELECT body FROM drift", [], |row| row.get(0)).optional()?;
    text.map_or_else(|| Ok(DriftHistory::default()), |text| parse(&text, "drift"))
}

/// Adds to the history.
pub(crate) fn note(db: &Connection, note: &DriftNote) -> Result<(), Failure> {
    let history = load(db)?.with(note);
    db.execute("INSERT OR REPLACE INTO drift VALUES (1, ?1)", [body(&history, "drift")?])?;
    Ok(())
}
