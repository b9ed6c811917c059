//! The changes that a holder of the lock can make, and each as SQL.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use crate::error::Failure;
use crate::snapshot::{body, parse};
use crate::{Intent, Outcome, Output, Record, Run, RunEnd, StateError};

/// How many runs are remembered.
const RUNS: i64 = 1000;

/// A change of the state. It happens as a whole or not at all.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Begin(Vec<Intent>),
    Finish { intent: String, outcome: Outcome },
    Put(Record),
    Remove { address: String },
    Rename { from: String, to: String },
    SetOutputs(BTreeMap<String, Output>),
    SetNode { name: String, identity: Value },
    StartRun(Run),
    FinishRun { id: String, end: RunEnd },
}

impl Change {
    /// What it does, for an error.
    pub(crate) fn doing(&self) -> &'static str {
        match self {
            Self::Begin(_) => "recording that operations begin",
            Self::Finish { .. } => "recording the outcome of an operation",
            Self::Put(_) => "recording a resource",
            Self::Remove { .. } => "removing a resource from the state",
            Self::Rename { .. } => "renaming a resource in the state",
            Self::SetOutputs(_) => "recording the outputs",
            Self::SetNode { .. } => "recording the identity of a node",
            Self::StartRun(_) => "recording the start of the run",
            Self::FinishRun { .. } => "recording the end of the run",
        }
    }

    /// Makes it.
    pub(crate) fn apply(&self, db: &Connection) -> Result<(), Failure> {
        match self {
            Self::Begin(intents) => intents.iter().try_for_each(|intent| begin(db, intent)),
            Self::Finish { intent, outcome } => finish(db, intent, outcome),
            Self::Put(record) => put(db, record),
            Self::Remove { address } => remove(db, address),
            Self::Rename { from, to } => rename(db, from, to),
            Self::SetOutputs(outputs) => set_outputs(db, outputs),
            Self::SetNode { name, identity } => set_node(db, name, identity),
            Self::StartRun(run) => start_run(db, run),
            Self::FinishRun { id, end } => finish_run(db, id, end),
        }
    }
}

fn begin(db: &Connection, intent: &Intent) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO intents (id, address, body) VALUES (?1, ?2, ?3)")?.execute([
        &intent.id,
        &intent.address,
        &body(intent)?,
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
    let changed = db.prepare_cached(sql)?.execute([&record.address, &body(record)?])?;
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
        rename_in(&mut record, from, to);
        db.execute(
            "UPDATE records SET address = ?1, body = ?2 WHERE address = ?3",
            params![record.address, body(&record)?, old],
        )?;
    }
    rename_intents(db, from, to)?;
    count(db, 1).map(drop)
}

/// The records that may name an address: the text is looked for as JSON writes it.
fn naming(db: &Connection, address: &str) -> Result<Vec<Record>, Failure> {
    let mut statement = db.prepare_cached("SELECT body FROM records WHERE instr(body, ?1)")?;
    let mut rows = statement.query([body(&address)?])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(parse(&row.get::<_, String>(0)?, address)?);
    }
    Ok(found)
}

fn rename_in(record: &mut Record, from: &str, to: &str) {
    let named = std::iter::once(&mut record.address).chain(&mut record.dependencies);
    named.filter(|address| *address == from).for_each(|address| to.clone_into(address));
    if let Some(digest) = record.triggers.remove(from) {
        record.triggers.insert(to.to_owned(), digest);
    }
}

fn rename_intents(db: &Connection, from: &str, to: &str) -> Result<(), Failure> {
    let mut statement = db.prepare_cached("SELECT body FROM intents WHERE address = ?1")?;
    let bodies: Vec<String> = statement.query_map([from], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for text in bodies {
        let intent = Intent { address: to.to_owned(), ..parse(&text, from)? };
        db.execute("UPDATE intents SET address = ?1, body = ?2 WHERE id = ?3", params![to, body(&intent)?, intent.id])?;
    }
    Ok(())
}

fn set_outputs(db: &Connection, outputs: &BTreeMap<String, Output>) -> Result<(), Failure> {
    let bodies: BTreeMap<_, _> =
        outputs.iter().map(|(name, output)| Ok((name, body(output)?))).collect::<Result<_, Failure>>()?;
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
    let changed = db.prepare_cached(sql)?.execute([name, &body(identity)?])?;
    count(db, changed).map(drop)
}

fn start_run(db: &Connection, run: &Run) -> Result<(), Failure> {
    db.execute("INSERT INTO runs (id, body) VALUES (?1, ?2)", [&run.id, &body(run)?])?;
    db.execute("DELETE FROM runs WHERE seq <= (SELECT max(seq) FROM runs) - ?1", [RUNS])?;
    Ok(())
}

fn finish_run(db: &Connection, id: &str, end: &RunEnd) -> Result<(), Failure> {
    let text: Option<String> =
        db.query_row("SELECT body FROM runs WHERE id = ?1", [id], |row| row.get(0)).optional()?;
    let Some(text) = text else {
        return Err(StateError::NoRun { id: id.to_owned() }.into());
    };
    let run = Run { end: Some(end.clone()), ..parse(&text, id)? };
    db.execute("UPDATE runs SET body = ?1 WHERE id = ?2", [&body(&run)?, id])?;
    Ok(())
}

/// Makes a new version of the state where rows changed, and says whether they did.
fn count(db: &Connection, rows: usize) -> Result<bool, Failure> {
    if rows == 0 {
        return Ok(false);
    }
    db.prepare_cached("UPDATE state SET serial = serial + 1")?.execute([])?;
    Ok(true)
}
