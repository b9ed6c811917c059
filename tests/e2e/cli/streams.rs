//! Results on standard output, progress and errors on standard error, colours, and JSON.

use std::process::Stdio;

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

#[test]
fn colours_are_for_terminals() {
    let folder = Folder::new(PAIR);
    assert!(!folder.expect(0, &["plan"]).stdout.contains('\u{1b}'));
    assert!(folder.expect(0, &["plan", "-color=always"]).stdout.contains('\u{1b}'));
    assert!(!folder.expect(0, &["plan", "-no-color"]).stdout.contains('\u{1b}'));
    let output = folder.command(&["plan"]).env("NO_COLOR", "1").output().unwrap();
    assert!(!String::from_utf8(output.stdout).unwrap().contains('\u{1b}'));
}

#[test]
fn progress_is_plain_lines_on_standard_error() {
    let folder = Folder::new(PAIR);
    let run = folder.expect(0, &["apply", "-auto-approve"]);
    run.complains("ssh_directory.out[\"here\"]: Creating...\n");
    run.complains("ssh_directory.out[\"here\"]: Creation complete after ");
    assert!(!run.stdout.contains("Creating..."));
}

#[test]
fn quiet_prints_only_results() {
    let folder = Folder::new(PAIR);
    let run = folder.expect(0, &["apply", "-auto-approve", "-q"]);
    assert_eq!(run.stderr, "");
    run.says("Apply complete!");
}

#[test]
fn a_plan_as_json_is_one_object() {
    let folder = Folder::new(PAIR);
    let run = folder.expect(2, &["plan", "-json", "-detailed-exitcode"]);
    let plan: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(plan["format_version"], "1.0");
    assert_eq!(plan["summary"]["add"], 3);
    let changes = plan["resource_changes"].as_array().unwrap();
    let secret = changes.iter().find(|c| c["name"] == "secret").unwrap();
    assert_eq!(secret["change"]["actions"], serde_json::json!(["create"]));
    assert_eq!(secret["change"]["after"]["content"], serde_json::Value::Null);
    assert_eq!(secret["change"]["after_sensitive"]["content"], true);
}

#[test]
fn an_apply_as_json_is_one_object_a_line() {
    let folder = Folder::new(PAIR);
    let run = folder.expect(0, &["apply", "-json", "-auto-approve"]);
    let lines: Vec<serde_json::Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).count();
    assert_eq!((of("apply_start"), of("apply_complete"), of("change_summary")), (3, 3, 1));
    assert_eq!(lines.last().unwrap()["changes"]["add"], 3);
}

#[test]
fn a_closed_pipe_causes_no_panic() {
    let folder = Folder::new(PAIR);
    for arguments in [["plan"].as_slice(), &["schema"], &["validate"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        let child = folder.command(arguments).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        drop(reader);
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(141), "{arguments:?} {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{stderr}");
    }
}

#[test]
fn the_console_evaluates_expressions_from_a_pipe() {
    let folder = Folder::new(PAIR);
    let run = folder.run_with(&["console"], "upper(var.greeting)\nvar.password\n");
    assert_eq!((run.code, run.stdout.as_str()), (0, "\"HELLO\"\n(sensitive value)\n"), "{}", run.stderr);
    folder.expect(1, &["console", "-e", "var.greetign"]).complains("greeting");
    folder.expect(0, &["console", "-e", "1 + 1"]).says("2");
}

#[test]
fn graphs_are_printed_for_graphviz_and_mermaid() {
    let folder = Folder::new(PAIR);
    let edge = r#""ssh_file.greeting[\"here\"]" -> "ssh_directory.out[\"here\"]""#;
    folder.expect(0, &["graph"]).says("digraph").says(edge);
    folder.expect(0, &["graph", "-mermaid"]).says("flowchart").says(" --> ");
}

#[test]
fn nodes_are_listed() {
    let folder = Folder::new(PAIR);
    assert_eq!(folder.expect(0, &["node", "list"]).stdout, "here  this machine  all  nodes.here (main.toml:11)\n");
    folder.expect(0, &["node", "trust", "here"]).says("needs no host key");
    folder
        .expect(1, &["node", "trust", "there"])
        .complains("the inventory has no node `there`")
        .complains("its nodes are: here");
}

#[test]
fn errors_with_json_are_json() {
    let folder = Folder::new(&PAIR.replace("content = \"first", "contnet = \"first"));
    for arguments in [["plan", "-json"].as_slice(), &["apply", "-json", "-auto-approve"], &["drift", "-json"]] {
        let run = folder.expect(1, arguments);
        let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
        assert_eq!((&error["type"], &error["exit_code"]), (&"error".into(), &1.into()), "{error}");
        let first = &error["diagnostics"][0];
        assert!(first["summary"].as_str().unwrap().contains("`contnet`"), "{error}");
        assert_eq!(first["range"]["filename"], "./main.toml");
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
    // Errors of files, of options, of plans and of the state.
    let folder = Folder::new(PAIR);
    folder.write("text", "no plan");
    let cases: [(&[&str], &str); 6] = [
        (&["plan", "-json", "-bogus"], "unexpected argument"),
        (&["drift", "--json", "extra"], "unexpected argument"),
        (&["show", "-json", "text"], "text: the file is not a moorfast plan"),
        (&["show", "-json", "none"], "none"),
        (&["apply", "-json"], "cannot ask for approval with --json"),
        (&["state", "show", "-json", "ssh_file.none"], "cannot find the state"),
    ];
    for (arguments, summary) in cases {
        let run = folder.expect(1, arguments);
        let error: serde_json::Value = serde_json::from_str(&run.stderr).unwrap();
        assert!(error["@message"].as_str().unwrap().contains(summary), "{error}");
        assert_eq!(run.stdout, "", "{arguments:?}");
    }
    // A failed operation is in the events and in the summary, and not on standard error.
    let folder =
        Folder::new("[nodes.here]\ntransport = \"local\"\n[resource.ssh_exec.x]\non = \"here\"\nscript = \"exit 3\"\n");
    let run = folder.expect(1, &["apply", "-json", "-auto-approve"]);
    let lines: Vec<serde_json::Value> = run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["outcomes"][0]["result"], "failed");
    assert_eq!(run.stderr, "");
}

#[test]
fn drift_json_contains_objects_that_cannot_be_read() {
    let folder = Folder::new(crate::cli::manifests::TWO);
    folder.expect(0, &["apply", "-auto-approve"]);
    let unreachable = "[nodes.nb]\naddress = \"127.0.0.1\"\nport = 9\n";
    folder.write("main.toml", &crate::cli::manifests::TWO.replace(crate::cli::manifests::NB, unreachable));
    let run = folder.expect(5, &["drift", "-json"]);
    let look: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(look["unread"][0]["address"], "ssh_file.a[\"nb\"]");
    assert_eq!(look["unread"][0]["error"]["class"], "unreachable");
}
