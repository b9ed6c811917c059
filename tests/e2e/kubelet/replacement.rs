//! A dead machine is swapped for a new one of the same name and address: the plan names it, nothing is done there before a person approves it, and then
//! it joins with a Node object of its own, while the other nodes see no operation at all.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;
use crate::support::variables::kubelet_variables;
use crate::support::wait_for;
use serde_json::Value as Json;

#[test]
fn one_of_three_workers() {
    let Some(testbed) = Testbed::up("replacement", 3) else { return };
    let moorfast = Folder::copy_of("kubelet", &kubelet_variables(&testbed.facts, "root"));
    let nodes = testbed.node_names();
    // The keys are not in the manifest, so that a person has to say which machines are right.
    let inventory = std::fs::read_to_string(moorfast.path("nodes.toml")).unwrap();
    let unpinned: String = inventory.lines().filter(|l| !l.starts_with("host_key")).map(|l| format!("{l}\n")).collect();
    moorfast.write("nodes.toml", &unpinned);
    // Something of the cluster's own on the node, which a new machine must not inherit and must get again.
    let labelled = "name       = \"${node.name}\"\nlabels     = { \"example.org/disk\" = \"ssd\" }\ntimeouts   = { create = \"5m\" }";
    moorfast.edit("approval.toml", "name       = \"${node.name}\"\ntimeouts   = { create = \"5m\" }", labelled);
    moorfast.expect(0, &[&["node", "trust"][..], &nodes.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    moorfast.expect(0, &["apply", "--auto-approve"]);
    let bench = Bench { testbed, moorfast, node: nodes[1].clone() };
    bench.without_approval_the_rest_is_done();
    bench.the_page_works_as_written();
    bench.swapped_again_while_it_joins();
}

/// The blocks of a page that are marked `sh`.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

struct Bench {
    testbed: Testbed,
    moorfast: Folder,
    /// The one that is replaced.
    node: String,
}

impl Bench {
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

    /// The names of the others' resources among the operations of a run.
    fn operations_elsewhere(&self, run: &Run) -> BTreeSet<String> {
        let begins = ["]: Creating...", "]: Modifying...", "]: Destroying...", "]: Replacing..."];
        let begun = run.stderr.lines().filter(|line| begins.iter().any(|b| line.contains(b)));
        begun.filter(|line| !line.contains(&self.node)).map(str::to_owned).collect()
    }

    fn without_approval_the_rest_is_done(&self) {
        let before = self.uids();
        self.replace();
        let plan = self.moorfast.expect(0, &["plan"]);
        plan.says(&format!("node {} replaced: SHA256:", self.node)).says("not approved");
        let apply = self.moorfast.expect(1, &["apply", "--auto-approve"]);
        apply.complains(&format!("--replace-node {}", self.node));
        assert_eq!(self.operations_elsewhere(&apply), BTreeSet::new());
        assert!(!apply.stderr.contains("Creating..."), "{apply}");
        assert_eq!(self.uids(), before);
        self.testbed.on(&self.node, "! test -e /etc/kubernetes");
    }

    /// Word for word as the page has it.
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
            assert_eq!(self.operations_elsewhere(&run), BTreeSet::new());
        }
        self.is_a_new_node(&before);
    }

    /// The node has a Node object of its own, as the manifest wants it, and there is nothing left to do.
    fn is_a_new_node(&self, before: &BTreeMap<String, String>) {
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

    /// The new machine dies in the middle of its apply, and another one takes its place.
    fn swapped_again_while_it_joins(&self) {
        let before = self.uids();
        self.replace();
        let apply = self.moorfast.start(&["apply", "--auto-approve", "--replace-node", &self.node]);
        wait_for("the kubelet's file", Duration::from_secs(60), || {
            let there = self.testbed.try_on(&self.node, "test -e /etc/kubernetes/kubelet-config.yaml");
            there.unwrap().status.success().then_some(())
        });
        self.testbed.run(&["node", "replace", &self.node]);
        let apply = apply.end();
        assert_eq!(apply.code, 1, "{apply}");
        assert_eq!(self.operations_elsewhere(&apply), BTreeSet::new());

        self.moorfast.expect(0, &["plan"]).says(&format!("node {} replaced: SHA256:", self.node));
        let apply = self.moorfast.expect(0, &["apply", "--auto-approve", "--replace-node", &self.node]);
        assert_eq!(self.operations_elsewhere(&apply), BTreeSet::new());
        self.is_a_new_node(&before);
    }
}
