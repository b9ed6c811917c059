//! Nodes and clusters at fault: each error names the cause, the place and the remedy, and nothing is changed.

use std::process::Command;
use std::time::Duration;

use crate::support::folder::Folder;
use crate::support::testbed::{Node, Testbed};
use crate::support::wait_for;

/// The name of a case, and the case.
type Case = (&'static str, fn(&Testbed));

/// All cases share one testbed, one after the other, because some stop the API server or fill a disk.
#[test]
fn faulty_nodes_and_clusters() {
    let Some(testbed) = Testbed::up("faulty-targets", 2) else { return };
    let cases: [Case; 11] = [
        ("a node that is not reachable", unreachable_node),
        ("a key that is refused", refused_key),
        ("a host key that is not the pinned one", changed_host_key),
        ("a user who may not use sudo", missing_sudo),
        ("a full disk", full_disk),
        ("an interrupt", interrupt),
        ("an API server that is down", api_server_down),
        ("a user without rights", forbidden),
        ("a serving request for a foreign address", foreign_address),
        ("objects that never become ready", objects_never_ready),
        ("a kubelet that never becomes Ready", never_ready),
    ];
    let fails = |(name, case): &Case| {
        eprintln!("case: {name}");
        std::panic::catch_unwind(|| case(&testbed)).is_err()
    };
    let failed: Vec<_> = cases.iter().filter(|case| fails(case)).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

const FILE: &str = r#"
[resource.ssh_file.note]
on      = "all"
path    = "/etc/moorfast-note"
content = "hello"
"#;

/// Returns an inventory with one node.
fn inventory(testbed: &Testbed, address: &str, user: &str, key: &str, pin: &str) -> String {
    let name = &testbed.facts.nodes[0].name;
    format!(
        "[nodes.{name}]\naddress = \"{address}\"\nuser = \"{user}\"\nidentity_file = \"{key}\"\nhost_key = \"{pin}\"\n\
         [providers.ssh]\nconnect_timeout = \"3s\"\n"
    )
}

fn first(testbed: &Testbed) -> &Node {
    &testbed.facts.nodes[0]
}

fn key(testbed: &Testbed) -> String {
    testbed.facts.ssh.identity_file.display().to_string()
}

/// Creates a manifest with `resources` on the first node, as root.
fn on_first(testbed: &Testbed, resources: &str) -> Folder {
    let node = first(testbed);
    Folder::new(&(inventory(testbed, &node.address, "root", &key(testbed), node.pin()) + resources))
}

fn exists(testbed: &Testbed, path: &str) -> bool {
    testbed.try_on(&first(testbed).name, &format!("test -e {path}")).unwrap().status.success()
}

/// Asserts that plan and apply fail with these texts and do not create the file.
fn fails_without_the_file(testbed: &Testbed, moorfast: &Folder, texts: &[&str]) {
    for command in [&["plan"][..], &["apply", "--auto-approve"]] {
        let run = moorfast.expect(1, command);
        for text in texts {
            run.complains(text);
        }
        assert!(!run.stdout.contains("No changes"), "{run}");
    }
    assert!(!exists(testbed, "/etc/moorfast-note"));
    assert!(moorfast.expect(1, &["state", "list"]).stdout.is_empty());
}

fn unreachable_node(testbed: &Testbed) {
    let node = first(testbed);
    let unused = node.address.rsplit_once('.').map(|(net, _)| format!("{net}.250")).unwrap();
    let moorfast = Folder::new(&(inventory(testbed, &unused, "root", &key(testbed), node.pin()) + FILE));
    fails_without_the_file(testbed, &moorfast, &[&node.name, &unused]);
}

fn refused_key(testbed: &Testbed) {
    let node = first(testbed);
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other").display().to_string();
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &other]).status().unwrap();
    assert!(made.success());
    let moorfast = Folder::new(&(inventory(testbed, &node.address, "root", &other, node.pin()) + FILE));
    fails_without_the_file(testbed, &moorfast, &[&node.name, "refuse"]);
}

fn changed_host_key(testbed: &Testbed) {
    let [node, other] = testbed.facts.nodes.as_slice() else { panic!("two nodes") };
    let moorfast = Folder::new(&(inventory(testbed, &node.address, "root", &key(testbed), other.pin()) + FILE));
    fails_without_the_file(testbed, &moorfast, &[&node.name, node.pin(), other.pin()]);
}

fn missing_sudo(testbed: &Testbed) {
    let node = first(testbed);
    let moorfast = Folder::new(&(inventory(testbed, &node.address, "plain", &key(testbed), node.pin()) + FILE));
    fails_without_the_file(testbed, &moorfast, &[&node.name, "sudo", "plain"]);
}

fn full_disk(testbed: &Testbed) {
    let name = &first(testbed).name;
    testbed.on(name, "mkdir -p /full && mount -t tmpfs -o size=64k tmpfs /full && echo before > /full/file");
    let big = "x".repeat(100_000);
    let resource = format!("[resource.ssh_file.big]\non = \"all\"\npath = \"/full/file\"\ncontent = \"{big}\"\n");
    let moorfast = on_first(testbed, &resource);
    let run = moorfast.expect(1, &["apply", "--auto-approve"]);
    run.complains("/full/file")
        .complains("no space left on device")
        .complains("free space on that file system")
        .complains(name);
    assert_eq!(testbed.on(name, "ls -A /full; cat /full/file"), "file\nbefore\n");
    testbed.on(name, "umount /full && rmdir /full");
}

fn interrupt(testbed: &Testbed) {
    let name = &first(testbed).name;
    let moorfast = on_first(
        testbed,
        r#"
[resource.ssh_exec.slow]
on      = "all"
script  = "touch /tmp/begun; while [ ! -e /tmp/go ]; do sleep 0.1; done; touch /tmp/ended"
creates = "/tmp/ended"

[resource.ssh_file.after]
on         = "all"
path       = "/tmp/after"
content    = "after"
depends_on = ["ssh_exec.slow"]
"#,
    );
    let apply = moorfast.start(&["apply", "--auto-approve"]);
    wait_for("the command to start", Duration::from_secs(30), || exists(testbed, "/tmp/begun").then_some(()));
    let signalled = Command::new("kill").args(["-INT", &apply.pid().to_string()]).status().unwrap();
    assert!(signalled.success());
    testbed.on(name, "touch /tmp/go");
    let run = apply.end();
    assert_eq!(run.code, 130, "{run}");
    run.complains("Interrupted").complains("ssh_file.after");
    assert!(exists(testbed, "/tmp/ended"), "the running operation was completed\n{run}");
    assert!(!exists(testbed, "/tmp/after"), "no further operation was started\n{run}");

    moorfast.expect(0, &["apply", "--auto-approve"]).says("1 added, 0 changed, 0 destroyed.");
    assert!(exists(testbed, "/tmp/after"));
    moorfast.expect(0, &["plan", "--detailed-exitcode"]);
    moorfast.expect(0, &["destroy", "--auto-approve"]);
    testbed.on(name, "rm /tmp/begun /tmp/go /tmp/ended");
}

const CONFIG_MAP: &str = r#"
[resource.kubernetes_object.note.manifest]
apiVersion = "v1"
kind       = "ConfigMap"
metadata   = { name = "moorfast-note", namespace = "default" }
data       = { hello = "world" }
"#;

fn cluster(kubeconfig: &str, resources: &str) -> Folder {
    Folder::new(&format!("[providers.kubernetes]\nkubeconfig = \"{kubeconfig}\"\n{resources}"))
}

fn api_server_down(testbed: &Testbed) {
    let control_plane = &testbed.facts.control_plane;
    let moorfast = cluster(&control_plane.kubeconfig.display().to_string(), CONFIG_MAP);
    testbed.run(&["control-plane", "stop"]);
    let plan = moorfast.run(&["plan"]);
    let drift = moorfast.run(&["drift"]);
    testbed.run(&["control-plane", "start"]);
    assert_eq!(plan.code, 1, "{plan}");
    plan.complains(&control_plane.server).complains("connection refused");
    assert!(!plan.stdout.contains("No changes"), "{plan}");
    assert_eq!(drift.code, 1, "without an apply there is nothing to compare: {drift}");
    drift.complains("it has no objects and no outputs");
    assert!(testbed.get(&["configmap", "moorfast-note"]).is_null());
}

fn forbidden(testbed: &Testbed) {
    testbed.kubectl(&["create", "serviceaccount", "nobody"]);
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig").display().to_string();
    std::fs::write(&kubeconfig, testbed.kubeconfig_of("nobody", "default")).unwrap();
    let moorfast = cluster(&kubeconfig, CONFIG_MAP);
    for command in [&["plan"][..], &["apply", "--auto-approve"]] {
        let run = moorfast.expect(1, command);
        run.complains("system:serviceaccount:default:nobody").complains("configmaps").complains("grant");
    }
    assert!(testbed.get(&["configmap", "moorfast-note"]).is_null());
    testbed.kubectl(&["delete", "serviceaccount", "nobody"]);
}

fn foreign_address(testbed: &Testbed) {
    let folder = tempfile::tempdir().unwrap();
    let request = folder.path().join("request.csr").display().to_string();
    let made = Command::new("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-keyout",
            "/dev/null",
        ])
        .args([
            "-subj",
            "/O=system:nodes/CN=system:node:impostor",
            "-addext",
            "subjectAltName=DNS:impostor,IP:192.0.2.7",
        ])
        .args(["-out", &request])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let encoded = Command::new("base64").args(["-w0", &request]).output().unwrap();
    let object = folder.path().join("csr.yaml").display().to_string();
    let yaml = format!(
        "{{apiVersion: certificates.k8s.io/v1, kind: CertificateSigningRequest, metadata: {{name: impostor}}, \
         spec: {{signerName: kubernetes.io/kubelet-serving, usages: [digital signature, server auth], request: {}}}}}",
        String::from_utf8_lossy(&encoded.stdout)
    );
    std::fs::write(&object, yaml).unwrap();
    testbed.kubectl(&[
        "create",
        "-f",
        &object,
        "--as",
        "system:node:impostor",
        "--as-group",
        "system:nodes",
        "--as-group",
        "system:authenticated",
    ]);
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display().to_string();
    let moorfast = cluster(
        &kubeconfig,
        r#"
[resource.kubernetes_certificate_approval.impostor]
node      = "impostor"
addresses = ["192.0.2.1"]
timeouts  = { create = "3s" }
"#,
    );
    moorfast.expect(1, &["apply", "--auto-approve"]).complains("192.0.2.7").complains("impostor");
    let request = testbed.get(&["certificatesigningrequest", "impostor"]);
    assert!(request["status"]["conditions"].is_null(), "{request}");
    testbed.kubectl(&["delete", "certificatesigningrequest", "impostor"]);
}

/// The next plan repeats the operations and shows no attribute as changed.
fn objects_never_ready(testbed: &Testbed) {
    let resources = r#"
[resource.kubernetes_object.web]
yaml = """
apiVersion: v1
kind: Service
metadata: {name: never, namespace: default}
spec: {ports: [{port: 80}], selector: {app: never}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: never, namespace: default}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
"""
timeouts = { create = "2s" }

[resource.kubernetes_object.secret]
manifest = { apiVersion = "v1", kind = "Secret", metadata = { name = "never", namespace = "default" }, stringData = { a = "hush" } }
wait     = { jsonpath = "{.metadata.annotations.ready}=yes" }
timeouts = { create = "2s" }
"#;
    let moorfast = cluster(&testbed.facts.control_plane.kubeconfig.display().to_string(), resources);
    let failed = moorfast.expect(1, &["apply", "--auto-approve"]);
    failed.complains("PersistentVolumeClaim/default/never did not become ready in time").complains("ready is nothing");
    let plan = moorfast.expect(2, &["plan", "--detailed-exitcode"]);
    plan.says("because an earlier operation on it failed or was interrupted").says("0 to add, 3 to change");
    assert!(!plan.stdout.contains("outside moorfast") && !plan.stdout.contains(" -> "), "{plan}");
    assert!(!plan.stdout.contains("~ objects") && !plan.stdout.contains("~ manifest"), "{plan}");
    moorfast.expect(0, &["destroy", "--auto-approve"]);
}

/// Without a network plugin a kubelet runs and its Node never becomes Ready.
fn never_ready(testbed: &Testbed) {
    let node = first(testbed);
    let moorfast = Folder::one_worker(&testbed.facts, "ops");
    moorfast.edit("module/approval.toml", "create = \"5m\"", "create = \"15s\"");
    moorfast.edit("module/10-bridge.conflist.tpl", "\"cniVersion\": \"1.0.0\",", "");
    moorfast.edit("module/10-bridge.conflist.tpl", "\"plugins\"", "\"no-plugins\"");
    let run = moorfast.expect(1, &["apply", "--auto-approve"]);
    run.complains(&format!("kubernetes_node.worker[\"{}\"]", node.name))
        .complains("NetworkPluginNotReady")
        .complains("kubelet");
    run.complains("journal");
    moorfast.expect(0, &["destroy", "--auto-approve"]);
}
