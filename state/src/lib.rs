//! What moorfast remembers: records, journal, lock and the stores that keep them.

mod change;
mod digest;
mod error;
mod journal;
mod key;
mod lease;
mod lock;
mod open;
mod process;
mod record;
mod run;
mod schema;
mod settings;
mod snapshot;
mod store;
mod writer;

pub use digest::{Digest, SealKey};
pub use error::StateError;
pub use journal::{Intent, Outcome};
pub use lease::{LockInfo, LockRequest};
pub use lock::Lock;
pub use record::{Record, canonical};
pub use run::{Run, RunEnd, RunResult};
pub use snapshot::{Lineage, Output, Serial, Snapshot};
pub use store::Store;

#[cfg(test)]
mod tests;
