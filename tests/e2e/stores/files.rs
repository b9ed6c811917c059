//! `state pull`, `push`, `backup`, `restore` and `history`.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value as Json, json};

use super::Stores;
use crate::support::folder::{Folder, Run};

/// Two files and two outputs, one of each sensitive.
pub const MANIFEST: &str = r#"
[variables.text]
type    = "string"
default = "one"

[variables.secret]
type      = "string"
default   = "hunter2"
sensitive = true

[nodes.here]
transport = "local"

[resource.ssh_file.a]
on      = "here"
path    = "${path.root}/a"
content = "${var.text}"

[resource.ssh_file.secret]
on      = "here"
path    = "${path.root}/secret"
content = "${var.secret}"

[outputs.text]
value = "${var.text}"

[outputs.secret]
value     = "${var.secret}"
sensitive = true
"#;

const APPLY: [&str; 2] = ["apply", "--auto-approve"];

/// Returns the state as JSON.
pub fn pulled(moorfast: &Folder) -> Json {
    serde_json::from_str(&moorfast.expect(0, &["state", "pull"]).stdout).unwrap()
}

/// Pushes a state, given as JSON.
fn push(moorfast: &Folder, state: &Json, more: &[&str]) -> Run {
    moorfast.write("state.json", &state.to_string());
    moorfast.run(&[&["state", "push", "state.json"], more].concat())
}

fn refused(run: &Run, why: &str) {
    assert_eq!(run.code, 1, "{run}");
    run.complains(why);
}

pub fn a_state_is_pulled_changed_and_pushed(stores: &Stores) {
    let moorfast = stores.with(MANIFEST);
    moorfast.expect(0, &APPLY);
    let old = pulled(&moorfast);
    moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
    let now = pulled(&moorfast);
    assert!(!now.to_string().contains("hunter2"));

    refused(&push(&moorfast, &old, &[]), "older");
    let edited = |change: &dyn Fn(&mut Json)| {
        let mut state = now.clone();
        change(&mut state);
        state
    };
    let serial = now["serial"].as_u64().unwrap();
    let other = edited(&|state| state["lineage"] = json!("another"));
    refused(&push(&moorfast, &other, &[]), "another state");
    let newer_format = edited(&|state| state["format_version"] = json!("2.0"));
    refused(&push(&moorfast, &newer_format, &["--force"]), "written by a newer moorfast");
    let endless = edited(&|state| state["serial"] = json!(u64::MAX));
    refused(&push(&moorfast, &endless, &["--force"]), "serial");
    assert_eq!(pulled(&moorfast), now, "a refused push changes nothing");

    // A newer state is accepted: here one without one of the resources.
    let newer = edited(&|state| {
        state["serial"] = json!(serial + 5);
        state["resources"].as_array_mut().unwrap().retain(|resource| resource["address"] != "ssh_file.a[\"here\"]");
    });
    let run = push(&moorfast, &newer, &[]);
    assert_eq!(run.code, 0, "{run}");
    run.complains("is kept in");
    assert_eq!(pulled(&moorfast), newer);
    // The older state is accepted with --force, as a new version.
    assert_eq!(push(&moorfast, &old, &["--force"]).code, 0);
    let found = pulled(&moorfast);
    assert_eq!((&found["resources"], &found["outputs"]), (&old["resources"], &old["outputs"]));
    assert_eq!(found["serial"], serial + 6);
    moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
    moorfast.expect(0, &["plan", "--detailed-exitcode", "--var", "text=two"]);
    let history = moorfast.expect(0, &["state", "history"]);
    history.says("state push").says("apply");
}

pub fn a_backup_is_restored(stores: &Stores) {
    let moorfast = stores.with(MANIFEST);
    moorfast.expect(0, &APPLY);
    moorfast.expect(0, &["state", "backup", "backup.json"]);
    let file = moorfast.path("backup.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).unwrap().contains("hunter2"));
    refused(&moorfast.run(&["state", "backup", "backup.json"]), "exists");
    let (old, history) = (pulled(&moorfast), moorfast.expect(0, &["state", "history"]).stdout);
    moorfast.expect(0, &["apply", "--auto-approve", "--var", "text=two"]);
    moorfast.expect(0, &["state", "restore", "backup.json"]).complains("is kept in");
    let found = pulled(&moorfast);
    for part in ["lineage", "resources", "outputs", "nodes"] {
        assert_eq!(found[part], old[part], "{part}");
    }
    assert!(found["serial"].as_u64() > old["serial"].as_u64(), "a version number is never used for two contents");
    let now = moorfast.expect(0, &["state", "history"]).stdout;
    assert!(now.contains("state restore") && history.lines().all(|line| now.contains(line)), "{now}");
    // The digest of the secret is the same, so the key was restored too.
    let run = moorfast.expect(0, &["apply", "--auto-approve"]);
    assert!(!run.stdout.contains("ssh_file.secret"), "{run}");
    // A backup of another state needs --force.
    let other = stores.with(MANIFEST);
    other.expect(0, &APPLY);
    other.write("backup.json", &fs::read_to_string(&file).unwrap());
    refused(&other.run(&["state", "restore", "backup.json"]), "another state");
    other.expect(0, &["state", "restore", "--force", "backup.json"]);
    assert_eq!(pulled(&other)["lineage"], old["lineage"]);
    // A pulled state is not a backup.
    moorfast.write("pulled.json", &old.to_string());
    refused(&moorfast.run(&["state", "restore", "pulled.json"]), "is not a backup");
}
