//! The state of moorfast: records, journal, lock, and the stores that keep them.
//!
//! [`Store::snapshot`] reads a store. Only the holder of its [`Lock`] writes it. Two writes enclose every operation on a node or a
//! cluster: [`Lock::begin`] records the [`Intent`] before it, [`Lock::finish`] the [`Outcome`] after it. If a run finds an intent without an
//! outcome, an earlier run was interrupted, and the intent names the object to read.
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
//! # Guarantees
//! - **Durable when acknowledged.** A write that returned `Ok` survives SIGKILL, a crash of the machine and a loss of power, provided that
//!   the file system implements fsync correctly. A write that failed changes nothing. If a crash interrupts a write before its answer,
//!   the write is stored completely or not at all.
//! - **Atomic.** Each write is one transaction: an outcome, the removal of its intent and the new serial appear together.
//!   A new state and its key are completed under another name and then renamed, so that no reader finds a partial one.
//! - **O(change).** The cost of a write depends on the size of the change, not on the size of the state. Concurrent writes share one
//!   transaction and one fsync; a write that fails does not affect the others.
//! - **One writer.** Every write checks in its own transaction that its lock is still held and has not expired.
//!   A process that was suspended past the expiry, or whose lock was taken, gets [`StateError::LockLost`] and changes nothing.
//! - **No abandoned locks.** The lock of a process that died on this machine is free at once, any other when it expires.
//! - **Always readable.** Readers neither wait for writers nor block them. Reading works during a write, after a crash, on a full disk and
//!   on a read-only file system.
//! - **Drift without a lock.** The history of drift is stored separately: an observation is added without the lock, during any run, and does not change the serial.
//! - **No secrets.** Callers pass records and outputs with digests instead of sensitive values. The [`SealKey`] is stored beside the database with mode 0600 and is refused
//!   if others can read it.
//!
//! # Limits
//! - SQLite's log needs shared memory between the processes: the folder must be on a local file system, not on NFS.
//! - The expiry depends on the clocks of the machines. If a clock is wrong by more than a minute, a lock can be lost early. Two processes never
//!   hold it, because every write compares the epoch.
//! - A process that is suspended during a write blocks other writers until it continues or is killed: [`StateError::Busy`].

mod backend;
pub mod bounded;
mod change;
mod checksum;
mod digest;
mod drift;
mod environment;
mod error;
mod fault_injection;
mod file;
#[cfg(fuzzing)]
pub mod fuzzing;
mod journal;
mod kubernetes;
mod lease;
mod location;
mod lock;
mod lock_info;
mod postgres;
mod process;
mod record;
mod remote;
mod run;
mod s3;
mod settings;
mod snapshot;
mod sqlite;
mod store;

pub use digest::{Digest, SealKey};
pub use drift::{DriftEntry, DriftHistory, Observation, Posted, Sighting};
pub use environment::{EnvironmentName, InvalidEnvironmentName};
pub use error::StateError;
pub use file::{StateFile, StateFileError};
pub use journal::{Intent, Outcome};
pub use kubernetes::Kubernetes;
pub use location::Location;
pub use lock::{Hold, Lock};
pub use lock_info::{LockInfo, LockRequest};
pub use postgres::Postgres;
pub use record::{Record, canonical, canonical_object};
pub use run::{Run, RunEnd, RunResult};
pub use s3::S3;
pub use snapshot::{Contents, Lineage, Output, Serial, Snapshot};
pub use store::Store;

#[cfg(test)]
mod tests;
