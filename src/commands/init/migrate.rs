//! `moorfast init --migrate-state`: moves the state to the backend that the manifest configures.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use moorfast_engine::state::{Contents, Location, StateError, Store};

use crate::backend;
use crate::commands::state::{files, succeeded};
use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

const OPERATION: &str = "init -migrate-state";

/// The files that belong to a state but are not part of it: the host keys of its nodes.
const HOST_KEYS: [&str; 2] = ["known_hosts", "pinned_hosts"];

/// The place of a state: its location, and the folder of moorfast's files for it.
#[derive(Debug, PartialEq)]
struct Place {
    location: Location,
    folder: PathBuf,
}

impl Place {
    /// Returns the place where the state was last opened from `folder`.
    fn recorded(folder: PathBuf) -> Result<Self, Error> {
        let location = backend::recorded(&folder)?.map_or(Location::Sqlite {}, |record| record.backend);
        Ok(Self { location, folder })
    }

    async fn open(&self, invocation: &Invocation) -> Result<Store, Error> {
        Ok(Store::open_at(&self.location.clone().in_folder(&invocation.root()), &self.folder).await?)
    }

    async fn contents(&self, invocation: &Invocation) -> Result<Option<Contents>, Error> {
        let location = self.location.clone().in_folder(&invocation.root());
        match Store::open_existing_at(&location, &self.folder).await? {
            Some(store) => Ok(Some(store.contents().await?)),
            None => Ok(None),
        }
    }

    /// Whether there is no state, or an empty one.
    async fn is_empty(&self, invocation: &Invocation) -> Result<bool, Error> {
        Ok(self.contents(invocation).await?.is_none_or(|found| found.snapshot.is_empty()))
    }

    fn name(&self) -> String {
        match self.location {
            Location::Sqlite {} if self.folder.parent().is_some_and(|parent| parent.ends_with("environments")) => {
                format!("{} ({})", backend::name(&self.location), self.folder.display())
            }
            _ => backend::name(&self.location),
        }
    }
}

pub(super) async fn run(invocation: &Invocation, force: bool, timeout: Duration) -> Result<Exit, Error> {
    let wanted = Place { location: invocation.configured_location()?, folder: invocation.state_dir() };
    let before = former(invocation).await?;
    if before == wanted {
        invocation.ui.out(format!("The state is already in {}.\n", wanted.name()))?;
        return Ok(Exit::Success);
    }
    let message = migrate(invocation, &before, &wanted, force, timeout).await?;
    invocation.ui.out(message)?;
    Ok(Exit::Success)
}

/// Returns the place of the state to move: that of the environment, or else that of the manifest from before it had environments.
async fn former(invocation: &Invocation) -> Result<Place, Error> {
    let without_environment = Place::recorded(invocation.data_dir())?;
    let own = Place::recorded(invocation.state_dir())?;
    let Some(old) = without_environment.contents(invocation).await?.filter(|old| !old.snapshot.is_empty()) else {
        return Ok(own);
    };
    let here = own.contents(invocation).await?;
    let is_continued = here.is_none_or(|here| backend::is_continued_by(&old.snapshot, &here.snapshot));
    Ok(if is_continued { without_environment } else { own })
}

/// Moves the state while holding the locks of both places. Returns the message about the result.
async fn migrate(
    invocation: &Invocation,
    before: &Place,
    wanted: &Place,
    force: bool,
    timeout: Duration,
) -> Result<String, Error> {
    let (to_name, folder) = (wanted.name(), &wanted.folder);
    let to = wanted.open(invocation).await?;
    if before.is_empty(invocation).await? {
        backend::record(folder, &wanted.location, &to).await?;
        return Ok(format!("There is no state to move. New state is stored in {to_name}.\n"));
    }
    let from = before.open(invocation).await?;
    let from_lock = invocation.lock(&from, OPERATION, timeout).await?;
    let to_lock = invocation.lock(&to, OPERATION, timeout).await?;

    let contents = from.contents().await?;
    let there = to.contents().await?;
    let kept = backend::backup_path(folder);
    files::write(&kept, &contents)?;
    let is_there = is_newer(&to, &there, &contents, force)?;
    if !is_there {
        if !there.snapshot.is_empty() {
            files::write(&backend::backup_path(folder), &there)?;
        }
        to_lock.replace(contents.clone()).await?;
        verify(wanted, invocation, &contents).await?;
    }
    if let Err(error) = merge_drift_history(&from, &to).await {
        invocation.ui.warn(format!("cannot move the drift history, so known drift may be reported again: {error}"));
    }
    // The old state is emptied, so that nobody continues with it by mistake and its key is in one place only. If moorfast stops here, the
    // next run finds the old backend empty and uses the new one.
    from_lock.replace(Contents::nothing()).await?;
    backend::record(folder, &wanted.location, &to).await?;
    if before.folder != wanted.folder {
        copy_host_keys(before, wanted)?;
        backend::forget(&before.folder)?;
    }
    let count = contents.snapshot.records.len();
    for lock in [&to_lock, &from_lock] {
        let run = invocation.new_run(format!("{OPERATION} to {to_name}"));
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
    let (serial, from) = (contents.snapshot.serial, before.name());
    Ok(format!("Moved version {serial} with {count} resources from {from} to {to_name}. A backup is in {kept}.\n"))
}

/// Adds the drift history of the old backend to that of the new one.
async fn merge_drift_history(from: &Store, to: &Store) -> Result<(), StateError> {
    to.add_drift(from.drift().await?).await
}

/// Copies the host keys of the nodes, so that the nodes stay trusted.
fn copy_host_keys(before: &Place, wanted: &Place) -> Result<(), Error> {
    for name in HOST_KEYS {
        let (from, to) = (before.folder.join(name), wanted.folder.join(name));
        if from.exists() && !to.exists() {
            fs::copy(&from, &to).map_err(Error::file("write", to))?;
        }
    }
    Ok(())
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
async fn verify(place: &Place, invocation: &Invocation, contents: &Contents) -> Result<(), Error> {
    let same = place.contents(invocation).await?.is_some_and(|found| {
        found.snapshot == contents.snapshot
            && found.runs == contents.runs
            && found.key.as_bytes() == contents.key.as_bytes()
    });
    if same {
        return Ok(());
    }
    Err(Error::usage(
        format!("cannot verify the state in {}: it differs from what was written", place.name()),
        "nothing was lost: the state is still in the old place; run the same command again",
    ))
}
