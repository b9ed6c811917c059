//! Signals and locks, with a run that waits at a gate until the test opens it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, Stdio};

use crate::support::folder::Folder;
use crate::support::gate::{LONG, close_gate, open_gate_once};
use crate::support::wait_for;

const WAITING: &str = r#"
[nodes.here]
transport = "local"

[resource.ssh_exec.waits]
on      = "here"
script  = "cat '${path.root}/gate' > '${path.root}/came'"
creates = "${path.root}/came"

[resource.ssh_file.after]
on         = "here"
path       = "${path.root}/after"
content    = "after"
depends_on = ["ssh_exec.waits"]
"#;

/// Starts an apply and waits until it is at the gate. Returns its standard error too.
fn waiting() -> (Folder, Child, BufReader<std::process::ChildStderr>) {
    let folder = Folder::new(WAITING);
    close_gate(&folder);
    let mut child =
        folder.command(&["apply", "-auto-approve"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut stderr, "ssh_exec.waits[\"here\"]: Creating...");
    // An earlier signal would prevent its start.
    wait_for("the run to reach the gate", LONG, || folder.path("came").exists().then_some(()));
    (folder, child, stderr)
}

fn read_until(stream: &mut impl BufRead, text: &str) {
    let mut line = String::new();
    while stream.read_line(&mut line).unwrap() > 0 {
        if line.contains(text) {
            return;
        }
        line.clear();
    }
    panic!("the run never printed {text:?}");
}

fn send(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn drift_needs_no_lock() {
    let (folder, child, _stderr) = waiting();
    folder.expect(1, &["apply", "-auto-approve"]).complains("another run holds the lock");
    folder.expect(0, &["drift"]).says("In sync.");
    folder.expect(0, &["drift", "--history"]).says("No drift was found.");
    open_gate_once(&folder);
    // The run that holds the lock is not disturbed.
    assert!(child.wait_with_output().unwrap().status.success());
    assert_eq!(folder.read("after"), "after");
}

#[test]
fn the_first_signal_lets_running_operations_finish() {
    for signal in ["INT", "TERM", "HUP"] {
        let (folder, child, mut stderr) = waiting();
        send(&child, signal);
        read_until(&mut stderr, "Interrupted: running operations are finished");
        open_gate_once(&folder);
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{rest}");
        assert!(rest.contains("Not started, because the run was interrupted:\n  ssh_file.after[\"here\"]"), "{rest}");
        assert!(!folder.path("after").exists());
        folder.expect(0, &["state", "list"]).says("ssh_exec.waits[\"here\"]");
        folder.expect(0, &["apply", "-auto-approve"]).says("Resources: 1 added");
    }
}

#[test]
fn queued_operations_are_not_started_after_a_signal() {
    let folder = Folder::new(
        r#"
[nodes.here]
transport = "local"

[resource.ssh_exec.one]
on       = "here"
for_each = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t"]
script   = "touch '${path.root}/came-${each.value}'; while ! test -e '${path.root}/go'; do sleep 0.05; done; touch '${path.root}/done-${each.value}'"
creates  = "${path.root}/done-${each.value}"
"#,
    );
    let count = |start: &str| folder.files().iter().filter(|path| path.to_string_lossy().contains(start)).count();
    let mut command = folder.command(&["apply", "-auto-approve"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    while count("came-") == 0 {
        std::thread::yield_now();
    }
    send(&child, "INT");
    read_until(&mut stderr, "Interrupted: running operations are finished");
    folder.write("go", "");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest}");
    let begun = count("came-");
    assert!(begun < 20 && begun == count("done-"), "{begun} were started\n{rest}");
    assert!(rest.contains("Not started, because the run was interrupted:") && !rest.contains("Failed:"), "{rest}");
    let known = folder.expect(0, &["state", "list"]).stdout.lines().count();
    assert_eq!(known, begun, "an operation that was not started is not in the state");
    folder.expect(0, &["apply", "-auto-approve"]).says(&format!("Resources: {} added", 20 - begun));
}

#[test]
fn the_second_signal_cancels_running_operations() {
    let (folder, child, mut stderr) = waiting();
    send(&child, "INT");
    read_until(&mut stderr, "Interrupted: running operations are finished");
    send(&child, "INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{rest}");
    assert!(!folder.path("after").exists());
    std::fs::remove_file(folder.path("gate")).unwrap();
    folder.write("gate", "go\n");
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}

#[test]
fn a_second_run_names_the_holder_of_the_lock() {
    let (folder, mut child, _stderr) = waiting();
    for arguments in [["plan"].as_slice(), &["apply", "-auto-approve"], &["state", "rm", "ssh_exec.waits"]] {
        let run = folder.run(arguments);
        assert_eq!(run.code, 1, "{arguments:?} {}", run.stdout);
        if arguments[0] != "state" {
            run.complains("another run holds the lock").complains(&format!("pid {}", child.id()));
            run.complains("moorfast state unlock ");
        }
    }
    open_gate_once(&folder);
    assert!(child.wait().unwrap().success());
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}

/// Runs a command and interrupts it as soon as it prints `text`. Returns its exit code and the rest of its standard error.
fn interrupted_at(folder: &Folder, arguments: &[&str], text: &str) -> (i32, String) {
    let mut command = folder.command(arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until(&mut stderr, text);
    send(&child, "INT");
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    (child.wait_with_output().unwrap().status.code().unwrap_or(-1), rest)
}

#[test]
fn a_run_that_waits_for_the_lock_can_be_interrupted() {
    let (folder, mut child, _stderr) = waiting();
    for command in ["plan", "apply", "import"] {
        let mut arguments = vec![command, "-lock-timeout=30m"];
        arguments.extend((command == "import").then_some("ssh_file.after[\"here\"]"));
        let (code, rest) = interrupted_at(&folder, &arguments, "Waiting for the state lock: ");
        assert_eq!(code, 130, "{command}: {rest}");
        assert!(rest.contains("Interrupted: no operation is running"), "{command}: {rest}");
        assert!(rest.contains("Interrupted; nothing was changed."), "{command}: {rest}");
    }
    open_gate_once(&folder);
    assert!(child.wait().unwrap().success());
}

#[test]
fn an_import_can_be_interrupted() {
    let gate = "creates = \"${path.root}/came\"";
    let asks = "unless = \"cat '${path.root}/gate'\"";
    let folder = Folder::new(&WAITING.replace(gate, asks));
    assert!(Command::new("mkfifo").arg(folder.path("gate")).status().unwrap().success());
    let mut command = folder.command(&["import", "ssh_exec.waits[\"here\"]"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Opening the gate for writing succeeds when the run is at the gate.
    let gate = std::fs::OpenOptions::new().write(true).open(folder.path("gate")).unwrap();
    send(&child, "INT");
    let output = child.wait_with_output().unwrap();
    drop(gate);
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
    let list = folder.run(&["state", "list"]);
    assert_eq!((list.code, list.stdout.as_str()), (1, ""), "nothing was recorded");
}

#[test]
fn a_repeated_probe_can_be_interrupted() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", server.local_addr().unwrap());
    let folder = Folder::new(&format!("[check.never]\nhttp = {{ url = \"{url}\", retry_for = \"30m\" }}\n"));
    let mut command = folder.command(&["apply", "-auto-approve"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The plan sends one request, the apply repeats it.
    for _ in 0..3 {
        drop(server.accept().unwrap());
    }
    send(&child, "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_killed_run_leaves_no_lock_and_nothing_is_lost() {
    let (folder, mut child, _stderr) = waiting();
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::remove_file(folder.path("gate")).unwrap();
    folder.write("gate", "go\n");
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}

/// Opens a named pipe for writing only if it has a reader.
const O_NONBLOCK: i32 = 0o4000;

/// Starts moorfast on a pseudo terminal. Its standard input is the keyboard, and its standard output the screen.
fn on_terminal(folder: &Folder, arguments: &str) -> Child {
    let moorfast = folder.command(&[]).get_program().to_string_lossy().into_owned();
    let mut command = Command::new("script");
    command.args(["-qefc", &format!("{moorfast} {arguments}"), "/dev/null"]).env("TERM", "xterm");
    command.current_dir(folder.path(".")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

#[test]
fn ctrl_c_on_a_terminal_reports_no_failure() {
    let folder = Folder::new(WAITING);
    assert!(Command::new("mkfifo").arg(folder.path("gate")).status().unwrap().success());
    let mut child = on_terminal(&folder, "apply -auto-approve");
    let mut keys = child.stdin.take().unwrap();
    let mut screen = child.stdout.take().unwrap();
    while !folder.path("came").exists() {
        std::thread::yield_now();
    }
    keys.write_all(b"\x03").unwrap();
    // A progress line has no line end, so bytes are read.
    let mut shown = String::new();
    let mut bytes = [0; 1024];
    while !shown.contains("Interrupted: running operations are finished") {
        let count = screen.read(&mut bytes).unwrap();
        assert!(count > 0, "{shown}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    keys.write_all(b"\x03").unwrap();
    screen.read_to_string(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{shown}");
    assert!(shown.contains("Cancelling the running operations."), "{shown}");
    assert!(shown.contains("Cancelled while running (the next run determines their result):"), "{shown}");
    assert!(shown.contains("Not started, because the run was interrupted:"), "{shown}");
    assert!(!shown.contains("fail") && !shown.contains("error") && !shown.contains("Skipped, because"), "{shown}");
    folder.expect(0, &["state", "history"]).says("interrupted: 1 cancelled, 1 not started");
}

/// Data of this machine is read by every command. The program that reads it is in a process group of its own, so Ctrl-C does not reach it.
#[test]
fn ctrl_c_on_a_terminal_ends_a_command_that_reads() {
    let folder = Folder::new(
        "[nodes.here]\ntransport = \"local\"\n[data.local_command.slow]\ncommand = [\"cat\", \"${path.root}/gate\"]\n\
         [outputs.found]\nvalue = \"${data.local_command.slow.result}\"\n",
    );
    folder.write("gate", "");
    // Without a state, drift has nothing to compare.
    folder.expect(0, &["apply", "-auto-approve"]);
    std::fs::remove_file(folder.path("gate")).unwrap();
    assert!(Command::new("mkfifo").arg(folder.path("gate")).status().unwrap().success());
    for command in ["drift", "plan", "node check", "node list", "graph", "console"] {
        let mut terminal = on_terminal(&folder, command);
        // Opening the gate for writing succeeds when the program is at the gate.
        let gate = std::fs::OpenOptions::new().write(true).open(folder.path("gate")).unwrap();
        terminal.stdin.take().unwrap().write_all(b"\x03").unwrap();
        let mut shown = String::new();
        terminal.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        assert_eq!(terminal.wait().unwrap().code(), Some(130), "{command}: {shown}");
        assert!(shown.contains("Interrupted; nothing was changed."), "{command}: {shown}");
        drop(gate);
        let reader_is_left =
            std::fs::OpenOptions::new().write(true).custom_flags(O_NONBLOCK).open(folder.path("gate")).is_ok();
        assert!(!reader_is_left, "{command}: the program still runs");
    }
}

#[test]
fn the_history_distinguishes_running_aborted_and_failed_runs() {
    let (folder, mut child, _stderr) = waiting();
    folder.expect(0, &["state", "history"]).says("apply  running");
    child.kill().unwrap();
    child.wait().unwrap();
    folder.expect(0, &["state", "history"]).says("apply  aborted: the process was killed");
    folder.write(
        "main.toml",
        "[nodes.here]\ntransport = \"local\"\n[resource.ssh_exec.waits]\non = \"here\"\nscript = \"exit 3\"\n",
    );
    std::fs::remove_file(folder.path("gate")).unwrap();
    folder.expect(1, &["apply", "-auto-approve"]);
    let history = folder.expect(0, &["state", "history"]).stdout;
    let results: Vec<_> = history.lines().map(|line| line.split("apply  ").nth(1).unwrap()).collect();
    assert!(results[0].starts_with("failed: 1 failed") && results[1].starts_with("aborted"), "{history}");
}

#[test]
fn an_interrupted_apply_with_json_reports_it_in_json() {
    let folder = Folder::new(WAITING);
    assert!(Command::new("mkfifo").arg(folder.path("gate")).status().unwrap().success());
    let mut command = folder.command(&["apply", "-auto-approve", "-json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    while !folder.path("came").exists() {
        std::thread::yield_now();
    }
    send(&child, "INT");
    read_until(&mut lines, "\"type\":\"interrupted\"");
    open_gate_once(&folder);
    let mut rest = String::new();
    lines.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest}");
    let last: serde_json::Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert_eq!(last["interrupted"], true, "{rest}");
}
