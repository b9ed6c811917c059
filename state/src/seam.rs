//! What debug builds let tests set from outside, by the environment. Release builds read none of it.
//!
//! - `MOORFAST_CRASH_AT=before:N` or `after:N`: the process kills itself with SIGKILL right before or right after its Nth durable write.
//!   That is a commit to a database, or one object that a server makes, replaces or removes.
//! - `MOORFAST_LOCK_EXPIRY=MILLISECONDS`: how long a lock lives without being renewed.

use std::time::Duration;

#[cfg(debug_assertions)]
pub(crate) use debug::{around_commit, around_request, lock_expiry};

/// Makes a commit.
#[cfg(not(debug_assertions))]
pub(crate) fn around_commit<T>(commit: impl FnOnce() -> T) -> T {
    commit()
}

/// Has a server make something durable.
#[cfg(not(debug_assertions))]
pub(crate) async fn around_request<T>(request: impl Future<Output = T>) -> T {
    request.await
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
            // It does not come back.
            raise(Signal::SIGKILL).ok();
        }
    }

    pub(crate) fn lock_expiry() -> Option<Duration> {
        let milliseconds = std::env::var("MOORFAST_LOCK_EXPIRY").ok()?;
        Some(Duration::from_millis(milliseconds.parse().ok()?))
    }
}
