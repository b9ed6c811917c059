//! Reading the tables.

use rusqlite::{Connection, OptionalExtension, types::FromSql};
use serde::{Serialize, de::DeserializeOwned};

use super::Failure;
use crate::{Lineage, Run, Serial, Snapshot};

/// Reads everything. It is consistent where `db` is in a transaction.
pub(crate) fn load(db: &Connection) -> Result<Snapshot, Failure> {
    let (lineage, serial): (String, i64) =
        db.query_row("SELECT lineage, serial FROM state", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Snapshot {
        lineage: Lineage::from(lineage),
        serial: Serial::from(serial.unsigned_abs()),
        records: bodies(db, "SELECT address, body FROM records")?.into_iter().collect(),
        intents: values(bodies::<i64, _>(db, "SELECT seq, body FROM intents ORDER BY seq")?),
        outputs: bodies(db, "SELECT name, body FROM outputs")?.into_iter().collect(),
        nodes: bodies(db, "SELECT name, identity FROM nodes")?.into_iter().collect(),
    })
}

/// Reads the last runs, newest first.
pub(crate) fn load_runs(db: &Connection, limit: usize) -> Result<Vec<Run>, Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("SELECT seq, body FROM runs ORDER BY seq DESC LIMIT {limit}");
    Ok(values(bodies::<i64, _>(db, &sql)?))
}

/// True where the state holds something that was sealed with the key.
pub(crate) fn holds_sealed(db: &Connection) -> Result<bool, Failure> {
    let found =
        db.query_row("SELECT 1 FROM records UNION ALL SELECT 1 FROM outputs LIMIT 1", [], |_| Ok(())).optional()?;
    Ok(found.is_some())
}

fn values<K, T>(pairs: Vec<(K, T)>) -> Vec<T> {
    pairs.into_iter().map(|(_, value)| value).collect()
}

/// The rows of a query for a key and a body, the bodies read as JSON.
fn bodies<K: FromSql + ToString, T: DeserializeOwned>(db: &Connection, sql: &str) -> Result<Vec<(K, T)>, Failure> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let key: K = row.get(0)?;
        let body = parse(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?, &key.to_string())?;
        found.push((key, body));
    }
    Ok(found)
}

/// The value of a body that we wrote; `of` names the row.
pub(crate) fn parse<T: DeserializeOwned>(body: &str, of: &str) -> Result<T, Failure> {
    serde_json::from_str(body).map_err(|error| Failure::Row(format!("the row of `{of}` cannot be read: {error}")))
}

/// The body of a value.
pub(crate) fn body(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Row(format!("a value cannot be written as JSON: {error}")))
}
