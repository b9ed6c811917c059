//! Certificates that expire soon are renewed on one machine after the other, without an outage.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::site::{CONTROL_PLANES, Site};

const SETTINGS: &str = "cluster/certificates.auto.vars.toml";

impl Site {
    pub fn certificates_expire_in_ten_days(&self) {
        self.moorfast.write(SETTINGS, "certificate_validity = \"10d\"\ncertificate_renew_before = \"5d\"\n");
    }

    /// The first 30 days of the defaults have begun: `renew_before` covers all certificates.
    pub fn certificates_are_renewed(&self) {
        std::fs::remove_file(self.moorfast.path(SETTINGS)).unwrap();
        let plan = self.expect(0, &["plan", "--json", "--out", "renewal.plan"]);
        let plan: Json = serde_json::from_str(&plan.stdout).unwrap();
        let changes = plan["resource_changes"].as_array().unwrap().iter();
        let renewed = changes.filter(|change| {
            let notes = change["notes"].as_array().into_iter().flatten();
            change["type"] == "pki_certificate"
                && notes.filter_map(Json::as_str).any(|note| note.starts_with("renewed: the certificate expires at"))
        });
        // Of each control plane: etcd, kubernetes, etcd-client, proxy-client, controller-manager, scheduler. Of each machine: kube-proxy. The administrator.
        let expected = CONTROL_PLANES * 6 + self.testbed.facts.nodes.len() + 1;
        assert_eq!(renewed.count(), expected);

        let before = self.files_of_certificates();
        let client = self.first_worker();
        let apply = self.without_an_outage(client, || self.expect(0, &["apply", "--json", "renewal.plan"]));
        eprintln!("the renewal took {:.1?}", apply.took);
        let control_planes: Vec<_> = self.control_planes().iter().map(|node| node.name.clone()).collect();
        assert_eq!(turns(&apply.stdout, &["module.etcd.", "module.control_plane."]), control_planes);
        assert_eq!(turns(&apply.stdout, &["module.kube_proxy."]), self.testbed.node_names());
        let after = self.files_of_certificates();
        let changed = before.iter().filter(|(file, digest)| after[*file] != **digest).map(|(file, _)| file);
        let (keys, certificates): (Vec<_>, Vec<_>) = changed.partition(|file| file.ends_with("-key.pem"));
        assert_eq!(keys, Vec::<&String>::new(), "a renewal keeps the keys");
        assert_eq!(certificates.len() + 1, expected, "{certificates:?}");
        self.is_in_sync();
    }

    /// Returns the digest of each file with certificates or keys on the machines.
    fn files_of_certificates(&self) -> BTreeMap<String, String> {
        let mut files = BTreeMap::new();
        for node in self.testbed.node_names() {
            let digests = self.testbed.on(&node, "find /etc/kubernetes/cert /etc/etcd/cert -name '*.pem' ! -name 'kubelet-*' -exec sha256sum {} + 2>/dev/null || true");
            files.extend(
                digests
                    .lines()
                    .filter_map(|line| line.split_once("  "))
                    .map(|(digest, path)| (format!("{node}:{path}"), digest.to_owned())),
            );
        }
        files
    }
}

/// Returns the nodes in the order in which an apply with `--json` changed the instances of these modules. A node that is changed again after another one appears twice.
pub fn turns(events: &str, modules: &[&str]) -> Vec<String> {
    let mut nodes = Vec::new();
    for event in events.lines() {
        let event: Json = serde_json::from_str(event).unwrap();
        let address =
            event["hook"]["resource"]["addr"].as_str().filter(|_| event["type"] == "apply_start").unwrap_or_default();
        let is_among = modules.iter().any(|module| address.starts_with(module)) && !address.contains(".data.");
        if let Some((_, key)) = address.split_once("[\"").filter(|_| is_among) {
            nodes.push(key.split(['"', '/']).next().unwrap_or_default().to_owned());
        }
    }
    nodes.dedup();
    nodes
}
