//! Support code of the end-to-end tests: the binary, the testbed, and waiting.

pub mod folder;
pub mod gate;
pub mod kill;
pub mod processes;
pub mod proxy;
pub mod servers;
pub mod snapshot;
pub mod static_binary;
pub mod testbed;
pub mod variables;

use std::time::{Duration, Instant};

/// The pause between two evaluations of a condition.
const PAUSE: Duration = Duration::from_millis(100);

/// Returns the number in a variable of the environment.
pub fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Whether a long test runs: only if this variable is set.
pub fn is_chosen(variable: &str) -> bool {
    let is_chosen = number(variable, 0) != 0;
    if !is_chosen {
        eprintln!("skipped: {variable} is not set");
    }
    is_chosen
}

/// Waits until `probe` returns a value.
///
/// # Panics
/// If it returns none within `limit`; `event` names what was waited for.
#[track_caller]
pub fn wait_for<T>(event: &str, limit: Duration, probe: impl FnMut() -> Option<T>) -> T {
    try_wait_for(limit, probe).unwrap_or_else(|| panic!("waited {limit:?} for {event}"))
}

/// Waits until `probe` returns a value, at most for `limit`.
pub fn try_wait_for<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        let found = probe();
        if found.is_some() || Instant::now() >= deadline {
            return found;
        }
        std::thread::park_timeout(PAUSE);
    }
}
