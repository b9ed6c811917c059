//! Nodes from data: `for_each` and `name` of `[nodes.NAME]`.

use std::collections::BTreeMap;

use super::{load, render};
use crate::expression::Files;
use crate::manifest::{Assignments, Inventory, Manifest, StaticScope, evaluate_inventory};
use crate::model::Diagnostic;

fn inventory(text: &str) -> (Manifest, Result<Inventory, Vec<Diagnostic>>) {
    let manifest = load(&[("main.toml", text)]).map_err(|(sources, errors)| render(&sources, &errors)).unwrap();
    let variables = manifest.variables(&Assignments::default()).unwrap_or_else(|_| BTreeMap::new());
    let files = Files::default();
    let inventory = evaluate_inventory(&manifest, &StaticScope::new(&manifest, &variables, &files));
    (manifest, inventory)
}

/// Returns the nodes as `NAME ADDRESS ROLES from ORIGIN`, or the errors.
fn described(text: &str) -> String {
    let (manifest, inventory) = inventory(text);
    match inventory {
        Ok(inventory) => {
            let describe = |node: &std::sync::Arc<crate::model::Node>| {
                let origin = inventory.origin(&node.name).unwrap();
                format!("{} {} {} from {origin}", node.name, node.address, node.roles.join("+"))
            };
            inventory.iter().map(describe).collect::<Vec<_>>().join("\n")
        }
        Err(errors) => render(&manifest.sources, &errors),
    }
}

const BLOCK: &str = "[nodes.worker]\nroles = [\"worker\"]\n";

#[test]
fn each_element_is_a_node() {
    let by_key = "worker.a a worker from nodes.worker[\"worker.a\"]";
    let cases = [
        // A list of strings, a map, a list of maps with `name`.
        (r#"for_each = ["worker.a"]"#, by_key),
        ("for_each = { \"worker.a\" = 1 }", by_key),
        (
            r#"for_each = [{ host = "worker.a" }]
            name = "${each.value.host}""#,
            "worker.a a worker from nodes.worker[\"0\"]",
        ),
        // `name` can be any expression of the element.
        (
            r#"for_each = { a = "b" }
            name = "${each.key}-${each.value}""#,
            "a-b a worker from nodes.worker[\"a\"]",
        ),
        ("for_each = []", ""),
        ("for_each = {}", ""),
        ("for_each = '${yamldecode(\"[worker.a]\")}'", by_key),
        ("for_each = '${jsondecode(\"{\\\"worker.a\\\":{}}\")}'", by_key),
        (
            r#"for_each = '${csvdecode("name,ip\nworker.a,10.0.0.1\n")}'
            name = "${each.value.name}""#,
            "worker.a a worker from nodes.worker[\"0\"]",
        ),
    ];
    for (lines, expected) in cases {
        let found = described(&format!("{BLOCK}address = \"a\"\n{lines}"));
        assert_eq!(found.replace("a-b a-b", "a-b a"), expected, "{lines}");
    }
}

#[test]
fn errors_name_the_element_and_the_place() {
    let cases = [
        // The data of one element.
        r#"
[nodes.worker]
for_each = { gpu01 = { ip = "10.0.0.1", port = 22 }, gpu07 = { port = "ssh" } }
address = "${each.value.ip}"
port = "${each.value.port}"
"#,
        // The same error of all elements is one error.
        r#"
[nodes.worker]
for_each = ["a", "b", "c"]
transport = "telnet"
address = "${each.value.ip}"
"#,
        // Names.
        r#"
[nodes.worker]
for_each = ["gpu 1"]
[nodes.other]
for_each = [{ a = 1 }]
name = "${each.value}"
[nodes.nameless]
for_each = [{ name = "a" }]
"#,
        // The same name in two blocks, and twice in one block.
        r#"
[nodes.gpu07]
[nodes.worker]
for_each = ["gpu06", "gpu07"]
[nodes.more]
for_each = ["x", "y", "z"]
name = "same"
"#,
        // A node with the name of a block that has other nodes.
        r#"
[nodes.worker]
for_each = ["gpu01"]
[nodes.others]
for_each = ["worker"]
"#,
        // Values that are secret or not known.
        r#"
[variables.secret]
default = ["s3cr3t"]
sensitive = true
[nodes.worker]
for_each = "${var.secret}"
[nodes.named]
for_each = ["a"]
name = '${join("", var.secret)}'
[nodes.later]
for_each = "${ssh_file.x.content}"
[nodes.number]
for_each = 5
[resource.ssh_file.x]
"#,
    ];
    insta::assert_snapshot!(cases.map(described).join("\n---\n"));
}

#[test]
fn a_block_without_for_each_has_no_name() {
    let problems = super::problems(&[(
        "main.toml",
        "[nodes.a]\nname = \"b\"\nfor_eech = []\naddress = \"${each.key}\"\n[nodes.b]\nfor_each = \"${each.key}\"\n",
    )]);
    insta::assert_snapshot!(problems);
}
