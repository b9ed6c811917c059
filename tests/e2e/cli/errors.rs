//! Invalid manifests: the error of each is a snapshot, and no file is created.

use crate::support::folder::Folder;

const NODE: &str = "[nodes.here]\ntransport = \"local\"\n\n";

/// The name of a case, and its manifest without the node.
const CASES: [(&str, &str); 16] = [
    ("toml_syntax", "[resource.ssh_file.motd]\npath = \"/etc/motd\ncontent = \"x\"\n"),
    ("unknown_key", "[resource.ssh_file.motd]\non = \"here\"\npath = \"/tmp/x\"\ncontnet = \"x\"\n"),
    ("unknown_table", "[resources.ssh_file.motd]\npath = \"/tmp/x\"\n"),
    ("unknown_type", "[resource.ssh_fiel.motd]\non = \"here\"\npath = \"/tmp/x\"\n"),
    (
        "wrong_type",
        "[resource.ssh_file.motd]\non = \"here\"\npath = \"/tmp/x\"\ncontent = \"x\"\nbackup = \"maybe\"\nmode = 644\n",
    ),
    ("missing_required", "[resource.ssh_file.motd]\non = \"here\"\ncontent = \"x\"\n"),
    (
        "missing_reference",
        "[resource.ssh_file.motd]\non = \"here\"\npath = \"${ssh_directory.out.path}/x\"\ncontent = \"${var.nope}\"\n",
    ),
    (
        "cycle",
        "[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontent = \"${ssh_file.b.path}\"\n\n\
         [resource.ssh_file.b]\non = \"here\"\npath = \"/tmp/b\"\ncontent = \"${ssh_file.a.path}\"\n",
    ),
    (
        "duplicate_address",
        "[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontent = \"\"\n\n\
         [resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/b\"\ncontent = \"\"\n",
    ),
    ("unknown_function", "[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontent = \"${uper(\\\"x\\\")}\"\n"),
    (
        "missing_file",
        "[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontent = \"${file(\\\"no/such/file\\\")}\"\n",
    ),
    ("unknown_node", "[resource.ssh_file.a]\non = \"hree\"\npath = \"/tmp/a\"\ncontent = \"\"\n"),
    ("broken_expression", "[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontent = \"${1 +}\"\n"),
    ("missing_variable", "[variables.region]\ntype = \"string\"\n"),
    ("relative_path", "[resource.ssh_file.a]\non = \"here\"\npath = \"etc/motd\"\ncontent = \"\"\n"),
    (
        "many_errors",
        "[variables.a]\ntype = \"strnig\"\n\n[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontnet = \"\"\n\n\
         [outputs.x]\nvalue = \"${local.nope}\"\n",
    ),
];

#[test]
fn every_error_has_cause_place_and_remedy_and_creates_no_file() {
    for (name, manifest) in CASES {
        let folder = Folder::new(&format!("{NODE}{manifest}"));
        // For `validate` the types of the variables suffice.
        for command in
            ["validate", "plan"].into_iter().filter(|command| (*command, name) != ("validate", "missing_variable"))
        {
            let run = folder.expect(1, &[command]);
            assert_eq!(run.stdout, "", "{name}");
            assert!(run.stderr.contains("main.toml:") || name == "missing_variable", "{name}: {}", run.stderr);
            assert_eq!(folder.names(), ["main.toml"], "{name}: {command} created a file");
            if command == "plan" {
                insta::with_settings!({ snapshot_path => "errors", prepend_module_to_snapshot => false, omit_expression => true }, {
                    insta::assert_snapshot!(name, run.stderr);
                });
            }
        }
    }
}

#[test]
fn validate_prints_json() {
    let folder =
        Folder::new(&format!("{NODE}[resource.ssh_file.a]\non = \"here\"\npath = \"/tmp/a\"\ncontnet = \"\"\n"));
    let run = folder.expect(1, &["validate", "-json"]);
    let result: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(result["valid"], false);
    assert!(result["diagnostics"][0]["range"]["start"]["line"].as_u64().is_some(), "{result:#}");
}

#[test]
fn values_of_variables_are_checked() {
    let folder = Folder::new("[variables.port]\ntype = \"number\"\ndefault = 1\n");
    folder.expect(1, &["plan", "-var", "prot=1"]).complains("port");
    folder.expect(1, &["plan", "-var", "port=many"]).complains("number");
    folder.expect(1, &["plan", "-var", "port"]).complains("name=value");
    folder.expect(1, &["plan", "-var-file", "none.toml"]).complains("none.toml");
    folder.write("some.vars.toml", "port = 2\n");
    folder.expect(0, &["plan", "-var-file=some.vars.toml"]);
}

#[test]
fn a_damaged_state_is_an_error() {
    let folder = Folder::new(NODE);
    folder.write(".moorfast/state.db", "this is no database, and it is long enough to be looked at");
    folder.expect(1, &["plan"]).complains("is damaged");
}
