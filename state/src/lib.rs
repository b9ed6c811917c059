//! What moorfast remembers: records, journal, lock and the stores that keep them.

mod digest;
mod record;

pub use digest::{Digest, SealKey};
pub use record::{Record, canonical};
