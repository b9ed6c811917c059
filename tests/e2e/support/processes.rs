//! The command lines and environments of all processes during a run, as `ps` and /proc show them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A thread that reads all processes of this machine, including those of the testbed's nodes, again and again.
///
/// It also sees the processes of tests that run in parallel, so no test may have a token or a key in its arguments.
pub struct Watch {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

/// The processes that a [`Watch`] has seen.
#[derive(Default)]
pub struct Seen {
    pub command_lines: BTreeSet<String>,
    /// Command line and environment.
    pub environments: BTreeSet<(String, String)>,
}

impl Watch {
    /// Starts the thread.
    pub fn start() -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let has_ended = ended.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !has_ended.load(Ordering::Relaxed) {
                seen.read_all();
                std::thread::park_timeout(Duration::from_millis(5));
            }
            seen
        });
        Self { ended, thread }
    }

    /// Ends the thread and returns what it has seen.
    pub fn end(self) -> Seen {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Seen {
    fn read_all(&mut self) {
        for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let command_line = || words(&process.path().join("cmdline"));
            let Some(line) = command_line() else { continue };
            let environment = words(&process.path().join("environ"));
            // A process that executes another program in between has the command line of one and the environment of the other.
            if let Some(environment) = environment.filter(|_| command_line().as_ref() == Some(&line)) {
                self.environments.insert((line.clone(), environment));
            }
            self.command_lines.insert(line);
        }
    }
}

/// Returns the words of a file of /proc, separated by spaces, or `None` if it is empty or gone.
fn words(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok().filter(|bytes| !bytes.is_empty())?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}
