//! What goes wrong around a run on this machine: full, read-only and broken disks, signals, and nobody who listens.
//! The node is this machine, so that a gate of the test can hold an operation for as long as it likes.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that can't go on has failed")]

mod support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::gate::{APPLY, LONG, at_the_gate, is_whole_after_an_apply, leave_gate_open, no_panic, open_gate};
use support::moorfast::{Moorfast, Run};
use support::wait_for;

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
    is_whole_after_an_apply(&moorfast, &["--state", &state]).complains("an earlier run died during");
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

/// A disk on which a write or a sync of the state fails, and all after it.
#[test]
fn a_broken_disk_loses_nothing() {
    let moorfast = Moorfast::with(FILES);
    let strace = Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("MOORFAST_REQUIRE_TESTBED").as_deref() != Ok("1"), "strace is installed");
        eprintln!("skipped: there is no strace, which makes system calls fail");
        return;
    }
    is_whole_after_an_apply(&moorfast, &[]);
    let mut failed = 0;
    for (round, (calls, first)) in (1..8).flat_map(|first| [("pwrite64", 4 * first), ("fdatasync", first)]).enumerate()
    {
        let variable = format!("text={round}");
        let traced = moorfast.command(&["apply", "--auto-approve", "--var", &variable]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("inject={calls}:error=EIO:when={first}+")]);
        command.arg(traced.get_program()).args(traced.get_args()).current_dir(traced.get_current_dir().unwrap());
        let run = ended(&mut command);
        no_panic(&run);
        if run.code != 0 {
            assert_eq!(run.code, 1, "{calls} {first}: {run}");
            run.complains("state.db").complains("I/O");
            failed += 1;
        }
        moorfast.expect(0, &["state", "list"]).says("ssh_file.a").says("ssh_file.b");
        is_whole_after_an_apply(&moorfast, &["--var", &variable]);
        assert_eq!(fs::read_to_string(moorfast.path("b")).unwrap(), round.to_string());
    }
    assert!(failed > 5, "{failed} runs met a failing disk");
}

/// A folder at this path, of this owner.
fn folder(path: &str, owner: &str) -> String {
    format!(
        "[nodes.here]\ntransport = \"local\"\n[resource.ssh_directory.it]\non = \"here\"\npath = \"${{path.root}}/{path}\"\n{owner}"
    )
}

#[test]
fn a_replacement_that_dies_at_any_moment_leaves_nothing_whatever_the_manifest_says_then() {
    let nothing = "[nodes.here]\ntransport = \"local\"\n".to_owned();
    let mut open = 0;
    for (end, left) in [(nothing, None), (folder("a", ""), Some("a")), (folder("c", ""), Some("c"))] {
        let crashes = (1..).flat_map(|write| ["before", "after"].map(|moment| format!("{moment}:{write}")));
        for crash in crashes {
            let moorfast = Moorfast::with(&folder("a", ""));
            is_whole_after_an_apply(&moorfast, &[]);
            moorfast.write("moorfast.toml", &folder("b", ""));
            let run = moorfast.start_in(&APPLY, &[("MOORFAST_CRASH_AT", &crash)]).end();
            open += usize::from(run.code != 0 && moorfast.path("b").exists());
            moorfast.write("moorfast.toml", &end);
            is_whole_after_an_apply(&moorfast, &[]);
            let found: Vec<_> = ["a", "b", "c"].into_iter().filter(|path| moorfast.path(path).exists()).collect();
            assert_eq!(found, left.into_iter().collect::<Vec<_>>(), "{crash}\n{run}");
            if run.code == 0 {
                break;
            }
        }
    }
    assert!(open > 3, "{open} runs died after they made the new folder");
}

#[test]
fn a_replacement_that_fails_half_way_leaves_nothing_when_it_is_taken_back() {
    let moorfast = Moorfast::with(&folder("a", ""));
    is_whole_after_an_apply(&moorfast, &[]);
    moorfast.write("moorfast.toml", &folder("b", "owner = \"nobody-has-this-name\"\n"));
    moorfast.expect(1, &APPLY);
    assert!(moorfast.path("b").exists(), "it is made before it gets its owner");
    moorfast.write("moorfast.toml", &folder("a", ""));
    let plan = moorfast.expect(0, &["plan"]);
    plan.says("also removes").says("/b, which an earlier operation on it left when it did not finish");
    is_whole_after_an_apply(&moorfast, &[]);
    assert!(moorfast.path("a").exists() && !moorfast.path("b").exists());
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
