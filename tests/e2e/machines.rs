//! Changes of the machines behind the nodes, all really made: a reboot, another address, new host keys, a re-imaged, a replaced and a cloned machine, and
//! a replacement in the middle of an apply.

use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;
use crate::support::wait_for;
use serde_json::Value as Json;

#[test]
fn every_change_of_a_machine_is_detected() {
    let Some(testbed) = Testbed::up("machines", 2) else { return };
    let nodes = testbed.node_names();
    let addresses = testbed.facts.nodes.iter().map(|node| node.address.clone()).collect();
    let mut machines = Machines { moorfast: Folder::new(""), testbed, nodes, addresses, generation: 0 };
    machines.first_contact();
    machines.a_reboot_is_only_reported();
    machines.another_address_is_the_same_machine();
    machines.new_host_keys_must_be_trusted();
    machines.a_new_checkout_knows_the_machines_from_the_state();
    machines.a_reimaged_machine_must_be_approved();
    machines.a_replaced_machine_must_be_approved();
    machines.a_saved_plan_approves_only_the_reviewed_machine();
    machines.a_copied_disk_is_an_error();
    machines.a_machine_replaced_during_an_apply();
    machines.a_removed_node_leaves_the_state();
}

struct Machines {
    testbed: Testbed,
    moorfast: Folder,
    nodes: Vec<String>,
    addresses: Vec<String>,
    generation: u32,
}

impl Machines {
    /// Writes the manifest. Each generation changes a file on each node.
    fn write(&self) {
        let key = self.testbed.facts.ssh.identity_file.display();
        let node = |(name, address): (&String, &String)| {
            format!(
                "[nodes.{name}]\naddress = \"{address}\"\nuser = \"root\"\nidentity_file = \"{key}\"\nroles = [\"all\"]\n\n"
            )
        };
        let nodes: String = self.nodes.iter().zip(&self.addresses).map(node).collect();
        let resources = format!(
            r#"
[resource.ssh_directory.srv]
on            = {{ role = "all" }}
path          = "/srv/machines"
force_destroy = true

[resource.ssh_file.kept]
on      = {{ role = "all" }}
path    = "/srv/machines/kept"
content = "kept"

[resource.ssh_file.generation]
on      = {{ role = "all" }}
path    = "/srv/machines/generation"
content = "{}"

# Waits while a file exists.
[resource.ssh_exec.slow]
on         = {{ role = "all" }}
script     = "while [ -e /hold ]; do sleep 0.1; done; echo {} > /srv/machines/slow-{}"
creates    = "/srv/machines/slow-{}"
depends_on = ["ssh_file.generation"]

[resource.ssh_file.last]
on         = {{ role = "all" }}
path       = "/srv/machines/last"
content    = "last {}"
depends_on = ["ssh_exec.slow"]
"#,
            self.generation, self.generation, self.generation, self.generation, self.generation
        );
        self.moorfast.write("main.toml", &(nodes + &resources));
    }

    fn next_generation(&mut self) {
        self.generation += 1;
        self.write();
    }

    fn plan(&self) -> Json {
        serde_json::from_str(&self.moorfast.expect(0, &["plan", "--json"]).stdout).unwrap()
    }

    /// Returns the planned changes of nodes: name and change.
    fn node_changes(&self) -> Vec<(String, String)> {
        let plan = self.plan();
        let nodes = plan["nodes"].as_array().unwrap().iter();
        let text = |value: &Json| value.as_str().unwrap().to_owned();
        nodes.map(|node| (text(&node["node"]), text(&node["change"]))).collect()
    }

    /// Returns the number of planned changes on a node.
    fn changes_on(&self, node: &str) -> usize {
        let plan = self.plan();
        let changes = plan["resource_changes"].as_array().unwrap().iter();
        let acts = |change: &&Json| !["no-op", "read"].contains(&change["change"]["actions"][0].as_str().unwrap());
        changes.filter(|change| change["target"] == node).filter(acts).count()
    }

    fn assert_no_changes(&self) {
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
        assert_eq!(self.node_changes(), []);
    }

    fn apply(&self) -> Run {
        self.moorfast.expect(0, &["apply", "--auto-approve"])
    }

    fn file(&self, node: &str, name: &str) -> String {
        self.testbed.on(node, &format!("cat /srv/machines/{name} 2>/dev/null || echo none")).trim().to_owned()
    }

    fn first_contact(&mut self) {
        self.next_generation();
        self.moorfast.expect(1, &["plan"]).complains("is not known yet").complains("moorfast node trust");
        self.moorfast.expect(0, &["node", "trust", &self.nodes[0], &self.nodes[1]]);
        self.apply();
        self.assert_no_changes();
        let id = self.testbed.on(&self.nodes[0], "cat /etc/machine-id");
        self.moorfast.expect(0, &["node", "show", &self.nodes[0]]).says(id.trim());
    }

    fn a_reboot_is_only_reported(&self) {
        let node = &self.nodes[0];
        self.testbed.run(&["node", "reboot", node]);
        self.moorfast
            .expect(0, &["plan", "--detailed-exitcode"])
            .says(&format!("node {node} was rebooted"))
            .says("No changes.");
        self.apply();
        self.assert_no_changes();
    }

    fn another_address_is_the_same_machine(&mut self) {
        let (node, old) = (self.nodes[0].clone(), self.addresses[0].clone());
        let new = format!("{}.77", old.rsplit_once('.').unwrap().0);
        self.testbed
            .on(&node, &format!("i=$(ip -o addr show to {old} | awk '{{ print $2 }}'); ip addr add {new}/24 dev $i"));
        self.addresses[0].clone_from(&new);
        self.write();
        let says = format!("node {node} has another address: {old} → {new}");
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says(&says).says("No changes.");
        self.apply();
        self.assert_no_changes();
        self.addresses[0] = old;
        self.write();
        self.apply();
        self.assert_no_changes();
    }

    fn new_host_keys_must_be_trusted(&self) {
        let node = &self.nodes[0];
        self.testbed.on(node, "rm /etc/ssh/ssh_host_*; ssh-keygen -A >/dev/null; systemctl restart ssh");
        let plan = self.moorfast.expect(1, &["plan"]);
        plan.complains(&format!("node {node} has new host keys, on the same machine: SHA256:"));
        plan.complains(&format!("moorfast node trust {node}"));
        self.moorfast.expect(1, &["plan", "--replace-node", node]);
        self.moorfast.expect(0, &["node", "trust", node]);
        self.moorfast
            .expect(0, &["plan", "--detailed-exitcode"])
            .says(&format!("node {node} has new host keys, on the same machine"));
        self.apply();
        self.assert_no_changes();
    }

    fn a_new_checkout_knows_the_machines_from_the_state(&self) {
        std::fs::remove_file(self.moorfast.path(".moorfast/known_hosts")).unwrap();
        self.assert_no_changes();
    }

    fn a_reimaged_machine_must_be_approved(&mut self) {
        let node = self.nodes[1].clone();
        let keys = self.testbed.on(&node, "cd /etc/ssh; tar cz ssh_host_* | base64 -w 0");
        self.testbed.run(&["node", "replace", &node]);
        self.testbed
            .on(&node, &format!("echo {} | base64 -d | tar xz -C /etc/ssh; systemctl restart ssh", keys.trim()));
        self.next_generation();
        assert_eq!(self.node_changes(), [(node.clone(), "reimaged".to_owned())]);
        self.assert_approval_needed(&node);
        self.moorfast.expect(0, &["apply", "--auto-approve", "--replace-node", &node]).says("Apply complete!");
        assert_eq!(self.file(&node, "kept"), "kept");
        self.assert_no_changes();
    }

    /// Asserts that an apply without approval changes only the other node.
    fn assert_approval_needed(&self, node: &str) {
        let other = self.nodes.iter().find(|other| *other != node).unwrap();
        let apply = self.moorfast.expect(1, &["apply", "--auto-approve"]);
        apply.complains(&format!("--replace-node {node}"));
        assert_eq!(self.file(node, "kept"), "none");
        assert_eq!(self.file(other, "last"), format!("last {}", self.generation));
        assert_eq!(self.changes_on(other), 0);
        assert_eq!(self.changes_on(node), 5);
    }

    fn a_replaced_machine_must_be_approved(&mut self) {
        let node = self.nodes[1].clone();
        self.testbed.run(&["node", "replace", &node]);
        self.next_generation();
        assert_eq!(self.node_changes(), [(node.clone(), "replaced".to_owned())]);
        let drift = self.moorfast.run(&["drift"]);
        assert_ne!(drift.code, 0, "{drift}");
        drift.says(&format!("node {node} replaced"));
        self.assert_approval_needed(&node);
        let wrong = format!("{node}=SHA256:{}", "A".repeat(43));
        self.moorfast.expect(1, &["apply", "--auto-approve", "--replace-node", &wrong]);
        assert_eq!(self.file(&node, "kept"), "none");
        let facts = self.testbed.current_facts();
        let right = format!("{node}={}", facts.nodes[1].pin());
        let apply = self.moorfast.expect(0, &["apply", "--auto-approve", "--replace-node", &right]);
        apply.says(&format!("node {node} replaced: SHA256:")).says("Apply complete!");
        self.assert_no_changes();
    }

    fn a_saved_plan_approves_only_the_reviewed_machine(&mut self) {
        let node = self.nodes[1].clone();
        self.testbed.run(&["node", "replace", &node]);
        self.moorfast.expect(0, &["plan", "--replace-node", &node, "--out", "reviewed.plan"]);
        self.testbed.run(&["node", "replace", &node]);
        let apply = self.moorfast.run(&["apply", "reviewed.plan"]);
        assert_ne!(apply.code, 0, "{apply}");
        assert_eq!(self.file(&node, "kept"), "none");

        self.moorfast.expect(0, &["plan", "--replace-node", &node, "--out", "reviewed.plan"]);
        self.moorfast.expect(0, &["apply", "reviewed.plan"]).says("Apply complete!");
        self.assert_no_changes();
    }

    fn a_copied_disk_is_an_error(&self) {
        let [one, other] = [&self.nodes[0], &self.nodes[1]];
        let id = |node: &str| self.testbed.on(node, "cat /etc/machine-id").trim().to_owned();
        let (copied, own) = (id(one), id(other));
        self.testbed.on(other, &format!("echo {copied} > /etc/machine-id"));
        self.moorfast.expect(1, &["plan"]).complains(&format!("the nodes {one} and {other} have the same machine-id"));
        self.testbed.on(other, &format!("echo {own} > /etc/machine-id"));
        self.assert_no_changes();
    }

    fn a_machine_replaced_during_an_apply(&mut self) {
        let [one, other] = [self.nodes[0].clone(), self.nodes[1].clone()];
        self.testbed.on(&other, "touch /hold");
        self.next_generation();
        let apply = self.moorfast.start(&["apply", "--auto-approve"]);
        let generation = self.generation.to_string();
        wait_for("the slow command to start", Duration::from_secs(30), || {
            (self.file(&other, "generation") == generation).then_some(())
        });
        self.testbed.run(&["node", "replace", &other]);
        let apply = apply.end();
        assert_eq!(apply.code, 1, "{apply}");
        assert_eq!(self.file(&one, "last"), format!("last {generation}"));
        assert_eq!(self.file(&other, "kept"), "none");
        assert_eq!(self.node_changes(), [(other.clone(), "replaced".to_owned())]);
        assert_eq!(self.changes_on(&one), 0);
        self.moorfast.expect(0, &["apply", "--auto-approve", "--replace-node", &other]).says("Apply complete!");
        assert_eq!(self.file(&other, "last"), format!("last {generation}"));
        self.assert_no_changes();
    }

    fn a_removed_node_leaves_the_state(&mut self) {
        let nodes = |machines: &Self| -> Json {
            let state: Json = serde_json::from_str(&machines.moorfast.expect(0, &["show", "--json"]).stdout).unwrap();
            state["nodes"].clone()
        };
        assert_eq!(nodes(self).as_object().unwrap().len(), 2);
        let left = self.nodes.pop().unwrap();
        self.addresses.pop();
        self.write();
        self.apply();
        self.testbed.on(&left, "! test -e /srv/machines");
        assert_eq!(nodes(self).as_object().unwrap().keys().collect::<Vec<_>>(), [&self.nodes[0]]);
        self.moorfast.expect(0, &["destroy", "--auto-approve"]);
        self.moorfast.expect(1, &["show", "--json"]).complains("it has no objects and no outputs");
        let pulled: Json = serde_json::from_str(&self.moorfast.expect(0, &["state", "pull"]).stdout).unwrap();
        assert_eq!(pulled["nodes"], serde_json::json!({}));
    }
}
