//! The lock as a row.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::Failure;
use super::read::{body, parse};
use crate::lease::{self, Fence, Lease, Taken};
use crate::settings::Settings;
use crate::{LockInfo, LockRequest, StateError};

/// Who holds the lock. A lock that has run out or whose holder is known to be dead counts as none.
pub(crate) fn holder(db: &Connection, settings: &Settings) -> Result<Option<LockInfo>, Failure> {
    Ok(load(db)?.filter(|lease| !lease.is_free(settings.now())).map(|lease| lease.info))
}

/// Takes the lock where nobody holds it.
pub(crate) fn acquire(db: &Connection, request: &LockRequest, settings: &Settings) -> Result<Taken, Failure> {
    let found = load(db)?;
    if let Some(lease) = &found
        && !lease.is_free(settings.now())
    {
        return Err(StateError::Locked(Box::new(lease.info.clone())).into());
    }
    let epoch: i64 = db.query_row("UPDATE state SET epoch = epoch + 1 RETURNING epoch", [], |row| row.get(0))?;
    let lease = Lease::new(request, epoch.unsigned_abs(), settings);
    save(db, &lease)?;
    Ok(Taken { info: lease.info, instead_of: found.map(|lease| lease.info) })
}

/// Sees that the lock is still the one of `fence` and has not run out.
pub(crate) fn check(db: &Connection, fence: &Fence, now: Timestamp) -> Result<(), Failure> {
    lease::own(load(db)?, fence, now)?;
    Ok(())
}

/// Holds the lock for longer.
pub(crate) fn renew(db: &Connection, fence: &Fence, settings: &Settings) -> Result<Timestamp, Failure> {
    let mut lease = lease::own(load(db)?, fence, settings.now())?;
    lease.renew(settings);
    save(db, &lease)?;
    Ok(lease.info.expires)
}

/// Gives the lock back. One that is not ours any more stays with whom it belongs to.
pub(crate) fn release(db: &Connection, fence: &Fence) -> Result<(), Failure> {
    match load(db)? {
        Some(lease) if lease.is(fence) => Ok(clear(db)?),
        _ => Ok(()),
    }
}

/// Takes the lock away from whoever holds it under this id.
pub(crate) fn force_release(db: &Connection, id: &str) -> Result<(), Failure> {
    lease::named(load(db)?, id)?;
    Ok(clear(db)?)
}

fn load(db: &Connection) -> Result<Option<Lease>, Failure> {
    let text: Option<String> =
        db.prepare_cached("SELECT body FROM lock")?.query_row([], |row| row.get(0)).optional()?;
    text.map(|text| parse(&text, "lock")).transpose()
}

fn save(db: &Connection, lease: &Lease) -> Result<(), Failure> {
    db.execute("INSERT OR REPLACE INTO lock VALUES (1, ?1)", [body(lease, "lock")?])?;
    Ok(())
}

fn clear(db: &Connection) -> rusqlite::Result<()> {
    db.execute("DELETE FROM lock", []).map(drop)
}
