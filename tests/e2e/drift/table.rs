//! Changes that people and programs make to a node and a cluster outside moorfast, and the report of `moorfast drift`: every drift with its exact
//! attributes, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;
use crate::support::wait_for;
use serde_json::Value as Json;

/// The place of a change: a shell as root on the node, or kubectl as the administrator.
#[derive(Clone, Copy)]
enum At {
    Node,
    Cluster,
}
use At::{Cluster, Node};

/// A change and its expected report: the address (`%` stands for the name of the node) and the attributes, none if the object is gone.
struct Change {
    name: &'static str,
    at: At,
    script: &'static str,
    address: &'static str,
    attributes: &'static [&'static str],
}

const fn change(
    name: &'static str,
    at: At,
    script: &'static str,
    address: &'static str,
    attributes: &'static [&'static str],
) -> Change {
    Change { name, at, script, address, attributes }
}

const GONE: &[&str] = &[];

#[rustfmt::skip]
const DRIFT: &[Change] = &[
    change("a file has another content", Node, "printf 'one\\n2\\n' > /etc/drift/content", r#"ssh_file.kept["%/content"]"#, &["content", "sha256", "size"]),
    change("a file has a line more", Node, "echo four >> /etc/drift/line", r#"ssh_file.kept["%/line"]"#, &["content", "sha256", "size"]),
    change("a secret file has another content", Node, "printf x >> /etc/drift/secret", "ssh_file.secret[\"%\"]", &["content", "sha256", "size"]),
    change("a file has another mode", Node, "chmod 0600 /etc/drift/mode", r#"ssh_file.kept["%/mode"]"#, &["mode"]),
    change("a file has another owner", Node, "chown daemon /etc/drift/owner", r#"ssh_file.kept["%/owner"]"#, &["owner"]),
    change("a file has another group", Node, "chgrp daemon /etc/drift/group", r#"ssh_file.kept["%/group"]"#, &["group"]),
    change("a file was deleted", Node, "rm /etc/drift/deleted", r#"ssh_file.kept["%/deleted"]"#, GONE),
    change("a file became a link", Node, "mv /etc/drift/link /etc/drift/real; ln -s real /etc/drift/link", r#"ssh_file.kept["%/link"]"#, &["kind"]),
    change("a file became a directory", Node, "rm /etc/drift/folder; mkdir /etc/drift/folder", r#"ssh_file.kept["%/folder"]"#, &["kind"]),
    change("a directory has another mode", Node, "chmod 0777 /srv/drift/mode", r#"ssh_directory.kept["%/mode"]"#, &["mode"]),
    change("a directory was deleted", Node, "rmdir /srv/drift/deleted", r#"ssh_directory.kept["%/deleted"]"#, GONE),
    change("a link leads elsewhere", Node, "ln -sfn /etc/passwd /srv/target.link", r#"ssh_link.kept["%/target"]"#, &["target"]),
    change("a link became a file", Node, "rm /srv/file.link; cp /etc/hostname /srv/file.link", r#"ssh_link.kept["%/file"]"#, &["kind"]),
    change("a unit was stopped", Node, "systemctl stop drift-stopped", r#"ssh_systemd_unit.own["%/stopped"]"#, &["state"]),
    change("a unit was disabled", Node, "systemctl disable drift-disabled", r#"ssh_systemd_unit.own["%/disabled"]"#, &["enabled"]),
    change("a unit was masked", Node, "systemctl mask drift-found", "ssh_systemd_unit.found[\"%\"]", &["enabled", "masked"]),
    change("a kernel parameter was set", Node, "echo 77 > /proc/sys/net/ipv4/ip_default_ttl", r#"ssh_sysctl.kept["%/net.ipv4.ip_default_ttl"]"#, &["value"]),
    change("a kernel parameter has another value at the next boot", Node, "sed -i s/7100/7200/ /etc/sysctl.d/90-moorfast-net.ipv4.tcp_keepalive_time.conf", r#"ssh_sysctl.kept["%/net.ipv4.tcp_keepalive_time"]"#, &["boot_value"]),
    change("a kernel module is not loaded at the next boot", Node, "rm /etc/modules-load.d/*nf_conntrack*", r#"module.workers.ssh_kernel_module.worker["%/nf_conntrack"]"#, &["at_boot"]),
    change("an account has another shell", Node, "usermod -s /bin/bash drift-shell", r#"ssh_user.kept["%/drift-shell"]"#, &["shell"]),
    change("an account has another group", Node, "usermod -aG audio drift-groups", r#"ssh_user.kept["%/drift-groups"]"#, &["groups"]),
    change("an account has another authorized key", Node, "echo 'ssh-ed25519 AAAA mallory' >> /home/drift-keys/.ssh/authorized_keys", r#"ssh_user.kept["%/drift-keys"]"#, &["authorized_keys"]),
    change("an account was deleted", Node, "userdel drift-gone", r#"ssh_user.kept["%/drift-gone"]"#, GONE),
    change("a group has another number", Node, "groupmod -g 4999 drift-gid", r#"ssh_group.kept["%/drift-gid"]"#, &["gid"]),
    change("a group was deleted", Node, "groupdel drift-deleted", r#"ssh_group.kept["%/drift-deleted"]"#, GONE),
    change("a package was removed", Node, "dpkg --purge jq", "module.workers.ssh_package.worker[\"%\"]", &["names"]),
    // After the changes that make systemd reload its files.
    change("the file of a unit was edited without a reload", Node, "echo '# by hand' >> /etc/systemd/system/drift-edited.service", r#"ssh_systemd_unit.own["%/edited"]"#, &["content", "restart_pending"]),
    change("a drop-in of a unit was removed without a reload", Node, "rm /etc/systemd/system/drift-dropped.service.d/10-nice.conf", r#"ssh_systemd_unit.own["%/dropped"]"#, &["drop_ins.\"10-nice.conf\"", "restart_pending"]),
    change("a ConfigMap has another value", Cluster, r#"kubectl patch cm drift-value -p '{"data":{"level":"debug"}}'"#, r#"kubernetes_object.settings["value"]"#, &["manifest.data.level"]),
    change("a ConfigMap lost a key", Cluster, r#"kubectl patch cm drift-key -p '{"data":{"zone":null}}'"#, r#"kubernetes_object.settings["key"]"#, &["manifest.data.zone"]),
    change("an object lost a label of the manifest", Cluster, "kubectl label cm drift-label team-", r#"kubernetes_object.settings["label"]"#, &["manifest.metadata.labels.team"]),
    change("an object was deleted", Cluster, "kubectl delete cm drift-deleted", r#"kubernetes_object.settings["deleted"]"#, GONE),
    change("a Secret has another value", Cluster, r#"kubectl patch secret drift -p '{"stringData":{"password":"guessed"}}'"#, "kubernetes_object.secret", &["manifest.data.password"]),
    change("a binding has other subjects", Cluster, r#"kubectl patch clusterrolebinding drift --type=json -p '[{"op":"replace","path":"/subjects/0/name","value":"everybody"}]'"#, "kubernetes_object.binding", &["manifest.subjects[0].name"]),
    change("a Deployment was scaled", Cluster, "kubectl scale deployment drift-scaled --replicas=3", r#"kubernetes_object.deployment["scaled"]"#, &["manifest.spec.replicas"]),
    change("a Deployment runs another image", Cluster, "kubectl set image deployment drift-image main=registry.example.org/main:2", r#"kubernetes_object.deployment["image"]"#, &["manifest.spec.template.spec.containers[0].image"]),
    change("a node lost a label", Cluster, "kubectl label node $NODE zone-", "module.workers.kubernetes_node.worker[\"%\"]", &["labels.zone"]),
    change("a node lost a taint", Cluster, "kubectl taint node $NODE dedicated-", "module.workers.kubernetes_node.worker[\"%\"]", &["taints[0].effect", "taints[0].key", "taints[0].value"]),
    change("a node was cordoned", Cluster, "kubectl cordon $NODE", "module.workers.kubernetes_node.worker[\"%\"]", &["unschedulable"]),
    change("an unused token has another description", Cluster, r#"kubectl -n kube-system patch secret $(token described) -p '{"stringData":{"description":"mine"}}'"#, r#"kubernetes_bootstrap_token.waiting["described"]"#, &["description"]),
    change("an unused token has another secret", Cluster, r#"kubectl -n kube-system patch secret $(token changed) -p '{"stringData":{"token-secret":"0123456789abcdef"}}'"#, r#"kubernetes_bootstrap_token.waiting["changed"]"#, &["token"]),
    change("an unused token was removed", Cluster, "kubectl -n kube-system delete secret $(token removed)", r#"kubernetes_bootstrap_token.waiting["removed"]"#, GONE),
];

/// Changes that an apply does not revert, because it would delete objects of people.
const UNDONE_BY_HAND: &[(At, &str)] =
    &[(Node, "rmdir /etc/drift/folder"), (Node, "rm /srv/file.link"), (Node, "systemctl unmask drift-found")];

#[rustfmt::skip]
const HARMLESS: &[(&str, At, &str)] = &[
    ("a file was touched", Node, "touch -d 2001-01-01 /etc/drift/touched"),
    ("a file was read", Node, "touch -a -d 2001-01-01 /etc/drift/read; cat /etc/drift/read"),
    ("a file was written again with the same bytes", Node, "cp -p /etc/drift/rewritten /etc/drift/other; mv /etc/drift/other /etc/drift/rewritten"),
    ("an unmanaged file is in a directory", Node, "echo hello > /srv/drift/inhabited/note; mkdir /srv/drift/inhabited/folder"),
    ("a link was created again", Node, "ln -sfn /etc/hostname /srv/again.link"),
    ("a unit was restarted", Node, "systemctl restart drift-restarted"),
    ("systemd read its files again", Node, "systemctl daemon-reload"),
    ("an unmanaged unit was started", Node, "systemd-run --unit=drift-other sleep 1000"),
    ("the file of a kernel parameter has another layout", Node, "echo 'net/ipv4/tcp_keepalive_intvl   =  70' > /etc/sysctl.d/90-moorfast-net.ipv4.tcp_keepalive_intvl.conf"),
    ("an account's groups were set in another order", Node, "usermod -G drift-b,drift-a drift-order"),
    ("an unmanaged account was created", Node, "useradd drift-somebody"),
    ("the kubelet was restarted and wrote its Node again", Node, "systemctl restart kubelet"),
    ("another manager annotated an object", Cluster, "kubectl annotate cm drift-annotated audit.example.org/seen=yes"),
    ("another manager labelled an object", Cluster, "kubectl label cm drift-annotated colour=blue"),
    ("another manager has a key in the same map", Cluster, r#"kubectl patch cm drift-foreign -p '{"data":{"theirs":"1"}}'"#),
    ("another manager applied the same value", Cluster, r#"printf '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"drift-shared","namespace":"default"},"data":{"level":"info"}}' | kubectl apply --server-side -f -"#),
    ("an object was replaced by itself with its keys in another order", Cluster, r#"printf '{"data":{"zone":"a","level":"info"},"metadata":{"labels":{"team":"infra"},"namespace":"default","name":"drift-reordered"},"kind":"ConfigMap","apiVersion":"v1"}' | kubectl replace -f -"#),
    ("a Deployment was restarted", Cluster, "kubectl rollout restart deployment drift-restarted"),
    ("a node has a label of another manager", Cluster, "kubectl label node $NODE colour=blue"),
    ("a node has a taint of another manager", Cluster, "kubectl taint node $NODE theirs=1:PreferNoSchedule"),
    ("the token of a node that joined was removed", Cluster, "kubectl -n kube-system delete secret $(token $NODE)"),
    ("the requests of a node that joined were removed", Cluster, "kubectl delete csr --all"),
];

/// The labels and the taint that the example's Node does not have.
const OF_THE_NODE: &str = r#"timeouts   = { create = "5m" }
labels        = { zone = "a" }
taints        = [{ key = "dedicated", value = "drift", effect = "NoSchedule" }]
unschedulable = false
force_conflicts = true"#;

struct Table {
    testbed: Testbed,
    moorfast: Folder,
    node: String,
}

#[test]
fn every_drift_is_reported_exactly_and_nothing_else_is() {
    let Some(testbed) = Testbed::up("drift-table", 1) else { return };
    let table = Table::applied(testbed);
    table.is_in_sync();
    let expected = table.all_drift_is_reported();
    table.a_read_only_account_sees_the_same_and_cannot_change_it(&expected);
    table.an_apply_reverts_all_drift();
    table.harmless_changes_are_not_reported();
}

impl Table {
    /// Applies the kubelet example with one node, and the objects of the table.
    fn applied(testbed: Testbed) -> Self {
        let moorfast = Folder::one_worker(&testbed.facts, "root");
        moorfast.write("drift.toml", include_str!("table.toml"));
        moorfast.edit("module/approval.toml", r#"timeouts   = { create = "5m" }"#, OF_THE_NODE);
        let node = testbed.node_names().remove(0);
        let table = Self { testbed, moorfast, node };
        let unit = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n";
        table.run(Node, &format!("printf '{unit}' > /lib/systemd/system/drift-found.service; systemctl daemon-reload"));
        table.moorfast.expect(0, &["apply", "--auto-approve"]);
        table
    }

    /// Runs a script, which must succeed.
    fn run(&self, at: At, script: &str) {
        match at {
            Node => drop(self.testbed.on(&self.node, &format!("set -e; {script}"))),
            Cluster => {
                let control_plane = &self.testbed.facts.control_plane;
                let folder = control_plane.binaries["kubectl"].parent().unwrap().display();
                let path = std::env::var("PATH").unwrap();
                let token =
                    "token() { kubectl -n kube-system get secret -l \"moorfast.dev/node=$1\" -o name | cut -d/ -f2; }";
                let output = Command::new("sh")
                    .args(["-c", &format!("set -e; {token}; {script}")])
                    .env("PATH", format!("{folder}:{path}"))
                    .env("KUBECONFIG", &control_plane.kubeconfig)
                    .env("NODE", &self.node)
                    .output()
                    .unwrap();
                assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
    }

    fn is_in_sync(&self) {
        self.moorfast.expect(0, &["drift"]).says("In sync.");
    }

    /// Makes all changes, and compares them with every form of the report. Returns the expected report.
    fn all_drift_is_reported(&self) -> Drift {
        let mut expected: Drift = BTreeMap::new();
        for change in DRIFT {
            eprintln!("{}", change.name);
            self.run(change.at, change.script);
            let attributes = expected.entry(change.address.replace('%', &self.node)).or_default();
            attributes.extend(change.attributes.iter().map(|attribute| (*attribute).to_owned()));
        }
        let metrics = self.moorfast.path("moorfast.prom").display().to_string();
        let json = self.moorfast.expect(2, &["drift", "--json", "--metrics", &metrics]);
        assert_drift("JSON", &of_json(&json.stdout), &expected);
        assert_drift("the metrics", &of_metrics(&std::fs::read_to_string(&metrics).unwrap()), &expected);
        let text = self.moorfast.expect(2, &["drift", "--full"]);
        assert_drift("the text", &of_text(&text.stdout), &expected);
        text.says(&format!("Drift: {} objects", expected.len()));
        for secret in ["s3cr3t-of-the-table", "guessed", "0123456789abcdef"] {
            assert!(!json.stdout.contains(secret) && !text.stdout.contains(secret), "{secret} is visible");
        }
        expected
    }

    /// Uses the files of `examples/drift-cron` as they are: a key on the node and a ServiceAccount that can read and nothing else.
    fn a_read_only_account_sees_the_same_and_cannot_change_it(&self, expected: &Drift) {
        let variables = self.read_only_options();
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        // The account cannot read Secrets.
        let secret = [
            "kubernetes_object.secret",
            "kubernetes_bootstrap_token.waiting",
            "module.workers.kubernetes_bootstrap_token.kubelet",
        ];
        let excluded: Vec<&str> = secret.iter().flat_map(|address| ["--exclude", address]).collect();
        let is_readable = |address: &String| !secret.iter().any(|secret| address.starts_with(secret));
        let readable: Drift =
            expected.iter().filter(|(a, _)| is_readable(a)).map(|(a, of)| (a.clone(), of.clone())).collect();
        let drift = [&["drift", "--json"], &variables[..], &excluded].concat();
        assert_drift("the read-only account", &of_json(&self.moorfast.expect(2, &drift).stdout), &readable);

        // Uses a copy of the state, because a failed apply is recorded in it.
        let copied = Command::new("cp").args(["-a", ".moorfast", "copy"]).current_dir(self.moorfast.path("")).status();
        assert!(copied.unwrap().success());
        for (target, refusal) in [("ssh_file.kept", "ermission denied"), ("kubernetes_object.settings", "orbidden")] {
            let apply = ["apply", "--auto-approve", "--state", "copy", "--target", target];
            self.moorfast.expect(1, &[&apply, &variables[..]].concat()).complains(refusal);
        }
        let now = self.moorfast.expect(2, &["drift", "--json"]);
        assert_drift("after an apply of the read-only account", &of_json(&now.stdout), expected);
    }

    /// Returns the options to run with the rights of `examples/drift-cron`.
    fn read_only_options(&self) -> Vec<String> {
        let key = self.moorfast.path("reader");
        self.testbed.permit_read_only_key(&self.node, &key);
        let rbac = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/drift-cron/kubernetes/rbac.yaml");
        self.run(Cluster, &format!("kubectl apply -f {rbac}"));
        self.moorfast.write("reader.kubeconfig", &self.testbed.kubeconfig_of("moorfast-drift", "moorfast"));
        let kubeconfig = self.moorfast.path("reader.kubeconfig");
        let variables = [
            ("ssh_user", "moorfast-look".to_owned()),
            ("ssh_identity_file", key.display().to_string()),
            ("kubeconfig", kubeconfig.display().to_string()),
        ];
        variables.into_iter().flat_map(|(name, value)| ["--var".to_owned(), format!("{name}={value}")]).collect()
    }

    fn an_apply_reverts_all_drift(&self) {
        for (at, script) in UNDONE_BY_HAND {
            self.run(*at, script);
        }
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.is_in_sync();
    }

    fn harmless_changes_are_not_reported(&self) {
        for (name, at, script) in HARMLESS {
            eprintln!("{name}");
            self.run(*at, script);
        }
        // The controllers and the kubelet write their status some time later.
        wait_for("the Node to be Ready again", Duration::from_secs(60), || {
            let node = self.testbed.get(&["node", &self.node]);
            let is_ready = |c: &Json| c["type"] == "Ready" && c["status"] == "True";
            node["status"]["conditions"].as_array()?.iter().any(is_ready).then_some(())
        });
        wait_for("the Deployment's controller", Duration::from_secs(60), || {
            let deployment = self.testbed.get(&["deployment", "drift-restarted"]);
            (deployment["status"]["observedGeneration"] == deployment["metadata"]["generation"]).then_some(())
        });
        self.is_in_sync();
    }
}

/// The drifted attributes of each address, none if the object is gone.
type Drift = BTreeMap<String, BTreeSet<String>>;

fn assert_drift(report: &str, found: &Drift, expected: &Drift) {
    let lines = |drift: &Drift| drift.iter().map(|(address, of)| format!("{address} {of:?}")).collect::<Vec<_>>();
    let (found, expected) = (lines(found), lines(expected));
    let missing: Vec<_> = expected.iter().filter(|line| !found.contains(line)).collect();
    let extra: Vec<_> = found.iter().filter(|line| !expected.contains(line)).collect();
    assert!(missing.is_empty() && extra.is_empty(), "{report}\nmissing: {missing:#?}\nextra: {extra:#?}");
}

fn of_json(text: &str) -> Drift {
    let json: Json = serde_json::from_str(text).unwrap();
    let found = json["resource_drift"].as_array().unwrap().iter().map(|drift| {
        let changed = drift["changed"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
        let is_gone = drift["change"]["actions"][0] == "delete";
        let changed: BTreeSet<String> = changed.collect();
        assert_eq!(is_gone, changed.is_empty(), "{drift}");
        (drift["address"].as_str().unwrap().to_owned(), changed)
    });
    found.collect()
}

fn of_metrics(text: &str) -> Drift {
    let mut found = Drift::new();
    let value = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(",{name}=\""))?;
        Some(rest.replace("\\\"", "\u{0}").split('"').next()?.replace('\u{0}', "\""))
    };
    for line in text.lines() {
        if line.starts_with("moorfast_drift_object{") {
            found.entry(value(line, "address").unwrap()).or_default();
        }
        if line.starts_with("moorfast_drift_attribute{") {
            found.entry(value(line, "address").unwrap()).or_default().insert(value(line, "attribute").unwrap());
        }
    }
    found
}

/// Reads the text report: each object has a headline, which also lists objects with the same drift, and below it rows that start with a mark and
/// a path.
fn of_text(text: &str) -> Drift {
    let mut found = Drift::new();
    let mut current: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(headline) = line.strip_prefix("  # ") {
            let split = headline.split_once(" is gone").or(headline.split_once(" has changed")).unwrap();
            let others = split.1.strip_prefix("; also ").unwrap_or_default().split(", ").filter(|o| !o.is_empty());
            current = [split.0].into_iter().chain(others).map(str::to_owned).collect();
            for address in &current {
                found.entry(address.clone()).or_default();
            }
        } else if let Some(row) = ["  ~ ", "  + ", "  - "].iter().find_map(|mark| line.strip_prefix(mark)) {
            let path = row.split(" = ").next().unwrap_or(row).trim().trim_end_matches(':');
            for address in &current {
                found.entry(address.clone()).or_default().insert(path.to_owned());
            }
        }
    }
    found
}
