//! `examples/kubelet` on three bare nodes and a real control plane: one apply makes them Ready, the next plan is empty, drift is found and
//! corrected, and a destroy leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::support::folder::{Folder, Run, VARIABLES};
use crate::support::processes::Watch;
use crate::support::snapshot::Snapshot;
use crate::support::testbed::Testbed;
use crate::support::variables::kubelet_variables;
use crate::support::wait_for;
use serde_json::Value as Json;

const CONFIG: &str = "module/kubelet-config.yaml.tpl";

#[test]
fn three_workers_from_join_to_destroy() {
    let Some(testbed) = Testbed::up("kubelet", 3) else { return };
    let workers = Workers { moorfast: Folder::copy_of("kubelet", &kubelet_variables(&testbed.facts, "root")), testbed };
    let bare = Snapshot::of(&workers.testbed);
    workers.moorfast.expect(0, &["validate"]);
    workers.the_nodes_join();
    workers.nodes_are_ready_and_certificates_issued();
    workers.the_kubelets_authenticate_and_authorize();
    workers.configz_equals_the_manifest();
    workers.the_plan_is_empty();
    workers.the_plan_stays_empty_without_the_bootstrap_tokens();
    workers.one_field_changes_one_file_and_restarts_one_unit();
    workers.drift_is_found_and_corrected();
    workers.a_replaced_machine_joins_again();
    workers.destroy_leaves_nothing_behind(&bare);
}

struct Workers {
    testbed: Testbed,
    moorfast: Folder,
}

impl Workers {
    /// Plans, saves the plan and applies it, and searches all output, files and processes for secrets.
    fn the_nodes_join(&self) {
        let plan = self.moorfast.expect(0, &["plan", "--out", "first.plan"]);
        let watch = Watch::start();
        let apply = self.moorfast.expect(0, &["apply", "--log", "trace", "first.plan"]);
        let command_lines = watch.end().command_lines;
        apply.says("Apply complete!");
        let effort = plan.stderr.lines().find(|line| line.starts_with("Planned in"));
        eprintln!("plan took {:.1?}: {}; {}", plan.took, plan.line("Plan:"), effort.unwrap());
        eprintln!("apply took {:.1?}: {}", apply.took, apply.line("in "));
        self.no_secret_is_visible(&[&plan, &apply], &command_lines);
    }

    fn no_secret_is_visible(&self, runs: &[&Run], command_lines: &BTreeSet<String>) {
        let secrets = self.secrets();
        assert!(secrets.len() >= 3 * 2 + 3, "{} secrets", secrets.len());
        let mut places: Vec<(String, Vec<u8>)> = Vec::new();
        for run in runs {
            places.push((format!("the output of `{}`", run.command), run.stdout.clone().into_bytes()));
            places.push((format!("the log of `{}`", run.command), run.stderr.clone().into_bytes()));
        }
        for line in command_lines {
            places.push((format!("the command line `{line}`"), line.clone().into_bytes()));
        }
        for file in self.moorfast.files() {
            places.push((file.display().to_string(), std::fs::read(&file).unwrap_or_default()));
        }
        for (place, bytes) in &places {
            for (name, secret) in &secrets {
                let shows = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!shows, "{place} contains {name}");
            }
        }
        assert!(command_lines.iter().any(|line| line.contains("ssh")), "the processes were watched");
        assert!(places.iter().any(|(place, _)| place.contains(".moorfast")), "the state was searched");
    }

    /// Returns the name and the value of each secret.
    fn secrets(&self) -> Vec<(String, String)> {
        let mut secrets = Vec::new();
        let template = "{{range .items}}{{if eq .type \"bootstrap.kubernetes.io/token\"}}\
            {{index .data \"token-secret\" | base64decode}} {{index .data \"token-secret\"}}\n{{end}}{{end}}";
        let tokens =
            self.testbed.kubectl(&["get", "secrets", "-n", "kube-system", "-o", &format!("go-template={template}")]);
        secrets.extend(tokens.split_whitespace().map(|s| ("the secret of a bootstrap token".to_owned(), s.to_owned())));
        // The start of every token of a ServiceAccount.
        secrets.push(("a token of a ServiceAccount".to_owned(), "eyJhbGciOi".to_owned()));
        let facts = &self.testbed.facts;
        let keys =
            [&facts.ssh.identity_file, &facts.control_plane.admin.key, &facts.control_plane.controller_manager.key];
        for path in keys {
            let key = std::fs::read_to_string(path).unwrap();
            // The second line of a PEM file is secret, the first is the same in all PEM files.
            secrets.push((
                format!("the key {}", path.display()),
                key.lines().nth(2).or(key.lines().nth(1)).unwrap().to_owned(),
            ));
        }
        secrets
    }

    fn service_account_token(&self) -> String {
        self.testbed.kubectl(&["create", "token", "-n", "default", "kubelet-api-test"]).trim().to_owned()
    }

    fn nodes_are_ready_and_certificates_issued(&self) {
        let nodes = self.testbed.get(&["nodes"]);
        let ready: BTreeMap<_, _> = list(&nodes).map(|node| (name(node), condition(node, "Ready"))).collect();
        let expected = self.testbed.node_names().into_iter().map(|name| (name, "True".to_owned()));
        assert_eq!(ready, expected.collect());

        let requests = self.testbed.get(&["certificatesigningrequests"]);
        for node in &self.testbed.facts.nodes {
            for file in ["kubelet-client-current.pem", "kubelet-server-current.pem"] {
                self.testbed.on(&node.name, &format!("test -s /etc/kubernetes/cert/{file}"));
            }
            let signed = |signer: &str, user: &dyn Fn(&str) -> bool| {
                let mut of_node = list(&requests).filter(|csr| csr["spec"]["signerName"] == signer);
                of_node.any(|csr| {
                    user(csr["spec"]["username"].as_str().unwrap()) && csr["status"]["certificate"].is_string()
                })
            };
            assert!(
                signed("kubernetes.io/kube-apiserver-client-kubelet", &|user| user.starts_with("system:bootstrap:"))
            );
            let own = format!("system:node:{}", node.name);
            assert!(signed("kubernetes.io/kubelet-serving", &|user| user == own), "{}", node.name);
        }
        let unissued = list(&requests).filter(|csr| !csr["status"]["certificate"].is_string()).map(name);
        assert_eq!(unissued.collect::<Vec<_>>(), Vec::<String>::new());
    }

    fn the_kubelets_authenticate_and_authorize(&self) {
        let control_plane = &self.testbed.facts.control_plane;
        let certificate = |c: &crate::support::testbed::Credentials| {
            vec!["--cert".to_owned(), c.cert.display().to_string(), "--key".to_owned(), c.key.display().to_string()]
        };
        let bearer = |token: &str| vec!["--header".to_owned(), format!("Authorization: Bearer {token}")];
        let cases = [
            ("nobody", vec![], 401, "Unauthorized"),
            ("a wrong token", bearer("123456"), 401, "Unauthorized"),
            (
                "the controller-manager",
                certificate(&control_plane.controller_manager),
                403,
                "Forbidden (user=system:kube-controller-manager, verb=get, resource=nodes, subresource(s)=[metrics])",
            ),
            ("the administrator", certificate(&control_plane.admin), 200, "# HELP"),
            ("the ServiceAccount", bearer(&self.service_account_token()), 200, "# HELP"),
        ];
        for node in &self.testbed.facts.nodes {
            for (who, credentials, status, start) in &cases {
                let credentials: Vec<_> = credentials.iter().map(String::as_str).collect();
                let (code, body) = self.testbed.curl(&format!("https://{}:10250/metrics", node.address), &credentials);
                assert_eq!(code, *status, "{who} on {}: {body}", node.name);
                assert!(body.starts_with(start), "{who} on {}: {body}", node.name);
            }
            let listening = self.testbed.on(&node.name, "ss -Hltn | tr -s ' ' | cut -d' ' -f4");
            assert!(listening.contains("127.0.0.1:10248"), "{listening}");
            assert!(listening.contains(&format!("{}:10250", node.address)), "{listening}");
            assert!(!listening.contains(":10255"), "{listening}");
        }
    }

    /// Compares the configuration of the running kubelets with the values of the manifest.
    fn configz_equals_the_manifest(&self) {
        for node in self.testbed.node_names() {
            let live = self.testbed.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/configz")]);
            let live: Json = serde_json::from_str(&live).unwrap();
            let live = &live["kubeletconfig"];
            for (path, expected) in [
                ("/clusterDomain", "\"cluster.local\""),
                ("/clusterDNS", "[\"10.254.0.2\"]"),
                ("/maxPods", "220"),
                ("/podCIDR", "\"172.30.0.0/16\""),
                ("/serializeImagePulls", "false"),
                ("/hairpinMode", "\"promiscuous-bridge\""),
                ("/cgroupDriver", "\"cgroupfs\""),
                ("/runtimeRequestTimeout", "\"15m0s\""),
                ("/rotateCertificates", "true"),
                ("/serverTLSBootstrap", "true"),
                ("/port", "10250"),
                ("/authentication/anonymous/enabled", "false"),
                ("/authentication/webhook/enabled", "true"),
                ("/authentication/x509/clientCAFile", "\"/etc/kubernetes/cert/ca.pem\""),
                ("/authorization/mode", "\"Webhook\""),
                ("/kubeAPIQPS", "1000"),
                ("/kubeAPIBurst", "2000"),
                ("/registryPullQPS", "0"),
                ("/eventRecordQPS", "0"),
            ] {
                let found = live.pointer(path).map(ToString::to_string).unwrap_or_default();
                assert_eq!(found, expected, "{path} of {node}");
            }
            assert!(live.get("readOnlyPort").is_none_or(|port| port == 0));
        }
    }

    fn the_plan_is_empty(&self) {
        let before = self.starts();
        self.moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
        self.moorfast.expect(0, &["apply", "--auto-approve"]).says("0 added, 0 changed, 0 destroyed.");
        self.moorfast.expect(0, &["drift"]);
        assert_eq!(self.starts(), before);
        let plan = self.moorfast.expect(0, &["plan", "--json"]).stdout;
        let plan: Json = serde_json::from_str(&plan).unwrap();
        let checks = plan["checks"].as_array().unwrap();
        assert_eq!(checks.len(), 6 * 3);
        assert!(checks.iter().all(|check| check["status"] == "pass"), "{checks:?}");
    }

    fn the_plan_stays_empty_without_the_bootstrap_tokens(&self) {
        let selector = ["-n", "kube-system", "--field-selector", "type=bootstrap.kubernetes.io/token"];
        self.testbed.kubectl(&[&["delete", "secrets"], &selector[..]].concat());
        assert_eq!(self.testbed.names(&[&["secrets"], &selector[..]].concat()), Vec::<String>::new());
        self.the_plan_is_empty();
        assert_eq!(self.testbed.names(&[&["secrets"], &selector[..]].concat()), Vec::<String>::new());
    }

    fn one_field_changes_one_file_and_restarts_one_unit(&self) {
        self.moorfast.edit(CONFIG, "maxPods: 220", "maxPods: 200");
        let changes = self.changes();
        let expected =
            self.of_each_node(&["module.workers.ssh_file.kubelet_config", "module.workers.ssh_systemd_unit.kubelet"]);
        assert_eq!(changes.keys().cloned().collect::<BTreeSet<_>>(), expected);
        assert!(changes.values().all(|action| action == "update"), "{changes:?}");
        let plan = self.moorfast.expect(2, &["plan", "--detailed-exitcode"]);
        plan.says("- maxPods: 220").says("+ maxPods: 200").says("Plan: 0 to add, 6 to change, 0 to destroy.");

        let before = self.starts();
        let apply = self.moorfast.expect(0, &["apply", "--auto-approve"]);
        apply.says("0 added, 6 changed, 0 destroyed.");
        for (unit, start) in self.starts() {
            let restarted = before[&unit] != start;
            assert_eq!(restarted, unit.starts_with("kubelet.service"), "{unit}: restarted: {restarted}");
        }
        for node in self.testbed.node_names() {
            wait_for("the kubelet to run with the new configuration", Duration::from_secs(30), || {
                let live = self.testbed.kubectl(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/configz")]);
                live.contains("\"maxPods\":200").then_some(())
            });
        }
        self.the_plan_is_empty();
    }

    fn drift_is_found_and_corrected(&self) {
        let [first, second, _] = self.testbed.node_names().try_into().unwrap();
        self.testbed.on(&first, "sed -i 's/maxPods: 200/maxPods: 111/' /etc/kubernetes/kubelet-config.yaml");
        self.testbed.on(&second, "systemctl stop kubelet");
        self.testbed.kubectl(&["delete", "clusterrolebinding", "kubelet-bootstrap"]);

        let drift = self.moorfast.expect(2, &["drift"]);
        drift.says(&format!("ssh_file.kubelet_config[\"{first}\"]")).says("maxPods: 111");
        drift.says(&format!("ssh_systemd_unit.kubelet[\"{second}\"]")).says("stopped");
        drift.says("kubernetes_object.kubelet_bootstrap").says("gone");

        self.moorfast.expect(0, &["apply", "--auto-approve"]).says("Apply complete!");
        self.testbed.on(&first, "grep -q 'maxPods: 200' /etc/kubernetes/kubelet-config.yaml");
        assert_eq!(self.testbed.on(&second, "systemctl is-active kubelet").trim(), "active");
        assert_eq!(self.testbed.names(&["clusterrolebinding", "kubelet-bootstrap"]), ["kubelet-bootstrap"]);
        self.the_plan_is_empty();
    }

    /// A machine is replaced: the old Node is deleted, then the new machine joins.
    fn a_replaced_machine_joins_again(&self) {
        let node = self.testbed.node_names().remove(1);
        self.testbed.run(&["node", "replace", &node]);
        let replaced = format!("node {node} replaced: SHA256:");
        self.moorfast.expect(0, &["plan"]).says(&replaced).says("not approved");
        // The new key in the manifest approves the machine.
        self.moorfast.write(VARIABLES, &kubelet_variables(&self.testbed.current_facts(), "root"));
        self.moorfast.expect(0, &["plan"]).says(&replaced).says("approved: all resources on it are created again");
        self.moorfast.expect(0, &["apply", "--auto-approve"]).says("Apply complete!");
        self.nodes_are_ready_and_certificates_issued();
        self.the_plan_is_empty();
    }

    fn destroy_leaves_nothing_behind(&self, bare: &Snapshot) {
        let destroy = self.moorfast.expect(0, &["destroy", "--auto-approve"]);
        destroy.says("Destroy complete!");
        eprintln!("destroy took {:.1?}: {}", destroy.took, destroy.line("in "));
        let order = [
            "kubernetes_node.worker",
            "ssh_systemd_unit.kubelet",
            "ssh_file.kubelet_config",
            "ssh_directory.kubernetes",
        ];
        for node in self.testbed.node_names() {
            let ended = |resource: &str| {
                let line = format!("{resource}[\"{node}\"]: Destruction complete");
                destroy.stderr.find(&line).unwrap_or_else(|| panic!("{line} is missing\n{destroy}"))
            };
            assert!(order.map(ended).is_sorted(), "{order:?} on {node}\n{destroy}");
        }
        // The garbage collector deletes the Leases of the Nodes.
        let left = || Snapshot::of(&self.testbed).since(bare);
        let mut last = Vec::new();
        wait_for("the Leases to be deleted", Duration::from_secs(60), || {
            last = left();
            last.iter().all(|line| !line.starts_with("leases")).then_some(())
        });
        assert_eq!(last, Vec::<String>::new());
        self.moorfast.expect(1, &["state", "list"]).complains("it has no objects and no outputs");
    }

    /// Returns the planned action of each address.
    fn changes(&self) -> BTreeMap<String, String> {
        let plan: Json = serde_json::from_str(&self.moorfast.expect(0, &["plan", "--json"]).stdout).unwrap();
        let changes = plan["resource_changes"].as_array().unwrap().iter();
        let action = |change: &Json| change["change"]["actions"][0].as_str().unwrap().to_owned();
        let named = changes.map(|change| (change["address"].as_str().unwrap().to_owned(), action(change)));
        named.filter(|(_, action)| action != "no-op" && action != "read").collect()
    }

    fn of_each_node(&self, resources: &[&str]) -> BTreeSet<String> {
        let names = self.testbed.node_names();
        names.iter().flat_map(|node| resources.iter().map(move |r| format!("{r}[\"{node}\"]"))).collect()
    }

    /// Returns the start time of each unit.
    fn starts(&self) -> BTreeMap<String, String> {
        let script = "for unit in kubelet containerd ssh systemd-journald dbus; do \
            echo \"$unit.service $(systemctl show -p ExecMainStartTimestampMonotonic --value $unit)\"; done";
        let mut starts = BTreeMap::new();
        for node in self.testbed.node_names() {
            for line in self.testbed.on(&node, script).lines() {
                let (unit, start) = line.split_once(' ').unwrap();
                starts.insert(format!("{unit} of {node}"), start.to_owned());
            }
        }
        starts
    }
}

fn list(objects: &Json) -> impl Iterator<Item = &Json> {
    objects["items"].as_array().into_iter().flatten()
}

fn name(object: &Json) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn condition(object: &Json, kind: &str) -> String {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let found = conditions.filter(|c| c["type"] == kind).find_map(|c| c["status"].as_str());
    found.unwrap_or("Unknown").to_owned()
}
