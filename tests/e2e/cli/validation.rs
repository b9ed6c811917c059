//! `validate` needs no values of variables: their types suffice.

use crate::support::folder::Folder;

const NODES: &str = "[nodes.here]\ntransport = \"local\"\nroles = [\"web\"]\n";

/// Returns a manifest with the variable `x` of a type, and two files with these arguments.
fn manifest(kind: &str, first: &str, second: &str) -> String {
    format!(
        "[variables.x]\ntype = '{kind}'\n{NODES}[resource.ssh_file.a]\npath = '/a'\n{first}\n\
         [resource.ssh_file.b]\non = 'here'\npath = '/b'\n{second}\n"
    )
}

#[test]
fn a_manifest_is_valid_without_values() {
    let refers = "content = '${ssh_file.a[\"k\"].path}'\ndepends_on = ['ssh_file.a[\"k\"]']";
    let cases = [
        ("string", "on = 'here'\ncontent = '${upper(var.x)}'", "content = '${ssh_file.a.path}'"),
        ("number", "on = 'here'\ncontent = '${var.x + 1}'", "content = 'b'"),
        ("object({ a = list(string) })", "on = 'here'\ncontent = '${join(\",\", var.x.a)}'", "content = 'b'"),
        ("list(string)", "on = 'here'\nfor_each = '${var.x}'\ncontent = '${each.key} ${each.value}'", refers),
        ("map(object({ a = string }))", "on = 'here'\nfor_each = '${var.x}'\ncontent = '${each.value.a}'", refers),
        ("string", "on = '${var.x}'\ncontent = '${node.address}'", refers),
        ("string", "on = { role = '${var.x}' }\nfor_each = ['a']\ncontent = '${each.key} ${node.vars.y}'", refers),
    ];
    for (kind, first, second) in cases {
        let folder = Folder::new(&manifest(kind, first, second));
        folder.expect(0, &["validate"]).says("Success!");
        folder.expect(1, &["plan"]).complains("the variable `x` is not set");
    }
}

/// The nodes come from variables: their addresses, their roles, their names, or all of them.
#[test]
fn nodes_can_depend_on_variables_without_values() {
    let resource = "[resource.ssh_file.c]\non = { role = 'web' }\npath = '/c'\ncontent = '${node.address} ${node.vars.rack}'\n\
                    [outputs.o]\nvalue = '${[for n in nodes : n.address]}'\n";
    let nodes = [
        "[nodes.a]\naddress = '${var.x.address}'\nroles = ['web']",
        "[nodes.a]\nroles = '${var.x.roles}'",
        "[nodes.a]\nvars = { rack = '${var.x.address}' }\nroles = ['web']",
        "[nodes.a]\nfor_each = '${var.x.roles}'\nroles = ['web']",
        "[nodes.a]\nfor_each = ['one']\nname = '${var.x.address}'\nroles = ['web']",
    ];
    for block in nodes {
        let variable = "[variables.x]\ntype = 'object({ address = string, roles = list(string) })'\n";
        let folder = Folder::new(&format!("{variable}{block}\n{resource}"));
        folder.expect(0, &["validate"]).says("Success!");
    }
}

#[test]
fn the_kubelet_example_is_valid_without_values() {
    let folder = Folder::copy_of("kubelet", "");
    folder.expect(0, &["validate"]).says("Success!");
}

/// The cluster in the README of the kubelet example, as written there.
#[test]
fn another_cluster_is_five_lines() {
    let folder = Folder::copy_of_tree("examples");
    let readme = folder.read("kubelet/README.md");
    let manifest = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(manifest.lines().count(), 5);
    folder.write("other/main.toml", manifest);
    folder.write("other/ca.pem", "-----BEGIN CERTIFICATE-----\n");
    folder.expect(0, &["-C", "other", "validate"]).says("Success!");
}

#[test]
fn errors_that_do_not_depend_on_values_are_reported() {
    let cases = [
        ("object({ a = string })", "on = 'here'\ncontent = '${var.x.b}'", "b"),
        ("list(string)", "on = 'here'\nfor_each = '${var.x}'\ncontent = '${each.kye}'", "kye"),
        ("list(string)", "on = 'here'\nfor_each = '${var.x}'\ncontent = 'x'\nmode = 'rw'", "`mode` is not valid"),
        (
            "string",
            "on = 'here'\nfor_each = '${ssh_file.b.sha256}'\ncontent = 'x'",
            "`for_each` is known only after apply",
        ),
    ];
    for (kind, arguments, message) in cases {
        Folder::new(&manifest(kind, arguments, "content = 'b'")).expect(1, &["validate"]).complains(message);
    }
}

#[test]
fn every_environment_is_checked() {
    let environments = "[variables.roles]\n[environments.prod]\nvariables = { roles = [\"web\"] }\n\
                        [environments.staging]\nvariables = { roles = [\"wbe\"] }\n";
    let folder = Folder::new(&format!(
        "{environments}{NODES}[resource.ssh_file.a]\non = {{ roles = '${{var.roles}}' }}\npath = '/a'\ncontent = 'x'\n"
    ));
    folder.expect(1, &["validate"]).complains("no node has the role `wbe` (in the environment `staging`)");
    folder.expect(0, &["validate", "--env", "prod"]);
    folder.expect(1, &["validate", "--env", "staging"]).complains("no node has the role `wbe`");
    folder
        .expect(1, &["plan", "--env", "staging"])
        .complains("no node has the role `wbe` (in the environment `staging`)");
    folder.expect(1, &["validate", "--env", "dev"]).complains("the manifest has no environment `dev`");
}
