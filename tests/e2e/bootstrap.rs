//! A cluster from nothing: one manifest starts etcd, the API server and the controllers on a bare machine, and creates objects in that cluster.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::folder::{Folder, VARIABLES};
use crate::support::testbed::Testbed;

const MANIFEST: &str = r#"
[variables.address]
[variables.host_key]
[variables.identity_file]
[variables.binaries]
[variables.pki]

[nodes.master]
address       = "${var.address}"
host_key      = "${var.host_key}"
identity_file = "${var.identity_file}"
user          = "root"

[resource.ssh_directory.master]
on       = "master"
for_each = ["/opt/k8s", "/etc/kubernetes"]
path     = "${each.value}"

[resource.ssh_file.binary]
on       = "master"
for_each = ["etcd", "kube-apiserver", "kube-controller-manager"]
path     = "/opt/k8s/${each.value}"
source   = "${var.binaries}/${each.value}"
mode     = "0755"

[resource.ssh_file.pki]
on       = "master"
for_each = ["ca.crt", "service-account.key", "service-account.pub", "server.crt", "server.key", "admin.crt", "admin.key"]
path     = "/etc/kubernetes/${each.value}"
content  = '${sensitive(file("${var.pki}/${each.value}"))}'
mode     = "0600"

[resource.ssh_systemd_unit.etcd]
on      = "master"
name    = "etcd.service"
state   = "running"
content = '''
[Service]
Type=notify
ExecStart=/opt/k8s/etcd --data-dir /var/lib/etcd
'''
restart_on = ["ssh_file.binary"]

[resource.ssh_systemd_unit.kube_apiserver]
on      = "master"
name    = "kube-apiserver.service"
state   = "running"
content = '''
[Unit]
Wants=etcd.service
After=etcd.service

[Service]
ExecStart=/opt/k8s/kube-apiserver --etcd-servers http://127.0.0.1:2379 --secure-port 6443 \
  --tls-cert-file /etc/kubernetes/server.crt --tls-private-key-file /etc/kubernetes/server.key --client-ca-file /etc/kubernetes/ca.crt \
  --authorization-mode Node,RBAC --service-cluster-ip-range 10.253.0.0/16 --event-ttl 1h \
  --service-account-issuer https://kubernetes.default.svc --service-account-key-file /etc/kubernetes/service-account.pub \
  --service-account-signing-key-file /etc/kubernetes/service-account.key
'''
restart_on = ["ssh_file.binary", "ssh_file.pki"]
depends_on = ["ssh_systemd_unit.etcd"]

[resource.ssh_file.kubeconfig]
on      = "master"
path    = "/etc/kubernetes/kubeconfig"
content = '''
${yamlencode({
  apiVersion      = "v1"
  kind            = "Config"
  current-context = "x"
  clusters        = [{ name = "c", cluster = { server = "https://127.0.0.1:6443", tls-server-name = node.address, certificate-authority = "ca.crt" } }]
  users           = [{ name = "u", user = { client-certificate = "admin.crt", client-key = "admin.key" } }]
  contexts        = [{ name = "x", context = { cluster = "c", user = "u" } }]
})}'''

[resource.ssh_systemd_unit.kube_controller_manager]
on      = "master"
name    = "kube-controller-manager.service"
state   = "running"
content = '''
[Service]
ExecStart=/opt/k8s/kube-controller-manager --kubeconfig /etc/kubernetes/kubeconfig --leader-elect=false
Restart=on-failure
RestartSec=1
'''
restart_on = ["ssh_file.binary", "ssh_file.pki", "ssh_file.kubeconfig"]
depends_on = ["ssh_systemd_unit.kube_apiserver"]

[providers.kubernetes]
kubeconfig = "admin.kubeconfig"
depends_on = ["ssh_systemd_unit.kube_apiserver", "ssh_systemd_unit.kube_controller_manager"]

[resource.kubernetes_object.reader]
manifest = { apiVersion = "rbac.authorization.k8s.io/v1", kind = "ClusterRole", metadata = { name = "reader" }, rules = [{ apiGroups = [""], resources = ["pods"], verbs = ["get"] }] }

[resource.kubernetes_object.settings]
manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings", namespace = "default" }, data = { level = "info" } }

[resource.kubernetes_bootstrap_token.first]
node = "worker"

[data.kubernetes_object.reader]
api_version = "rbac.authorization.k8s.io/v1"
kind        = "ClusterRole"
name        = "reader"
depends_on  = ["kubernetes_object.reader"]

[outputs.reader]
value = "${data.kubernetes_object.reader.object.metadata.uid}"
"#;

#[test]
fn one_manifest_starts_a_cluster_and_creates_objects_in_it() {
    let Some(testbed) = Testbed::up("bootstrap", 1) else { return };
    let moorfast = Folder::new(MANIFEST);
    prepare(&testbed, &moorfast);

    let plan = moorfast.expect(0, &["plan", "--out", "reviewed.plan"]);
    plan.says("provisional: kubernetes does not answer yet");
    moorfast.expect(0, &["apply", "reviewed.plan"]);
    let kubeconfig = moorfast.path("admin.kubeconfig");
    let kubectl =
        |arguments: &[&str]| testbed.kubectl(&[&["--kubeconfig", kubeconfig.to_str().unwrap()], arguments].concat());
    assert_eq!(kubectl(&["get", "cm", "settings", "-o", "jsonpath={.data.level}"]), "info");
    let uid = kubectl(&["get", "clusterrole", "reader", "-o", "jsonpath={.metadata.uid}"]);
    moorfast.expect(0, &["output", "reader"]).says(&uid);
    moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");

    // The API server restarts, and the changes in the cluster wait for it.
    moorfast.edit("main.toml", "--event-ttl 1h", "--event-ttl 2h");
    moorfast.edit("main.toml", r#"level = "info""#, r#"level = "debug""#);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(kubectl(&["get", "cm", "settings", "-o", "jsonpath={.data.level}"]), "debug");
    moorfast.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");

    // The objects in the cluster are destroyed first, while the API server still runs.
    moorfast.expect(0, &["destroy", "--auto-approve"]);
    testbed.on(&testbed.node_names()[0], "! pgrep -f /opt/k8s; ! test -e /opt/k8s");
}

/// Writes certificates of the testbed's CA for an API server on its node, the administrator's kubeconfig, and the variables.
fn prepare(testbed: &Testbed, moorfast: &Folder) {
    let (facts, node) = (&testbed.facts, &testbed.facts.nodes[0]);
    let control_plane = &facts.control_plane;
    let of_testbed = control_plane.ca.parent().unwrap();
    let pki = moorfast.path("pki");
    std::fs::create_dir(&pki).unwrap();
    for name in ["ca.crt", "service-account.key", "service-account.pub", "admin.crt", "admin.key"] {
        std::fs::copy(of_testbed.join(name), pki.join(name)).unwrap();
    }
    certify(of_testbed, &pki, &node.address);
    let text = |path: &Path| path.display().to_string();
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {
            "server": format!("https://{}:6443", node.address), "certificate-authority": control_plane.ca,
        }}],
        "users": [{"name": "u", "user": {
            "client-certificate": control_plane.admin.cert, "client-key": control_plane.admin.key,
        }}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    });
    moorfast.write("admin.kubeconfig", &kubeconfig.to_string());
    let variables = [
        ("address", node.address.clone()),
        ("host_key", node.pin().to_owned()),
        ("identity_file", text(&facts.ssh.identity_file)),
        ("binaries", text(control_plane.binaries["etcd"].parent().unwrap())),
        ("pki", text(&pki)),
    ];
    let lines = variables.map(|(name, value)| format!("{name} = \"{value}\"\n"));
    moorfast.write(VARIABLES, &lines.concat());
}

/// Creates `server.crt` and `server.key` for an API server at `address`.
fn certify(authority: &Path, pki: &Path, address: &str) {
    let file = |folder: &Path, name: &str| -> PathBuf { folder.join(name) };
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"])
        .args(["-subj", "/CN=kube-apiserver", "-addext", &format!("subjectAltName=IP:{address},IP:10.253.0.1")])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-CA")
        .arg(file(authority, "ca.crt"))
        .arg("-CAkey")
        .arg(file(authority, "ca.key"))
        .arg("-out")
        .arg(file(pki, "server.crt"))
        .arg("-keyout")
        .arg(file(pki, "server.key"))
        .output();
    let made = made.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}
