//! Workers leave the cluster: one whose machine works, and one whose machine is dead. Nothing is changed on the worker that stays.

use std::time::Duration;

use crate::support::folder::{Folder, VARIABLES};
use crate::support::testbed::Testbed;
use crate::support::variables::worker_variables;
use crate::support::wait_for;

#[test]
fn workers_leave_alive_and_dead() {
    let Some(testbed) = Testbed::up("leaving", 3) else { return };
    let moorfast = Folder::copy_of("kubelet", &worker_variables(&testbed.facts, &testbed.facts.nodes, "root"));
    moorfast.expect(0, &["apply", "--auto-approve"]);
    let fleet = Fleet { moorfast, testbed };
    fleet.a_worker_leaves();
    fleet.a_dead_worker_leaves();
}

struct Fleet {
    testbed: Testbed,
    moorfast: Folder,
}

impl Fleet {
    /// Keeps only the first `count` workers in the inventory. Returns the name of the next one.
    fn keep(&self, count: usize) -> String {
        let nodes = &self.testbed.facts.nodes;
        let variables = worker_variables(&self.testbed.facts, &nodes[..count], "root");
        self.moorfast.write(VARIABLES, &variables);
        nodes[count].name.clone()
    }

    fn assert_left(&self, node: &str) {
        assert!(self.testbed.get(&["node", node]).is_null(), "{node} is still in the cluster");
        let requests = self.testbed.kubectl(&["get", "csr", "-o", "jsonpath={.items[*].spec.username}"]);
        assert!(!requests.contains(&format!("system:node:{node} ")), "{requests}");
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
        assert!(!self.moorfast.expect(0, &["state", "list"]).stdout.contains(node));
    }

    fn a_worker_leaves(&self) {
        let stays = self.testbed.on(&self.testbed.facts.nodes[0].name, "systemctl show -p MainPID --value kubelet");
        let node = self.keep(2);
        let plan = self.moorfast.expect(2, &["plan", "--detailed-exitcode", "--out", "leave.plan"]);
        plan.says("Nodes that leave:").says(&format!("{node}: destroys "));
        plan.says("because its node is not in the inventory any more");
        self.moorfast.expect(0, &["apply", "leave.plan"]);
        let left = "! test -e /etc/kubernetes && ! test -e /opt/k8s && ! systemctl is-active kubelet";
        self.testbed.on(&node, left);
        self.assert_left(&node);
        let first = &self.testbed.facts.nodes[0].name;
        assert_eq!(self.testbed.on(first, "systemctl show -p MainPID --value kubelet"), stays);
    }

    fn a_dead_worker_leaves(&self) {
        let node = self.keep(1);
        self.testbed.run(&["node", "stop", &node]);
        self.moorfast.run(&["plan"]).complains(&format!("--dead-node {node}"));
        let plan =
            self.moorfast.expect(2, &["plan", "--detailed-exitcode", "--dead-node", &node, "--out", "dead.plan"]);
        plan.says(&format!("{node}: its machine does not exist any more"));
        let apply = self.moorfast.expect(0, &["apply", "dead.plan"]);
        assert!(apply.took < Duration::from_secs(60), "{:?}", apply.took);
        wait_for("the end of the Node", Duration::from_secs(30), || {
            self.testbed.get(&["node", &node]).is_null().then_some(())
        });
        self.assert_left(&node);
    }
}
