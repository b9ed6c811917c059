//! What moorfast remembers: records, journal, lock and the stores that keep them.
//!
//! A [`Store`] is read by [`Store::snapshot`] and written by who holds its [`Lock`]. An operation on the world is enclosed by two
//! writes: [`Lock::begin`] records the [`Intent`], [`Lock::finish`] its [`Outcome`]. An intent that a later run finds open tells it
//! where to look.
//!
//! ```
//! use std::time::Duration;
//!
//! use moorfast_state::{LockRequest, Store};
//!
//! # async fn example() -> Result<(), moorfast_state::StateError> {
//! # let folder = tempfile::tempdir().expect("a folder");
//! let store = Store::open(&folder.path().join(".moorfast")).await?;
//! let lock = store.lock(LockRequest::new("apply"), Duration::from_secs(10)).await?;
//! let before = store.snapshot().await?;
//! lock.set_node("gpu01", serde_json::json!({ "machine_id": "a71c" })).await?;
//! assert!(store.snapshot().await?.serial > before.serial);
//! lock.release().await
//! # }
//! # tokio::runtime::Runtime::new().expect("a runtime").block_on(example()).expect("no error");
//! ```
//!
//! # What is guaranteed
//! - **Durable when acknowledged.** A write that returned `Ok` survives SIGKILL, a crash of the machine and loss of power, as far as
//!   the file system keeps its promise of fsync. A write that failed left nothing behind; one whose answer was cut off by a
//!   crash is there as a whole or not at all.
//! - **Whole at every moment.** Each write is one transaction: an outcome, the end of its intent and the new serial appear together.
//!   A state, like its key, is born complete under another name and then renamed, so nobody ever finds half of one.
//! - **O(change).** A write costs what it changes and not what the state holds. Writes that wait for each other share one
//!   transaction and one fsync; one that fails takes none of the others with it.
//! - **One writer.** Every write checks in its own transaction that the lock is still the one it was asked under and has not run out.
//!   Who was stopped past the expiry, or was overtaken, gets [`StateError::LockLost`] and changes nothing, ever.
//! - **No lock stays behind.** That of a process that is dead on this machine is free at once, any other when it expires.
//! - **Readable always.** Reading waits for nobody and hinders nobody; it works beside a writer, after its death, on a full disk and
//!   on a read-only file system.
//! - **Looking is free.** The history of drift is kept apart: a look notes what it saw without the lock, beside any run, and the state is the same after it.
//! - **Nothing secret.** Records and outputs come in sealed; the [`SealKey`] lies beside the database with mode 0600 and is refused
//!   where others can read it.
//!
//! # What is not
//! - SQLite's log needs shared memory between the processes: the folder must be on a local file system, not on NFS.
//! - The expiry is told by the machines' clocks. Where one is wrong by more than a minute a lock may be lost early. It is still never
//!   held by two, because every write compares the epoch.
//! - A process that is stopped in the very middle of a write blocks others until it goes on or is killed: [`StateError::Busy`].

mod backend;
pub mod bounded;
mod change;
mod digest;
mod drift;
mod error;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod journal;
mod kubernetes;
mod lease;
mod location;
mod lock;
mod postgres;
mod process;
mod record;
mod remote;
mod run;
mod s3;
mod seam;
mod settings;
mod snapshot;
mod sqlite;
mod store;

pub use digest::{Digest, SealKey};
pub use drift::{DriftEntry, DriftHistory, Look, Posted, Sighting};
pub use error::StateError;
pub use file::{StateFile, StateFileError};
pub use journal::{Intent, Outcome};
pub use kubernetes::Kubernetes;
pub use lease::{LockInfo, LockRequest};
pub use location::Location;
pub use lock::{Hold, Lock};
pub use postgres::Postgres;
pub use record::{Record, canonical};
pub use run::{Run, RunEnd, RunResult};
pub use s3::S3;
pub use snapshot::{Contents, Lineage, Output, Serial, Snapshot};
pub use store::Store;

#[cfg(test)]
mod tests;
