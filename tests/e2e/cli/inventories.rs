//! Nodes from data: the examples in `examples/inventories`, and nodes on this machine.

use serde_json::{Value as Json, json};

use crate::support::folder::Folder;

/// Returns the nodes of `node list --json` as `[name, address, user, port, roles, block, element]`.
fn listed(folder: &Folder) -> Json {
    let list: Json = serde_json::from_str(&folder.expect(0, &["node", "list", "--json"]).stdout).unwrap();
    let node = |n: &Json| {
        let definition = &n["definition"];
        json!([n["name"], n["address"], n["user"], n["port"], n["roles"], definition["block"], definition["element"]])
    };
    list["nodes"].as_array().unwrap().iter().map(node).collect()
}

#[test]
fn the_inventory_of_ansible_is_read() {
    let folder = Folder::copy_of("inventories/ansible", "");
    folder.expect(0, &["validate"]);
    let host = "nodes.host";
    assert_eq!(
        listed(&folder),
        json!([
            ["bastion", "192.0.2.10", "ops", null, ["ungrouped"], host, "bastion"],
            ["cp01", "192.0.2.11", "ops", 22, ["control_plane"], host, "cp01"],
            ["cpu01", "192.0.2.31", "ops", 2222, ["cpu", "workers"], host, "cpu01"],
            ["gpu01", "192.0.2.21", "ops", 2222, ["gpu", "workers"], host, "gpu01"],
            ["gpu02", "192.0.2.22", "ops", 2222, ["gpu", "workers"], host, "gpu02"],
        ])
    );
    folder.expect(0, &["console", "-e", "[for n in nodes : n.vars]"]).says("rack = \"a1\"");
    folder.expect(0, &["graph"]).says("ssh_file.rack[\\\"gpu01\\\"]");
}

#[test]
fn the_outputs_of_terraform_are_read() {
    let folder = Folder::copy_of("inventories/terraform", "");
    folder.expect(0, &["validate"]);
    assert_eq!(
        listed(&folder),
        json!([
            ["cp01", "192.0.2.11", "debian", null, ["control-plane"], "nodes.control_plane", "0"],
            ["gpu01", "192.0.2.21", "debian", null, ["worker"], "nodes.worker", "gpu01"],
            ["gpu02", "192.0.2.22", "debian", null, ["worker"], "nodes.worker", "gpu02"],
        ])
    );
    folder.expect(0, &["graph"]).says("ssh_file.token[\\\"cp01\\\"]");
    assert_eq!(folder.expect(0, &["console", "-e", "local.terraform.join_token"]).stdout, "(sensitive value)\n");
}

const SITE: &str = r#"
[nodes.web]
for_each  = '${csvdecode(file("nodes.csv"))}'
name      = "${each.value.name}"
transport = "local"
roles     = ["web"]
vars      = { rack = "${each.value.rack}" }

[nodes.extra]
transport = "local"

[resource.ssh_file.motd]
on      = "web"
path    = "${path.root}/out/${node.name}"
parents = true
content = "${node.name} in ${node.vars.rack} of ${length(nodes)} nodes\n"
"#;

#[test]
fn nodes_from_data_are_applied_as_literal_ones_are() {
    let folder = Folder::new(SITE);
    folder.write("nodes.csv", "name,rack\nweb01,a1\nweb02,\"b, 2\"\n");
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(folder.read("out/web02"), "web02 in b, 2 of 3 nodes\n");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.expect(0, &["node", "list"]).says("web01  this machine  web  nodes.web[\"0\"] (main.toml:2)");

    // A saved plan is stale if the data changed.
    folder.write("nodes.csv", "name,rack\nweb01,a1\nweb02,b2\n");
    folder.expect(0, &["plan", "--out", "p"]).says("ssh_file.motd[\"web02\"]");
    folder.write("nodes.csv", "name,rack\nweb01,a1\nweb02,b3\n");
    folder.expect(4, &["apply", "p"]).complains("`nodes.csv` changed since the plan was made");
    assert_eq!(folder.read("out/web02"), "web02 in b, 2 of 3 nodes\n");

    // A literal node of the same name has the same instances.
    folder.edit("main.toml", "[nodes.extra]", "[nodes.web01]\ntransport = \"local\"\n[nodes.extra]");
    folder
        .expect(1, &["plan"])
        .complains("two nodes have the name `web01`: `nodes.web[\"0\"]` and `nodes.web01`")
        .complains("2 | [nodes.web]")
        .complains("main.toml:9");
}

const COMMAND: &str = r#"
[data.local_command.hosts]
command = ["cat", "hosts.json"]
format  = "json"

[nodes.web]
for_each  = "${data.local_command.hosts.result}"
transport = "local"
vars      = { rack = "${each.value.rack}" }

[resource.ssh_file.motd]
on      = "web"
path    = "${path.root}/out/${node.name}"
parents = true
content = "${node.name} in ${node.vars.rack}\n"
"#;

#[test]
fn a_command_gives_the_nodes() {
    let folder = Folder::new(COMMAND);
    // A validation runs no command.
    folder.expect(0, &["validate"]);
    folder.expect(1, &["node", "list"]).complains("data.local_command.hosts").complains("hosts.json");

    folder.write("hosts.json", r#"{ "web01": { "rack": "a1" }, "web02": { "rack": "b2" } }"#);
    folder.expect(0, &["node", "list"]).says("web02  this machine    nodes.web[\"web02\"] (main.toml:6)");
    folder.expect(0, &["graph"]).says("ssh_file.motd[\\\"web02\\\"]");
    folder.expect(0, &["console", "-e", "keys(nodes)"]).says("web02");
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(folder.read("out/web02"), "web02 in b2\n");
    folder.expect(0, &["plan", "--detailed-exitcode"]);
    folder.expect(0, &["drift"]);

    folder.write("hosts.json", r#"{ "web01": { "rack": "a1" }, "web02": { "rack": "b3" } }"#);
    folder.expect(0, &["plan", "--out", "p"]).says("ssh_file.motd[\"web02\"]");
    folder.write("hosts.json", r#"{ "web01": { "rack": "a1" } }"#);
    folder.expect(4, &["apply", "p"]).complains("`data.local_command.hosts` changed since the plan was made");
    for option in
        [["plan", "--untrusted"].as_slice(), &["plan", "--no-local-commands"], &["node", "list", "--no-local-commands"]]
    {
        folder.expect(1, option).complains("`data.local_command.hosts` is not allowed");
    }

    // Not JSON, and an element of a wrong type. Nothing is changed.
    folder.write("hosts.json", "{");
    folder.expect(1, &["apply", "--auto-approve"]).complains("data.local_command.hosts");
    folder.write("hosts.json", r#"{ "web01": "a1" }"#);
    folder.expect(1, &["apply", "--auto-approve"]).complains("`nodes.web[\"web01\"]`: a string has no attributes");
    assert_eq!(folder.read("out/web02"), "web02 in b2\n");
}
