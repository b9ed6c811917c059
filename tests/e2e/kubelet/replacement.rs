//! A machine is replaced by another one with the same name and address: the plan names it, nothing is changed on it before it is approved, and then
//! it joins with a new Node object. Nothing is changed on the other nodes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;
use crate::support::variables::kubelet_variables;
use crate::support::wait_for;
use serde_json::Value as Json;

#[test]
fn one_of_three_workers() {
    let Some(testbed) = Testbed::up("replacement", 3) else { return };
    let moorfast = Folder::copy_of("kubelet", &kubelet_variables(&testbed.facts, "root"));
    let nodes = testbed.node_names();
    // Without keys in the manifest a person must approve each machine.
    let inventory = std::fs::read_to_string(moorfast.path("nodes.toml")).unwrap();
    let unpinned: String = inventory.lines().filter(|l| !l.starts_with("host_key")).map(|l| format!("{l}\n")).collect();
    moorfast.write("nodes.toml", &unpinned);
    // A label, which the new Node must get too.
    let labelled = "name       = \"${node.name}\"\nlabels     = { \"example.org/disk\" = \"ssd\" }\ntimeouts   = { create = \"5m\" }";
    moorfast.edit("module/approval.toml", "name       = \"${node.name}\"\ntimeouts   = { create = \"5m\" }", labelled);
    moorfast.expect(0, &[&["node", "trust"][..], &nodes.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    moorfast.expect(0, &["apply", "--auto-approve"]);
    let cluster = Cluster { testbed, moorfast, node: nodes[1].clone() };
    cluster.without_approval_only_the_other_nodes_are_changed();
    cluster.the_page_works_as_written();
    cluster.a_machine_replaced_while_it_joins();
}

/// Returns the blocks of a page that are marked `sh`.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

struct Cluster {
    testbed: Testbed,
    moorfast: Folder,
    /// The node that is replaced.
    node: String,
}

impl Cluster {
    fn replace(&self) {
        self.testbed.kubectl(&["taint", "node", &self.node, "old=broken:NoExecute", "--overwrite"]);
        self.testbed.kubectl(&["cordon", &self.node]);
        self.testbed.run(&["node", "replace", &self.node]);
    }

    fn uids(&self) -> BTreeMap<String, String> {
        let nodes = self.testbed.get(&["nodes"]);
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let uid = |node: &Json| (text(&node["metadata"]["name"]), text(&node["metadata"]["uid"]));
        nodes["items"].as_array().unwrap().iter().map(uid).collect()
    }

    fn without_approval_only_the_other_nodes_are_changed(&self) {
        let before = self.uids();
        self.replace();
        let plan = self.moorfast.expect(0, &["plan"]);
        plan.says(&format!("node {} replaced: SHA256:", self.node)).says("not approved");
        let apply = self.moorfast.expect(1, &["apply", "--auto-approve"]);
        apply.complains(&format!("--replace-node {}", self.node));
        assert_eq!(apply.operations_elsewhere(&self.node), Vec::<String>::new());
        assert!(!apply.stderr.contains("Creating..."), "{apply}");
        assert_eq!(self.uids(), before);
        self.testbed.on(&self.node, "! test -e /etc/kubernetes");
    }

    fn the_page_works_as_written(&self) {
        let before = self.uids();
        // A saved plan is stale if the control plane detects only after the review that the old machine is gone.
        self.testbed.kubectl(&[
            "wait",
            "--for=condition=Ready=Unknown",
            "--timeout=120s",
            &format!("node/{}", self.node),
        ]);
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/workflows/replacing-a-node.md");
        for block in commands(&std::fs::read_to_string(page).unwrap()) {
            let run = self.moorfast.shell(&block);
            assert_eq!(run.code, 0, "{run}");
            assert_eq!(run.operations_elsewhere(&self.node), Vec::<String>::new());
        }
        self.assert_joined_again(&before);
    }

    /// Asserts that the node has a new Node object as in the manifest, and that the plan is empty.
    fn assert_joined_again(&self, before: &BTreeMap<String, String>) {
        let after = self.uids();
        for (node, uid) in before {
            assert_eq!(after[node] != *uid, *node == self.node, "{node}");
        }
        let node = self.testbed.get(&["node", &self.node]);
        assert_eq!(node["metadata"]["labels"]["example.org/disk"], "ssd");
        let taints = node["spec"]["taints"].as_array().cloned().unwrap_or_default();
        assert!(taints.iter().all(|taint| taint["key"] != "old"), "{taints:?}");
        assert_ne!(node["spec"]["unschedulable"], true);
        let ready = node["status"]["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
        assert_eq!(ready["status"], "True");
        let requests = self.testbed.get(&["certificatesigningrequests"]);
        let pending = requests["items"].as_array().unwrap().iter().filter(|r| r["status"]["certificate"].is_null());
        assert_eq!(pending.count(), 0);
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
        self.moorfast.expect(0, &["node", "show", &self.node]).says(&after[&self.node]);
    }

    /// The new machine is replaced in the middle of its apply.
    fn a_machine_replaced_while_it_joins(&self) {
        let before = self.uids();
        self.replace();
        let apply = self.moorfast.start(&["apply", "--auto-approve", "--replace-node", &self.node]);
        wait_for("the kubelet's configuration file", Duration::from_secs(60), || {
            let there = self.testbed.try_on(&self.node, "test -e /etc/kubernetes/kubelet-config.yaml");
            there.unwrap().status.success().then_some(())
        });
        self.testbed.run(&["node", "replace", &self.node]);
        let apply = apply.end();
        assert_eq!(apply.code, 1, "{apply}");
        assert_eq!(apply.operations_elsewhere(&self.node), Vec::<String>::new());

        self.moorfast.expect(0, &["plan"]).says(&format!("node {} replaced: SHA256:", self.node));
        let apply = self.moorfast.expect(0, &["apply", "--auto-approve", "--replace-node", &self.node]);
        assert_eq!(apply.operations_elsewhere(&self.node), Vec::<String>::new());
        self.assert_joined_again(&before);
    }
}
