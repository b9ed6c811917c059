//! Two runs at once, and runs that die or stand still while they hold the lock.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Stores;
use crate::support::gate::{
    APPLY, GATED, LONG, is_whole_after_an_apply, leave_gate_open, make_gate, no_panic, open_gate, wait_at_the_gate,
};
use crate::support::moorfast::{Moorfast, Started};
use crate::support::wait_for;

fn gated(stores: &Stores, environment: &[(&str, &str)]) -> (Moorfast, Started) {
    let moorfast = stores.with(GATED);
    let started = wait_at_the_gate(&moorfast, &[], environment);
    (moorfast, started)
}

pub fn of_two_runs_one_works_and_the_other_waits_or_says_who_holds_the_lock(stores: &Stores) {
    let (moorfast, first) = gated(stores, &[]);
    let pid = format!("pid {}", first.pid());
    moorfast.expect(1, &APPLY).complains("another run holds the lock").complains(&pid).complains("--lock-timeout");
    moorfast.expect(1, &["apply", "--auto-approve", "--lock-timeout", "300ms"]).complains(&pid);
    let mut second = moorfast.start(&["apply", "--auto-approve", "--lock-timeout", "60s"]);
    assert!(!second.has_ended());
    open_gate(&moorfast);
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
    leave_gate_open(&moorfast);
    let run = is_whole_after_an_apply(&moorfast, &[]);
    run.complains("The lock of a run that is gone was taken over").complains("an earlier run died during");
}

pub fn the_lock_of_a_run_that_was_killed_elsewhere_is_free_when_it_runs_out(stores: &Stores) {
    if fs::metadata("/proc/self").map(|own| own.uid()).ok() != Some(0) {
        eprintln!("skipped: only root can start a run as if it were on another machine");
        return;
    }
    let moorfast = stores.with(GATED);
    // Its pid means nothing here.
    let mut far = Command::new("unshare");
    let run = moorfast.command(&APPLY);
    make_gate(&moorfast);
    far.args(["--pid", "--fork", "--kill-child"]).arg(run.get_program()).args(run.get_args());
    far.current_dir(run.get_current_dir().unwrap()).env("MOORFAST_LOCK_EXPIRY", "6000");
    let mut far = far.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the run at the gate", LONG, || moorfast.path("came").exists().then_some(()));
    far.kill().unwrap();
    far.wait().unwrap();
    leave_gate_open(&moorfast);
    moorfast.expect(1, &APPLY).complains("another run holds the lock");
    let run = moorfast.expect(0, &["apply", "--auto-approve", "--lock-timeout", "60s"]);
    run.complains("The lock of a run that is gone was taken over").complains("an earlier run died during");
    assert!(run.took < Duration::from_secs(20), "{:?}", run.took);
}

/// Was the state written a moment ago, and not right now? Who is stopped in the middle of a write holds everybody up.
fn is_quiet(moorfast: &Moorfast) -> bool {
    let written = fs::metadata(moorfast.path(".moorfast/state.db-wal")).and_then(|log| log.modified());
    let ago = written.ok().and_then(|then| then.elapsed().ok());
    ago.is_some_and(|ago| (200..600).contains(&ago.as_millis()))
}

pub fn a_run_that_stood_still_past_its_expiry_cannot_write(stores: &Stores) {
    // It renews its lock every second.
    let (moorfast, first) = gated(stores, &[("MOORFAST_LOCK_EXPIRY", "6000")]);
    if matches!(stores, Stores::Sqlite) {
        wait_for("a moment without a write", LONG, || is_quiet(&moorfast).then_some(()));
    }
    first.send("STOP");
    let target = ["apply", "--auto-approve", "--target", "ssh_file.free", "--lock-timeout", "60s"];
    moorfast.expect(0, &target).complains("was taken over");
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
    no_panic(&first);
    assert!(!moorfast.path("after").exists(), "nothing more was begun");
    assert_eq!(moorfast.expect(0, &["state", "list"]).stdout, recorded, "nothing was written");
    leave_gate_open(&moorfast);
    is_whole_after_an_apply(&moorfast, &[]);
    assert!(moorfast.path("after").exists());
}

/// How many operations one node has in work at once, and how many wait for their turn behind them.
const AT_ONCE: usize = 8;
const QUEUE: &str = r#"
[nodes.here]
transport = "local"

[resource.ssh_exec.waits]
on       = "here"
for_each = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]
script   = "touch '${path.root}/began-${each.key}'; cat '${path.root}/gate'; touch '${path.root}/went-${each.key}'"
creates  = "${path.root}/went-${each.key}"
"#;

fn count(moorfast: &Moorfast, start: &str) -> usize {
    let names = moorfast.files().into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.starts_with(start)));
    names.filter(|starts| *starts).count()
}

/// What waits for its turn behind other operations of the same node is not begun either.
pub fn a_run_that_stood_still_past_its_expiry_begins_nothing(stores: &Stores) {
    let moorfast = stores.with(QUEUE);
    make_gate(&moorfast);
    let first = moorfast.start_in(&APPLY, &[("MOORFAST_LOCK_EXPIRY", "6000")]);
    wait_for("all that one node has at once", LONG, || (count(&moorfast, "began-") == AT_ONCE).then_some(()));
    if matches!(stores, Stores::Sqlite) {
        wait_for("a moment without a write", LONG, || is_quiet(&moorfast).then_some(()));
    }
    first.send("STOP");
    let other = ["apply", "--auto-approve", "--exclude", "ssh_exec.waits", "--lock-timeout", "60s"];
    moorfast.expect(0, &other).complains("was taken over");
    // Those that are at the gate pass, and so would all others.
    let through = OpenOptions::new().write(true).open(moorfast.path("gate")).unwrap();
    leave_gate_open(&moorfast);
    drop(through);
    wait_for("the end of what had begun", LONG, || (count(&moorfast, "went-") == AT_ONCE).then_some(()));
    first.send("CONT");
    let first = first.end();
    assert_eq!(count(&moorfast, "began-"), AT_ONCE, "{first}");
    assert_eq!(first.code, 1, "{first}");
    first
        .complains("the lock of this run is lost")
        .says("Apply incomplete. Resources: 0 added, 0 changed, 0 destroyed.");
    no_panic(&first);
    is_whole_after_an_apply(&moorfast, &[]);
    assert_eq!(count(&moorfast, "went-"), 20);
}
