//! Two environments of one manifest: their values, their states, and the choice of one.

use serde_json::Value;

use crate::support::folder::{Folder, Run};

const SITES: &str = r#"
[variables.port]
type = "number"

[variables.motd]
default = "of nobody"

[environments.prod]
variables = { port = 443 }
var_files = ["prod.vars.toml"]

[environments.staging]
variables = { port = 8443 }

[nodes.here]
transport = "local"

[resource.ssh_file.site]
on      = "all"
path    = "${path.root}/out/${environment.name}"
content = "${environment.name} ${var.port} ${var.motd}\n"

[outputs.port]
value = "${var.port}"
"#;

fn sites() -> Folder {
    let folder = Folder::new(SITES);
    folder.write("prod.vars.toml", "motd = \"of prod\"\n");
    folder.write("out/.keep", "");
    folder
}

fn with_variable(folder: &Folder, name: &str, value: &str, arguments: &[&str]) -> Run {
    folder.start_in(arguments, &[(name, value)]).end()
}

#[test]
fn each_environment_has_its_own_values_and_its_own_state() {
    let folder = sites();
    folder.expect(0, &["apply", "--env", "prod", "--auto-approve"]).says("Environment prod");
    assert_eq!(folder.read("out/prod"), "prod 443 of prod\n");
    folder.expect(1, &["state", "list", "--env", "staging"]).complains("environments/staging");
    let applied = with_variable(&folder, "MOORFAST_ENV", "staging", &["apply", "--auto-approve"]);
    assert_eq!(applied.code, 0, "{applied}");
    assert_eq!(folder.read("out/staging"), "staging 8443 of nobody\n");
    for (name, port) in [("prod", "443"), ("staging", "8443")] {
        let here = ["--env", name];
        folder.expect(0, &[&["plan", "--detailed-exitcode"][..], &here].concat()).says("No changes.");
        folder.expect(0, &[&["output", "port"][..], &here].concat()).says(port);
        folder.expect(0, &[&["drift"][..], &here].concat()).says(&format!("Environment {name}")).says("In sync.");
        folder.expect(0, &[&["drift", "--history"][..], &here].concat()).says(&format!("Environment {name}"));
        folder.expect(0, &[&["state", "history"][..], &here].concat()).says(&format!("apply in {name}  succeeded"));
        assert!(folder.path(&format!(".moorfast/environments/{name}/state.db")).exists());
    }
    assert!(!folder.path(".moorfast/state.db").exists());
    folder.expect(0, &["destroy", "--env", "prod", "--auto-approve"]);
    assert!(!folder.path("out/prod").exists() && folder.path("out/staging").exists());
}

#[test]
fn an_environment_must_be_chosen_and_exist() {
    let folder = sites();
    let list = "the manifest has `prod`, `staging`";
    for command in [&["plan"][..], &["state", "list"], &["output"], &["node", "list"], &["init", "--migrate-state"]] {
        folder.expect(1, command).complains(list).complains("`--env prod`, or with MOORFAST_ENV");
        let near = folder.expect(1, &[command, &["--env", "prd"]].concat());
        near.complains("the manifest has no environment `prd`").complains("did you mean `prod`?");
    }
    folder.expect(1, &["plan", "--env", "../prod"]).complains("lowercase letters, digits and dashes");
    let plain = Folder::new("[outputs.x]\nvalue = 1\n");
    let chosen = with_variable(&plain, "MOORFAST_ENV", "prod", &["plan"]);
    assert_eq!(chosen.code, 1, "{chosen}");
    chosen.complains("cannot use the environment `prod`: the manifest has no environments").complains("MOORFAST_ENV");
    assert!(!folder.path(".moorfast").exists() && !plain.path(".moorfast").exists());
}

#[test]
fn a_saved_plan_belongs_to_its_environment() {
    let folder = sites();
    folder.expect(0, &["plan", "--env", "prod", "--out", "saved"]);
    folder.expect(0, &["show", "saved"]).says("Environment prod");
    let markdown = folder.expect(0, &["show", "saved", "--markdown"]);
    assert!(markdown.stdout.lines().next().unwrap().contains(" environment=prod state="), "{markdown}");
    folder.expect(0, &["show", "saved", "--html"]).says("environment <b>prod</b>").says(" · prod · Plan:");
    let plan: Value = serde_json::from_str(&folder.expect(0, &["show", "saved", "--json"]).stdout).unwrap();
    assert_eq!(plan["environment"], "prod");
    let other = folder.expect(1, &["apply", "saved", "--env", "staging"]);
    other.complains("in the environment `staging`: it was made for the environment `prod`");
    assert!(!folder.path("out/staging").exists() && !folder.path("out/prod").exists());
    // The plan names its environment.
    folder.expect(0, &["apply", "saved"]);
    assert_eq!(folder.read("out/prod"), "prod 443 of prod\n");
}

#[test]
fn environments_are_listed_with_the_places_of_their_states() {
    let folder = sites();
    let list = folder.expect(0, &["env", "list", "--env", "staging"]);
    assert_eq!(list.stdout, "  prod     ./.moorfast/environments/prod\n* staging  ./.moorfast/environments/staging\n");
    folder.edit(
        "main.toml",
        "[nodes.here]",
        "[variables.bucket]\n[backend.s3]\nbucket = '${var.bucket}'\n[nodes.here]",
    );
    folder.edit("main.toml", "{ port = 443 }", "{ port = 443, bucket = \"ops\" }");
    folder.expect(0, &["env", "list"]).says("  prod     [backend.s3] (bucket ops, prefix moorfast, environment prod)");
    let list: Value = serde_json::from_str(&folder.expect(0, &["env", "list", "--json"]).stdout).unwrap();
    assert_eq!(list["environments"][0]["chosen"], false);
    assert_eq!(list["environments"][1]["state"], Value::Null);
    assert_eq!(list["environments"][1]["error"], "`bucket` of the backend depends on a variable that is not set");
    Folder::new("").expect(0, &["env", "list"]).complains("The manifest has no environments.");
}

/// A manifest gets environments after it was applied. One of them continues its state.
#[test]
fn a_state_moves_to_an_environment_once() {
    let folder = sites();
    let file = "[nodes.here]\ntransport = \"local\"\n[resource.ssh_file.site]\non = \"all\"\n\
                path = \"${path.root}/out/prod\"\ncontent = \"old\"\n";
    folder.write("main.toml", file);
    folder.expect(0, &["apply", "--auto-approve"]);
    folder.write(".moorfast/known_hosts", "a key\n");
    folder.write("main.toml", SITES);
    let refused = folder.expect(1, &["plan", "--env", "prod"]);
    refused.complains("the manifest has a state without an environment, in ./.moorfast").complains("--migrate-state");
    folder.expect(0, &["init", "--migrate-state", "--env", "prod"]).says("with 1 resources from [backend.sqlite] to");
    folder.expect(0, &["init", "--migrate-state", "--env", "prod"]).says("already");
    assert_eq!(folder.read(".moorfast/environments/prod/known_hosts"), "a key\n");
    folder.expect(0, &["plan", "--env", "prod"]).says("0 to add, 1 to change, 0 to destroy");
    folder.expect(0, &["plan", "--env", "staging"]).says("1 to add, 0 to change, 0 to destroy");
    folder.expect(0, &["state", "history", "--env", "prod"]).says("apply");
}

/// The manifest is invalid, and the state can still be inspected.
#[test]
fn the_state_of_an_environment_can_be_read_with_an_invalid_manifest() {
    let folder = sites();
    folder.expect(0, &["apply", "--env", "prod", "--auto-approve"]);
    folder.write("main.toml", "[broken");
    folder.expect(0, &["state", "list", "--env", "prod"]).says("ssh_file.site");
    folder.expect(1, &["state", "list"]).complains("this is not valid TOML");
}
