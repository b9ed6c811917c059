//! A rollout that drains: pods are evicted before a kubelet changes, disruption budgets are respected, and a node returns into service, also after a run was
//! killed. A node that an administrator cordoned stays cordoned.

use std::time::Duration;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;
use crate::support::variables::kubelet_variables;
use crate::support::{is_chosen, wait_for};
use serde_json::json;

const CONFIG: &str = "module/kubelet-config.yaml.tpl";
const LONG: Duration = Duration::from_secs(60);

#[test]
fn a_node_is_drained_before_its_kubelet_changes() {
    let Some(fleet) = Fleet::up("drain") else { return };
    fleet.a_budget_blocks_and_is_named();
    fleet.a_killed_run_is_completed_by_the_next_one();
    fleet.a_node_without_changes_returns();
    fleet.a_node_that_was_cordoned_by_hand_stays_cordoned();
}

/// `./test --long` sets `MOORFAST_CLUSTER_LIFE`.
#[test]
fn a_machine_is_drained_before_it_reboots() {
    if !is_chosen("MOORFAST_CLUSTER_LIFE") {
        return;
    }
    let Some(fleet) = Fleet::up("drain-reboot") else { return };
    fleet.a_machine_is_drained_before_it_reboots();
}

struct Fleet {
    first: String,
    second: String,
    testbed: Testbed,
    moorfast: Folder,
}

impl Fleet {
    /// Two workers of the example, with a rollout that drains.
    fn up(purpose: &str) -> Option<Self> {
        let testbed = Testbed::up(purpose, 2)?;
        let moorfast = Folder::copy_of("kubelet", &kubelet_variables(&testbed.facts, "root"));
        // A kubelet renews its Lease after a quarter of its duration, and the gates wait for that: every 3 s instead of every 10 s.
        moorfast.edit(CONFIG, "maxPods: 220", "nodeLeaseDurationSeconds: 12\nmaxPods: 220");
        let drain = "timeout         = \"2m\"\ndrain = { resource = \"module.workers.kubernetes_node.worker\", timeout = \"10s\", force = true }";
        moorfast.edit("rollout.toml", "timeout         = \"2m\"", drain);
        moorfast.expect(0, &["apply", "--auto-approve"]);
        let [first, second] = &testbed.node_names()[..] else { panic!("there are two nodes") };
        Some(Self { first: first.clone(), second: second.clone(), moorfast, testbed })
    }

    fn a_budget_blocks_and_is_named(&self) {
        self.start_pod("app");
        self.testbed.kubectl(&["create", "pdb", "app", "--selector=app=app", "--min-available=1"]);
        wait_for("the budget", LONG, || {
            let budget = self.testbed.get(&["pdb", "app"]);
            (budget["status"]["currentHealthy"] == 1).then_some(())
        });
        self.moorfast.edit(CONFIG, "maxPods: 220", "maxPods: 200");
        let Self { first, second, .. } = self;
        let plan = self.moorfast.expect(2, &["plan", "--detailed-exitcode", "--out", "change.plan"]);
        plan.says(&format!("drain {first}, {second}: cordon, evict the pods (within 10s)"));
        let apply = self.moorfast.expect(1, &["apply", "change.plan"]);
        apply.complains(&format!("rollout.workers stopped at {first}: the drain of {first}"));
        apply.complains("default/app").complains("PodDisruptionBudget default/app");
        apply.complains(&format!("Not started, because rollout.workers stopped: {first} was not drained"));
        self.assert_in_service(first);
        self.testbed.on(first, "grep -q 'maxPods: 220' /etc/kubernetes/kubelet-config.yaml");
        assert_eq!(self.testbed.names(&["pods"]), ["app"]);
        self.testbed.kubectl(&["delete", "pdb", "app"]);
    }

    /// Once right after the cordon, and once after the change of the node and before the end of its gates.
    fn a_killed_run_is_completed_by_the_next_one(&self) {
        let first = &self.first;
        let mut apply = self.moorfast.start(&["apply", "--auto-approve"]);
        wait_for("the cordon", LONG, || self.owner(first));
        apply.kill();
        self.moorfast.expect(2, &["plan", "--detailed-exitcode"]).says(&format!("drain {first}"));
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        assert_eq!(self.testbed.names(&["pods"]), Vec::<String>::new());
        self.assert_updated("maxPods: 200");

        self.moorfast.edit(CONFIG, "maxPods: 200", "maxPods: 190");
        let mut apply = self.moorfast.start(&["apply", "--auto-approve"]);
        wait_for("the change of the first node", LONG, || {
            let changed = self.testbed.try_on(first, "grep -q 'maxPods: 190' /etc/kubernetes/kubelet-config.yaml");
            changed.unwrap().status.success().then_some(())
        });
        apply.kill();
        assert!(self.owner(first).is_some());
        self.moorfast
            .expect(0, &["apply", "--auto-approve"])
            .complains(&format!("rollout.workers: {first}: Uncordoned"));
        self.assert_updated("maxPods: 190");
    }

    /// An earlier run was killed after the changes of the node.
    fn a_node_without_changes_returns(&self) {
        let first = &self.first;
        let state: serde_json::Value =
            serde_json::from_str(&self.moorfast.expect(0, &["state", "pull"]).stdout).unwrap();
        let owner = state["lineage"].as_str().unwrap();
        self.testbed.kubectl(&["annotate", "node", first, &format!("moorfast.dev/cordoned-by={owner}")]);
        self.testbed.kubectl(&["cordon", first]);
        let plan = self.moorfast.expect(2, &["plan", "--detailed-exitcode"]);
        plan.says(&format!("uncordon {first} when healthy: an earlier run cordoned the node"));
        plan.says("Plan: 0 to add, 0 to change, 0 to destroy, 1 to uncordon.");
        self.moorfast
            .expect(0, &["apply", "--auto-approve"])
            .complains(&format!("rollout.workers: {first}: Uncordoned"));
        self.assert_in_service(first);
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    }

    fn a_machine_is_drained_before_it_reboots(&self) {
        let Self { first, second, .. } = self;
        self.moorfast.write("reboot.toml", "[resource.ssh_reboot.machine]\non = { role = \"worker\" }\n");
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        let boot = |node: &str| self.testbed.on(node, "cat /proc/sys/kernel/random/boot_id");
        let before = [boot(first), boot(second)];
        self.start_pod("app");
        self.testbed.on(first, "touch /run/reboot-required");
        let plan = self.moorfast.expect(2, &["plan", "--detailed-exitcode"]);
        plan.says(&format!("drain {first}: cordon, evict the pods")).says("the machine reboots");
        self.moorfast
            .expect(0, &["apply", "--auto-approve"])
            .complains(&format!("rollout.workers: {first}: Uncordoned"));
        assert_ne!(boot(first), before[0]);
        assert_eq!(boot(second), before[1]);
        // It has no controller, so it would have survived a reboot without a drain.
        assert_eq!(self.testbed.names(&["pods"]), Vec::<String>::new());
        self.assert_in_service(first);
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    }

    fn a_node_that_was_cordoned_by_hand_stays_cordoned(&self) {
        let Self { first, second, .. } = self;
        self.testbed.kubectl(&["cordon", second]);
        self.moorfast.edit(CONFIG, "maxPods: 190", "maxPods: 180");
        let apply = self.moorfast.expect(0, &["apply", "--auto-approve"]);
        apply.complains(&format!("{second} was cordoned before and stays cordoned"));
        assert_eq!(self.testbed.get(&["node", second])["spec"]["unschedulable"], true);
        assert_eq!(self.owner(second), None);
        self.assert_in_service(first);
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    }

    /// Starts a pod on the first node, without a controller.
    fn start_pod(&self, name: &str) {
        // The pause container comes with any image.
        self.moorfast.write("Containerfile", "FROM scratch\nCOPY Containerfile /\n");
        let containerfile = self.moorfast.path("Containerfile");
        let context = containerfile.parent().unwrap();
        self.testbed.load(&self.first, "registry.example.org/empty:1", containerfile.to_str().unwrap(), context);
        std::fs::remove_file(&containerfile).unwrap();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name, "labels": { "app": name } },
            "spec": {
                "nodeName": self.first,
                "containers": [{ "name": "pause", "image": "registry.k8s.io/pause:3.6", "imagePullPolicy": "Never" }],
            },
        });
        self.moorfast.write("pod.json", &pod.to_string());
        wait_for("the ServiceAccount of the namespace", LONG, || {
            let created = self.testbed.try_kubectl(&["create", "-f", self.moorfast.path("pod.json").to_str().unwrap()]);
            created.contains("created").then_some(())
        });
        self.testbed.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("pod/{name}")]);
        std::fs::remove_file(self.moorfast.path("pod.json")).unwrap();
    }

    /// Returns who drained the node.
    fn owner(&self, node: &str) -> Option<String> {
        let node = self.testbed.get(&["node", node]);
        node["metadata"]["annotations"]["moorfast.dev/cordoned-by"].as_str().map(str::to_owned)
    }

    fn assert_in_service(&self, node: &str) {
        assert_ne!(self.testbed.get(&["node", node])["spec"]["unschedulable"], true, "{node}");
        assert_eq!(self.owner(node), None);
    }

    fn assert_updated(&self, line: &str) {
        for node in [&self.first, &self.second] {
            self.testbed.on(node, &format!("grep -q '{line}' /etc/kubernetes/kubelet-config.yaml"));
            self.assert_in_service(node);
        }
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    }
}
