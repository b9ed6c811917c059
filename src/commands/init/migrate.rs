//! `moorfast init --migrate-state`: moves the state to the backend that the manifest configures.

use std::time::Duration;

use moorfast_engine::state::{Contents, Location, Run, StateError, Store};

use crate::backend;
use crate::commands::state::{files, succeeded};
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

const OPERATION: &str = "init -migrate-state";

pub(super) async fn run(invocation: &Invocation, force: bool, timeout: Duration) -> Result<Exit, Error> {
    let wanted = backend::configured(&*invocation.manifest()?)?;
    let before = backend::recorded(&invocation.data_dir())?.map_or(Location::Sqlite {}, |record| record.backend);
    if before == wanted {
        invocation.ui.out(format!("The state is already in {}.\n", backend::name(&wanted)))?;
        return Ok(Exit::Success);
    }
    let message = migrate(invocation, &before, &wanted, force, timeout).await?;
    invocation.ui.out(message)?;
    Ok(Exit::Success)
}

/// Moves the state while holding the locks of both backends. Returns the message about the result.
async fn migrate(
    invocation: &Invocation,
    before: &Location,
    wanted: &Location,
    force: bool,
    timeout: Duration,
) -> Result<String, Error> {
    let place = |location: &Location| location.clone().in_folder(&invocation.root());
    let to_name = backend::name(wanted);
    let to = Store::open_at(&place(wanted), &invocation.data_dir()).await?;
    if is_empty(&place(before), invocation).await? {
        backend::record(&invocation.data_dir(), wanted, &to).await?;
        return Ok(format!("There is no state to move. New state is stored in {to_name}.\n"));
    }
    let from = Store::open_at(&place(before), &invocation.data_dir()).await?;
    let from_lock = invocation.lock(&from, OPERATION, timeout).await?;
    let to_lock = invocation.lock(&to, OPERATION, timeout).await?;

    let contents = from.contents().await?;
    let there = to.contents().await?;
    let kept = backend::backup_path(&invocation.data_dir());
    files::write(&kept, &contents)?;
    let is_there = is_newer(&to, &there, &contents, force)?;
    if !is_there {
        if !there.snapshot.is_empty() {
            files::write(&backend::backup_path(&invocation.data_dir()), &there)?;
        }
        to_lock.replace(contents.clone()).await?;
        verify(&place(wanted), invocation, &contents).await?;
    }
    if let Err(error) = merge_drift_history(&from, &to).await {
        invocation.ui.warn(format!("cannot move the drift history, so known drift may be reported again: {error}"));
    }
    // The old state is emptied, so that nobody continues with it by mistake and its key is in one place only. If moorfast stops here, the
    // next run finds the old backend empty and uses the new one.
    from_lock.replace(Contents::nothing()).await?;
    backend::record(&invocation.data_dir(), wanted, &to).await?;
    let count = contents.snapshot.records.len();
    for lock in [&to_lock, &from_lock] {
        let run = Run::new(format!("{OPERATION} to {to_name}"));
        lock.start_run(run.clone()).await?;
        lock.finish_run(&run.id, succeeded("moved", count)).await?;
    }
    to_lock.release().await?;
    from_lock.release().await?;
    let kept = kept.display();
    if is_there {
        let serial = there.snapshot.serial;
        return Ok(format!("Version {serial} is already in {to_name}. A backup of the local state is in {kept}.\n"));
    }
    let (serial, from) = (contents.snapshot.serial, backend::name(before));
    Ok(format!("Moved version {serial} with {count} resources from {from} to {to_name}. A backup is in {kept}.\n"))
}

/// Adds the drift history of the old backend to that of the new one.
async fn merge_drift_history(from: &Store, to: &Store) -> Result<(), StateError> {
    to.add_drift(from.drift().await?).await
}

/// Returns whether there is no state at `location`, or an empty one.
async fn is_empty(location: &Location, invocation: &Invocation) -> Result<bool, Error> {
    Ok(match Store::open_existing_at(location, &invocation.data_dir()).await? {
        Some(store) => store.snapshot().await?.is_empty(),
        None => true,
    })
}

/// Returns whether the target already holds this state or a newer version of it, after somebody else's move or an interrupted one.
fn is_newer(to: &Store, there: &Contents, contents: &Contents, force: bool) -> Result<bool, Error> {
    let (found, given) = (&there.snapshot, &contents.snapshot);
    if found.is_empty() || force {
        return Ok(false);
    }
    if found.lineage != given.lineage {
        let place = to.place().to_owned();
        let (found, given) = (found.lineage.clone(), given.lineage.clone());
        return Err(StateError::OtherLineage { place, found, given }.into());
    }
    // An unfinished operation creates no new version, and must not be lost.
    Ok(found.serial > given.serial || found == given)
}

/// Reads the moved state back as any other command would, and compares it.
async fn verify(location: &Location, invocation: &Invocation, contents: &Contents) -> Result<(), Error> {
    let found = match Store::open_existing_at(location, &invocation.data_dir()).await? {
        Some(store) => Some(store.contents().await?),
        None => None,
    };
    let same = found.is_some_and(|found| {
        found.snapshot == contents.snapshot
            && found.runs == contents.runs
            && found.key.as_bytes() == contents.key.as_bytes()
    });
    if same {
        return Ok(());
    }
    Err(Error::usage(
        format!("cannot verify the state in {}: it differs from what was written", backend::name(location)),
        "nothing was lost: the state is still in the old backend; run the same command again",
    ))
}
