use std::collections::BTreeMap;

use super::{load, render};
use crate::expression::Files;
use crate::manifest::{Assignments, Manifest, StaticScope, evaluate_inventory, for_each_members, select_nodes};
use crate::model::{Diagnostic, Sources, Value};

const NODES: &str = r#"
[variables.base]
default = "10.0.0"
[variables.token]
default = "s3cr3t"
sensitive = true
[locals]
domain = "example.org"
workers = { role = "worker" }
[nodes.gpu01]
address = "${var.base}.1"
roles = ["worker", "gpu"]
port = 2222
vars = { rack = "r1", token = "${var.token}" }
[nodes.gpu02]
roles = ["worker"]
host_key = "SHA256:abc"
jump = "bastion"
[nodes.here]
transport = "local"
"#;

/// Blocks whose nodes are from data.
const GROUPS: &str = r#"
[nodes.db]
for_each = ["db02", "db01"]
[nodes.none]
for_each = []
"#;

fn manifest(text: &str) -> Manifest {
    load(&[("main.toml", text)]).map_err(|(sources, errors)| render(&sources, &errors)).unwrap()
}

fn variables(manifest: &Manifest) -> BTreeMap<String, Value> {
    manifest.variables(&Assignments::default()).map_err(|errors| render(&manifest.sources, &errors)).unwrap()
}

#[test]
fn the_inventory_is_evaluated() {
    let manifest = manifest(NODES);
    let files = Files::default();
    let nodes = evaluate_inventory(&manifest, &StaticScope::new(&manifest, &variables(&manifest), &files)).unwrap();
    insta::assert_debug_snapshot!(nodes.iter().collect::<Vec<_>>());
}

#[test]
fn the_inventory_keeps_the_order_of_the_manifest() {
    let headers =
        "[nodes.gpu10]\n[nodes.gpu2]\n[nodes.gpu2.vars]\nrack = 1\n[nodes.canary]\n[nodes.a.vars]\nrack = 1\n";
    let inline = "[nodes]\nz = { transport = \"local\" }\ny.transport = \"local\"\nx = {}\n";
    let manifest = load(&[("1.toml", headers), ("2.toml", inline)]).map_err(|(s, e)| render(&s, &e)).unwrap();
    let nodes =
        evaluate_inventory(&manifest, &StaticScope::new(&manifest, &variables(&manifest), &Files::default())).unwrap();
    let names: Vec<_> = nodes.iter().map(|node| node.name.0.as_str()).collect();
    assert_eq!(names, ["gpu10", "gpu2", "canary", "a", "z", "y", "x"]);
}

#[test]
fn invalid_nodes_are_errors() {
    let text = r#"
[variables.secret]
default = "s3cr3t"
sensitive = true
[nodes.a]
address = "${var.secret}"
port = 70000
[nodes.b]
transport = "telnet"
roles = { a = 1 }
sudo = "maybe"
host_key = "abc"
vars = 5
address = "${ssh_file.x.path}"
[resource.ssh_file.x]
"#;
    let manifest = manifest(text);
    let errors = evaluate_inventory(&manifest, &StaticScope::new(&manifest, &variables(&manifest), &Files::default()))
        .unwrap_err();
    insta::assert_snapshot!(render(&manifest.sources, &errors));
}

/// Runs `test` with the manifest `nodes` in which `local.x` has this value.
fn with_local<T>(nodes: &str, value: &str, test: impl FnOnce(&Manifest, &StaticScope) -> T) -> T {
    let text = nodes.replace("[locals]", &format!("[locals]\nx = {value}"));
    let manifest = manifest(&text);
    let (variables, files) = (variables(&manifest), Files::default());
    test(&manifest, &StaticScope::new(&manifest, &variables, &files))
}

fn selection(nodes: &str, on: &str) -> String {
    with_local(nodes, on, |manifest, scope| {
        let nodes = evaluate_inventory(manifest, scope).unwrap();
        let describe = |diagnostics: &[Diagnostic]| {
            let texts = diagnostics.iter().map(|d| {
                [Some(d.summary.clone()), d.help.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ")
            });
            texts.collect::<Vec<_>>().join(" / ")
        };
        match select_nodes(&manifest.locals["x"], scope, &nodes) {
            Ok((names, warnings)) => {
                let names: Vec<&str> = names.iter().map(|name| name.0.as_str()).collect();
                format!("{} {}", names.join(","), describe(&warnings)).trim().to_owned()
            }
            Err(errors) => describe(&errors),
        }
    })
}

#[test]
fn on_selects_the_nodes_of_a_block_with_for_each() {
    let cases = [
        (r#""db""#, "db02,db01"),
        (r#"["db01", "here"]"#, "here,db01"),
        (r#"["db", "db01"]"#, "db02,db01"),
        (r#""none""#, "`on` selects no nodes, so the block has no instances"),
        (r#""dc""#, "unknown node `dc`; did you mean `db`?"),
    ];
    for (on, expected) in cases {
        let nodes = format!("{NODES}{GROUPS}");
        assert_eq!(selection(&nodes, on), expected, "{on}");
    }
}

#[test]
fn on_selects_nodes() {
    let cases = [
        (r#"{ role = "worker" }"#, "gpu01,gpu02"),
        (r#"{ roles = ["gpu", "worker"] }"#, "gpu01,gpu02"),
        (r#""${local.workers}""#, "gpu01,gpu02"),
        (r#""here""#, "here"),
        (r#"["gpu02", "gpu01"]"#, "gpu01,gpu02"),
        (r#""all""#, "gpu01,gpu02,here"),
        ("[]", "`on` selects no nodes, so the block has no instances"),
        (
            r#"{ role = "wroker" }"#,
            "no node has the role `wroker`; did you mean `worker`? Otherwise add `allow_empty = true` to `on` if the role may have no nodes",
        ),
        (
            r#"{ roles = ["worker", "db"] }"#,
            "no node has the role `db`; add `allow_empty = true` to `on` if the role may have no nodes",
        ),
        (r#"{ role = "db", allow_empty = true }"#, ""),
        (r#"{ roles = ["worker", "db"], allow_empty = true }"#, "gpu01,gpu02"),
        (r#"{ role = "db", allow_empty = "maybe" }"#, "`allow_empty` of `on` must be true or false"),
        ("{ roles = [] }", "`on` has an empty list of roles; write { role = \"worker\" }, or \"all\" for every node"),
        (r#""gpu1""#, "unknown node `gpu1`; did you mean `gpu01`?"),
        (r#""worker""#, "unknown node `worker`; `worker` is a role: write { role = \"worker\" }"),
        (r#"{ rule = "worker" }"#, "unknown attribute `rule` in `on`; did you mean `role`?"),
        (
            "5",
            "`on` is not a valid selection of nodes; write { role = \"worker\" }, a node name, a list of node names or \"all\"",
        ),
        (
            r#""${var.token}""#,
            "`on` must be known and not sensitive; the selection of nodes cannot depend on resources or secrets",
        ),
    ];
    for (on, expected) in cases {
        assert_eq!(selection(NODES, on), expected, "{on}");
    }
}

#[test]
fn for_each_gives_keys_and_values() {
    let cases = [
        (r#"["a", "b"]"#, r#"[("a", "a"), ("b", "b")]"#),
        (r#"{ b = 1, a = { c = 2 } }"#, r#"[("a", {"c": 2}), ("b", 1)]"#),
        (r#""${toset([\"b\", \"a\"])}""#, r#"[("a", "a"), ("b", "b")]"#),
        (r#"["a", "a"]"#, "`for_each` has the key `a` twice"),
        (r#"["${var.token}"]"#, "`for_each` is sensitive"),
        (r#"[{ a = 1 }]"#, "`for_each` must be a list of strings or a map"),
        ("5", "`for_each` must be a list of strings or a map, not a number"),
    ];
    for (for_each, expected) in cases {
        let found = with_local(NODES, for_each, |manifest, scope| {
            let expr = &manifest.locals["x"];
            match expr.evaluate(scope).and_then(|value| for_each_members(expr, value)) {
                Ok(entries) => format!("{entries:?}"),
                Err(errors) => errors[0].summary.clone(),
            }
        });
        assert_eq!(found, expected, "{for_each}");
    }
}

const VARIABLES: &str = r#"
[variables.name]
type = "string"
[variables.count]
type = "number"
default = 1
[variables.tags]
type = "map(list(string))"
default = {}
[variables.node]
type = "object({ name = string, port = optional(number) })"
default = { name = "a" }
[variables.free]
default = "x"
[variables.password]
type = "string"
sensitive = true
default = "longenough"
[[variables.password.validation]]
condition = '${length(var.password) > 8}'
error_message = "too short: ${var.password}"
[[variables.count.validation]]
condition = '${var.count < 10}'
error_message = "at most 9, not ${var.count}"
"#;

fn assigned(assignments: &Assignments) -> String {
    let manifest = manifest(VARIABLES);
    match manifest.variables(assignments) {
        Ok(values) => values.iter().map(|(name, value)| format!("{name} = {value:?}")).collect::<Vec<_>>().join("\n"),
        Err(errors) => render(&manifest.sources, &errors),
    }
}

#[test]
fn a_value_is_converted_to_its_type_as_terraform_does() {
    let cases = [
        ("set(string)", r#"["b", "a", "a"]"#, r#"["a", "b"]"#),
        ("set(string)", r#"[1, "1"]"#, r#"["1"]"#),
        ("set(number)", "[10, 9, 10.0]", "[9, 10]"),
        ("set(object({ a = number }))", "[{ a = 1 }, { a = \"1\" }]", "[{\"a\": 1}]"),
        ("list(set(string))", r#"[["a", "a"]]"#, r#"[["a"]]"#),
        ("map(set(number))", "{ a = [2, 1, 2] }", "{\"a\": [1, 2]}"),
        ("set", "[1, 1]", "[1]"),
        ("set(string)", "{}", "must be of type set(string), not a map"),
        ("object({ a = optional(number) })", "{}", "{\"a\": null}"),
        ("object({ a = optional(number, 80) })", "{}", "{\"a\": 80}"),
        ("object({ a = optional(number, 80) })", "{ a = null }", "{\"a\": 80}"),
        ("object({ a = optional(number, 80) })", "{ a = 1 }", "{\"a\": 1}"),
        ("object({ a = optional(string, 80) })", "{}", "{\"a\": \"80\"}"),
        ("object({ a = optional(set(string), [\"x\", \"x\"]) })", "{}", "{\"a\": [\"x\"]}"),
        (
            "object({ a = optional(object({ b = optional(bool, true), c = optional(string) }), {}) })",
            "{}",
            "{\"a\": {\"b\": true, \"c\": null}}",
        ),
        ("list(object({ a = optional(number, -1) }))", "[{}, { a = 2 }]", "[{\"a\": -1}, {\"a\": 2}]"),
        (
            "map(object({ a = string, b = optional(list(string), []) }))",
            "{ k = { a = \"x\" } }",
            "{\"k\": {\"a\": \"x\", \"b\": []}}",
        ),
    ];
    for (kind, written, expected) in cases {
        let manifest = manifest(&format!("[variables.v]\ntype = '{kind}'"));
        let assignments = Assignments { arguments: vec![format!("v={written}")], ..Assignments::default() };
        let found = match manifest.variables(&assignments) {
            Ok(values) => format!("{:?}", values["v"]),
            Err(errors) => errors[0].at.clone().map(|(_, label)| label).unwrap_or_default(),
        };
        assert_eq!(found, expected, "{kind} of {written}");
    }
    let refused = [
        ("object({ a = optional() })", "`optional` takes a type and an optional default: optional(number, 80)"),
        (
            "object({ a = optional(number, 1, 2) })",
            "`optional` takes a type and an optional default: optional(number, 80)",
        ),
        ("object({ a = optional(number, \"x\") })", "the default of `optional`: must be of type number, not a string"),
        (
            "object({ a = optional(number, var.x) })",
            "the default of `optional` must be a literal value, not an expression",
        ),
        ("optional(number)", "`optional` is for attributes of an object"),
    ];
    for (kind, expected) in refused {
        assert_eq!(kind.parse::<crate::manifest::VariableType>().unwrap_err(), expected, "{kind}");
    }
}

#[test]
fn variables_come_from_the_strongest_source() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("prod.vars.toml");
    std::fs::write(&file, "count = 3\nname = \"from ${file}\"\ntags = { a = [1] }\n").unwrap();
    let assignments = Assignments {
        environment: vec![
            ("MOORFAST_VAR_name".to_owned(), "from env".to_owned()),
            ("MOORFAST_VAR_free".to_owned(), "[1, 2]".to_owned()),
            ("MOORFAST_VAR_nope".to_owned(), "1".to_owned()),
            ("HOME".to_owned(), "/root".to_owned()),
        ],
        files: vec![file],
        arguments: vec!["count=4".to_owned(), r#"node={ name = "b", port = "22" }"#.to_owned()],
        ..Assignments::default()
    };
    insta::assert_snapshot!(assigned(&assignments), @r#"
    count = 4
    free = [1, 2]
    name = "from ${file}"
    node = {"name": "b", "port": 22}
    password = (sensitive)
    tags = {"a": ["1"]}
    "#);
}

#[test]
fn all_invalid_assignments_are_reported_without_secrets() {
    let arguments = ["nmae=x", "count=many", "tags={ a = 1 }", "node={ nam = 1 }", "password=s3cr3t", "novalue"];
    let assignments = Assignments { arguments: arguments.map(str::to_owned).to_vec(), ..Assignments::default() };
    let text = assigned(&assignments);
    assert!(!text.contains("s3cr3t"));
    insta::assert_snapshot!(text);
    let assignments =
        Assignments { arguments: vec!["name=a".to_owned(), "count=12".to_owned()], ..Assignments::default() };
    insta::assert_snapshot!(assigned(&assignments));
}

#[test]
fn a_folder_is_one_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("b.toml", "[locals]\nb = '${local.a}'\n");
    write("a.toml", "[locals]\na = 1\n");
    write("prod.vars.toml", "x = 1");
    write("x.auto.vars.toml", "name = 'auto'");
    write("v.toml", "[variables.name]\n");
    write(".hidden.toml", "[");
    let manifest = Manifest::load(folder.path()).unwrap();
    assert_eq!(manifest.sources.files.len(), 3);
    assert_eq!(manifest.locals.len(), 2);
    assert_eq!(variables(&manifest)["name"], Value::from("auto"));
    let first = manifest.digest;
    write("a.toml", "[locals]\na = 2\n");
    assert_ne!(Manifest::load(folder.path()).unwrap().digest, first);
}

#[test]
fn an_unreadable_manifest_is_an_error() {
    let empty = tempfile::tempdir().unwrap();
    let message = |path: &std::path::Path| {
        let (_, errors) = Manifest::load(path).unwrap_err();
        render(&Sources::default(), &errors).replace(&*empty.path().to_string_lossy(), "FOLDER")
    };
    insta::assert_snapshot!(message(empty.path()), @r"
    error: no manifest in FOLDER
      help: a manifest is one or more *.toml files; `moorfast init` creates one
    ");
    insta::assert_snapshot!(message(&empty.path().join("nope")), @"error: FOLDER/nope does not exist");
}

#[test]
fn files_of_other_tools_are_not_part_of_the_manifest() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("main.toml", "[locals]\na = 1\n"),
        ("Cargo.toml", "[package]\nname = \"x\"\n"),
        ("rustfmt.toml", "max_width = 120\n"),
        ("prod.vars.toml", "a = 1\n"),
        (".hidden.toml", "not TOML"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let manifest = Manifest::load(folder.path()).unwrap();
    assert_eq!(manifest.sources.files.len(), 1, "{:?}", manifest.sources.files);
}

#[test]
fn provider_instances_are_distinguished_from_attributes() {
    let text = "[providers.kubernetes]\ncontext = 'a'\nexec = { command = 'x' }\n[providers.kubernetes.prod]\ncontext = 'b'\n[providers.ssh.far]\nuser = 'x'\n";
    let manifest = manifest(text);
    let names: Vec<(&str, Vec<&str>)> = manifest
        .providers
        .iter()
        .map(|(name, block)| (name.as_str(), block.attributes.iter().map(|(name, _, _)| name.as_str()).collect()))
        .collect();
    assert_eq!(
        names,
        [("kubernetes", vec!["context", "exec"]), ("kubernetes.prod", vec!["context"]), ("ssh.far", vec!["user"])]
    );
}

#[test]
fn a_realistic_manifest_is_read_and_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("kubelet-config.yaml.tpl", "address: ${node_ip}\nclusterDNS:\n%{ for ip in dns ~}\n- ${ip}\n%{ endfor ~}\n");
    write(
        "main.toml",
        r#"
[variables.dns]
type = "list(string)"
default = ["10.254.0.2"]

[locals]
worker = { role = "worker" }

[nodes.gpu01]
address = "10.0.0.1"
roles = ["worker"]

[resource.ssh_file.kubelet_config]
on = "${local.worker}"
path = "/etc/kubernetes/kubelet-config.yaml"
content = '${templatefile("kubelet-config.yaml.tpl", { node_ip = "10.0.0.1", dns = var.dns })}'
mode = "0644"

[resource.ssh_exec.shell]
on = "all"
argv = ["sh", "-c", "echo $HOME $(date) $${HOME} %%{http_code}"]
depends_on = ["ssh_file.kubelet_config", 'ssh_file.kubelet_config["gpu01"]']

[resource.ssh_systemd_unit.kubelet]
on = "${local.worker}"
restart_on = ["ssh_file.kubelet_config"]
timeouts = { create = "5m" }

[resource.ssh_systemd_unit.kubelet.lifecycle]
prevent_destroy = true

[[resource.ssh_systemd_unit.kubelet.postcondition]]
condition = '${self.state == "started"}'
error_message = "it is ${self.state}"
"#,
    );
    let manifest = Manifest::load(folder.path()).map_err(|(sources, errors)| render(&sources, &errors)).unwrap();
    let variables = variables(&manifest);
    let files = Files { root: manifest.root.clone(), ..Files::default() };
    let scope = StaticScope::new(&manifest, &variables, &files);
    let evaluate = |kind: &str, name: &str| -> Vec<(String, Value)> {
        let resource = &manifest.resources[&crate::model::ResourceAddress::managed(kind, name)];
        resource.attributes.iter().map(|(name, _, expr)| (name.clone(), expr.evaluate(&scope).unwrap())).collect()
    };
    insta::assert_debug_snapshot!((evaluate("ssh_file", "kubelet_config"), evaluate("ssh_exec", "shell")));
    let unit = &manifest.resources[&crate::model::ResourceAddress::managed("ssh_systemd_unit", "kubelet")];
    assert!(unit.lifecycle.prevent_destroy && unit.postconditions.len() == 1 && unit.attributes.is_empty());
    assert_eq!(files.read.lock().unwrap().len(), 1);
}
