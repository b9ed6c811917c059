//! Clients that ask again and again during a change, and count the failures.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(250);

/// A request that a client repeats, and its name.
pub type Request<'r> = (&'r str, &'r (dyn Fn() -> Result<(), String> + Sync));

/// The number of successful requests of a client, and the failures.
type Results = (usize, Vec<String>);

/// Runs `change` while a client for each request repeats it, and asserts that no request failed.
pub fn while_available<T>(requests: &[Request<'_>], change: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let (changed, results) = thread::scope(|scope| {
        let is_over = &is_over;
        let clients: Vec<_> = requests.iter().map(|(_, request)| scope.spawn(|| repeat(*request, is_over))).collect();
        let changed = catch_unwind(AssertUnwindSafe(change));
        is_over.store(true, Ordering::Relaxed);
        let end = |client: thread::ScopedJoinHandle<'_, Results>| client.join().expect("a client does not panic");
        (changed, clients.into_iter().map(end).collect::<Vec<_>>())
    });
    for ((name, _), (successes, failures)) in requests.iter().zip(&results) {
        eprintln!("{name}: {successes} requests succeeded, {} failed", failures.len());
    }
    let changed = changed.unwrap_or_else(|panic| resume_unwind(panic));
    let is_bad = |(successes, failures): &Results| *successes <= 20 || !failures.is_empty();
    let bad: Vec<_> =
        requests.iter().map(|(name, _)| name).zip(&results).filter(|(_, results)| is_bad(results)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    changed
}

fn repeat(request: &(dyn Fn() -> Result<(), String> + Sync), is_over: &AtomicBool) -> Results {
    let (mut successes, mut failures) = (0, Vec::new());
    while !is_over.load(Ordering::Relaxed) {
        match request() {
            Ok(()) => successes += 1,
            Err(failure) => failures.push(failure),
        }
        thread::park_timeout(PAUSE);
    }
    (successes, failures)
}
