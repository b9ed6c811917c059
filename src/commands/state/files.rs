//! The state as a file: `state pull`, `push`, `backup` and `restore`.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use moorfast_engine::state::{Contents, Lock, Run, Serial, Snapshot, StateError, StateFile, Store, bounded};

use super::{Waiting, existing, succeeded};
use crate::atomic;
use crate::backend;
use crate::error::Error;
use crate::session::Session;

/// Puts a state that was pulled in the place of this one.
///
/// It must be of the same lineage and newer. What is there now is kept as a backup.
#[derive(Debug, clap::Args)]
pub struct Push {
    /// The file; `-` is standard input
    file: PathBuf,
    /// Even if it is another state or an older one
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

/// Puts a backup in the place of the state.
///
/// It must be of the same lineage. What is there now is kept as a backup.
#[derive(Debug, clap::Args)]
pub struct Restore {
    /// The file that `state backup` wrote
    file: PathBuf,
    /// Even if it is another state
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    waiting: Waiting,
}

pub(super) async fn pull(session: &Session) -> Result<(), Error> {
    let (_, snapshot) = existing(session).await?;
    session.ui.json(snapshot.to_json().map_err(|error| Error::Output(error.into()))? + "\n")
}

pub(super) async fn backup(session: &Session, file: &Path) -> Result<(), Error> {
    let (store, _) = existing(session).await?;
    let contents = store.contents().await?;
    write(file, &contents)?;
    session.ui.out(format!(
        "Wrote {}: version {} with {} resources. It holds the key of the state: keep it as safe.\n",
        file.display(),
        contents.snapshot.serial,
        contents.snapshot.records.len()
    ))
}

impl Push {
    pub(super) async fn run(self, session: &Session) -> Result<(), Error> {
        let given = read(&self.file)?;
        let store = session.store().await?;
        let lock = session.lock(&store, "state push", self.waiting.lock_timeout).await?;
        let now = store.contents().await?;
        let mut snapshot = given.snapshot;
        if snapshot == now.snapshot {
            lock.release().await?;
            return session.ui.out("The state is as the file says already.\n");
        }
        if !self.force {
            same_lineage(&store, &now.snapshot, &snapshot)?;
            newer(&store, &now.snapshot, &snapshot)?;
            nothing_open(&now.snapshot, &snapshot)?;
        }
        snapshot.serial = next(&now.snapshot, snapshot.serial);
        let contents = Contents { snapshot, runs: now.runs.clone(), key: given.key.unwrap_or_else(|| now.key.clone()) };
        replace(session, &store, lock, &now, contents, "state push").await
    }
}

impl Restore {
    pub(super) async fn run(self, session: &Session) -> Result<(), Error> {
        let given = read(&self.file)?;
        let Some(key) = given.key else {
            return Err(Error::usage(
                format!("{} is no backup: it has no key", self.file.display()),
                "what `state pull` printed is put back with `moorfast state push`",
            ));
        };
        let store = session.store().await?;
        let lock = session.lock(&store, "state restore", self.waiting.lock_timeout).await?;
        let now = store.contents().await?;
        let mut snapshot = given.snapshot;
        if !self.force {
            same_lineage(&store, &now.snapshot, &snapshot)?;
        }
        snapshot.serial = next(&now.snapshot, snapshot.serial);
        replace(session, &store, lock, &now, Contents { snapshot, runs: given.runs, key }, "state restore").await
    }
}

/// Replaces what is there, after it was kept.
async fn replace(
    session: &Session,
    store: &Store,
    lock: Lock,
    now: &Contents,
    new: Contents,
    command: &str,
) -> Result<(), Error> {
    if !now.snapshot.is_empty() {
        let kept = backend::backup_path(&session.data_dir());
        write(&kept, now)?;
        session.ui.note(format!("What was there is kept in {}.\n", kept.display()));
    }
    let (serial, count) = (new.snapshot.serial, new.snapshot.records.len());
    lock.replace(new).await?;
    session.note_state(store).await?;
    let run = Run::new(command);
    lock.start_run(run.clone()).await?;
    lock.finish_run(&run.id, succeeded("put", count)).await?;
    lock.release().await?;
    session.ui.out(format!("The state is now version {serial} with {count} resources.\n"))
}

/// The version that is put: never one that was there before with something else in it.
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
            "an interrupted run left the {} of `{}` open, and the file knows nothing of it",
            open.action, open.address
        ),
        "`moorfast apply` finds out what became of it; pull again then. --force forgets it",
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
                "{} can't be used: {error}",
                if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
            ),
            "`moorfast state pull` and `moorfast state backup FILE` write such files",
        )
    })
}

/// Writes a backup for its owner alone, as a whole or not at all; never over a file that is there.
pub(in crate::commands) fn write(file: &Path, contents: &Contents) -> Result<(), Error> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(Error::file("make the folder", folder))?;
    let text = contents.to_json().map_err(|error| Error::Output(error.into()))?;
    atomic::create(file, 0o600, text.as_bytes()).map_err(Error::file("write", file))
}
