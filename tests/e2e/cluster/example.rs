//! One apply makes a cluster of five bare machines.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use super::site::{Site, left_behind};
use super::upgrade::minor;
use crate::support::folder::Run;
use crate::support::processes::Watch;
use crate::support::snapshot::Snapshot;
use crate::support::wait_for;

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn bare_machines_become_a_cluster() {
    let Some(mut site) = Site::up("cluster", 2) else { return };
    site.a_machine_was_set_up_by_the_installer();
    let bare = Snapshot::of_nodes(&site.testbed);
    site.one_apply_makes_the_cluster();
    site.is_in_sync();
    site.nodes_are_ready();
    site.pods_reach_each_other();
    site.metrics_are_shown();
    site.secrets_are_encrypted_in_etcd();
    site.an_upgrade_that_skips_a_version_is_denied();
    site.a_snapshot_is_taken_once();
    site.leaders_and_a_member_of_etcd_stop();
    site.the_first_control_plane_is_replaced();
    site.destroy_leaves_nothing_behind(&bare);
}

impl Site {
    /// Debian's installer gives the host name of a machine an address on loopback.
    fn a_machine_was_set_up_by_the_installer(&self) {
        let last = self.testbed.facts.nodes.last().unwrap();
        self.testbed.on(&last.name, &format!("echo '127.0.1.1 {} {}' >>/etc/hosts", last.name, last.name));
    }

    /// The replacement of a machine and the destroy follow with the snapshot in the state.
    fn a_snapshot_is_taken_once(&self) {
        self.moorfast.write("cluster/snapshot.auto.vars.toml", "etcd_snapshot = \"before the upgrade to 1.34\"\n");
        self.expect(0, &["apply", "--auto-approve"]).says("1 added, 0 changed, 0 destroyed.");
        let snapshots = || std::fs::read_dir(self.moorfast.path("cluster/etcd-snapshots")).unwrap().count();
        assert_eq!(snapshots(), 1);
        self.is_in_sync();
        assert_eq!(snapshots(), 1);
    }

    fn an_upgrade_that_skips_a_version_is_denied(&self) {
        let running = self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[0].status.nodeInfo.kubeletVersion}"]);
        let [older, newer] = [minor(&running) - 1, minor(&running) + 2].map(|minor| format!("v1.{minor}.0"));
        let skipped = format!("kube-apiserver {} and {} must not run at the same time", &running[1..], &newer[1..]);
        self.plan_to_install(&newer).complains(&skipped);
        self.plan_to_install(&older).complains(&format!("{running} cannot be downgraded to {older}"));
    }

    /// Plans with a folder of binaries in which the API server has another version.
    fn plan_to_install(&self, version: &str) -> Run {
        let folder = self.moorfast.path(version);
        let made = Command::new("cp").arg("-rs").args([Path::new(&self.binaries), &folder]).status().unwrap();
        assert!(made.success());
        let api_server = folder.join("kube-apiserver");
        std::fs::remove_file(&api_server).unwrap();
        std::fs::write(&api_server, format!("#!/bin/sh\necho Kubernetes {version}\n")).unwrap();
        std::fs::set_permissions(&api_server, Permissions::from_mode(0o755)).unwrap();
        self.expect(1, &["plan", "--var", &format!("binaries={}", folder.display())])
    }

    fn one_apply_makes_the_cluster(&self) {
        let plan = self.expect(0, &["plan", "--out", "first.plan"]);
        let watch = Watch::start();
        let apply = self.expect(0, &["--log", "trace", "apply", "first.plan"]);
        let seen = watch.end();
        eprintln!("plan took {:.1?}: {}", plan.took, plan.line("Plan:"));
        eprintln!("apply took {:.1?}: {}", apply.took, apply.line("in "));
        self.no_secret_is_visible(&[&plan, &apply], &seen);
    }

    pub fn nodes_are_ready(&self) {
        let nodes: Json = serde_json::from_str(&self.kubectl(&["get", "nodes", "-o", "json"])).unwrap();
        let is_ready = |node: &Json| {
            let conditions = node["status"]["conditions"].as_array().unwrap();
            conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
        };
        let nodes = nodes["items"].as_array().unwrap();
        let ready: Vec<_> = nodes.iter().filter(|node| is_ready(node)).map(|node| &node["metadata"]["name"]).collect();
        assert_eq!(ready, self.testbed.node_names().iter().collect::<Vec<_>>());
    }

    /// The checks of the manifest show that every machine reaches every pod, the Service and every NodePort. This is the same from pods, and by name.
    fn pods_reach_each_other(&self) {
        let addresses = self.kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"]);
        assert_eq!(addresses.split_whitespace().count(), self.testbed.facts.nodes.len(), "{addresses}");
        for node in self.testbed.node_names() {
            let others =
                self.in_pod(&node, &format!("for a in {addresses}; do timeout 5 wget -q -O - http://$a:8080/; done"));
            assert_eq!(others.lines().filter(|line| line.starts_with("web-")).count(), self.testbed.facts.nodes.len());
            let service = self.in_pod(&node, "timeout 5 wget -q -O - http://web/");
            assert!(service.starts_with("web-"), "{service}");
            let name = self.in_pod(&node, "nslookup kubernetes.default.svc.cluster.local");
            assert!(name.contains("10.254.0.1"), "{name}");
        }
    }

    fn metrics_are_shown(&self) {
        wait_for("`kubectl top nodes` to show all nodes", MINUTE, || {
            let top = self.try_kubectl(&["top", "nodes", "--no-headers"]);
            let known = top.stdout.lines().filter(|line| line.contains("Mi") && !line.contains("unknown")).count();
            (known == self.testbed.facts.nodes.len()).then_some(())
        });
    }

    fn destroy_leaves_nothing_behind(&self, bare: &Snapshot) {
        let destroy = self.expect(0, &["destroy", "--auto-approve"]);
        eprintln!("destroy took {:.1?}", destroy.took);
        assert_eq!(left_behind(&Snapshot::of_nodes(&self.testbed), bare), Vec::<String>::new());
    }

    /// Reads a Secret from etcd, without the API server.
    fn secrets_are_encrypted_in_etcd(&self) {
        self.kubectl(&["create", "secret", "generic", "hidden", "--from-literal=key=written-in-plain-text"]);
        for node in self.control_planes() {
            let etcdctl = "/opt/k8s/bin/etcdctl --endpoints https://127.0.0.1:2379 --cacert /etc/etcd/cert/ca.pem \
                 --cert /etc/etcd/cert/etcd.pem --key /etc/etcd/cert/etcd-key.pem";
            let raw = self
                .testbed
                .on(&node.name, &format!("{etcdctl} get /registry/secrets/default/hidden --print-value-only"));
            assert!(raw.starts_with("k8s:enc:aescbc:v1:key1:"), "{raw}");
            assert!(!raw.contains("written-in-plain-text"), "{raw}");
        }
        self.kubectl(&["delete", "secret", "hidden"]);
    }
}
