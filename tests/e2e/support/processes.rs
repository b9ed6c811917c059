//! What `ps` and /proc would have shown at any moment of a run.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Looks at all processes of this machine, those on the testbed's nodes among them, until it is told to end.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// What was seen of processes.
#[derive(Default)]
pub struct Seen {
    /// Their command lines.
    pub command_lines: BTreeSet<String>,
    /// Their environments, each with the command line.
    pub environments: BTreeSet<(String, String)>,
}

impl Watch {
    /// Begins to look.
    pub fn begin() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let ends = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !ends.load(Ordering::Relaxed) {
                seen.look();
                std::thread::park_timeout(Duration::from_millis(5));
            }
            seen
        });
        Self { ended, thread }
    }

    /// What was seen.
    pub fn end(self) -> Seen {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking at /proc does not panic")
    }
}

impl Seen {
    fn look(&mut self) {
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(line) = words(&process.path().join("cmdline")) else { continue };
            if let Some(environment) = words(&process.path().join("environ")) {
                self.environments.insert((line.clone(), environment));
            }
            self.command_lines.insert(line);
        }
    }
}

/// What a file of /proc says, its words apart. None where it says nothing.
fn words(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok().filter(|bytes| !bytes.is_empty())?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}
