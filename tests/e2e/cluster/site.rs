//! The example in a folder of its own, with bare machines.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::folder::{Folder, Run};
use crate::support::snapshot::Snapshot;
use crate::support::testbed::{Node, Testbed, cluster_binaries};
use crate::support::try_wait_for;

/// The identity that decrypts the key store, and its recipient.
pub const IDENTITY: &str = "../certificates/demo.identity";
const RECIPIENT: &str = "age10gp36ltklmz6k44hhqerpq7g6qujzz8pfvdz56xxma2fclnhw3zqd0pjpt";

/// How many of the machines are control planes with etcd, at first.
pub const CONTROL_PLANES: usize = 3;

/// How long a cluster may be busy with itself after a change, on a machine that has other work.
pub const BUSY: Duration = Duration::from_secs(300);

/// Machines, and a copy of the example with their names and addresses.
pub struct Site {
    pub testbed: Testbed<()>,
    pub moorfast: Folder,
    /// The folder with the binaries.
    pub binaries: String,
    /// How many of the machines are control planes now. They are the first ones.
    control_planes: usize,
}

impl Site {
    /// Brings up the control planes and this number of workers. Returns `None` if this machine cannot run a testbed.
    pub fn up(purpose: &str, workers: usize) -> Option<Self> {
        Self::up_with(purpose, workers, cluster_binaries)
    }

    /// Does the same with other binaries.
    pub fn up_with(purpose: &str, workers: usize, binaries: impl FnOnce() -> String) -> Option<Self> {
        let testbed = Testbed::up_nodes(purpose, CONTROL_PLANES + workers)?;
        let binaries = binaries();
        let moorfast = Folder::copy_of_tree("examples");
        let site = Self { testbed, moorfast, binaries, control_planes: CONTROL_PLANES };
        site.write_variables();
        Some(site)
    }

    fn write_variables(&self) {
        self.moorfast.write("cluster/test.auto.vars.toml", &self.variables());
    }

    /// Replaces the machine of a node by another one with another host key and an empty disk.
    pub fn replace_machine(&mut self, node: &str) {
        self.testbed.run(&["node", "replace", node]);
        self.testbed.facts = self.testbed.current_facts();
        self.write_variables();
    }

    /// Uses the binaries of another folder from now on.
    pub fn use_binaries(&mut self, folder: String) {
        self.binaries = folder;
        self.write_variables();
    }

    /// Takes the last worker out of the inventory, and returns it. Its machine stays.
    pub fn take_out_last_worker(&mut self) -> Node {
        let node = self.testbed.facts.nodes.pop().unwrap();
        self.write_variables();
        node
    }

    /// Takes the last control plane out of the inventory, and returns it. Its machine stays.
    pub fn take_out_last_control_plane(&mut self) -> Node {
        self.control_planes -= 1;
        let node = self.testbed.facts.nodes.remove(self.control_planes);
        self.write_variables();
        node
    }

    /// Returns a command that runs moorfast in the folder of the example.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.moorfast.command(&[&["-C", "cluster"], arguments].concat());
        command.env("MOORFAST_AGE_IDENTITY", IDENTITY);
        command
    }

    /// Runs moorfast, which must end with this exit code.
    #[track_caller]
    pub fn expect(&self, code: i32, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, code, "{run}");
        run
    }

    pub fn run(&self, arguments: &[&str]) -> Run {
        let started = std::time::Instant::now();
        let output = self.command(arguments).stdin(Stdio::null()).output().unwrap();
        Run { command: arguments.join(" "), took: started.elapsed(), ..Run::of(output) }
    }

    /// Asserts that nothing would change, that all checks pass, and that nothing drifted. This may take a few runs: on a busy machine a scheduler that lost its Lease is just
    /// starting again, and a plan does not try a check again that ran into its time limit.
    pub fn is_in_sync(&self) {
        let mut last = String::new();
        let mut passed = BTreeSet::new();
        let is_empty = try_wait_for(BUSY, || {
            let run = self.run(&["plan", "--detailed-exitcode", "--json"]);
            let plan: Json = serde_json::from_str(&run.stdout).unwrap_or_default();
            let Some(checks) = plan["checks"].as_array() else {
                last = run.to_string();
                return None;
            };
            assert!(checks.len() > 30, "{} checks", checks.len());
            let (good, bad): (Vec<_>, Vec<_>) = checks.iter().partition(|check| check["status"] == "pass");
            let address = |check: &Json| check["address"].as_str().unwrap().to_owned();
            passed.extend(good.into_iter().map(address));
            let never_passed: Vec<_> = bad.iter().filter(|check| !passed.contains(&address(check))).collect();
            last = format!("exit code {}, {:#}, failed checks: {never_passed:#?}", run.code, plan["summary"]);
            (run.code == 0 && never_passed.is_empty()).then_some(())
        });
        assert!(is_empty.is_some(), "{last}");
        let has_no_drift = try_wait_for(BUSY, || {
            let run = self.run(&["drift"]);
            last = run.to_string();
            (run.code == 0).then_some(())
        });
        assert!(has_no_drift.is_some(), "{last}");
    }

    /// Returns the machines with the role `control-plane`.
    pub fn control_planes(&self) -> &[Node] {
        &self.testbed.facts.nodes[..self.control_planes]
    }

    /// Returns the first machine that is no control plane.
    pub fn first_worker(&self) -> &Node {
        &self.testbed.facts.nodes[self.control_planes]
    }

    /// Runs kubectl as the administrator and returns its output.
    #[track_caller]
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let run = self.try_kubectl(arguments);
        assert_eq!(run.code, 0, "kubectl {}: {run}", arguments.join(" "));
        run.stdout
    }

    pub fn try_kubectl(&self, arguments: &[&str]) -> Run {
        let mut kubectl = Command::new(format!("{}/kubectl", self.binaries));
        kubectl.arg("--kubeconfig").arg(self.moorfast.path("cluster/admin.kubeconfig"));
        Run::of(kubectl.args(["--request-timeout", "20s"]).args(arguments).output().unwrap())
    }

    /// Creates these objects of the cluster, or changes them.
    #[track_caller]
    pub fn kubectl_apply(&self, objects: &[Json]) {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        self.moorfast.write("objects.json", &list.to_string());
        self.kubectl(&["apply", "--filename", &self.moorfast.path("objects.json").display().to_string()]);
    }

    /// Runs a script in the pod of the demo on `node`, again for a minute until it succeeds.
    #[track_caller]
    pub fn in_pod(&self, node: &str, script: &str) -> String {
        let of_node =
            ["get", "pods", "-l", "app=web", "--field-selector", &format!("spec.nodeName={node}"), "-o", "name"];
        let pod = self.kubectl(&of_node);
        let mut last = String::new();
        let found = try_wait_for(Duration::from_secs(60), || {
            let run = self.try_kubectl(&["exec", pod.trim(), "--", "sh", "-c", script]);
            last = run.to_string();
            (run.code == 0).then_some(run.stdout)
        });
        found.unwrap_or_else(|| panic!("in the pod on {node}: {script}: {last}"))
    }

    /// Returns the values of the example's variables.
    fn variables(&self) -> String {
        let Self { testbed, binaries, control_planes, .. } = self;
        let identity = testbed.facts.ssh.identity_file.display();
        // Kernel parameters of the whole machine stay as they are, and nothing has to survive a power cut.
        let mut text = format!(
            r#"
ssh_user             = "root"
ssh_identity_file    = "{identity}"
recipients           = ["{RECIPIENT}"]
binaries             = "{binaries}"
dns_upstream         = ""
etcd_arguments       = ["--unsafe-no-fsync"]
containerd_arguments = {{ restrict_oom_score_adj = "true" }}
sysctls              = {{ "net.ipv4.tcp_keepalive_time" = "600" }}
"#
        );
        if testbed.facts.nodes.len() == *control_planes {
            text.push_str("workers = {}\n");
        }
        for (index, node) in testbed.facts.nodes.iter().enumerate() {
            let group = if index < *control_planes { "control_planes" } else { "workers" };
            let Node { name, address, .. } = node;
            text.push_str(&format!(
                "\n[{group}.{name}]\naddress = \"{address}\"\nhost_key = \"{}\"\npod_subnet = {}\n",
                node.pin(),
                pod_subnet(node)
            ));
        }
        text
    }
}

/// Returns the number of the pod subnet of a machine. It stays the same when others leave.
pub fn pod_subnet(node: &Node) -> u8 {
    node.name.rsplit_once("gpu").unwrap().1.parse().unwrap()
}

/// Returns what machines have that they did not have when they were bare.
pub fn left_behind(now: &Snapshot, bare: &Snapshot) -> Vec<String> {
    let mut remaining = now.since(bare);
    // Debian's haproxy leaves its directory, also after a purge.
    remaining.retain(|line| !line.contains("+ /var/lib/haproxy"));
    remaining
}
