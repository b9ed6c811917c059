//! Two runs at once, and runs that are killed or stopped while they hold the lock.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Stores;
use crate::support::folder::{Folder, Started};
use crate::support::gate::{
    APPLY, GATED, LONG, apply_completes, apply_to_gate_in, assert_no_panic, close_gate, open_gate_once, remove_gate,
};
use crate::support::wait_for;

fn gated(stores: &Stores, environment: &[(&str, &str)]) -> (Folder, Started) {
    let moorfast = stores.with(GATED);
    let started = apply_to_gate_in(&moorfast, &[], environment);
    (moorfast, started)
}

pub fn the_second_of_two_runs_waits_or_names_the_holder_of_the_lock(stores: &Stores) {
    let (moorfast, first) = gated(stores, &[]);
    let pid = format!("pid {}", first.pid());
    moorfast.expect(1, &APPLY).complains("another run holds the lock").complains(&pid).complains("--lock-timeout");
    moorfast.expect(1, &["apply", "--auto-approve", "--lock-timeout", "300ms"]).complains(&pid);
    let mut second = moorfast.start(&["apply", "--auto-approve", "--lock-timeout", "60s"]);
    assert!(!second.has_ended());
    open_gate_once(&moorfast);
    let first = first.end();
    assert_eq!(first.code, 0, "{first}");
    let second = second.end();
    assert_eq!(second.code, 0, "{second}");
    second.says("No changes");
}

pub fn the_lock_of_a_killed_run_is_free_at_once(stores: &Stores) {
    let (moorfast, mut first) = gated(stores, &[]);
    first.kill();
    first.end();
    remove_gate(&moorfast);
    let run = apply_completes(&moorfast, &[]);
    run.complains("Removed the lock of a run that no longer exists").complains("an earlier run died during");
}

pub fn the_lock_of_a_run_killed_on_another_machine_expires(stores: &Stores) {
    if fs::metadata("/proc/self").map(|own| own.uid()).ok() != Some(0) {
        eprintln!("skipped: only root can start a run in another PID namespace");
        return;
    }
    let moorfast = stores.with(GATED);
    // In another PID namespace, so that its pid cannot be checked here.
    let mut remote = Command::new("unshare");
    let run = moorfast.command(&APPLY);
    close_gate(&moorfast);
    remote.args(["--pid", "--fork", "--kill-child"]).arg(run.get_program()).args(run.get_args());
    remote.current_dir(run.get_current_dir().unwrap()).env("MOORFAST_LOCK_EXPIRY", "6000");
    let mut remote = remote.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the run at the gate", LONG, || moorfast.path("came").exists().then_some(()));
    remote.kill().unwrap();
    remote.wait().unwrap();
    remove_gate(&moorfast);
    moorfast.expect(1, &APPLY).complains("another run holds the lock");
    let run = moorfast.expect(0, &["apply", "--auto-approve", "--lock-timeout", "60s"]);
    run.complains("Removed the lock of a run that no longer exists").complains("an earlier run died during");
    assert!(run.took < Duration::from_secs(20), "{:?}", run.took);
}

/// Whether the state was written a moment ago and is not being written now. A run stopped in the middle of a write would block all others.
fn is_quiet(moorfast: &Folder) -> bool {
    let written = fs::metadata(moorfast.path(".moorfast/state.db-wal")).and_then(|log| log.modified());
    let ago = written.ok().and_then(|then| then.elapsed().ok());
    ago.is_some_and(|ago| (200..600).contains(&ago.as_millis()))
}

pub fn a_run_stopped_past_the_expiry_of_its_lock_cannot_write(stores: &Stores) {
    // With this expiry a run renews its lock every second.
    let (moorfast, first) = gated(stores, &[("MOORFAST_LOCK_EXPIRY", "6000")]);
    if matches!(stores, Stores::Sqlite) {
        wait_for("a pause between two writes", LONG, || is_quiet(&moorfast).then_some(()));
    }
    first.send("STOP");
    let target = ["apply", "--auto-approve", "--target", "ssh_file.free", "--lock-timeout", "60s"];
    moorfast.expect(0, &target).complains("Removed the lock of a run that no longer exists");
    let recorded = moorfast.expect(0, &["state", "list"]).stdout;
    let opening = std::thread::spawn({
        let gate = moorfast.path("gate");
        move || OpenOptions::new().write(true).open(gate).unwrap().write_all(b"go\n").unwrap()
    });
    first.send("CONT");
    let first = first.end();
    opening.join().unwrap();
    assert_eq!(first.code, 1, "{first}");
    first.complains("the lock of this run is lost");
    assert_no_panic(&first);
    assert!(!moorfast.path("after").exists(), "no further operation was started");
    assert_eq!(moorfast.expect(0, &["state", "list"]).stdout, recorded, "nothing was written");
    remove_gate(&moorfast);
    apply_completes(&moorfast, &[]);
    assert!(moorfast.path("after").exists());
}

/// The number of operations that run on one node at once.
const AT_ONCE: usize = 8;
/// More operations than run on one node at once.
const QUEUE: &str = r#"
[nodes.here]
transport = "local"

[resource.ssh_exec.waits]
on       = "here"
for_each = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]
script   = "touch '${path.root}/began-${each.key}'; cat '${path.root}/gate'; touch '${path.root}/went-${each.key}'"
creates  = "${path.root}/went-${each.key}"
"#;

fn count(moorfast: &Folder, start: &str) -> usize {
    let names = moorfast.files().into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.starts_with(start)));
    names.filter(|starts| *starts).count()
}

/// Operations that wait for a free slot on their node are not started either.
pub fn a_run_stopped_past_the_expiry_of_its_lock_starts_nothing(stores: &Stores) {
    let moorfast = stores.with(QUEUE);
    close_gate(&moorfast);
    let first = moorfast.start_in(&APPLY, &[("MOORFAST_LOCK_EXPIRY", "6000")]);
    wait_for("all operations that run at once", LONG, || (count(&moorfast, "began-") == AT_ONCE).then_some(()));
    if matches!(stores, Stores::Sqlite) {
        wait_for("a pause between two writes", LONG, || is_quiet(&moorfast).then_some(()));
    }
    first.send("STOP");
    let other = ["apply", "--auto-approve", "--exclude", "ssh_exec.waits", "--lock-timeout", "60s"];
    moorfast.expect(0, &other).complains("Removed the lock of a run that no longer exists");
    // The operations at the gate pass it, and so would all others.
    let through = OpenOptions::new().write(true).open(moorfast.path("gate")).unwrap();
    remove_gate(&moorfast);
    drop(through);
    wait_for("the started operations to end", LONG, || (count(&moorfast, "went-") == AT_ONCE).then_some(()));
    first.send("CONT");
    let first = first.end();
    assert_eq!(count(&moorfast, "began-"), AT_ONCE, "{first}");
    assert_eq!(first.code, 1, "{first}");
    first
        .complains("the lock of this run is lost")
        .says("Apply incomplete. Resources: 0 added, 0 changed, 0 destroyed.");
    assert_no_panic(&first);
    apply_completes(&moorfast, &[]);
    assert_eq!(count(&moorfast, "went-"), 20);
}
