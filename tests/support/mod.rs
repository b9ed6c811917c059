//! What the end-to-end tests stand on: the testbed, the binary, and waiting.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

pub mod gate;
pub mod moorfast;
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
pub fn wait_for<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: did not come about within {limit:?}");
        std::thread::park_timeout(PACE);
    }
}
