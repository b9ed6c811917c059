//! A run on this very machine that a gate of the test holds for as long as it likes.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use super::folder::{Folder, Run, Started};
use super::wait_for;

/// Longer than anything takes.
pub const LONG: Duration = Duration::from_secs(60);

/// An operation that waits at a gate, one after it, and a free one.
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

/// An apply that asks nobody.
pub const APPLY: [&str; 2] = ["apply", "--auto-approve"];

/// A run whose first operation waits at the gate.
pub fn at_the_gate(more: &[&str], environment: &[(&str, &str)]) -> (Folder, Started) {
    let moorfast = Folder::new(GATED);
    let started = wait_at_the_gate(&moorfast, more, environment);
    (moorfast, started)
}

/// The same with a manifest that is there.
pub fn wait_at_the_gate(moorfast: &Folder, more: &[&str], environment: &[(&str, &str)]) -> Started {
    make_gate(moorfast);
    let started = moorfast.start_in(&[&APPLY[..], more].concat(), environment);
    wait_for("the run at the gate", LONG, || moorfast.path("came").exists().then_some(()));
    started
}

/// A gate that holds whoever comes.
pub fn make_gate(moorfast: &Folder) {
    fs::remove_file(moorfast.path("came")).ok();
    if !moorfast.path("gate").exists() {
        assert!(Command::new("mkfifo").arg(moorfast.path("gate")).status().unwrap().success());
    }
}

/// Lets one run pass.
pub fn open_gate(moorfast: &Folder) {
    OpenOptions::new().write(true).open(moorfast.path("gate")).unwrap().write_all(b"go\n").unwrap();
}

/// Nobody holds the gate any more: whoever comes passes.
pub fn leave_gate_open(moorfast: &Folder) {
    fs::remove_file(moorfast.path("gate")).ok();
    moorfast.write("gate", "go\n");
}

/// One plain apply, and then nothing is left to do.
pub fn is_whole_after_an_apply(moorfast: &Folder, more: &[&str]) -> Run {
    let run = moorfast.expect(0, &[&APPLY[..], more].concat());
    moorfast.expect(0, &[&["plan", "--detailed-exitcode"][..], more].concat());
    run
}

/// It said what is wrong like a program that expected it.
pub fn no_panic(run: &Run) {
    assert!(!run.stderr.contains("panicked"), "{run}");
}
