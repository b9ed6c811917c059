//! Faults of the machine that runs moorfast: full, read-only and failing disks, signals, and closed output.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::gate::{APPLY, LONG, apply_completes, apply_to_gate, assert_no_panic, open_gate_once, remove_gate};
use crate::support::wait_for;

/// Two files, each with its content from a variable.
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

/// A small file system, unmounted when it is dropped.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// Mounts the file system. Prints the reason and returns `None` if this is not permitted here.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { folder });
        }
        assert!(std::env::var("MOORFAST_REQUIRE_TESTBED").as_deref() != Ok("1"), "a tmpfs cannot be mounted");
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

    /// Fills the file system.
    fn fill(&self) {
        let mut ballast = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        while ballast.write(&[0; 512]).is_ok_and(|written| written > 0) {}
    }

    fn free_space(&self) {
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
fn a_full_disk_stops_a_run_before_its_first_operation() {
    let Some(disk) = Disk::mount() else { return };
    let state = disk.state();
    let moorfast = Folder::new(FILES);
    moorfast.expect(0, &["apply", "--auto-approve", "--state", &state]);
    disk.fill();
    let run = moorfast.expect(1, &["apply", "--auto-approve", "--state", &state, "--var", "text=two"]);
    run.complains("no space left").complains(&state).complains("free disk space");
    assert_no_panic(&run);
    assert_eq!(
        fs::read_to_string(moorfast.path("a")).unwrap(),
        "one",
        "an operation that cannot be recorded is not started"
    );
    moorfast.expect(0, &["state", "list", "--state", &state]).says("ssh_file.a").says("ssh_file.b");
    disk.free_space();
    apply_completes(&moorfast, &["--state", &state, "--var", "text=two"]);
    assert_eq!(fs::read_to_string(moorfast.path("b")).unwrap(), "two");
}

#[test]
fn a_disk_that_fills_up_during_a_run_loses_nothing() {
    let Some(disk) = Disk::mount() else { return };
    let state = disk.state();
    let (moorfast, run) = apply_to_gate(&["--state", &state], &[]);
    wait_for("the free operation", LONG, || {
        moorfast
            .run(&["state", "show", "ssh_file.free[\"here\"]", "--state", &state])
            .stdout
            .contains("free")
            .then_some(())
    });
    disk.fill();
    open_gate_once(&moorfast);
    let run = run.end();
    assert_eq!(run.code, 1, "{run}");
    run.complains("no space left").complains("free disk space");
    assert_no_panic(&run);
    assert!(moorfast.path("went").exists() && !moorfast.path("after").exists());
    moorfast.expect(0, &["state", "list", "--state", &state]).says("ssh_file.free");
    disk.free_space();
    remove_gate(&moorfast);
    apply_completes(&moorfast, &["--state", &state]).complains("an earlier run died during");
    assert!(moorfast.path("after").exists());
}

#[test]
fn a_state_on_a_read_only_file_system_can_be_read() {
    let Some(disk) = Disk::mount() else { return };
    let state = disk.state();
    let moorfast = Folder::new(FILES);
    moorfast.expect(0, &["apply", "--auto-approve", "--state", &state]);
    disk.remount("ro");
    let run = moorfast.expect(1, &["apply", "--auto-approve", "--state", &state, "--var", "text=two"]);
    run.complains("read-only").complains(&state);
    assert_no_panic(&run);
    assert_eq!(fs::read_to_string(moorfast.path("a")).unwrap(), "one");
    moorfast.expect(0, &["state", "list", "--state", &state]).says("ssh_file.a").says("ssh_file.b");
    disk.remount("rw");
    apply_completes(&moorfast, &["--state", &state, "--var", "text=two"]);
}

#[test]
fn the_third_signal_ends_a_run_at_once_and_nothing_is_lost() {
    for signals in [["INT", "INT", "INT"], ["TERM", "HUP", "TERM"]] {
        let (moorfast, mut run) = apply_to_gate(&[], &[]);
        for signal in signals {
            if !run.has_ended() {
                run.send(signal);
                std::thread::park_timeout(Duration::from_millis(50));
            }
        }
        let run = run.end();
        assert_eq!(run.code, 130, "{run}");
        assert_no_panic(&run);
        moorfast.expect(0, &["state", "list"]);
        remove_gate(&moorfast);
        apply_completes(&moorfast, &[]);
    }
}

/// From some write or sync of the state on, all of them fail.
#[test]
fn a_failing_disk_loses_nothing() {
    let moorfast = Folder::new(FILES);
    let strace = Command::new("strace").arg("-V").output();
    if !strace.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("MOORFAST_REQUIRE_TESTBED").as_deref() != Ok("1"), "strace is not installed");
        eprintln!("skipped: strace, which makes system calls fail, is not installed");
        return;
    }
    apply_completes(&moorfast, &[]);
    let mut failed = 0;
    for (round, (calls, first)) in (1..8).flat_map(|first| [("pwrite64", 4 * first), ("fdatasync", first)]).enumerate()
    {
        let variable = format!("text={round}");
        let traced = moorfast.command(&["apply", "--auto-approve", "--var", &variable]);
        let mut command = Command::new("strace");
        command.args(["-f", "-qqq", "-o", "/dev/null", "-e", &format!("inject={calls}:error=EIO:when={first}+")]);
        command.arg(traced.get_program()).args(traced.get_args()).current_dir(traced.get_current_dir().unwrap());
        let run = run_to_end(&mut command);
        assert_no_panic(&run);
        if run.code != 0 {
            assert_eq!(run.code, 1, "{calls} {first}: {run}");
            run.complains("state.db").complains("I/O");
            failed += 1;
        }
        moorfast.expect(0, &["state", "list"]).says("ssh_file.a").says("ssh_file.b");
        apply_completes(&moorfast, &["--var", &variable]);
        assert_eq!(fs::read_to_string(moorfast.path("b")).unwrap(), round.to_string());
    }
    assert!(failed > 5, "only {failed} runs failed");
}

/// Returns a manifest of a directory with this path and these further attributes.
fn directory(path: &str, attributes: &str) -> String {
    format!(
        "[nodes.here]\ntransport = \"local\"\n[resource.ssh_directory.it]\non = \"here\"\npath = \"${{path.root}}/{path}\"\n{attributes}"
    )
}

#[test]
fn a_replacement_killed_at_any_moment_leaves_nothing_behind_under_any_next_manifest() {
    let nothing = "[nodes.here]\ntransport = \"local\"\n".to_owned();
    let mut open = 0;
    for (end, left) in [(nothing, None), (directory("a", ""), Some("a")), (directory("c", ""), Some("c"))] {
        let crashes = (1..).flat_map(|write| ["before", "after"].map(|moment| format!("{moment}:{write}")));
        for crash in crashes {
            let moorfast = Folder::new(&directory("a", ""));
            apply_completes(&moorfast, &[]);
            moorfast.write("main.toml", &directory("b", ""));
            let run = moorfast.start_in(&APPLY, &[("MOORFAST_CRASH_AT", &crash)]).end();
            open += usize::from(run.code != 0 && moorfast.path("b").exists());
            moorfast.write("main.toml", &end);
            apply_completes(&moorfast, &[]);
            let found: Vec<_> = ["a", "b", "c"].into_iter().filter(|path| moorfast.path(path).exists()).collect();
            assert_eq!(found, left.into_iter().collect::<Vec<_>>(), "{crash}\n{run}");
            if run.code == 0 {
                break;
            }
        }
    }
    assert!(open > 3, "only {open} runs crashed after they created the new directory");
}

#[test]
fn a_replacement_that_fails_half_way_leaves_nothing_behind_when_it_is_reverted() {
    let moorfast = Folder::new(&directory("a", ""));
    apply_completes(&moorfast, &[]);
    moorfast.write("main.toml", &directory("b", "owner = \"nobody-has-this-name\"\n"));
    moorfast.expect(1, &APPLY);
    assert!(moorfast.path("b").exists(), "the directory is created before its owner is set");
    moorfast.write("main.toml", &directory("a", ""));
    let plan = moorfast.expect(0, &["plan"]);
    plan.says("also removes").says("/b, which an unfinished operation left behind");
    apply_completes(&moorfast, &[]);
    assert!(moorfast.path("a").exists() && !moorfast.path("b").exists());
}

/// Returns a pipe whose reader is closed.
fn closed() -> OwnedFd {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn run_to_end(command: &mut Command) -> Run {
    Run::of(command.output().unwrap())
}

#[test]
fn closed_standard_output_causes_no_panic() {
    let moorfast = Folder::new(FILES);
    // The plan cannot be printed, so nothing is changed.
    let run = run_to_end(moorfast.command(&APPLY).stdout(closed()));
    assert_eq!(run.code, 141, "{run}");
    assert!(run.stderr.is_empty() || !run.stderr.contains("error"), "{run}");
    assert!(!moorfast.path("a").exists());
    apply_completes(&moorfast, &[]);
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
        let run = run_to_end(moorfast.command(arguments).stdout(closed()));
        assert_eq!(run.code, 141, "{arguments:?}: {run}");
        assert_no_panic(&run);
        let full = Stdio::from(OpenOptions::new().write(true).open("/dev/full").unwrap());
        let run = run_to_end(moorfast.command(arguments).stdout(full));
        assert_eq!(run.code, 1, "{arguments:?}: {run}");
        assert_no_panic(&run);
    }
    apply_completes(&moorfast, &[]);
}

#[test]
fn closed_standard_error_does_not_stop_an_apply() {
    let moorfast = Folder::new(FILES);
    let run = run_to_end(moorfast.command(&["apply", "--auto-approve", "--log", "trace"]).stderr(closed()));
    assert_eq!(run.code, 0, "{run}");
    assert!(Path::new(&moorfast.path("b")).exists());
    // Both outputs are closed while operations run.
    let mut command = moorfast.command(&["apply", "--auto-approve", "--json", "--var", "text=two"]);
    let run = run_to_end(command.stdout(closed()).stderr(closed()));
    assert_eq!(run.code, 141, "{run}");
    apply_completes(&moorfast, &["--var", "text=two"]);
}
