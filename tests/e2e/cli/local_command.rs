//! `data.local_command`: the output of a program as data, its limits, and saved plans whose data changed.

use crate::support::folder::{Folder, Run};

const SECRET: &str = "correct-horse-battery-staple";

/// A manifest with the data source `c` and its result as an output.
fn manifest(arguments: &str) -> String {
    format!("[data.local_command.c]\n{arguments}\n[outputs.result]\nvalue = \"${{data.local_command.c.result}}\"\n")
}

/// Applies a manifest with the data source, which must fail and change nothing.
#[track_caller]
fn refused(arguments: &str, says: &[&str]) -> Run {
    let folder = Folder::new(&manifest(arguments));
    let run = folder.expect(1, &["apply", "--auto-approve"]);
    for text in says.iter().chain(&["main.toml:"]) {
        assert!(run.stderr.contains(text), "{text}: {run}");
    }
    assert!(!run.stderr.contains(SECRET) && !run.stdout.contains(SECRET), "{run}");
    let state = folder.expect(1, &["show"]).stderr;
    assert!(state.contains("is empty") || state.contains("does not exist"), "nothing was recorded: {state}");
    run
}

#[test]
fn the_output_of_a_program_is_data() {
    let arguments = r#"
command           = ["./hosts", "eu west; $HOME"]
stdin             = "from stdin"
environment       = { WHO = "environment" }
working_directory = "inventory"
format            = "json"
"#;
    let folder = Folder::new(&manifest(arguments));
    folder.write_program(
        "inventory/hosts",
        "#!/bin/sh\nprintf '{\"%s\": [\"%s\", \"%s\", 1.0]}' \"$1\" \"$(cat)\" \"$WHO\"\n",
    );
    folder.expect(0, &["apply", "--auto-approve"]);
    let output = folder.expect(0, &["output", "--json"]).stdout;
    let output: serde_json::Value = serde_json::from_str(&output).unwrap();
    let expected = serde_json::json!({ "eu west; $HOME": ["from stdin", "environment", 1] });
    assert_eq!(output["result"]["value"], expected, "{output}");
    // The values of variables are not in its environment.
    let folder = Folder::new(&manifest("command = [\"env\"]"));
    let started = folder.start_in(&["apply", "--auto-approve"], &[("MOORFAST_VAR_unused", SECRET)]);
    assert!(!started.end().stdout.contains(SECRET));
}

#[test]
fn a_failure_names_its_cause() {
    refused("command = [\"no-such-program\"]", &["`no-such-program`: the program does not exist in PATH"]);
    refused("command = [\"./no/such\"]", &["the program does not exist in"]);
    refused("command = [\"true\"]\nworking_directory = \"none\"", &["the folder", "none does not exist"]);
    refused("command = [\"sh\", \"-c\", \"echo broken >&2; exit 7\"]", &["`sh` failed with exit code 7", "broken"]);
    refused("command = []", &["`command` names no program"]);
    refused("command = [\"true\"]\ntimeout = \"11m\"", &["at most 10m"]);
    refused("command = [\"printf\", \"\\\\377\"]", &["is not UTF-8 text"]);
    let json = "command = [\"printf\", '{\"a\": 1,\\n \"b\": tru}']\nformat = \"json\"";
    refused(json, &["the output of `printf` cannot be decoded (line 2, column 10)"]);
    refused("command = [\"echo\", 'a = ?']\nformat = \"toml\"", &["(line 1, column 5)"]);
    refused("command = [\"echo\", 'a: b: c']\nformat = \"yaml\"", &["(line 1, column "]);
}

#[test]
fn a_failure_of_a_sensitive_program_prints_no_secret() {
    let variable = format!("[variables.s]\ntype = \"string\"\nsensitive = true\ndefault = \"{SECRET}\"\n");
    let with = |arguments: &str, says: &[&str]| refused(&format!("{arguments}\n{variable}"), says);
    let prints = "cat >&2; echo \"$S\" >&2; exit 1";
    let hidden = "its error output is not shown because the data source is sensitive";
    with(&format!("command = [\"sh\", \"-c\", '{prints}']\nstdin = \"${{var.s}}\""), &[hidden]);
    with(&format!("command = [\"sh\", \"-c\", '{prints}']\nenvironment = {{ S = \"${{var.s}}\" }}"), &[hidden]);
    with(
        "command = [\"cat\"]\nstdin = \"{${var.s}\"\nformat = \"json\"",
        &["(line 1, column 2): it is not valid JSON"],
    );
    // Also where the manifest declares that the result is public.
    with(
        &format!("command = [\"sh\", \"-c\", '{prints}']\nstdin = \"${{var.s}}\"\nsensitive = false"),
        &["failed with exit code 1", "(sensitive)"],
    );
    with("command = [\"echo\", \"${var.s}\"]", &["`command` is sensitive"]);
}

#[test]
fn a_program_that_hangs_is_killed_with_everything_that_it_started() {
    // Each process holds the FIFO open for as long as it lives.
    let script = "exec >alive; (setsid sleep 600 &); sleep 600";
    let folder = Folder::new(&manifest(&format!("command = [\"sh\", \"-c\", \"{script}\"]\ntimeout = \"1s\"")));
    assert!(folder.shell("mkfifo alive").code == 0);
    let reader = std::fs::File::options().read(true).write(true).open(folder.path("alive")).unwrap();
    let run = folder.expect(1, &["plan"]);
    run.complains("`sh` did not end within 1s, so it was killed").complains("main.toml:");
    drop(reader);
    let held = folder.shell("timeout 10 cat alive & timeout 10 sh -c ': >alive'; wait $!");
    assert_eq!(held.code, 0, "no process holds the FIFO: {held}");
}

#[test]
fn a_program_that_prints_a_gigabyte_takes_no_memory() {
    let arguments = "command = [\"head\", \"-c\", \"1073741824\", \"/dev/zero\"]";
    let folder = Folder::new(&manifest(arguments));
    let limited = folder.shell("ulimit -v 2000000; moorfast plan");
    limited.complains("`head` printed more than 16 MiB, so it was killed").complains("main.toml:");
    refused("command = [\"sh\", \"-c\", \"yes >&2\"]\ntimeout = \"1s\"", &["did not end within 1s"]);
}

#[test]
fn an_interrupt_ends_the_program() {
    let folder = Folder::new(&manifest("command = [\"sh\", \"-c\", \"exec >alive; sleep 600\"]\ntimeout = \"10m\""));
    assert!(folder.shell("mkfifo alive").code == 0);
    let running = folder.start(&["plan"]);
    // The FIFO opens when the program runs, and ends with it.
    let alive = std::fs::File::open(folder.path("alive")).unwrap();
    running.send("INT");
    assert_eq!(std::io::read_to_string(alive).unwrap(), "");
    assert_eq!(running.end().code, 130);
}

#[test]
fn a_saved_plan_whose_data_changed_is_stale() {
    let arguments = "command = [\"cat\", \"answer\"]\nsensitive = true";
    let file = "[nodes.l]\ntransport = \"local\"\n[resource.ssh_file.f]\non = \"l\"\npath = \"${path.root}/out\"\ncontent = \"${data.local_command.c.result}\"";
    let folder = Folder::new(
        &manifest(arguments).replace("[outputs.result]", &format!("{file}\n[outputs.result]\nsensitive = true")),
    );
    folder.write("answer", SECRET);
    folder.expect(0, &["plan", "--out", "reviewed.plan"]);
    assert!(!folder.read("reviewed.plan").contains(SECRET));
    folder.write("answer", "another");
    folder.expect(4, &["apply", "reviewed.plan"]).complains("`data.local_command.c` changed since the plan was made");
    std::fs::remove_file(folder.path("answer")).unwrap();
    folder.expect(1, &["apply", "reviewed.plan"]).complains("`cat` failed with exit code 1");
    assert!(!folder.path("out").exists());
    folder.write("answer", SECRET);
    folder.expect(0, &["apply", "reviewed.plan"]);
    assert_eq!(folder.read("out"), SECRET);
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    for file in folder.files().iter().filter(|file| !file.ends_with("answer") && !file.ends_with("out")) {
        let bytes = std::fs::read(file).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains(SECRET), "{}", file.display());
    }
}

#[test]
fn local_commands_can_be_excluded() {
    let folder = Folder::new(&manifest("command = [\"touch\", \"ran\"]"));
    for command in
        [&["plan"][..], &["apply", "--auto-approve"], &["validate"], &["drift"], &["destroy", "--auto-approve"]]
    {
        let excluded = [command, &["--no-local-commands"]].concat();
        let run = folder.expect(1, &excluded);
        run.complains("`data.local_command.c` is not allowed: `--no-local-commands` runs no command of the manifest on this machine")
            .complains("main.toml:1:");
    }
    let run = folder.start_in(&["plan"], &[("MOORFAST_NO_LOCAL_COMMANDS", "1")]).end();
    run.complains("`--no-local-commands`");
    folder.expect(1, &["plan", "--untrusted"]).complains("`plan --untrusted` runs no command");
    assert!(!folder.path("ran").exists());
    folder.expect(0, &["plan"]);
    assert!(folder.path("ran").exists());
}
