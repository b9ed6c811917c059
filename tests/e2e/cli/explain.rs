//! `moorfast explain`

use crate::support::folder::Folder;

const MANIFEST: &str = r#"
[nodes.gpu01]
transport = "local"

[nodes.gpu02]
transport = "local"

[resource.ssh_file.motd]
on      = "all"
path    = "/etc/motd"
content = "hello"

# The end.
[outputs.greeting]
value = "hello"
"#;

#[test]
fn types_attributes_and_functions_are_explained_without_a_manifest() {
    let folder = Folder::empty();
    folder.expect(0, &["explain", "ssh_file"]).says("ssh_file").says("- `content` (a string): ");
    folder.expect(0, &["explain", "data.ssh_facts"]).says("data.ssh_facts");
    folder.expect(0, &["explain", "providers.kubernetes"]).says("kubeconfig");
    folder.expect(0, &["explain", "backend.s3"]).says("backend.s3");
    folder.expect(0, &["explain", "ssh_file.content"]).says("ssh_file.content\n\na string");
    for name in ["join", "join()"] {
        let text = "join(separator, lists...)\n\nThe strings of the lists, joined with the separator.\n\n\
                    Example\n\n    join(\", \", [\"a\", \"b\"])\n    = \"a, b\"\n";
        assert_eq!(folder.expect(0, &["explain", name]).stdout, text);
    }
    folder.expect(0, &["explain", "timestamp"]).says("plan.timestamp");
    folder.expect(0, &["explain"]).says("    types  ").says("    exit-codes  ");
    folder.expect(0, &["explain", "types"]).says("- ssh_file: A file").says("- kubernetes_object: ");
    folder.expect(0, &["explain", "errors"]).says("- M0104: unknown attribute\n");
    folder.expect(0, &["explain", "functions"]).says("join(separator, lists...)");
    folder.expect(0, &["explain", "exit-codes"]).says("| 4 | ");
}

#[test]
fn an_address_is_explained_from_the_manifest() {
    let folder = Folder::new(MANIFEST);
    let run = folder.expect(0, &["explain", "ssh_file.motd"]);
    let (before, rest) = run.stdout.split_once("`moorfast explain ssh_file` describes the attributes.\n").unwrap();
    assert!(before.starts_with("ssh_file.motd\n\n"), "{run}");
    let expected = r#"
main.toml:8
  [resource.ssh_file.motd]
  on      = "all"
  path    = "/etc/motd"
  content = "hello"

2 instances
  ssh_file.motd["gpu01"]
  ssh_file.motd["gpu02"]
"#;
    assert_eq!(rest, expected);
    folder.expect(0, &["explain", "ssh_file.motd[\"gpu01\"]"]).says("ssh_file.motd[\"gpu01\"]\n\n");
    // A manifest that cannot be expanded still says something.
    folder.edit("main.toml", "on      = \"all\"", "on      = \"gpu\"");
    folder.expect(0, &["explain", "ssh_file.motd"]).says("main.toml:8").says("The instances are not known: ");
    assert!(!folder.path(".moorfast").exists());
}

#[test]
fn modules_and_environments_are_explained() {
    let folder = Folder::new(MANIFEST);
    let more = "\n[environments.prod]\nvariables = {}\n\n[module.site]\nsource = \"./site\"\nfor_each = [\"a\", \"b\"]\ninputs = { name = \"${each.key}\" }\n";
    folder.write("more.toml", more);
    let module = "[variables.name]\ntype = \"string\"\ndescription = \"Name of the site.\"\n\n[resource.ssh_file.page]\non = \"gpu01\"\npath = \"/srv/${var.name}\"\ncontent = \"page\"\n";
    folder.write("site/main.toml", module);
    let site = folder.expect(0, &["explain", "module.site", "--env", "prod"]);
    let expected = r#"module.site

more.toml:5
  [module.site]
  source = "./site"
  for_each = ["a", "b"]
  inputs = { name = "${each.key}" }

Inputs
  name (required): Name of the site.

2 instances
  module.site["a"].ssh_file.page["gpu01"]
  module.site["b"].ssh_file.page["gpu01"]
"#;
    assert_eq!(site.stdout, expected);
    let page = folder.expect(0, &["explain", "module.site.ssh_file.page", "--env", "prod"]);
    page.says("site/main.toml:5\n  [resource.ssh_file.page]").says("2 instances");
    let one = folder.expect(0, &["explain", "module.site[\"b\"].ssh_file.page", "--env", "prod"]);
    one.says("1 instance\n  module.site[\"b\"].ssh_file.page[\"gpu01\"]");
    folder.expect(0, &["explain", "prod"]).says("prod\n\nAn environment. ").says("[environments.prod]");
    folder.expect(1, &["explain", "module.siet"]).complains("did you mean `module.site`?");
}

#[test]
fn an_unknown_name_has_a_suggestion() {
    let folder = Folder::new(MANIFEST);
    for (name, help) in [
        ("ssh_fiel", "did you mean `ssh_file`?"),
        ("jion", "did you mean `join`?"),
        ("ssh_file.contnt", "did you mean `ssh_file.content`?"),
        ("ssh_file.mtod", "did you mean `ssh_file.motd`?"),
        ("ssh_file.motd[\"gpu03\"]", "did you mean `ssh_file.motd[\"gpu01\"]`?"),
        (
            "something entirely different",
            "`moorfast explain types` and `explain functions` list all types and functions",
        ),
    ] {
        folder.expect(1, &["explain", name]).complains(&format!("cannot explain `{name}`")).complains(help);
    }
}
