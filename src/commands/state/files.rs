//! State files: `state pull`, `push`, `backup` and `restore`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use moorfast_engine::state::{Contents, Lock, Serial, Snapshot, StateError, StateFile, Store, bounded};

use super::{Waiting, existing, succeeded};
use crate::atomic;
use crate::backend;
use crate::error::Error;
use crate::invocation::Invocation;

/// Replaces the state with one from `state pull`.
///
/// The file must have the same lineage and be newer. The replaced state is kept as a backup.
#[derive(Debug, clap::Args)]
pub struct Push {
    /// The file, or `-` for standard input
    file: PathBuf,
    /// Replace the state even if the file has another lineage or is older
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// Replaces the state with a backup.
///
/// The backup must have the same lineage. The replaced state is kept as a backup.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The backup, written by `state backup`
    file: PathBuf,
    /// Replace the state even if the backup has another lineage
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn pull(invocation: &Invocation) -> Result<(), Error> {
    let (_, snapshot) = existing(invocation).await?;
    invocation.ui.json(snapshot.to_json().map_err(|error| Error::Output(error.into()))? + "\n")
}

pub(super) async fn backup(invocation: &Invocation, file: &Path) -> Result<(), Error> {
    let (store, _) = existing(invocation).await?;
    let contents = store.contents().await?;
    write(file, &contents)?;
    invocation.ui.out(format!(
        "Wrote {}: version {} with {} resources. The file contains the key of the state: protect it like the state.\n",
        file.display(),
        contents.snapshot.serial,
        contents.snapshot.records.len()
    ))
}

impl Push {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<(), Error> {
        let given = read(&self.file)?;
        let store = invocation.store().await?;
        let lock = invocation.lock(&store, "state push", self.waiting.lock_timeout).await?;
        let now = store.contents().await?;
        let mut snapshot = given.snapshot;
        if snapshot == now.snapshot {
            lock.release().await?;
            return invocation.ui.out("The state already matches the file.\n");
        }
        if !self.force {
            same_lineage(&store, &now.snapshot, &snapshot)?;
            newer(&store, &now.snapshot, &snapshot)?;
            nothing_open(&now.snapshot, &snapshot)?;
        }
        snapshot.serial = next(&now.snapshot, snapshot.serial);
        let contents = Contents { snapshot, runs: now.runs.clone(), key: given.key.unwrap_or_else(|| now.key.clone()) };
        replace(invocation, &store, lock, &now, contents, "state push").await
    }
}

impl Restore {
    pub(super) async fn run(self, invocation: &Invocation) -> Result<(), Error> {
        let given = read(&self.file)?;
        let Some(key) = given.key else {
            return Err(Error::usage(
                format!("cannot restore {}: the file is not a backup, because it has no key", self.file.display()),
                "use `moorfast state push` for a file from `moorfast state pull`",
            ));
        };
        let store = invocation.store().await?;
        let lock = invocation.lock(&store, "state restore", self.waiting.lock_timeout).await?;
        let now = store.contents().await?;
        let mut snapshot = given.snapshot;
        if !self.force {
            same_lineage(&store, &now.snapshot, &snapshot)?;
        }
        snapshot.serial = next(&now.snapshot, snapshot.serial);
        replace(invocation, &store, lock, &now, Contents { snapshot, runs: given.runs, key }, "state restore").await
    }
}

/// Replaces the state, after a backup of it was written.
async fn replace(
    invocation: &Invocation,
    store: &Store,
    lock: Lock,
    now: &Contents,
    new: Contents,
    command: &str,
) -> Result<(), Error> {
    if !now.snapshot.is_empty() {
        let kept = backend::backup_path(&invocation.state_dir());
        write(&kept, now)?;
        invocation.ui.note(format!("The replaced state is kept in {}.\n", kept.display()));
    }
    let (serial, count) = (new.snapshot.serial, new.snapshot.records.len());
    lock.replace(new).await?;
    invocation.record_lineage(store).await?;
    let run = invocation.new_run(command);
    lock.start_run(run.clone()).await?;
    lock.finish_run(&run.id, succeeded("put", count)).await?;
    lock.release().await?;
    invocation.ui.out(format!("The state is now version {serial} with {count} resources.\n"))
}

/// Returns the version of the new state, which is never the number of an earlier version with other content.
fn next(now: &Snapshot, given: Serial) -> Serial {
    if now.is_empty() { given } else { given.max(Serial::from(now.serial.get() + 1)) }
}

fn same_lineage(store: &Store, now: &Snapshot, given: &Snapshot) -> Result<(), Error> {
    if now.is_empty() || now.lineage == given.lineage {
        return Ok(());
    }
    let place = store.place().to_owned();
    Err(StateError::OtherLineage { place, found: now.lineage.clone(), given: given.lineage.clone() }.into())
}

fn newer(store: &Store, now: &Snapshot, given: &Snapshot) -> Result<(), Error> {
    if now.is_empty() || given.serial > now.serial {
        return Ok(());
    }
    Err(StateError::OlderSerial { place: store.place().to_owned(), found: now.serial, given: given.serial }.into())
}

fn nothing_open(now: &Snapshot, given: &Snapshot) -> Result<(), Error> {
    let forgotten = now.intents.iter().find(|open| given.intents.iter().all(|intent| intent.id != open.id));
    let Some(open) = forgotten else { return Ok(()) };
    Err(Error::usage(
        format!(
            "cannot replace the state: it has the unfinished {} of `{}` from an interrupted run, and the file does not",
            open.action, open.address
        ),
        "run `moorfast apply` to resolve it and then `moorfast state pull` again; --force discards it",
    ))
}

fn read(file: &Path) -> Result<StateFile, Error> {
    let read = match file.to_str() {
        Some("-") => bounded::read_stream_text(std::io::stdin(), bounded::DATA),
        _ => bounded::read_text(file, bounded::DATA),
    };
    let text = read.map_err(Error::file("read", file))?;
    StateFile::parse(&text).map_err(|error| {
        Error::usage(
            format!(
                "cannot use {} as a state: {error}",
                if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
            ),
            "`moorfast state pull` and `moorfast state backup FILE` write state files",
        )
    })
}

/// Writes a backup that only its owner can read. Writes all of it or nothing, and never over an existing file.
pub(in crate::commands) fn write(file: &Path, contents: &Contents) -> Result<(), Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(Error::file("create the folder", folder))?;
    let text = contents.to_json().map_err(|error| Error::Output(error.into()))?;
    atomic::create(file, 0o600, text.as_bytes()).map_err(Error::file("write", file))
}
