//! The provider `etcd` on real nodes with TLS: a cluster forms, a machine is replaced, a change that would cost the quorum is refused, and a snapshot is restored.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::folder::Folder;
use crate::support::testbed::{Node, Testbed, cluster_binaries};
use crate::support::wait_for;

const MANIFEST: &str = r#"
[variables.etcd]
[variables.release]
default = "1"

[keystore]
file = "keys"

[providers.etcd]
members            = '${{ for name, node in nodes : name => { peer_url = "https://${node.address}:2380", client_url = "https://${node.address}:2379" } }}'
client_certificate = { authority = "etcd", common_name = "moorfast" }

[resource.pki_authority.etcd]
name        = "etcd"
common_name = "etcd"

[resource.pki_certificate.etcd]
on               = "all"
authority        = "${pki_authority.etcd.id}"
common_name      = "etcd"
ip_addresses     = ["127.0.0.1", "${node.address}"]
usages           = ["server", "client"]
certificate_path = "/etc/etcd/etcd.crt"
key_path         = "/etc/etcd/etcd.key"
parents          = true

[resource.ssh_file.authority]
on      = "all"
path    = "/etc/etcd/ca.crt"
content = "${pki_authority.etcd.certificate}"
parents = true

[resource.ssh_file.program]
on     = "all"
path   = "/usr/local/bin/etcd"
source = "${var.etcd}"
mode   = "0755"

[resource.etcd_member.all]
on   = "all"
name = "${node.name}"

[resource.ssh_systemd_unit.etcd]
on         = "all"
name       = "etcd.service"
state      = "running"
restart_on = ["pki_certificate.etcd", "ssh_file.program"]
depends_on = ["ssh_file.authority"]
content    = '''
[Service]
Type=notify
ExecStart=/usr/local/bin/etcd --name ${node.name} --data-dir /var/lib/etcd --wal-dir /var/lib/etcd-wal \
  --cert-file /etc/etcd/etcd.crt --key-file /etc/etcd/etcd.key --trusted-ca-file /etc/etcd/ca.crt --client-cert-auth \
  --peer-cert-file /etc/etcd/etcd.crt --peer-key-file /etc/etcd/etcd.key --peer-trusted-ca-file /etc/etcd/ca.crt --peer-client-cert-auth \
  --listen-peer-urls ${etcd_member.all.peer_url} --initial-advertise-peer-urls ${etcd_member.all.peer_url} \
  --listen-client-urls ${etcd_member.all.client_url} --advertise-client-urls ${etcd_member.all.client_url} \
  --initial-cluster ${etcd_member.all.initial_cluster} --initial-cluster-state ${etcd_member.all.initial_cluster_state}
'''

[resource.etcd_voter.all]
on         = "all"
name       = "${etcd_member.all.name}"
depends_on = ["ssh_systemd_unit.etcd"]

[resource.etcd_snapshot.before]
directory  = "backup"
triggers   = { release = "${var.release}" }
depends_on = ["etcd_voter.all"]
"#;

/// A key, its value before a snapshot, and its value after it: `key`, `before` and `after` in base64.
const KEY: &str = "a2V5";
const BEFORE: &str = "YmVmb3Jl";
const AFTER: &str = "YWZ0ZXI=";

struct Cluster {
    testbed: Testbed<()>,
    moorfast: Folder,
    /// The folder with the programs of etcd.
    programs: PathBuf,
    /// The certificate of a node, with which the test logs in.
    login: tempfile::TempDir,
}

#[test]
fn a_cluster_and_its_life() {
    let Some(testbed) = Testbed::up_nodes("etcd", 3) else { return };
    let programs = PathBuf::from(cluster_binaries());
    let unpinned =
        |block: String| block.lines().filter(|l| !l.starts_with("host_key")).map(|l| format!("{l}\n")).collect();
    let nodes: Vec<String> =
        testbed.facts.nodes.iter().map(|n| unpinned(testbed.facts.node_block(n, "root"))).collect();
    let moorfast = Folder::new(&(MANIFEST.to_owned() + &nodes.concat()));
    moorfast.write("test.auto.vars.toml", &format!("etcd = \"{}\"\n", programs.join("etcd").display()));
    let cluster = Cluster { testbed, moorfast, programs, login: tempfile::tempdir().unwrap() };
    cluster.forms();
    cluster.a_stopped_member_is_drift();
    cluster.a_machine_is_replaced();
    cluster.a_replacement_that_would_cost_the_quorum_is_refused();
    cluster.an_unknown_member_is_drift();
    cluster.two_missing_members_join_one_after_the_other();
    cluster.a_snapshot_is_taken_before_a_change_and_restored();
    cluster.goes();
}

impl Cluster {
    fn node(&self, index: usize) -> (&str, &str) {
        let node = &self.testbed.facts.nodes[index];
        (&node.name, &node.address)
    }

    /// Sends a request to the gateway of a member, with the certificate of that node.
    fn ask(&self, index: usize, method: &str, body: &str) -> String {
        self.try_ask(index, method, body).expect("the member answers")
    }

    /// As `ask`. A change of the members gets no answer if the leader is lost at that moment.
    fn try_ask(&self, index: usize, method: &str, body: &str) -> Option<String> {
        let (name, address) = self.node(index);
        let mut curl = Command::new("curl");
        for (option, file) in [("--cacert", "ca.crt"), ("--cert", "etcd.crt"), ("--key", "etcd.key")] {
            let path = self.login.path().join(file);
            fs::write(&path, self.testbed.on(name, &format!("cat /etc/etcd/{file}"))).unwrap();
            curl.arg(option).arg(path);
        }
        let output = curl
            .args(["-sS", "--max-time", "10", &format!("https://{address}:2379/v3/{method}"), "-d", body])
            .output()
            .unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }

    fn put(&self, index: usize, value: &str) {
        self.ask(index, "kv/put", &format!("{{\"key\": \"{KEY}\", \"value\": \"{value}\"}}"));
    }

    /// Reads the value of the key from a member.
    fn value(&self, index: usize) -> Option<String> {
        let answer: serde_json::Value =
            serde_json::from_str(&self.ask(index, "kv/range", &format!("{{\"key\": \"{KEY}\"}}"))).unwrap();
        answer["kvs"][0]["value"].as_str().map(str::to_owned)
    }

    /// Returns the names of the members that vote.
    fn voters(&self, index: usize) -> Vec<String> {
        let list: serde_json::Value = serde_json::from_str(&self.ask(index, "cluster/member/list", "{}")).unwrap();
        let members = list["members"].as_array().unwrap().iter().filter(|member| member["isLearner"] != true);
        let mut names: Vec<_> = members.map(|member| member["name"].as_str().unwrap_or_default().to_owned()).collect();
        names.sort();
        names
    }

    fn is_in_sync(&self) {
        self.moorfast.expect(0, &["plan", "-detailed-exitcode"]);
        self.moorfast.expect(0, &["drift"]);
    }

    fn forms(&self) {
        let names = self.testbed.node_names();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.moorfast.expect(0, &[&["node", "trust"][..], &names].concat());
        self.moorfast
            .expect(5, &["node", "check"])
            .says("FAIL connection")
            .says("does not contain the authority `etcd` yet");
        self.moorfast.expect(0, &["plan"]).says("a new cluster forms").says("--initial-cluster-state new");
        self.moorfast.expect(0, &["apply", "-auto-approve"]);
        assert_eq!(self.voters(0), names);
        self.is_in_sync();
        self.moorfast.expect(0, &["node", "check"]).says("3 of 3 members are healthy").says("ok   version");
        let state = self.moorfast.expect(0, &["state", "pull"]).stdout;
        assert!(!state.contains("PRIVATE KEY"));
        self.put(0, BEFORE);
    }

    fn a_stopped_member_is_drift(&self) {
        let (name, _) = self.node(1);
        self.testbed.on(name, "systemctl stop etcd");
        self.moorfast.expect(2, &["drift"]).says(&format!("etcd_voter.all[\"{name}\"]")).says("not healthy");
        self.moorfast.expect(5, &["node", "check"]).says(&format!("FAIL connection      {name}: "));
        self.moorfast.expect(0, &["apply", "-auto-approve"]);
        self.is_in_sync();
    }

    fn a_machine_is_replaced(&self) {
        let (name, _) = self.node(0);
        self.testbed.run(&["node", "replace", name]);
        let apply = self.moorfast.expect(0, &["apply", "-auto-approve", "-replace-node", name]);
        assert_eq!(apply.operations_elsewhere(name), Vec::<String>::new());
        assert_eq!(self.voters(0), self.testbed.node_names());
        let unit = self.testbed.on(name, "cat /etc/systemd/system/etcd.service");
        assert!(unit.contains("--initial-cluster-state existing"), "{unit}");
        assert_eq!(self.value(0).as_deref(), Some(BEFORE));
        self.is_in_sync();
    }

    fn a_replacement_that_would_cost_the_quorum_is_refused(&self) {
        let ((replaced, _), (down, _)) = (self.node(0), self.node(2));
        self.testbed.on(down, "systemctl stop etcd");
        self.testbed.run(&["node", "replace", replaced]);
        let refused = self.moorfast.expect(1, &["apply", "-auto-approve", "-replace-node", replaced]);
        refused
            .complains("refused, to keep the quorum of the etcd cluster")
            .complains("the quorum is 2")
            .complains(down);
        assert_eq!(refused.operations_elsewhere("-"), Vec::<String>::new());
        self.testbed.on(down, "systemctl start etcd");
        self.moorfast.expect(0, &["apply", "-auto-approve", "-replace-node", replaced]);
        assert_eq!(self.voters(1), self.testbed.node_names());
        self.is_in_sync();
    }

    fn an_unknown_member_is_drift(&self) {
        let foreign = r#"{"peerURLs": ["https://10.0.0.99:2380"], "isLearner": true}"#;
        // etcd accepts a new member only when the others have been connected for some seconds.
        let id = wait_for("a learner is added", Duration::from_secs(30), || {
            let added: serde_json::Value = serde_json::from_str(&self.ask(1, "cluster/member/add", foreign)).unwrap();
            added["member"]["ID"].as_str().map(str::to_owned)
        });
        let drift = self.moorfast.expect(2, &["drift"]);
        drift.says("unknown_members").says("https://10.0.0.99:2380");
        assert_eq!(drift.stdout.matches("https://10.0.0.99:2380").count(), 1, "{drift}");
        self.ask(1, "cluster/member/remove", &format!("{{\"ID\": \"{id}\"}}"));
        self.is_in_sync();
    }

    fn two_missing_members_join_one_after_the_other(&self) {
        let list: serde_json::Value = serde_json::from_str(&self.ask(0, "cluster/member/list", "{}")).unwrap();
        let (stays, _) = self.node(0);
        for member in list["members"].as_array().unwrap().iter().filter(|member| member["name"] != stays) {
            wait_for("the member is removed", Duration::from_secs(30), || {
                self.try_ask(0, "cluster/member/remove", &format!("{{\"ID\": {}}}", member["ID"]));
                let list = self.try_ask(0, "cluster/member/list", "{}")?;
                (!list.contains(&member["ID"].to_string())).then_some(())
            });
            self.testbed
                .on(member["name"].as_str().unwrap(), "systemctl stop etcd; rm -rf /var/lib/etcd /var/lib/etcd-wal");
        }
        self.moorfast.expect(2, &["drift"]).says("is gone");
        let apply = self.moorfast.expect(0, &["apply", "-auto-approve"]);
        let place = |text: &str| apply.stderr.find(text).unwrap_or_else(|| panic!("no {text} in {apply}"));
        let (second, third) = (self.node(1).0, self.node(2).0);
        let joined = |name: &str| place(&format!("etcd_member.all[\"{name}\"]: Creation complete"));
        let votes = |name: &str| place(&format!("etcd_voter.all[\"{name}\"]: Creation complete"));
        assert!(votes(second) < joined(third) || votes(third) < joined(second), "{apply}");
        assert_eq!(self.voters(0), self.testbed.node_names());
        self.is_in_sync();
    }

    fn snapshots(&self) -> Vec<PathBuf> {
        let files = fs::read_dir(self.moorfast.path("backup")).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = files.collect();
        files.sort();
        files
    }

    fn a_snapshot_is_taken_before_a_change_and_restored(&self) {
        let first = self.snapshots();
        assert_eq!(first.len(), 1);
        self.moorfast.expect(0, &["apply", "-auto-approve", "-var", "release=2"]).says("1 changed");
        let files = self.snapshots();
        assert_eq!((files.len(), &files[0]), (2, &first[0]));
        let snapshot = &files[1];
        assert_eq!(fs::metadata(snapshot).unwrap().permissions().mode() & 0o777, 0o600);
        self.put(1, AFTER);
        // A snapshot that is missing or damaged is taken again.
        fs::write(&first[0], "").unwrap();
        self.moorfast.expect(0, &["plan", "-detailed-exitcode", "-var", "release=2"]);
        self.restores(snapshot);
        for index in 0..self.testbed.facts.nodes.len() {
            assert_eq!(self.value(index).as_deref(), Some(BEFORE));
        }
        assert_eq!(self.voters(0), self.testbed.node_names());
        self.moorfast.expect(0, &["plan", "-detailed-exitcode", "-var", "release=2"]);
    }

    /// Restores a snapshot on all members as docs/workflows/etcd.md explains, and waits until `drift` is in sync.
    fn restores(&self, snapshot: &Path) {
        let files = tempfile::tempdir().unwrap();
        fs::copy(snapshot, files.path().join("snapshot.db")).unwrap();
        fs::copy(self.programs.join("etcdutl"), files.path().join("etcdutl")).unwrap();
        let nodes = &self.testbed.facts.nodes;
        let peer_url = |node: &Node| format!("https://{}:2380", node.address);
        let all: Vec<_> = nodes.iter().map(|node| format!("{}={}", node.name, peer_url(node))).collect();
        for node in nodes {
            self.testbed.on(&node.name, "systemctl stop etcd");
        }
        for node in nodes {
            let away = "mv /var/lib/etcd /var/lib/etcd.old && mv /var/lib/etcd-wal /var/lib/etcd-wal.old";
            self.testbed.on(&node.name, away);
            self.testbed.send(files.path(), &node.name, "/root/restore");
            let restore = "/root/restore/etcdutl snapshot restore /root/restore/snapshot.db --data-dir /var/lib/etcd --wal-dir /var/lib/etcd-wal";
            let (name, peer_url, all) = (&node.name, peer_url(node), all.join(","));
            let member = format!("--name {name} --initial-cluster {all} --initial-advertise-peer-urls {peer_url}");
            self.testbed.on(&node.name, &format!("{restore} {member}"));
        }
        for node in nodes {
            self.testbed.on(&node.name, "systemctl start --no-block etcd");
        }
        wait_for("`drift` to be in sync", Duration::from_secs(60), || {
            (self.moorfast.run(&["drift", "-var", "release=2"]).code == 0).then_some(())
        });
    }

    fn goes(&self) {
        let plan = self.moorfast.expect(0, &["plan", "-destroy"]);
        plan.says("the etcd cluster with its data");
        self.moorfast.expect(0, &["destroy", "-auto-approve"]);
        for node in &self.testbed.node_names() {
            self.testbed.on(node, "! systemctl is-active etcd");
        }
        assert_eq!(self.snapshots().len(), 2, "a destroy keeps the snapshots");
    }
}
