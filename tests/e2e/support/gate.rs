//! A run on this machine whose first operation waits at a gate until the test opens it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use super::folder::{Folder, Run, Started};
use super::wait_for;

/// A time limit that nothing reaches unless it hangs.
pub const LONG: Duration = Duration::from_secs(60);

/// An operation that waits at the gate, a dependant of it, and an independent operation.
pub const GATED: &str = r#"
[nodes.here]
transport = "local"

[resource.ssh_exec.waits]
on      = "here"
script  = "touch '${path.root}/came'; cat '${path.root}/gate'; touch '${path.root}/went'"
creates = "${path.root}/went"

[resource.ssh_file.after]
on         = "here"
path       = "${path.root}/after"
content    = "after"
depends_on = ["ssh_exec.waits"]

[resource.ssh_file.free]
on      = "here"
path    = "${path.root}/free"
content = "free"
"#;

/// An apply that asks for no confirmation.
pub const APPLY: [&str; 2] = ["apply", "--auto-approve"];

/// Starts an apply of [`GATED`] and waits until it is at the gate.
pub fn apply_to_gate(options: &[&str], environment: &[(&str, &str)]) -> (Folder, Started) {
    let folder = Folder::new(GATED);
    let started = apply_to_gate_in(&folder, options, environment);
    (folder, started)
}

/// Starts an apply in a folder whose manifest has a gate, and waits until it is at the gate.
pub fn apply_to_gate_in(folder: &Folder, options: &[&str], environment: &[(&str, &str)]) -> Started {
    close_gate(folder);
    let started = folder.start_in(&[&APPLY[..], options].concat(), environment);
    wait_for("the run to reach the gate", LONG, || folder.path("came").exists().then_some(()));
    started
}

/// Makes the gate hold every run that reaches it.
pub fn close_gate(folder: &Folder) {
    fs::remove_file(folder.path("came")).ok();
    if !folder.path("gate").exists() {
        assert!(Command::new("mkfifo").arg(folder.path("gate")).status().unwrap().success());
    }
}

/// Lets one run pass the gate.
pub fn open_gate_once(folder: &Folder) {
    OpenOptions::new().write(true).open(folder.path("gate")).unwrap().write_all(b"go\n").unwrap();
}

/// Lets every run pass the gate from now on.
pub fn remove_gate(folder: &Folder) {
    fs::remove_file(folder.path("gate")).ok();
    folder.write("gate", "go\n");
}

/// Asserts that an apply succeeds and that the plan after it is empty. Returns the apply.
#[track_caller]
pub fn apply_completes(folder: &Folder, options: &[&str]) -> Run {
    let run = folder.expect(0, &[&APPLY[..], options].concat());
    folder.expect(0, &[&["plan", "--detailed-exitcode"][..], options].concat());
    run
}

/// Asserts that the run did not panic.
#[track_caller]
pub fn assert_no_panic(run: &Run) {
    assert!(!run.stderr.contains("panicked"), "{run}");
}
