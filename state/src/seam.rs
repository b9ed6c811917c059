//! What debug builds let tests set from outside, by the environment. Release builds read none of it.
//!
//! - `MOORFAST_CRASH_AT=before:N` or `after:N`: the process kills itself with SIGKILL right before or right after its Nth commit.
//! - `MOORFAST_LOCK_EXPIRY=MILLISECONDS`: how long a lock lives without being renewed.

use std::time::Duration;

#[cfg(debug_assertions)]
pub(crate) use debug::{around_commit, lock_expiry};

/// Makes a commit.
#[cfg(not(debug_assertions))]
pub(crate) fn around_commit<T>(commit: impl FnOnce() -> T) -> T {
    commit()
}

/// How long a lock lives.
#[cfg(not(debug_assertions))]
pub(crate) fn lock_expiry() -> Option<Duration> {
    None
}

#[cfg(debug_assertions)]
mod debug {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use nix::sys::signal::{Signal, raise};

    use super::Duration;

    static COMMITS: AtomicU64 = AtomicU64::new(0);
    static CRASH_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MOORFAST_CRASH_AT").ok());

    pub(crate) fn around_commit<T>(commit: impl FnOnce() -> T) -> T {
        let number = COMMITS.fetch_add(1, Ordering::Relaxed) + 1;
        crash_at("before", number);
        let done = commit();
        crash_at("after", number);
        done
    }

    fn crash_at(moment: &str, number: u64) {
        if CRASH_AT.as_ref().is_some_and(|at| *at == format!("{moment}:{number}")) {
            // It does not come back.
            raise(Signal::SIGKILL).ok();
        }
    }

    pub(crate) fn lock_expiry() -> Option<Duration> {
        let milliseconds = std::env::var("MOORFAST_LOCK_EXPIRY").ok()?;
        Some(Duration::from_millis(milliseconds.parse().ok()?))
    }
}
