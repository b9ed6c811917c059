//! A saved plan makes exactly its changes, or none.

use std::fs;

use crate::cli::manifests::PAIR;
use crate::support::folder::Folder;

fn applied() -> Folder {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["plan", "-out=saved", "-var=greeting=reviewed"]).complains("moorfast apply saved");
    folder
}

#[test]
fn a_saved_plan_needs_no_confirmation_and_no_variables() {
    let folder = applied();
    let shown = folder.expect(0, &["show", "saved"]);
    shown.says("+ reviewed").says("Plan: 0 to add, 1 to change, 0 to destroy.");
    let run = folder.expect(0, &["apply", "saved"]);
    run.says("Apply complete! Resources: 0 added, 1 changed, 0 destroyed.");
    assert_eq!(run.stderr.matches(": Reading ").count(), 1, "the objects are read once: {run}");
    assert!(folder.read("out/greeting").ends_with("reviewed\n"));
}

#[test]
fn a_saved_plan_is_shown_without_its_manifest() {
    let folder = applied();
    let elsewhere = Folder::empty();
    let run = elsewhere.expect(0, &["show", "-json", folder.path("saved").to_str().unwrap()]);
    let plan: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(plan["summary"]["change"], 1);
    assert_eq!(elsewhere.names().len(), 0);
}

#[test]
fn a_plan_is_stale_when_the_state_moved_on() {
    let folder = applied();
    folder.expect(0, &["apply", "-auto-approve", "-var=greeting=faster"]);
    folder.expect(4, &["apply", "saved"]).complains("the state changed since the plan was made");
    assert!(folder.read("out/greeting").ends_with("faster\n"));
}

#[test]
fn a_plan_is_stale_when_the_manifest_or_a_variable_changed() {
    let folder = applied();
    folder.expect(4, &["apply", "saved", "-var=greeting=other"]).complains("greeting");
    folder.write("main.toml", &format!("{PAIR}\n# a comment\n"));
    folder.expect(4, &["apply", "saved"]).complains("the manifest changed");
}

#[test]
fn an_object_that_changed_after_the_review_is_not_changed() {
    let folder = applied();
    folder.write("out/greeting", "somebody was here\n");
    folder
        .expect(4, &["apply", "saved"])
        .complains("these objects changed since the plan")
        .complains("ssh_file.greeting");
    assert_eq!(folder.read("out/greeting"), "somebody was here\n");
}

#[test]
fn an_edited_plan_file_is_refused() {
    let folder = applied();
    let plan = folder.read("saved");
    folder.write("saved", &plan.replace("reviewed", "tampered"));
    folder.expect(1, &["apply", "saved"]).complains("was modified after it was written");
    folder.write("saved", &plan[..plan.len() / 2]);
    folder.expect(1, &["show", "saved"]).complains("is damaged");
    folder.expect(1, &["apply", "main.toml"]).complains("the file is not a moorfast plan");
    folder.expect(1, &["apply", "missing"]).complains("cannot read the plan missing");
    assert!(folder.read("out/greeting").ends_with("hello\n"));
}

#[test]
fn a_destroy_can_be_reviewed_too() {
    let folder = Folder::new(PAIR);
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["plan", "-destroy", "-out", "saved"]);
    folder.expect(0, &["apply", "saved"]).says("Destroy complete! Resources: 3 destroyed.");
    assert!(!folder.path("out").exists());
    fs::remove_file(folder.path("saved")).unwrap();
}

/// The content is known only after the facts are read, and the file exists before the first apply.
const OF_FACTS: &str = r#"
[nodes.here]
transport = "local"

[data.ssh_facts.facts]
on = "here"

[resource.ssh_file.os]
on      = "here"
path    = "${path.root}/os"
content = "${data.ssh_facts.facts.kernel}"
"#;

#[test]
fn an_unknown_value_does_not_make_a_plan_stale() {
    let folder = Folder::new(OF_FACTS);
    folder.write("os", "another");
    folder.expect(0, &["plan", "-out=saved"]).says("0 to add, 1 to change, 0 to destroy");
    folder.expect(0, &["apply", "saved"]).says("0 added, 1 changed, 0 destroyed");
    folder.expect(0, &["plan", "-detailed-exitcode"]);
    folder.expect(0, &["drift"]);

    let again = Folder::new(OF_FACTS);
    again.write("os", &folder.read("os"));
    again.run(&["apply", "-auto-approve"]);
    again.expect(0, &["plan", "-detailed-exitcode"]);
}
