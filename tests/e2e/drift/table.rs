//! What people and programs do to a node and a cluster behind moorfast's back, and what `moorfast drift` says of it: each change as exactly what it is,
//! and nothing of what is no drift.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;
use crate::support::wait_for;
use serde_json::Value as Json;

/// Where a change is made: by sh as root on the node, or here with kubectl as the administrator.
#[derive(Clone, Copy)]
enum At {
    Node,
    Cluster,
}
use At::{Cluster, Node};

/// What is done, and what must be told of it: the address (`%` is the node's name) and the attributes, none where the object is gone.
struct Change {
    what: &'static str,
    at: At,
    script: &'static str,
    address: &'static str,
    attributes: &'static [&'static str],
}

const fn change(
    what: &'static str,
    at: At,
    script: &'static str,
    address: &'static str,
    attributes: &'static [&'static str],
) -> Change {
    Change { what, at, script, address, attributes }
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
    change("a kernel parameter is another one at the next boot", Node, "sed -i s/7100/7200/ /etc/sysctl.d/90-moorfast-net.ipv4.tcp_keepalive_time.conf", r#"ssh_sysctl.kept["%/net.ipv4.tcp_keepalive_time"]"#, &["boot_value"]),
    change("a kernel module is not loaded at the next boot", Node, "rm /etc/modules-load.d/*nf_conntrack*", r#"ssh_kernel_module.worker["%/nf_conntrack"]"#, &["at_boot"]),
    change("an account has another shell", Node, "usermod -s /bin/bash drift-shell", r#"ssh_user.kept["%/drift-shell"]"#, &["shell"]),
    change("an account is in another group", Node, "usermod -aG audio drift-groups", r#"ssh_user.kept["%/drift-groups"]"#, &["groups"]),
    change("somebody may log in with another key", Node, "echo 'ssh-ed25519 AAAA mallory' >> /home/drift-keys/.ssh/authorized_keys", r#"ssh_user.kept["%/drift-keys"]"#, &["authorized_keys"]),
    change("an account was deleted", Node, "userdel drift-gone", r#"ssh_user.kept["%/drift-gone"]"#, GONE),
    change("a group has another number", Node, "groupmod -g 4999 drift-gid", r#"ssh_group.kept["%/drift-gid"]"#, &["gid"]),
    change("a group was deleted", Node, "groupdel drift-deleted", r#"ssh_group.kept["%/drift-deleted"]"#, GONE),
    change("a package was removed", Node, "dpkg --purge jq", "ssh_package.worker[\"%\"]", &["names"]),
    // After those by which systemd reads all its files again.
    change("a unit's file was edited, and systemd does not know", Node, "echo '# by hand' >> /etc/systemd/system/drift-edited.service", r#"ssh_systemd_unit.own["%/edited"]"#, &["content", "restart_pending"]),
    change("a unit's drop-in was removed, and systemd does not know", Node, "rm /etc/systemd/system/drift-dropped.service.d/10-nice.conf", r#"ssh_systemd_unit.own["%/dropped"]"#, &["drop_ins.\"10-nice.conf\"", "restart_pending"]),
    change("a ConfigMap has another value", Cluster, r#"kubectl patch cm drift-value -p '{"data":{"level":"debug"}}'"#, r#"kubernetes_object.settings["value"]"#, &["manifest.data.level"]),
    change("a ConfigMap lost a key", Cluster, r#"kubectl patch cm drift-key -p '{"data":{"zone":null}}'"#, r#"kubernetes_object.settings["key"]"#, &["manifest.data.zone"]),
    change("an object lost a label of ours", Cluster, "kubectl label cm drift-label team-", r#"kubernetes_object.settings["label"]"#, &["manifest.metadata.labels.team"]),
    change("an object was deleted", Cluster, "kubectl delete cm drift-deleted", r#"kubernetes_object.settings["deleted"]"#, GONE),
    change("a Secret holds something else", Cluster, r#"kubectl patch secret drift -p '{"stringData":{"password":"guessed"}}'"#, "kubernetes_object.secret", &["manifest.data.password"]),
    change("a binding is for others", Cluster, r#"kubectl patch clusterrolebinding drift --type=json -p '[{"op":"replace","path":"/subjects/0/name","value":"everybody"}]'"#, "kubernetes_object.binding", &["manifest.subjects[0].name"]),
    change("a Deployment was scaled", Cluster, "kubectl scale deployment drift-scaled --replicas=3", r#"kubernetes_object.deployment["scaled"]"#, &["manifest.spec.replicas"]),
    change("a Deployment runs another image", Cluster, "kubectl set image deployment drift-image main=registry.example.org/main:2", r#"kubernetes_object.deployment["image"]"#, &["manifest.spec.template.spec.containers[0].image"]),
    change("a node lost a label", Cluster, "kubectl label node $NODE zone-", "kubernetes_node.worker[\"%\"]", &["labels.zone"]),
    change("a node lost a taint", Cluster, "kubectl taint node $NODE dedicated-", "kubernetes_node.worker[\"%\"]", &["taints[0].effect", "taints[0].key", "taints[0].value"]),
    change("a node was cordoned", Cluster, "kubectl cordon $NODE", "kubernetes_node.worker[\"%\"]", &["unschedulable"]),
    change("a token that nobody used yet has another description", Cluster, r#"kubectl -n kube-system patch secret $(token described) -p '{"stringData":{"description":"mine"}}'"#, r#"kubernetes_bootstrap_token.waiting["described"]"#, &["description"]),
    change("a token that nobody used yet has another secret", Cluster, r#"kubectl -n kube-system patch secret $(token changed) -p '{"stringData":{"token-secret":"0123456789abcdef"}}'"#, r#"kubernetes_bootstrap_token.waiting["changed"]"#, &["token"]),
    change("a token that nobody used yet was removed", Cluster, "kubectl -n kube-system delete secret $(token removed)", r#"kubernetes_bootstrap_token.waiting["removed"]"#, GONE),
];

/// What an apply leaves to people, for it would take away what they put there.
const UNDONE_BY_HAND: &[(At, &str)] =
    &[(Node, "rmdir /etc/drift/folder"), (Node, "rm /srv/file.link"), (Node, "systemctl unmask drift-found")];

#[rustfmt::skip]
const HARMLESS: &[(&str, At, &str)] = &[
    ("a file was touched", Node, "touch -d 2001-01-01 /etc/drift/touched"),
    ("a file was read", Node, "touch -a -d 2001-01-01 /etc/drift/read; cat /etc/drift/read"),
    ("a file was written again with the same bytes", Node, "cp -p /etc/drift/rewritten /etc/drift/other; mv /etc/drift/other /etc/drift/rewritten"),
    ("a file that nobody manages is in a directory", Node, "echo hello > /srv/drift/inhabited/note; mkdir /srv/drift/inhabited/folder"),
    ("a link was made again", Node, "ln -sfn /etc/hostname /srv/again.link"),
    ("a unit was restarted", Node, "systemctl restart drift-restarted"),
    ("systemd read its files again", Node, "systemctl daemon-reload"),
    ("a unit that nobody manages was started", Node, "systemd-run --unit=drift-other sleep 1000"),
    ("a kernel parameter's file is laid out otherwise", Node, "echo 'net/ipv4/tcp_keepalive_intvl   =  70' > /etc/sysctl.d/90-moorfast-net.ipv4.tcp_keepalive_intvl.conf"),
    ("an account's groups were set in another order", Node, "usermod -G drift-b,drift-a drift-order"),
    ("an account that nobody manages came", Node, "useradd drift-somebody"),
    ("the kubelet was restarted, and wrote its Node anew", Node, "systemctl restart kubelet"),
    ("another manager annotated an object", Cluster, "kubectl annotate cm drift-annotated audit.example.org/seen=yes"),
    ("another manager labelled an object", Cluster, "kubectl label cm drift-annotated colour=blue"),
    ("another manager has a key in the same map", Cluster, r#"kubectl patch cm drift-foreign -p '{"data":{"theirs":"1"}}'"#),
    ("another manager says the same", Cluster, r#"printf '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"drift-shared","namespace":"default"},"data":{"level":"info"}}' | kubectl apply --server-side -f -"#),
    ("an object was replaced by itself with its keys in another order", Cluster, r#"printf '{"data":{"zone":"a","level":"info"},"metadata":{"labels":{"team":"infra"},"namespace":"default","name":"drift-reordered"},"kind":"ConfigMap","apiVersion":"v1"}' | kubectl replace -f -"#),
    ("a Deployment was restarted", Cluster, "kubectl rollout restart deployment drift-restarted"),
    ("a node has a label of somebody else", Cluster, "kubectl label node $NODE colour=blue"),
    ("a node has a taint of somebody else", Cluster, "kubectl taint node $NODE theirs=1:PreferNoSchedule"),
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
fn every_change_is_told_as_what_it_is_and_nothing_else_is() {
    let Some(testbed) = Testbed::up("drift-table", 1) else { return };
    let table = Table::applied(testbed);
    table.is_in_sync();
    let expected = table.drift_is_told();
    table.who_may_only_look_sees_the_same_and_can_t_change_it(&expected);
    table.an_apply_mends_it();
    table.what_is_harmless_is_not_told();
}

impl Table {
    /// The example with one node, and what the table needs.
    fn applied(testbed: Testbed) -> Self {
        let moorfast = Folder::one_worker(&testbed.facts);
        moorfast.write("drift.toml", include_str!("table.toml"));
        moorfast.edit("approval.toml", r#"timeouts   = { create = "5m" }"#, OF_THE_NODE);
        let node = testbed.node_names().remove(0);
        let table = Self { testbed, moorfast, node };
        let unit = "[Service]\\nExecStart=/bin/sleep infinity\\n[Install]\\nWantedBy=multi-user.target\\n";
        table.run(Node, &format!("printf '{unit}' > /lib/systemd/system/drift-found.service; systemctl daemon-reload"));
        table.moorfast.expect(0, &["apply", "--auto-approve"]);
        table
    }

    /// Does it, and must be able to.
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

    /// All changes are made, and told as what they are.
    fn drift_is_told(&self) -> Told {
        let mut expected: Told = BTreeMap::new();
        for change in DRIFT {
            eprintln!("{}", change.what);
            self.run(change.at, change.script);
            let attributes = expected.entry(change.address.replace('%', &self.node)).or_default();
            attributes.extend(change.attributes.iter().map(|attribute| (*attribute).to_owned()));
        }
        let metrics = self.moorfast.path("moorfast.prom").display().to_string();
        let json = self.moorfast.expect(2, &["drift", "--json", "--metrics", &metrics]);
        assert_told("JSON", &of_json(&json.stdout), &expected);
        assert_told("the metrics", &of_metrics(&std::fs::read_to_string(&metrics).unwrap()), &expected);
        let text = self.moorfast.expect(2, &["drift", "--full"]);
        assert_told("the text", &of_text(&text.stdout), &expected);
        text.says(&format!("Drift: {} objects", expected.len()));
        for secret in ["s3cr3t-of-the-table", "guessed", "0123456789abcdef"] {
            assert!(!json.stdout.contains(secret) && !text.stdout.contains(secret), "{secret} shows");
        }
        expected
    }

    /// The files of `examples/drift-cron` as they are: a key on the node and a ServiceAccount that look, and can do nothing else.
    fn who_may_only_look_sees_the_same_and_can_t_change_it(&self, expected: &Told) {
        let variables = self.as_the_reader();
        let variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        // What is in Secrets it may not know.
        let secret =
            ["kubernetes_object.secret", "kubernetes_bootstrap_token.waiting", "kubernetes_bootstrap_token.kubelet"];
        let excluded: Vec<&str> = secret.iter().flat_map(|address| ["--exclude", address]).collect();
        let is_open = |address: &String| !secret.iter().any(|secret| address.starts_with(secret));
        let open: Told = expected.iter().filter(|(a, _)| is_open(a)).map(|(a, of)| (a.clone(), of.clone())).collect();
        let look = [&["drift", "--json"], &variables[..], &excluded].concat();
        assert_told("who may only look", &of_json(&self.moorfast.expect(2, &look).stdout), &open);

        // In a copy of the state, since an apply that fails leaves its mark there.
        let copied = Command::new("cp").args(["-a", ".moorfast", "copy"]).current_dir(self.moorfast.path("")).status();
        assert!(copied.unwrap().success());
        for (target, refusal) in [("ssh_file.kept", "ermission denied"), ("kubernetes_object.settings", "orbidden")] {
            let apply = ["apply", "--auto-approve", "--state", "copy", "--target", target];
            self.moorfast.expect(1, &[&apply, &variables[..]].concat()).complains(refusal);
        }
        let now = self.moorfast.expect(2, &["drift", "--json"]);
        assert_told("after an apply of who may only look", &of_json(&now.stdout), expected);
    }

    /// The options by which everything is done with the rights of `examples/drift-cron`.
    fn as_the_reader(&self) -> Vec<String> {
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

    fn an_apply_mends_it(&self) {
        for (at, script) in UNDONE_BY_HAND {
            self.run(*at, script);
        }
        self.moorfast.expect(0, &["apply", "--auto-approve"]);
        self.is_in_sync();
    }

    fn what_is_harmless_is_not_told(&self) {
        for (what, at, script) in HARMLESS {
            eprintln!("{what}");
            self.run(*at, script);
        }
        // It takes a moment until the controllers and the kubelet have written what is theirs.
        wait_for("the kubelet to be back", Duration::from_secs(60), || {
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

/// What drifted: the address, and which of its attributes; none where it is gone.
type Told = BTreeMap<String, BTreeSet<String>>;

fn assert_told(by: &str, told: &Told, expected: &Told) {
    let lines = |told: &Told| told.iter().map(|(address, of)| format!("{address} {of:?}")).collect::<Vec<_>>();
    let (told, expected) = (lines(told), lines(expected));
    let missing: Vec<_> = expected.iter().filter(|line| !told.contains(line)).collect();
    let more: Vec<_> = told.iter().filter(|line| !expected.contains(line)).collect();
    assert!(missing.is_empty() && more.is_empty(), "{by}\nmissing: {missing:#?}\ntoo much: {more:#?}");
}

fn of_json(text: &str) -> Told {
    let json: Json = serde_json::from_str(text).unwrap();
    let told = json["resource_drift"].as_array().unwrap().iter().map(|drift| {
        let changed = drift["changed"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
        let is_gone = drift["change"]["actions"][0] == "delete";
        let changed: BTreeSet<String> = changed.collect();
        assert_eq!(is_gone, changed.is_empty(), "{drift}");
        (drift["address"].as_str().unwrap().to_owned(), changed)
    });
    told.collect()
}

fn of_metrics(text: &str) -> Told {
    let mut told = Told::new();
    let value = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!(",{name}=\""))?;
        Some(rest.replace("\\\"", "\u{0}").split('"').next()?.replace('\u{0}', "\""))
    };
    for line in text.lines() {
        if line.starts_with("moorfast_drift_object{") {
            told.entry(value(line, "address").unwrap()).or_default();
        }
        if line.starts_with("moorfast_drift_attribute{") {
            told.entry(value(line, "address").unwrap()).or_default().insert(value(line, "attribute").unwrap());
        }
    }
    told
}

/// Each object has a headline, with its equals where there are any, and below it rows that begin with a mark and the path.
fn of_text(text: &str) -> Told {
    let mut told = Told::new();
    let mut current: Vec<String> = Vec::new();
    for line in text.lines() {
        if let Some(headline) = line.strip_prefix("  # ") {
            let split = headline.split_once(" is gone").or(headline.split_once(" has changed")).unwrap();
            let others = split.1.strip_prefix("; also ").unwrap_or_default().split(", ").filter(|o| !o.is_empty());
            current = [split.0].into_iter().chain(others).map(str::to_owned).collect();
            for address in &current {
                told.entry(address.clone()).or_default();
            }
        } else if let Some(row) = ["  ~ ", "  + ", "  - "].iter().find_map(|mark| line.strip_prefix(mark)) {
            let path = row.split(" = ").next().unwrap_or(row).trim().trim_end_matches(':');
            for address in &current {
                told.entry(address.clone()).or_default().insert(path.to_owned());
            }
        }
    }
    told
}
