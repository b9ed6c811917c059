//! A client that asks again and again during a change, and counts the failures.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(250);

/// Runs `change` while a client asks again and again, and asserts that no request failed. `what` names what the client asks.
pub fn while_available<T>(
    what: &str,
    ask: impl Fn() -> Result<(), String> + Send + Sync,
    change: impl FnOnce() -> T,
) -> T {
    let is_over = AtomicBool::new(false);
    let (changed, (answers, failures)) = thread::scope(|scope| {
        let client = scope.spawn(|| {
            let (mut answers, mut failures) = (0, Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                match ask() {
                    Ok(()) => answers += 1,
                    Err(failure) => failures.push(failure),
                }
                thread::park_timeout(PAUSE);
            }
            (answers, failures)
        });
        let changed = catch_unwind(AssertUnwindSafe(change));
        is_over.store(true, Ordering::Relaxed);
        (changed, client.join().expect("the client does not panic"))
    });
    let changed = changed.unwrap_or_else(|panic| resume_unwind(panic));
    eprintln!("{what}: {answers} requests succeeded, {} failed", failures.len());
    assert!(failures.is_empty() && answers > 20, "{what}: {answers} requests succeeded, {failures:#?} failed");
    changed
}
