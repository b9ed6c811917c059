//! The lock as a row: who holds it, until when, and under which epoch.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::Failure;
use crate::process::{self, Process};
use crate::snapshot::{body, parse};
use crate::{StateError, settings::Settings};

/// What a lock is wanted for. The machine and the process are always this one's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockRequest {
    /// The operation: `apply`, `destroy`, `state mv`.
    pub operation: String,
    /// The user: a name that others recognise.
    pub who: String,
}

impl LockRequest {
    /// A request for `operation`, by the user who runs this process.
    pub fn new(operation: impl Into<String>) -> Self {
        Self { operation: operation.into(), who: process::user() }
    }
}

/// Who holds the lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// The lock's id, a random UUID: what [`Store::force_unlock`](crate::Store::force_unlock) takes.
    pub id: String,
    /// What it is held for.
    pub operation: String,
    /// The user.
    pub who: String,
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub pid: u32,
    /// Since when.
    pub since: Timestamp,
    /// Until when, unless the holder renews it.
    pub expires: Timestamp,
    /// How many locks there were before this one, plus one: grows with every lock.
    pub epoch: u64,
}

impl fmt::Display for LockInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, operation, who, host, pid, since, .. } = self;
        write!(f, "{operation} by {who} on {host} (pid {pid}) since {since:.0}, lock id {id}")
    }
}

/// The row: what everybody may know of the holder, and what tells that it is dead.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    #[serde(flatten)]
    info: LockInfo,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<Process>,
}

impl Row {
    fn is_free(&self, now: Timestamp) -> bool {
        self.info.expires <= now || self.process.as_ref().is_some_and(Process::is_dead)
    }
}

/// What a writer must show with every write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    pub(crate) id: String,
    pub(crate) epoch: u64,
}

/// A lock just taken, and the one that stood in its place though its holder was gone.
pub(crate) struct Taken {
    pub(crate) info: LockInfo,
    pub(crate) instead_of: Option<LockInfo>,
}

/// Who holds the lock. A lock that has run out or whose holder is known to be dead counts as none.
pub(crate) fn holder(db: &Connection, settings: &Settings) -> Result<Option<LockInfo>, Failure> {
    Ok(load(db)?.filter(|row| !row.is_free(settings.now())).map(|row| row.info))
}

/// Takes the lock where nobody holds it.
pub(crate) fn acquire(db: &Connection, request: &LockRequest, settings: &Settings) -> Result<Taken, Failure> {
    let now = settings.now();
    let found = load(db)?;
    if let Some(row) = &found
        && !row.is_free(now)
    {
        return Err(StateError::Locked(Box::new(row.info.clone())).into());
    }
    let epoch: i64 = db.query_row("UPDATE state SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0))?;
    let info = LockInfo {
        id: Uuid::new_v4().to_string(),
        operation: request.operation.clone(),
        who: request.who.clone(),
        host: process::host(),
        pid: std::process::id(),
        since: now,
        expires: later(now, settings.expiry),
        epoch: epoch.unsigned_abs(),
    };
    let row = Row { info, process: Process::current() };
    save(db, &row)?;
    Ok(Taken { info: row.info, instead_of: found.map(|row| row.info) })
}

/// Sees that the lock is still the one of `fence` and has not run out.
pub(crate) fn check(db: &Connection, fence: &Fence, now: Timestamp) -> Result<(), Failure> {
    own(db, fence, now).map(drop)
}

/// Holds the lock for longer.
pub(crate) fn renew(db: &Connection, fence: &Fence, settings: &Settings) -> Result<Timestamp, Failure> {
    let now = settings.now();
    let mut row = own(db, fence, now)?;
    row.info.expires = later(now, settings.expiry);
    save(db, &row)?;
    Ok(row.info.expires)
}

/// Gives the lock back. One that is not ours any more stays with whom it belongs to.
pub(crate) fn release(db: &Connection, fence: &Fence) -> Result<(), Failure> {
    match load(db)? {
        Some(row) if is(&row, fence) => Ok(clear(db)?),
        _ => Ok(()),
    }
}

/// Takes the lock away from whoever holds it under this id.
pub(crate) fn force_release(db: &Connection, id: &str) -> Result<(), Failure> {
    match load(db)? {
        None => Err(StateError::NotLocked.into()),
        Some(row) if row.info.id == id => Ok(clear(db)?),
        Some(row) => Err(StateError::OtherLock { given: id.to_owned(), held: Box::new(row.info) }.into()),
    }
}

fn own(db: &Connection, fence: &Fence, now: Timestamp) -> Result<Row, Failure> {
    match load(db)? {
        Some(row) if is(&row, fence) && row.info.expires > now => Ok(row),
        Some(row) if !is(&row, fence) => Err(StateError::LockLost { now_held_by: Some(Box::new(row.info)) }.into()),
        _ => Err(StateError::LockLost { now_held_by: None }.into()),
    }
}

fn is(row: &Row, fence: &Fence) -> bool {
    row.info.id == fence.id && row.info.epoch == fence.epoch
}

fn load(db: &Connection) -> Result<Option<Row>, Failure> {
    let text: Option<String> =
        db.prepare_cached("SELECT body FROM lock")?.query_row([], |row| row.get(0)).optional()?;
    text.map(|text| parse(&text, "lock")).transpose()
}

fn save(db: &Connection, row: &Row) -> Result<(), Failure> {
    db.execute("INSERT OR REPLACE INTO lock VALUES (1, ?1)", [body(row)?])?;
    Ok(())
}

fn clear(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM lock", []).map(drop)
}

fn later(now: Timestamp, by: Duration) -> Timestamp {
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}
