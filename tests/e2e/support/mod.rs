//! What the end-to-end tests stand on: the testbed, the binary, and waiting.

pub mod folder;
pub mod gate;
pub mod processes;
pub mod snapshot;
pub mod testbed;
pub mod variables;

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PACE: Duration = Duration::from_millis(100);

/// Waits until `look` gives something.
///
/// # Panics
/// Where it gives nothing for as long as `limit`; `what` says what was waited for.
pub fn wait_for<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    try_wait_for(limit, look).unwrap_or_else(|| panic!("{what}: did not come about within {limit:?}"))
}

/// Waits until `look` returns something, for as long as `limit`.
pub fn try_wait_for<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = look();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::park_timeout(PACE);
    }
}
