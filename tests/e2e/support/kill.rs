//! Runs that are killed.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::folder::starts_operation;

/// How often a run is looked at.
const PAUSE: Duration = Duration::from_millis(2);

/// The moment from which the time until a kill counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The run started.
    Start,
    /// The first operation of the run started.
    FirstOperation,
}

/// Runs a command and kills it some time after a moment. Returns whether it still ran then. A run that ended must have succeeded.
pub fn is_killed(mut command: Command, since: Since, after: Duration) -> bool {
    let log = tempfile::NamedTempFile::new().unwrap();
    let log_file = log.reopen().unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log_file).spawn().unwrap();
    let read = || fs::read_to_string(log.path()).unwrap_or_default();
    let mut started = Instant::now();
    while since == Since::FirstOperation && child.try_wait().unwrap().is_none() && !starts_operation(&read()) {
        thread::park_timeout(PAUSE);
        started = Instant::now();
    }
    while started.elapsed() < after && child.try_wait().unwrap().is_none() {
        thread::park_timeout(PAUSE);
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{}", read());
    status.code().is_none()
}
