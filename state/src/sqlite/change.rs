//! Applies changes with SQL.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::error::Failure;
use super::read::{body, json, parse};
use crate::change::{Change, RUNS};
use crate::{Contents, Intent, Outcome, Output, Record, Run, RunEnd, StateError};

/// Applies a change.
pub(crate) fn make(change: &Change, db: &Connection) -> Result<(), Failure> {
    match change {
        Change::Begin(intents) => intents.iter().try_for_each(|intent| begin(db, intent)),
        Change::Finish { intent, outcome } => finish(db, intent, outcome),
        Change::Put(record) => put(db, record),
        Change::Remove { address } => remove(db, address),
        Change::Rename { from, to } => rename(db, from, to),
        Change::SetOutputs(outputs) => set_outputs(db, outputs),
        Change::SetNode { name, identity } => set_node(db, name, identity),
        Change::ForgetNode { name } => forget_node(db, name),
        Change::StartRun(run) => start_run(db, run),
        Change::FinishRun { id, end } => finish_run(db, id, end),
        Change::Replace(contents) => replace(db, contents),
    }
}

fn begin(db: &Connection, intent: &Intent) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO intents (id, address, body) VALUES (?1, ?2, ?3)")?.execute([
        &intent.id,
        &intent.address,
        &body(intent, &intent.id)?,
    ])?;
    Ok(())
}

fn finish(db: &Connection, id: &str, outcome: &Outcome) -> Result<(), Failure> {
    let address: Option<String> = db
        .prepare_cached("DELETE FROM intents WHERE id = ?1 RETURNING address")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(address) = address else {
        return Err(StateError::NoIntent { id: id.to_owned() }.into());
    };
    match outcome {
        Outcome::Put(record) => put(db, record),
        Outcome::Remove => delete(db, &address).map(drop),
        Outcome::Unchanged => Ok(()),
    }
}

fn put(db: &Connection, record: &Record) -> Result<(), Failure> {
    let sql = "INSERT INTO records VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET body = excluded.body WHERE body IS NOT excluded.body";
    let changed = db.prepare_cached(sql)?.execute([&record.address, &body(record, &record.address)?])?;
    count(db, changed).map(drop)
}

fn remove(db: &Connection, address: &str) -> Result<(), Failure> {
    if delete(db, address)? {
        return Ok(());
    }
    Err(StateError::NoRecord { address: address.to_owned() }.into())
}

fn delete(db: &Connection, address: &str) -> Result<bool, Failure> {
    let changed = db.prepare_cached("DELETE FROM records WHERE address = ?1")?.execute([address])?;
    count(db, changed)
}

fn rename(db: &Connection, from: &str, to: &str) -> Result<(), Failure> {
    let taken = |address| db.prepare_cached("SELECT 1 FROM records WHERE address = ?1")?.exists([address]);
    if !taken(from)? {
        return Err(StateError::NoRecord { address: from.to_owned() }.into());
    }
    if taken(to)? {
        return Err(StateError::RecordExists { address: to.to_owned() }.into());
    }
    for mut record in naming(db, from)? {
        let old = record.address.clone();
        record.rename(&|address: &str| (address == from).then(|| to.to_owned()));
        db.execute(
            "UPDATE records SET address = ?1, body = ?2 WHERE address = ?3",
            params![record.address, body(&record, &record.address)?, old],
        )?;
    }
    rename_intents(db, from, to)?;
    count(db, 1).map(drop)
}

/// Returns the records that can refer to an address: it searches for the address as a JSON string.
fn naming(db: &Connection, address: &str) -> Result<Vec<Record>, Failure> {
    let mut statement = db.prepare_cached("SELECT address, body FROM records WHERE instr(body, ?1)")?;
    let mut rows = statement.query([json(&address)?])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(parse(&row.get::<_, String>(1)?, &row.get::<_, String>(0)?)?);
    }
    Ok(found)
}

fn rename_intents(db: &Connection, from: &str, to: &str) -> Result<(), Failure> {
    let mut statement = db.prepare_cached("SELECT id, body FROM intents WHERE address = ?1")?;
    let rows = statement.query_map([from], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, text) in rows.collect::<Result<Vec<(String, String)>, _>>()? {
        let intent = Intent { address: to.to_owned(), ..parse(&text, &id)? };
        db.execute("UPDATE intents SET address = ?1, body = ?2 WHERE id = ?3", params![to, body(&intent, &id)?, id])?;
    }
    Ok(())
}

fn set_outputs(db: &Connection, outputs: &BTreeMap<String, Output>) -> Result<(), Failure> {
    let bodies: BTreeMap<_, _> =
        outputs.iter().map(|(name, output)| Ok((name, body(output, name)?))).collect::<Result<_, Failure>>()?;
    let mut changed = 0;
    let mut known = db.prepare_cached("SELECT name FROM outputs")?;
    for name in known.query_map([], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()? {
        if !bodies.contains_key(&name) {
            changed += db.execute("DELETE FROM outputs WHERE name = ?1", [name])?;
        }
    }
    let sql = "INSERT INTO outputs VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET body = excluded.body WHERE body IS NOT excluded.body";
    for (name, body) in bodies {
        changed += db.prepare_cached(sql)?.execute([name, &body])?;
    }
    count(db, changed).map(drop)
}

fn set_node(db: &Connection, name: &str, identity: &Value) -> Result<(), Failure> {
    let sql = "INSERT INTO nodes VALUES (?1, ?2)
        ON CONFLICT DO UPDATE SET identity = excluded.identity WHERE identity IS NOT excluded.identity";
    let changed = db.prepare_cached(sql)?.execute([name, &body(identity, name)?])?;
    count(db, changed).map(drop)
}

fn forget_node(db: &Connection, name: &str) -> Result<(), Failure> {
    let changed = db.prepare_cached("DELETE FROM nodes WHERE name = ?1")?.execute([name])?;
    count(db, changed).map(drop)
}

fn start_run(db: &Connection, run: &Run) -> Result<(), Failure> {
    let new = db.execute(
        "INSERT INTO runs (id, body) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        [&run.id, &body(run, &run.id)?],
    )?;
    if new == 0 {
        return Err(StateError::RunExists { id: run.id.clone() }.into());
    }
    db.execute(
        "DELETE FROM runs WHERE seq <= (SELECT max(seq) FROM runs) - ?1",
        [i64::try_from(RUNS).unwrap_or(i64::MAX)],
    )?;
    Ok(())
}

fn finish_run(db: &Connection, id: &str, end: &RunEnd) -> Result<(), Failure> {
    let text: Option<String> =
        db.query_row("SELECT body FROM runs WHERE id = ?1", [id], |row| row.get(0)).optional()?;
    let Some(text) = text else {
        return Err(StateError::NoRun { id: id.to_owned() }.into());
    };
    let run = Run { end: Some(end.clone()), ..parse(&text, id)? };
    db.execute("UPDATE runs SET body = ?1 WHERE id = ?2", [&body(&run, id)?, id])?;
    Ok(())
}

/// Increments the serial if rows changed, and returns whether they did.
fn count(db: &Connection, rows: usize) -> Result<bool, Failure> {
    if rows == 0 {
        return Ok(false);
    }
    db.prepare_cached("UPDATE state SET serial = serial + 1")?.execute([])?;
    Ok(true)
}

fn replace(db: &Connection, contents: &Contents) -> Result<(), Failure> {
    let Contents { snapshot, runs, key } = contents;
    db.execute_batch(
        "DELETE FROM records; DELETE FROM intents; DELETE FROM outputs; DELETE FROM nodes; DELETE FROM runs",
    )?;
    for record in snapshot.records.values() {
        db.prepare_cached("INSERT INTO records VALUES (?1, ?2)")?
            .execute([&record.address, &body(&**record, &record.address)?])?;
    }
    snapshot.intents.iter().try_for_each(|intent| begin(db, intent))?;
    for (name, output) in &snapshot.outputs {
        db.prepare_cached("INSERT INTO outputs VALUES (?1, ?2)")?.execute([name, &body(output, name)?])?;
    }
    for (name, identity) in &snapshot.nodes {
        db.prepare_cached("INSERT INTO nodes VALUES (?1, ?2)")?.execute([name, &body(identity, name)?])?;
    }
    runs.iter().rev().try_for_each(|run| start_run(db, run))?;
    let (lineage, serial) = (snapshot.lineage.as_str(), i64::try_from(snapshot.serial.get()).unwrap_or(i64::MAX));
    db.execute(
        "UPDATE state SET lineage = ?1, serial = ?2, key_check = ?3",
        params![lineage, serial, key.check(&snapshot.lineage).as_str()],
    )?;
    Ok(())
}
