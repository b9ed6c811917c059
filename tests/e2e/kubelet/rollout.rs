//! `examples/kubelet` with its `[rollout.workers]`: a changed configuration restarts one kubelet at a time. The rollout stops at the first node if the
//! configuration is wrong, or if the kubelet runs but does not reach the API server, even while its Node still counts as Ready.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::testbed::Testbed;
use crate::support::variables::kubelet_variables;
use jiff::Timestamp;
use serde_json::Value as Json;

/// The interval at which the Leases are read during a run.
const READ_EVERY: Duration = Duration::from_millis(500);
const CONFIG: &str = "module/kubelet-config.yaml.tpl";

#[test]
fn one_kubelet_at_a_time() {
    let Some(testbed) = Testbed::up("rollout", 3) else { return };
    let moorfast = Folder::copy_of("kubelet", &kubelet_variables(&testbed.facts, "root"));
    // A kubelet renews its Lease after a quarter of its duration, and the gates wait for that: every 3 s instead of every 10 s.
    moorfast.edit(CONFIG, "maxPods: 220", "nodeLeaseDurationSeconds: 12\nmaxPods: 220");
    let fleet = Fleet { moorfast, testbed };
    fleet.new_nodes_join_all_at_once();
    fleet.a_change_goes_from_node_to_node();
    fleet.a_kubelet_without_api_server_stops_the_rollout();
    fleet.repaired_the_rollout_continues();
    fleet.a_wrong_configuration_stops_at_the_first_node();
    fleet.corrected_the_first_node_recovers();
}

struct Fleet {
    testbed: Testbed,
    moorfast: Folder,
}

/// The parts of a node that a stopped rollout must not change.
#[derive(Debug, PartialEq)]
struct Kubelet {
    pid: String,
    config: String,
}

impl Fleet {
    fn new_nodes_join_all_at_once(&self) {
        let apply = self.moorfast.expect(0, &["apply", "--auto-approve"]);
        apply.says("Apply complete!");
        assert!(!apply.stdout.contains("Rollouts:"), "{apply}");
        eprintln!("all joined within {:.1?}", apply.took);
    }

    fn a_change_goes_from_node_to_node(&self) {
        self.moorfast.edit(CONFIG, "maxPods: 220", "maxPods: 200");
        let names = self.testbed.node_names();
        let plan = self.moorfast.expect(2, &["plan", "--detailed-exitcode", "--out", "change.plan"]);
        plan.says(&format!("rollout.workers: 3 nodes, 1 at a time: {}", names.join(", ")));
        plan.says(
            "before the next node starts: module.workers.ssh_systemd_unit.kubelet and module.workers.kubernetes_node.worker healthy, each within 2m 0s",
        );

        let (apply, renewals) = self.watching_leases(|| self.moorfast.expect(0, &["apply", "change.plan"]));
        apply.says("0 added, 6 changed, 0 destroyed.");
        eprintln!("three kubelets, one after the other: {:.1?}", apply.took);
        let starts: Vec<Timestamp> = names.iter().map(|node| self.started(node)).collect();
        for (node, pair) in names.iter().zip(starts.windows(2)) {
            let of_node = renewals[node].iter();
            let between = of_node.filter(|renewed| pair[0] < **renewed && **renewed < pair[1]).count();
            assert!(between > 0, "{node} started at {}, the next at {}, renewed {renewals:?}", pair[0], pair[1]);
        }
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    }

    fn a_wrong_configuration_stops_at_the_first_node(&self) {
        self.moorfast.edit(CONFIG, "maxPods: 210", "maxPods: -1");
        let [first, others @ ..] = &self.testbed.node_names()[..] else { panic!("there are three nodes") };
        let before = self.kubelets(others);
        let apply = self.moorfast.expect(1, &["apply", "--auto-approve"]);
        // The last lines of its journal.
        apply.complains("must not be a negative number");
        let unit = format!("module.workers.ssh_systemd_unit.kubelet[\"{first}\"]");
        apply.complains(&format!("Not started, because rollout.workers stopped: {unit} did not succeed"));
        assert_eq!(self.kubelets(others), before);
    }

    /// The Node still counts as Ready for a while, but its Lease is not renewed.
    fn a_kubelet_without_api_server_stops_the_rollout(&self) {
        self.moorfast.edit(CONFIG, "maxPods: 200", "maxPods: 210");
        self.moorfast.edit("rollout.toml", "\"2m\"", "\"12s\"");
        let [first, others @ ..] = &self.testbed.node_names()[..] else { panic!("there are three nodes") };
        let before = self.kubelets(others);
        self.cut_off(first, "-I");
        let apply = self.moorfast.expect(1, &["apply", "--auto-approve"]);
        let worker = format!("module.workers.kubernetes_node.worker[\"{first}\"]");
        apply.complains(&format!("rollout.workers stopped at {first}"));
        let reasons = ["has not renewed its Lease", "Kubelet stopped posting node status"];
        assert!(reasons.iter().any(|reason| apply.stderr.contains(reason)), "{apply}");
        apply.complains("The last lines of the journal of kubelet.service:");
        apply.complains(&format!("Not started, because rollout.workers stopped: {worker} is not healthy"));
        assert_eq!(self.kubelets(others), before);
        self.cut_off(first, "-D");
        self.testbed.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", &format!("node/{first}")]);
    }

    fn repaired_the_rollout_continues(&self) {
        let names = self.testbed.node_names();
        let untouched = self.kubelets(&names[..1]);
        self.moorfast.edit("rollout.toml", "\"12s\"", "\"2m\"");
        self.moorfast.expect(0, &["apply", "--auto-approve"]).says("0 added, 4 changed, 0 destroyed.");
        assert_eq!(self.kubelets(&names[..1]), untouched);
        self.assert_all_nodes_updated();
    }

    fn corrected_the_first_node_recovers(&self) {
        self.moorfast.edit(CONFIG, "maxPods: -1", "maxPods: 210");
        self.moorfast.expect(0, &["apply", "--auto-approve"]).says("0 added, 2 changed, 0 destroyed.");
        self.assert_all_nodes_updated();
    }

    fn assert_all_nodes_updated(&self) {
        for node in &self.testbed.node_names() {
            self.testbed.on(node, "grep -q 'maxPods: 210' /etc/kubernetes/kubelet-config.yaml");
            let ready =
                self.testbed.kubectl(&["wait", "--for=condition=Ready", "--timeout=0s", &format!("node/{node}")]);
            assert!(ready.contains("condition met"), "{ready}");
        }
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    }

    /// Blocks (`-I`) or unblocks (`-D`) the API server for a node.
    fn cut_off(&self, node: &str, verb: &str) {
        let server = &self.testbed.facts.control_plane.server;
        let port = server.rsplit(':').next().unwrap();
        self.testbed.on(node, &format!("iptables {verb} OUTPUT -p tcp --dport {port} -j REJECT"));
    }

    fn kubelets(&self, nodes: &[String]) -> Vec<Kubelet> {
        let pid = |node: &String| self.testbed.on(node, "systemctl show -p MainPID --value kubelet");
        let config = |node: &String| self.testbed.on(node, "sha256sum < /etc/kubernetes/kubelet-config.yaml");
        nodes.iter().map(|node| Kubelet { pid: pid(node), config: config(node) }).collect()
    }

    /// Returns when the kubelet of a node became active.
    fn started(&self, node: &str) -> Timestamp {
        let shown = "systemctl show -p ActiveEnterTimestamp --value --timestamp=us+utc kubelet";
        let microseconds = self.testbed.on(node, &format!("date -d \"$({shown})\" +%s%6N"));
        Timestamp::from_microsecond(microseconds.trim().parse().unwrap()).unwrap()
    }

    /// Returns the run of `act`, and the times at which the Lease of each node was renewed meanwhile.
    fn watching_leases(&self, act: impl FnOnce() -> Run) -> (Run, BTreeMap<String, Vec<Timestamp>>) {
        let (running, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let mut renewals: BTreeMap<String, Vec<Timestamp>> = BTreeMap::new();
                loop {
                    for (node, renewed) in self.leases() {
                        let of_node = renewals.entry(node).or_default();
                        if of_node.last() != Some(&renewed) {
                            of_node.push(renewed);
                        }
                    }
                    // The end of the run drops the other side.
                    if ended.recv_timeout(READ_EVERY) != Err(RecvTimeoutError::Timeout) {
                        return renewals;
                    }
                }
            });
            let run = act();
            drop(running);
            (run, watch.join().unwrap())
        })
    }

    fn leases(&self) -> Vec<(String, Timestamp)> {
        let leases = self.testbed.get(&["leases", "-n", "kube-node-lease"]);
        let lease = |lease: &Json| {
            let renewed = lease["spec"]["renewTime"].as_str()?;
            Some((lease["metadata"]["name"].as_str()?.to_owned(), renewed.parse().ok()?))
        };
        leases["items"].as_array().into_iter().flatten().filter_map(lease).collect()
    }
}
