//! What goes wrong around a run on this machine: full and read-only disks, two runs at once, a run that stood still, and nobody who listens.
//! The node is this machine, so that a gate of the test can hold an operation for as long as it likes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::moorfast::{Moorfast, Run, Started};
use support::wait_for;

const LONG: Duration = Duration::from_secs(60);

/// An operation that waits at a gate, one after it, and a free one.
const GATED: &str = r#"
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

/// Three files, each with its content from a variable.
const FILES: &str = r#"
[variables.text]
type    = "string"
default = "one"

[nodes.here]
transport = "local"

[resource.ssh_file.a]
on      = "here"
path    = "${path.root}/a"
content = "${var.text}"

[resource.ssh_file.b]
on         = "here"
path       = "${path.root}/b"
content    = "${var.text}"
depends_on = ["ssh_file.a"]
"#;

const APPLY: [&str; 2] = ["apply", "--auto-approve"];

/// A run whose first operation waits at the gate.
fn at_the_gate(more: &[&str], environment: &[(&str, &str)]) -> (Moorfast, Started) {
    let moorfast = Moorfast::with(GATED);
    let started = wait_at_the_gate(&moorfast, more, environment);
    (moorfast, started)
}

fn wait_at_the_gate(moorfast: &Moorfast, more: &[&str], environment: &[(&str, &str)]) -> Started {
    fs::remove_file(moorfast.path("came")).ok();
    if !moorfast.path("gate").exists() {
        assert!(Command::new("mkfifo").arg(moorfast.path("gate")).status().unwrap().success());
    }
    let started = moorfast.start_in(&[&APPLY[..], more].concat(), environment);
    wait_for("the run at the gate", LONG, || moorfast.path("came").exists().then_some(()));
    started
}

fn open_gate(moorfast: &Moorfast) {
    OpenOptions::new().write(true).open(moorfast.path("gate")).unwrap().write_all(b"go\n").unwrap();
}

/// Nobody holds the gate any more: whoever comes passes.
fn leave_gate_open(moorfast: &Moorfast) {
    fs::remove_file(moorfast.path("gate")).ok();
    moorfast.write("gate", "go\n");
}

/// One plain apply, and then nothing is left to do.
fn is_whole_after_an_apply(moorfast: &Moorfast, more: &[&str]) -> Run {
    let run = moorfast.expect(0, &[&APPLY[..], more].concat());
    moorfast.expect(0, &[&["plan", "--detailed-exitcode"][..], more].concat());
    run
}

fn no_panic(run: &Run) {
    assert!(!run.stderr.contains("panicked"), "{run}");
}

/// A small file system of its own, gone when the test is over.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// None, with the reason printed, where nothing can be mounted.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        assert!(std::env::var("MOORFAST_REQUIRE_TESTBED").as_deref() != Ok("1"), "a tmpfs can be mounted");
        eprintln!("skipped: no tmpfs can be mounted here");
        None
    }

    fn state(&self) -> String {
        self.folder.path().join("state").display().to_string()
    }

    fn remount(&self, how: &str) {
        let mounted = Command::new("mount").args(["-o", &format!("remount,{how}")]).arg(self.folder.path()).status();
        assert!(mounted.unwrap().success());
    }

    /// Leaves no room.
    fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        while ballast.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> std::path::PathBuf {
        self.folder.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.folder.path()).status().ok();
    }
}

#[test]
fn a_full_disk_stops_a_run_before_it_acts() {
    let Some(disk) = Disk::mount() else { return };
    let state = disk.state();
    let moorfast = Moorfast::with(FILES);
    moorfast.expect(0, &["apply", "--auto-approve", "--state", &state]);
    disk.fill();
    let run = moorfast.expect(1, &["apply", "--auto-approve", "--state", &state, "--var", "text=two"]);
    run.complains("no space left").complains(&state).complains("make room");
    no_panic(&run);
    assert_eq!(fs::read_to_string(moorfast.path("a")).unwrap(), "one", "what can't be recorded is not begun");
    moorfast.expect(0, &["state", "list", "--state", &state]).says("ssh_file.a").says("ssh_file.b");
    disk.make_room();
    is_whole_after_an_apply(&moorfast, &["--state", &state, "--var", "text=two"]);
    assert_eq!(fs::read_to_string(moorfast.path("b")).unwrap(), "two");
}

#[test]
fn a_disk_that_fills_up_during_a_run_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let state = disk.state();
    let (moorfast, run) = at_the_gate(&["--state", &state], &[]);
    wait_for("the free operation", LONG, || {
        moorfast
            .run(&["state", "show", "ssh_file.free[\"here\"]", "--state", &state])
            .stdout
            .contains("free")
            .then_some(())
    });
    disk.fill();
    open_gate(&moorfast);
    let run = run.end();
    assert_eq!(run.code, 1, "{run}");
    run.complains("no space left").complains("make room");
    no_panic(&run);
    assert!(moorfast.path("went").exists() && !moorfast.path("after").exists());
    moorfast.expect(0, &["state", "list", "--state", &state]).says("ssh_file.free");
    disk.make_room();
    leave_gate_open(&moorfast);
    is_whole_after_an_apply(&moorfast, &["--state", &state]).complains("was under way when a run died");
    assert!(moorfast.path("after").exists());
}

#[test]
fn a_read_only_file_system_is_named_and_can_be_read() {
    let Some(disk) = Disk::mount() else { return };
    let state = disk.state();
    let moorfast = Moorfast::with(FILES);
    moorfast.expect(0, &["apply", "--auto-approve", "--state", &state]);
    disk.remount("ro");
    let run = moorfast.expect(1, &["apply", "--auto-approve", "--state", &state, "--var", "text=two"]);
    run.complains("read-only").complains(&state);
    no_panic(&run);
    assert_eq!(fs::read_to_string(moorfast.path("a")).unwrap(), "one");
    moorfast.expect(0, &["state", "list", "--state", &state]).says("ssh_file.a").says("ssh_file.b");
    disk.remount("rw");
    is_whole_after_an_apply(&moorfast, &["--state", &state, "--var", "text=two"]);
}

#[test]
fn of_two_runs_one_works_and_the_other_waits_or_says_who_holds_the_lock() {
    let (moorfast, first) = at_the_gate(&[], &[]);
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

#[test]
fn the_lock_of_a_killed_run_is_free_at_once() {
    let (moorfast, mut first) = at_the_gate(&[], &[]);
    first.kill();
    first.end();
    leave_gate_open(&moorfast);
    let run = is_whole_after_an_apply(&moorfast, &[]);
    run.complains("The lock of a run that is gone was taken over").complains("was under way when a run died");
}

#[test]
fn a_run_that_stood_still_past_its_expiry_cannot_write() {
    let short = [("MOORFAST_LOCK_EXPIRY", "1500")];
    let (moorfast, first) = at_the_gate(&[], &short);
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

#[test]
fn the_third_signal_ends_a_run_at_once_and_nothing_is_lost() {
    for signals in [["INT", "INT", "INT"], ["TERM", "HUP", "TERM"]] {
        let (moorfast, mut run) = at_the_gate(&[], &[]);
        for signal in signals {
            if !run.has_ended() {
                run.send(signal);
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        let run = run.end();
        assert_eq!(run.code, 130, "{run}");
        no_panic(&run);
        moorfast.expect(0, &["state", "list"]);
        leave_gate_open(&moorfast);
        is_whole_after_an_apply(&moorfast, &[]);
    }
}

/// A pipe that nobody reads.
fn closed() -> OwnedFd {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn ended(command: &mut Command) -> Run {
    Run::of(command.output().unwrap())
}

#[test]
fn nobody_who_reads_the_output_is_no_reason_to_panic() {
    let moorfast = Moorfast::with(FILES);
    // The plan can't be shown, so nothing is done.
    let run = ended(moorfast.command(&APPLY).stdout(closed()));
    assert_eq!(run.code, 141, "{run}");
    assert!(run.stderr.is_empty() || !run.stderr.contains("error"), "{run}");
    assert!(!moorfast.path("a").exists());
    is_whole_after_an_apply(&moorfast, &[]);
    let commands: [&[&str]; 8] = [
        &["plan"],
        &["plan", "--json"],
        &["show"],
        &["show", "--json"],
        &["state", "list"],
        &["graph"],
        &["schema"],
        &["--help"],
    ];
    for arguments in commands {
        let run = ended(moorfast.command(arguments).stdout(closed()));
        assert_eq!(run.code, 141, "{arguments:?}: {run}");
        no_panic(&run);
        let full = Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let run = ended(moorfast.command(arguments).stdout(full));
        assert_eq!(run.code, 1, "{arguments:?}: {run}");
        no_panic(&run);
    }
    is_whole_after_an_apply(&moorfast, &[]);
}

#[test]
fn nobody_who_reads_the_errors_keeps_no_run_from_its_work() {
    let moorfast = Moorfast::with(FILES);
    let run = ended(moorfast.command(&["apply", "--auto-approve", "--log", "trace"]).stderr(closed()));
    assert_eq!(run.code, 0, "{run}");
    assert!(Path::new(&moorfast.path("b")).exists());
    // Output that closes while operations run.
    let mut command = moorfast.command(&["apply", "--auto-approve", "--json", "--var", "text=two"]);
    let run = ended(command.stdout(closed()).stderr(closed()));
    assert_eq!(run.code, 141, "{run}");
    is_whole_after_an_apply(&moorfast, &["--var", "text=two"]);
}
