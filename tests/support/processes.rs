//! What `ps` would have shown at any moment of a run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks at the command lines of all processes of this machine, those on the testbed's nodes among them, until it is told to end.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Watch {
    /// Begins to look.
    pub fn begin() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let ends = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !ends.load(Ordering::Relaxed) {
                seen.extend(command_lines());
                std::thread::park_timeout(Duration::from_millis(5));
            }
            seen
        });
        Self { ended, thread }
    }

    /// The command lines that were seen.
    pub fn end(self) -> BTreeSet<String> {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking at /proc does not panic")
    }
}

fn command_lines() -> impl Iterator<Item = String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| {
        let line = std::fs::read(process.path().join("cmdline")).ok().filter(|line| !line.is_empty())?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    })
}
