//! Reads the tables, and encodes rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde::{Serialize, de::DeserializeOwned};

use super::error::Failure;
use crate::checksum;
use crate::{Lineage, Record, Run, Serial, Snapshot};

/// Reads the whole state. The result is consistent if `db` is in a transaction.
pub(crate) fn load(db: &Connection) -> Result<Snapshot, Failure> {
    let (lineage, serial): (String, i64) =
        db.query_row("SELECT lineage, serial FROM state", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(Snapshot {
        lineage: Lineage::from(lineage),
        serial: Serial::from(serial.unsigned_abs()),
        records: records(db)?,
        intents: values(bodies(db, "SELECT id, body FROM intents ORDER BY seq")?),
        outputs: bodies(db, "SELECT name, body FROM outputs")?.into_iter().collect(),
        nodes: bodies(db, "SELECT name, identity FROM nodes")?.into_iter().collect(),
    })
}

/// Reads the last runs, newest first.
pub(crate) fn load_runs(db: &Connection, limit: usize) -> Result<Vec<Run>, Failure> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let sql = format!("SELECT id, body FROM runs ORDER BY seq DESC LIMIT {limit}");
    Ok(values(bodies(db, &sql)?))
}

fn records(db: &Connection) -> Result<BTreeMap<String, Arc<Record>>, Failure> {
    let mut records = Vec::new();
    // A record is large, so it is not moved again.
    each_body(db, "SELECT address, body FROM records", |address, record| records.push((address, Arc::new(record))))?;
    Ok(records.into_iter().collect())
}

/// Returns whether the state contains records or outputs, whose digests need the key.
pub(crate) fn contains_digests(db: &Connection) -> Result<bool, Failure> {
    let found =
        db.query_row("SELECT 1 FROM records UNION ALL SELECT 1 FROM outputs LIMIT 1", [], |_| Ok(())).optional()?;
    Ok(found.is_some())
}

fn values<T>(pairs: Vec<(String, T)>) -> Vec<T> {
    pairs.into_iter().map(|(_, value)| value).collect()
}

/// Returns the rows of a query for a key and a body, with decoded bodies.
fn bodies<T: DeserializeOwned>(db: &Connection, sql: &str) -> Result<Vec<(String, T)>, Failure> {
    let mut found = Vec::new();
    each_body(db, sql, |key, body| found.push((key, body)))?;
    Ok(found)
}

/// Passes the rows of a query for a key and a body to `take`, with decoded bodies.
fn each_body<T: DeserializeOwned>(db: &Connection, sql: &str, mut take: impl FnMut(String, T)) -> Result<(), Failure> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        let body = parse(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?, &key)?;
        take(key, body);
    }
    Ok(())
}

/// Decodes the body of the row `key`.
pub(crate) fn parse<T: DeserializeOwned>(body: &str, key: &str) -> Result<T, Failure> {
    let json = checksum::verify(body, key).map_err(Failure::Row)?;
    serde_json::from_str(json).map_err(|error| Failure::Row(format!("the row `{key}` cannot be read: {error}")))
}

/// Encodes the body of the row `key`: JSON and a checksum.
pub(crate) fn body(value: &impl Serialize, key: &str) -> Result<String, Failure> {
    Ok(checksum::append(&json(value)?, key))
}

/// Encodes a value as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::Row(format!("a value cannot be written as JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_body_of_an_older_moorfast_has_no_checksum() {
        assert_eq!(parse::<String>(r#""a #0123""#, "x").unwrap(), "a #0123");
        assert!(parse::<String>(&body(&"a", "x").unwrap(), "y").is_err(), "another key");
    }

    proptest! {
        #[test]
        fn a_flipped_bit_is_detected(text in ".{0,30}", at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let whole = body(&text, "ssh_file.a").unwrap();
            prop_assert_eq!(parse::<String>(&whole, "ssh_file.a").unwrap(), text);
            let mut bytes = whole.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // SQLite refuses text that is not UTF-8.
            if let Ok(damaged) = String::from_utf8(bytes) {
                prop_assert!(parse::<String>(&damaged, "ssh_file.a").is_err(), "{}", damaged);
            }
        }
    }
}
