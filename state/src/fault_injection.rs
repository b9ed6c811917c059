//! Fault injection for tests by environment variables. Release builds ignore them.
//!
//! - `MOORFAST_CRASH_AT=before:N` or `after:N`: the process kills itself with SIGKILL right before or right after its Nth durable write.
//!   A durable write is a commit to a database, or an object that a server creates, replaces or deletes.
//! - `MOORFAST_LOCK_EXPIRY=MILLISECONDS`: the expiry of a lock that is not renewed.

use std::time::Duration;

#[cfg(debug_assertions)]
pub(crate) use debug::{around_commit, around_request, lock_expiry};

/// Runs a commit.
#[cfg(not(debug_assertions))]
pub(crate) fn around_commit<T>(commit: impl FnOnce() -> T) -> T {
    commit()
}

/// Runs a request that makes a change durable on a server.
#[cfg(not(debug_assertions))]
pub(crate) async fn around_request<T>(request: impl Future<Output = T>) -> T {
    request.await
}

/// Returns the expiry of locks that a test set.
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

    static WRITES: AtomicU64 = AtomicU64::new(0);
    static CRASH_AT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MOORFAST_CRASH_AT").ok());

    pub(crate) fn around_commit<T>(commit: impl FnOnce() -> T) -> T {
        let number = begin();
        let done = commit();
        crash_at("after", number);
        done
    }

    pub(crate) async fn around_request<T>(request: impl Future<Output = T>) -> T {
        let number = begin();
        let done = request.await;
        crash_at("after", number);
        done
    }

    fn begin() -> u64 {
        let number = WRITES.fetch_add(1, Ordering::Relaxed) + 1;
        crash_at("before", number);
        number
    }

    fn crash_at(moment: &str, number: u64) {
        if CRASH_AT.as_ref().is_some_and(|at| *at == format!("{moment}:{number}")) {
            // Does not return.
            raise(Signal::SIGKILL).ok();
        }
    }

    pub(crate) fn lock_expiry() -> Option<Duration> {
        let milliseconds = std::env::var("MOORFAST_LOCK_EXPIRY").ok()?;
        Some(Duration::from_millis(milliseconds.parse().ok()?))
    }
}
