//! Kubernetes is upgraded by one minor version: first the control planes, one after the other, then every machine, drained.

use std::process::Command;

use serde_json::Value as Json;

use super::renewal::turns;
use super::site::Site;
use crate::support::testbed::cluster_binaries;

/// Returns the minor version of `v1.34.4`: 34.
pub fn minor(version: &str) -> u32 {
    version.split('.').nth(1).unwrap().parse().unwrap()
}

impl Site {
    /// Replaces the binaries by those of the current release.
    pub fn kubernetes_is_upgraded(&mut self) {
        let before = self.versions();
        self.use_binaries(cluster_binaries());
        let kubelet = Command::new(format!("{}/kubelet", self.binaries)).arg("--version").output().unwrap();
        let after = String::from_utf8(kubelet.stdout).unwrap().trim().replace("Kubernetes ", "");
        assert!(before.iter().all(|version| minor(version) + 1 == minor(&after)), "from {before:?} to {after}");

        self.expect(0, &["plan", "--out", "upgrade.plan"]);
        let client = self.first_worker();
        let apply = self.without_an_outage(client, || self.expect(0, &["apply", "--json", "upgrade.plan"]));
        eprintln!("the upgrade took {:.1?}", apply.took);

        let control_planes: Vec<_> = self.control_planes().iter().map(|node| node.name.clone()).collect();
        let machines = self.testbed.node_names();
        let modules = ["module.control_plane.", "module.workers.", "module.kube_proxy."];
        assert_eq!(turns(&apply.stdout, &modules), [control_planes, machines.clone()].concat());
        let events = apply.stdout.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        let drained = events.filter(|event| event["step"] == "drained");
        assert_eq!(drained.map(|event| event["node"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), machines);
        assert!(self.versions().iter().all(|version| *version == after), "{:?}", self.versions());
        self.nodes_are_ready();
        // The apply recorded the versions that the kubelets report now.
        self.is_in_sync();
    }

    /// Returns the versions of all kubelets and of all API servers.
    fn versions(&self) -> Vec<String> {
        let kubelets = self.kubectl(&["get", "nodes", "-o", "jsonpath={.items[*].status.nodeInfo.kubeletVersion}"]);
        let of_server = |address: &str| {
            let versions = self.kubectl(&["--server", &format!("https://{address}:6443"), "version", "-o", "json"]);
            let versions: Json = serde_json::from_str(&versions).unwrap();
            versions["serverVersion"]["gitVersion"].as_str().unwrap().to_owned()
        };
        let servers = self.control_planes().iter().map(|node| of_server(&node.address));
        kubelets.split_whitespace().map(str::to_owned).chain(servers).collect()
    }
}
