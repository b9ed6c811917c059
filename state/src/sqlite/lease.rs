//! The lock as a row.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use super::error::Failure;
use super::read::{body, parse};
use crate::lease::{self, Fence, Lease, Taken};
use crate::settings::Settings;
use crate::{LockInfo, LockRequest, StateError};

/// Returns the holder of the lock. A lock that expired or whose holder is known to be dead counts as free.
pub(crate) fn holder(db: &Connection, settings: &Settings) -> Result<Option<LockInfo>, Failure> {
    Ok(load(db)?.filter(|lease| !lease.is_free(settings.now())).map(|lease| lease.info))
}

/// Takes the lock if nobody holds it.
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

/// Checks that the lock belongs to `fence` and has not expired.
pub(crate) fn check(db: &Connection, fence: &Fence, now: Timestamp) -> Result<(), Failure> {
    lease::check_owned(load(db)?, fence, now)?;
    Ok(())
}

/// Renews the lock and returns its new expiry.
pub(crate) fn renew(db: &Connection, fence: &Fence, settings: &Settings) -> Result<Timestamp, Failure> {
    let mut lease = lease::check_owned(load(db)?, fence, settings.now())?;
    lease.renew(settings);
    save(db, &lease)?;
    Ok(lease.info.expires)
}

/// Releases the lock. Does nothing if another process holds it now.
pub(crate) fn release(db: &Connection, fence: &Fence) -> Result<(), Failure> {
    match load(db)? {
        Some(lease) if lease.is(fence) => Ok(clear(db)?),
        _ => Ok(()),
    }
}

/// Releases the lock with this id, whoever holds it.
pub(crate) fn force_release(db: &Connection, id: &str) -> Result<(), Failure> {
    lease::check_id(load(db)?, id)?;
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
