//! The CronJob of `examples/drift-cron` as a pod on a real node: its image with a static binary, the user without rights, the read-only file system.

use std::path::Path;
use std::time::Duration;

use crate::support::folder::{Folder, Run, VARIABLES};
use crate::support::static_binary::static_binary;
use crate::support::testbed::Testbed;
use crate::support::{try_wait_for, wait_for};
use serde_json::json;

/// The manifest of the pod. The defaults are the paths in the pod.
const SITE: &str = r#"
[backend.kubernetes]
namespace = "moorfast"

[variables.address]

[variables.host_key]

[variables.ssh_user]
default = "moorfast-look"

[variables.ssh_identity_file]
default = "/etc/moorfast/ssh/id_ed25519"

[nodes.worker]
address       = "${var.address}"
host_key      = "${var.host_key}"
user          = "${var.ssh_user}"
identity_file = "${var.ssh_identity_file}"
sudo          = true

[resource.ssh_file.motd]
on      = "worker"
path    = "/etc/motd"
content = "moorfast keeps this\n"
mode    = "0600"

[resource.kubernetes_object.settings]
manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings", namespace = "moorfast" }, data = { level = "info" } }
force_conflicts = true
"#;

#[test]
fn the_cron_job_detects_drift_from_inside_the_cluster() {
    let Some(binary) = static_binary() else { return };
    let Some(testbed) = Testbed::up("drift-pod", 1) else { return };
    let cluster = Cluster::with_a_kubelet(testbed, &binary);
    cluster.expect(0, "In sync.");

    cluster.testbed.on(&cluster.node, "echo somebody else >> /etc/motd");
    let patch = r#"{"data":{"level":"debug"}}"#;
    cluster.testbed.kubectl(&["patch", "configmap", "settings", "-n", "moorfast", "-p", patch]);
    let log = cluster.expect(2, "Drift: 2 objects");
    assert!(log.contains("somebody else") && log.contains("\"info\" -> \"debug\""), "{log}");

    cluster.at_the_site(0, &["apply", "--auto-approve"]);
    cluster.expect(0, "In sync.");
    cluster.at_the_site(0, &["drift", "--history"]).says("ssh_file.motd");
}

struct Cluster {
    testbed: Testbed,
    site: Folder,
    node: String,
}

impl Cluster {
    /// Joins a node with the kubelet example, applies the site, and creates the CronJob with all that it needs.
    fn with_a_kubelet(testbed: Testbed, binary: &Path) -> Self {
        let node = testbed.node_names().remove(0);
        let worker = Folder::one_worker(&testbed.facts, "root");
        // A kubelet that watches Secrets tries again only after up to 30 s where the API server refuses the watch, and it refuses until
        // its authorizer has seen the pod. A kubelet that gets each Secret when it mounts it tries again after 0.5 s.
        let get = "configMapAndSecretChangeDetectionStrategy: Get\nmaxPods: 220";
        worker.edit("module/kubelet-config.yaml.tpl", "maxPods: 220", get);
        worker.expect(0, &["apply", "--auto-approve"]);
        testbed.load(&node, "registry.example.org/moorfast:0.1.0", &example("Containerfile"), binary.parent().unwrap());
        let cluster = Self { testbed, site: Folder::new(SITE), node };
        cluster.forward_service_address();
        cluster.testbed.kubectl(&["apply", "-f", &example("kubernetes/rbac.yaml")]);
        let worker = &cluster.testbed.facts.nodes[0];
        cluster.site.write(
            "site.auto.vars.toml",
            &format!("address = \"{}\"\nhost_key = \"{}\"\n", worker.address, worker.pin()),
        );
        cluster.at_the_site(0, &["apply", "--auto-approve"]);

        let key = cluster.site.path("drift-key");
        cluster.testbed.permit_read_only_key(&cluster.node, &key);
        let files = ["main.toml", "site.auto.vars.toml"]
            .map(|name| format!("--from-file={}", cluster.site.path(name).display()));
        let secret = ["create", "secret", "generic", "-n", "moorfast"];
        cluster.testbed.kubectl(&[&secret[..], &["moorfast-manifest", &files[0], &files[1]]].concat());
        cluster
            .testbed
            .kubectl(&[&secret[..], &["moorfast-ssh", &format!("--from-file=id_ed25519={}", key.display())]].concat());
        cluster.testbed.kubectl(&["apply", "-f", &example("kubernetes/cronjob.yaml")]);
        cluster
    }

    /// Forwards the address of the service `kubernetes`, as kube-proxy would.
    fn forward_service_address(&self) {
        let service = self.testbed.get(&["service", "kubernetes", "-n", "default"]);
        let (address, server) =
            (service["spec"]["clusterIP"].as_str().unwrap(), &self.testbed.facts.control_plane.server);
        let to = server.trim_start_matches("https://");
        self.testbed.on(
            &self.node,
            &format!("iptables -t nat -A PREROUTING -d {address} -p tcp --dport 443 -j DNAT --to-destination {to}"),
        );
    }

    /// Runs moorfast on this machine, with the rights to apply.
    fn at_the_site(&self, code: i32, arguments: &[&str]) -> Run {
        let facts = &self.testbed.facts;
        let identity = facts.ssh.identity_file.display();
        self.site.write(VARIABLES, &format!("ssh_user = \"root\"\nssh_identity_file = \"{identity}\"\n"));
        let output = self.site.command(arguments).env("KUBECONFIG", &facts.control_plane.kubeconfig).output();
        let run = Run::of(output.unwrap());
        assert_eq!(run.code, code, "{run}");
        run
    }

    /// Runs the CronJob once. Asserts the exit code and the text of its container, and returns its log.
    fn expect(&self, code: i64, says: &str) -> String {
        let job = format!("drift-{}", self.testbed.names(&["jobs", "-n", "moorfast"]).len());
        self.testbed.kubectl(&["create", "job", "-n", "moorfast", "--from=cronjob/moorfast-drift", &job]);
        let pod = wait_for("the pod of the Job", Duration::from_secs(60), || {
            self.testbed.names(&["pods", "-n", "moorfast", "-l", &format!("job-name={job}")]).pop()
        });
        self.schedule(&pod);
        let mut status = json!(null);
        let ended = try_wait_for(Duration::from_secs(240), || {
            status = self.testbed.get(&["pod", &pod, "-n", "moorfast"])["status"].take();
            let container = &status["containerStatuses"][0]["state"];
            assert!(
                container["waiting"]["reason"].as_str().is_none_or(|reason| reason == "ContainerCreating"),
                "{status:#}"
            );
            container["terminated"]["exitCode"].as_i64()
        });
        let ended = ended.unwrap_or_else(|| {
            let events = self.testbed.kubectl(&["get", "events", "-n", "moorfast"]);
            let log = self.testbed.on(&self.node, "journalctl -u kubelet -n 60 --no-pager -o cat");
            panic!("the pod did not end: {status:#}\n{events}\n{log}")
        });
        let log = self.testbed.kubectl(&["logs", "-n", "moorfast", &pod]);
        assert_eq!(ended, code, "{log}");
        assert!(log.contains(says), "{log}");
        log
    }

    /// Binds a pod to the node, as a scheduler would.
    fn schedule(&self, pod: &str) {
        let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": pod}, "target": {"kind": "Node", "name": self.node}});
        self.site.write("binding.json", &binding.to_string());
        let path = format!("/api/v1/namespaces/moorfast/pods/{pod}/binding");
        self.testbed.kubectl(&["create", "--raw", &path, "-f", self.site.path("binding.json").to_str().unwrap()]);
    }
}

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/drift-cron").join(name);
    path.to_str().unwrap().to_owned()
}
