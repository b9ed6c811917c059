//! Objects that exist and are not in the state, and the plans that overwrite them.

use serde_json::Value;

use crate::support::folder::Folder;

const FILE: &str = r#"
[nodes.here]
transport = "local"

[resource.ssh_file.a]
on      = "here"
path    = "${path.root}/out/a"
content = "mine\n"
parents = true
"#;

const POLICY: &str = r#"
[policy.nothing_of_others]
condition = '${length([for c in plan.changes : c if anytrue([for q in c.consequences : q.kind == "overwrite"])]) == 0}'
message   = "this plan overwrites objects that are not in the state"
"#;

const OVERWRITES: &str = "overwrites an object that is not in the state";

fn consequences(folder: &Folder) -> Vec<String> {
    let plan: Value = serde_json::from_str(&folder.expect(0, &["plan", "-json"]).stdout).unwrap();
    let of = |change: &Value| change["consequences"].as_array().cloned().unwrap_or_default();
    let all = plan["resource_changes"].as_array().unwrap().iter().flat_map(of);
    all.map(|consequence| consequence["kind"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_form_of_a_plan_reports_an_overwrite() {
    let other = "[resource.ssh_file.gone]\non = \"here\"\npath = \"${path.root}/out/gone\"\ncontent = \"x\"\n";
    let folder = Folder::new(&format!("{FILE}{other}").replace("out/a", "out/b"));
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("main.toml", FILE);
    folder.write("out/a", "theirs\n");
    let run = folder.expect(0, &["plan", "-out", "p"]);
    run.says("ssh_file.a[\"here\"]").says(OVERWRITES).says("`[[import]]`");
    let at = |text: &str| run.stdout.find(text).unwrap_or_else(|| panic!("no {text:?} in {}", run.stdout));
    assert!(at(OVERWRITES) < at("will be destroyed"), "{}", run.stdout);
    assert_eq!(consequences(&folder), ["overwrite"]);
    folder.expect(0, &["show", "p", "-markdown"]).says("overwrites an object that is not in the state");
    folder.expect(0, &["show", "p", "-html"]).says("<b>1</b> overwrite");
    folder.write("policies.toml", POLICY);
    folder.expect(1, &["plan"]).complains("policy.nothing_of_others denies this plan");
}

#[test]
fn an_equal_or_imported_file_is_not_overwritten() {
    let folder = Folder::new(FILE);
    folder.write("out/a", "mine\n");
    assert!(consequences(&folder).is_empty());
    folder.write("out/a", "theirs\n");
    folder.write("import.toml", "[[import]]\nto = 'ssh_file.a[\"here\"]'\n");
    assert!(consequences(&folder).is_empty());
    folder.expect(0, &["plan"]).says("will be updated in place");
}

#[test]
fn a_change_of_permissions_is_no_overwrite() {
    let folder = Folder::new(&FILE.replace("parents", "mode = \"0600\"\nparents"));
    folder.write("out/a", "mine\n");
    assert!(consequences(&folder).is_empty());
    let directory = Folder::new(
        "[nodes.here]\ntransport = \"local\"\n[resource.ssh_directory.d]\non = \"here\"\npath = \"${path.root}/out\"\nmode = \"0700\"\n",
    );
    directory.write("out/a", "");
    directory.expect(0, &["plan"]).says("will be updated in place");
    assert!(consequences(&directory).is_empty());
}

#[test]
fn links_are_overwritten() {
    let folder = Folder::new(FILE);
    folder.write("out/other", "");
    std::os::unix::fs::symlink("other", folder.path("out/a")).unwrap();
    assert_eq!(consequences(&folder), ["overwrite"]);
    let link =
        FILE.replace("ssh_file", "ssh_link").replace("content = \"mine\\n\"\nparents = true", "target = \"mine\"");
    folder.write("main.toml", &link);
    assert_eq!(consequences(&folder), ["overwrite"]);
}

#[test]
fn a_foreign_file_at_the_new_path_of_a_file_is_overwritten() {
    let folder = Folder::new(FILE);
    folder.expect(0, &["apply", "-auto-approve"]);
    assert!(consequences(&folder).is_empty());
    folder.write("out/b", "theirs\n");
    folder.write("main.toml", &FILE.replace("out/a", "out/b"));
    folder.expect(0, &["plan"]).says("must be replaced").says(OVERWRITES);
    assert_eq!(consequences(&folder), ["overwrite"]);
    // Since the apply the file belongs to moorfast.
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.write("out/b", "changed by hand\n");
    assert!(consequences(&folder).is_empty());
}

#[test]
fn a_lost_record_is_named_as_a_possible_reason() {
    let folder = Folder::new(FILE);
    folder.expect(0, &["apply", "-auto-approve"]);
    std::fs::remove_dir_all(folder.path(".moorfast")).unwrap();
    folder.write("out/a", "changed since\n");
    folder.expect(0, &["plan"]).says("moorfast did not create it, or its record is lost");
}
