//! `moorfast drift` for cron jobs: metrics, Markdown, new drift only, and the drift history.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::cli::manifests::{NB, PAIR, TWO};
use crate::support::folder::{BINARY, Folder, Run};

fn applied() -> Folder {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder
}

/// Returns the value of a metric.
#[track_caller]
fn metric(folder: &Folder, name: &str) -> Option<String> {
    let text = folder.read("moorfast.prom");
    let mut lines = text.lines().filter(|line| line.starts_with(&format!("moorfast_drift_{name}{{")));
    lines.next().map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
}

fn drift(folder: &Folder, code: i32) -> Run {
    folder.expect(code, &["drift", "--metrics", "moorfast.prom"])
}

#[test]
fn metrics_have_the_exit_code_and_the_drifted_objects() {
    let folder = applied();
    drift(&folder, 0).says("In sync.");
    let is = |name: &str, value: Option<&str>| assert_eq!(metric(&folder, name).as_deref(), value, "{name}");
    is("exit_code", Some("0"));
    is("objects", Some("0"));
    is("managed_objects", Some("3"));
    is("object", None);
    let mode = fs::metadata(folder.path("moorfast.prom")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644, "node_exporter is another user");

    folder.write("out/greeting", "somebody was here\n");
    drift(&folder, 2);
    is("exit_code", Some("2"));
    is("objects", Some("1"));
    is("object", Some("1"));
    let root = folder.path("").canonicalize().unwrap();
    let own = format!("moorfast_drift_objects{{manifest=\"{}\"}} 1", root.display());
    assert!(folder.read("moorfast.prom").contains(&own), "{}", folder.read("moorfast.prom"));
    assert!(!folder.read("moorfast.prom").contains("somebody"), "no contents leave the machine");

    // A failed run writes its exit code, and removes the metrics of earlier runs.
    folder.write("main.toml", "[nodes.");
    drift(&folder, 1);
    is("exit_code", Some("1"));
    is("objects", None);
    assert!(folder.names().iter().all(|name| !name.starts_with(".moorfast-")), "{:?}", folder.names());
}

#[test]
fn ignored_changes_are_neither_drift_nor_a_reason() {
    let ignoring = PAIR.replace(
        "content = \"first line\\nsecond line\\n${var.greeting}\\n\"",
        "content = \"first line\\n\"\nmode = \"0644\"\nlifecycle = { ignore_changes = [\"content\"] }",
    );
    assert_ne!(ignoring, PAIR);
    let folder = Folder::new(&ignoring);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(0, &["drift"]).says("In sync.");
    folder.expect(0, &["plan", "-detailed-exitcode"]).says("No changes.");
    folder.write("main.toml", &ignoring.replace("\"0644\"", "\"0600\""));
    folder.expect(0, &["plan"]).says("because the manifest changed");
    folder.expect(0, &["apply", "-auto-approve"]).says("1 changed");
    assert_eq!(folder.read("out/greeting"), "somebody was here\n");
    fs::set_permissions(folder.path("out/greeting"), fs::Permissions::from_mode(0o666)).unwrap();
    folder.expect(2, &["drift"]).says("mode");
}

#[test]
fn an_empty_state_is_never_in_sync() {
    let commands: [&[&str]; 8] = [
        &["drift"],
        &["drift", "--json"],
        &["drift", "--since-last"],
        &["drift", "--history"],
        &["state", "list"],
        &["output"],
        &["show"],
        &["show", "--json"],
    ];
    let refuses = |folder: &Folder, state: &[&str], message: &str| {
        let reads_history = |command: &&&[&str]| command.contains(&"--history");
        let is_gone = folder.path(".moorfast").exists() && state.is_empty();
        for command in commands.iter().filter(|command| !(is_gone && reads_history(command))) {
            let run = folder.expect(1, &[state, command].concat());
            run.complains(message);
            assert_eq!(run.stdout, "", "{command:?}");
        }
        folder.expect(1, &[state, &["drift", "--metrics", "moorfast.prom"]].concat());
        assert_eq!(metric(folder, "exit_code").as_deref(), Some("1"));
        assert_eq!(metric(folder, "objects"), None);
        fs::remove_file(folder.path("moorfast.prom")).unwrap();
    };

    let never_applied = Folder::new(PAIR);
    refuses(&never_applied, &[], "cannot find the state in");
    assert_eq!(never_applied.names(), ["main.toml"], "nothing is created");

    let elsewhere = applied();
    refuses(&elsewhere, &["--state", "typo"], "cannot find the state in");
    refuses(&elsewhere, &["--state", "out"], "cannot find the state in");
    assert_eq!(elsewhere.names(), [".moorfast", "main.toml", "out"], "nothing is created");
    assert_eq!(
        fs::read_dir(elsewhere.path("out")).unwrap().count(),
        2,
        "nothing is created in a folder without a state"
    );

    let destroyed = applied();
    destroyed.expect(0, &["destroy", "-auto-approve"]);
    refuses(&destroyed, &[], "it has no objects and no outputs");
}

#[test]
fn a_node_that_does_not_answer_is_neither_in_sync_nor_drifted() {
    let folder = applied();
    let pin = "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let away = format!("address = \"127.0.0.1\"\nport = 1\nhost_key = \"{pin}\"");
    folder.write("main.toml", &PAIR.replace("transport = \"local\"", &away));
    drift(&folder, 5);
    assert_eq!(metric(&folder, "exit_code").as_deref(), Some("5"));
    assert_eq!(metric(&folder, "unread_objects").as_deref(), Some("3"));
}

#[test]
fn since_last_reports_only_new_drift() {
    let folder = applied();
    let drift = |code| folder.expect(code, &["drift", "--since-last", "--metrics", "moorfast.prom"]);
    drift(0).says("In sync.");
    folder.write("out/greeting", "somebody was here\n");
    drift(2).says("ssh_file.greeting");
    drift(0).says("No new drift. Drift of 1 object was reported before.");
    assert_eq!(metric(&folder, "exit_code").as_deref(), Some("2"), "the metrics report all drift");
    assert_eq!(metric(&folder, "new_objects").as_deref(), Some("0"));
    // The same object with another value.
    folder.write("out/greeting", "and somebody else\n");
    drift(2).says("and somebody else");
    // Another object; the known drift is not reported again.
    fs::remove_file(folder.path("out/secret")).unwrap();
    let run = drift(2);
    assert!(run.says("ssh_file.secret").stdout.find("ssh_file.greeting").is_none(), "{}", run.stdout);
    // Drift that was reverted and comes back is new.
    folder.expect(0, &["apply", "-auto-approve"]);
    drift(0).says("In sync.");
    folder.write("out/greeting", "and somebody else\n");
    drift(2).says("ssh_file.greeting");
    folder.expect(1, &["drift", "--since-last", "--target", "ssh_file.greeting"]).complains("cannot be used with");
}

#[test]
fn exclude_does_not_exclude_dependants() {
    let folder = applied();
    fs::set_permissions(folder.path("out"), fs::Permissions::from_mode(0o700)).unwrap();
    folder.write("out/greeting", "somebody was here\n");
    let run = folder.expect(2, &["drift", "--exclude", "ssh_directory.out"]);
    assert!(!run.says("ssh_file.greeting").stdout.contains("ssh_directory.out"), "{}", run.stdout);
}

#[test]
fn objects_of_a_removed_node_are_not_in_sync() {
    let folder = Folder::new(TWO);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("main.toml", &TWO.replace(NB, ""));
    let run = folder.expect(1, &["drift", "--markdown", "--metrics", "moorfast.prom"]);
    assert!(!run.stdout.contains("In sync."), "{}", run.stdout);
    let run = folder.expect(1, &["drift", "--metrics", "moorfast.prom"]);
    run.says("No drift in the objects that could be read").complains("`nb` is not in the inventory any more");
    run.complains("ssh_file.a[\"nb\"]").complains("--exclude");
    assert!(!run.stdout.contains("In sync."), "{}", run.stdout);
    assert_eq!(metric(&folder, "exit_code").as_deref(), Some("1"));
    assert_eq!(metric(&folder, "unread_objects").as_deref(), Some("1"));
    // Objects that were not read are neither gone nor removed from the state by a refresh.
    let plan = folder.expect(0, &["plan"]);
    assert!(!plan.says("will be removed from the state").stdout.contains("is gone"), "{}", plan.stdout);
    folder.expect(1, &["apply", "-refresh-only", "-auto-approve"]).complains("is not in the inventory any more");
    folder.expect(0, &["drift", "--target", "ssh_file.a[\"na\"]"]).says("In sync.");
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["drift"]).says("In sync.");
}

#[test]
fn a_new_identity_in_the_manifest_is_no_drift_of_the_old_object() {
    let folder = applied();
    folder.write("main.toml", &PAIR.replace("}/greeting", "}/welcome"));
    folder.expect(0, &["drift"]).says("In sync.");
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &["drift"]).says("ssh_file.greeting[\"here\"] has changed");
    // The state keeps the old object, and an apply destroys it.
    folder.expect(0, &["apply", "-refresh-only", "-auto-approve"]);
    folder.expect(0, &["apply", "-auto-approve"]);
    assert!(!folder.path("out/greeting").exists() && folder.path("out/welcome").exists());
}

#[test]
fn drift_as_markdown_for_an_issue() {
    let folder = applied();
    fs::remove_file(folder.path("out/secret")).unwrap();
    folder.write("out/greeting", "first line\nsomebody was here\n");
    let text = folder.expect(2, &["drift", "--markdown"]).stdout;
    assert!(
        text.starts_with("<!-- moorfast:drift site=")
            && text.contains("-->\n### Drift: 2 objects changed since the last apply.\n"),
        "{text}"
    );
    assert!(text.contains("is gone</b>") && text.contains("\n+       somebody was here\n"), "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
    folder.expect(1, &["drift", "--markdown", "--json"]).complains("cannot be used with");
}

#[test]
fn the_history_has_each_drift_and_its_time() {
    let folder = applied();
    folder.expect(0, &["drift", "--history"]).says("`moorfast drift` has not run yet.");
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &["drift"]);
    fs::remove_file(folder.path("out/secret")).unwrap();
    folder.expect(2, &["drift"]);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["drift"]);
    let text = folder.expect(0, &["drift", "--history"]).stdout;
    assert!(text.contains("ssh_file.secret[\"here\"] is gone\n"), "{text}");
    assert!(text.contains("ssh_file.greeting[\"here\"]: content, sha256, size\n"), "{text}");
    assert!(text.contains(", ended at "), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&folder.expect(0, &["drift", "--history", "--json"]).stdout).unwrap();
    let entries = json["drift_history"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "{json}");
    assert!(entries.iter().all(|e| e["gone"].is_string() && e["told"].is_null()), "{json}");
    assert!(!text.contains("somebody") && !json.to_string().contains("somebody"), "no values are kept");
}

#[test]
fn drift_without_since_last_does_not_hide_drift_from_the_cron_job() {
    let folder = applied();
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &["drift"]).says("ssh_file.greeting");
    folder.expect(2, &["drift", "--since-last"]).says("ssh_file.greeting");
    folder.expect(0, &["drift", "--since-last"]).says("No new drift.");
}

#[test]
fn a_read_only_state_is_enough() {
    let folder = applied();
    folder.write("out/greeting", "somebody was here\n");
    folder.expect(2, &["drift"]);
    let state = fs::canonicalize(folder.path(".moorfast")).unwrap();
    // A mount that not even root can write to.
    let bound = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c"])
        .arg("mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"")
        .arg(&state)
        .arg(BINARY)
        .args(["drift", "--since-last"])
        .current_dir(folder.path(""))
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&bound.stderr);
    if stderr.contains("unshare failed") {
        eprintln!("skipped: {stderr}");
        return;
    }
    assert_eq!(bound.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("The drift history was not saved beside the state: "), "{stderr}");
    assert!(String::from_utf8_lossy(&bound.stdout).contains("ssh_file.greeting"));
}

#[test]
fn drift_changes_neither_the_state_nor_the_objects() {
    let folder = applied();
    folder.write("out/greeting", "somebody was here\n");
    let state = folder.expect(0, &["state", "pull"]).stdout;
    folder.expect(2, &["drift", "--since-last"]);
    assert_eq!(folder.expect(0, &["state", "pull"]).stdout, state);
    assert_eq!(folder.read("out/greeting"), "somebody was here\n");
}
