//! A real kubelet on a real node joins with the resources of the provider.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics to fail")]

mod harness;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use moorfast_engine::model::Value;
use moorfast_engine::provider::{Class, ProposedAction};
use serde_json::{Value as Json, json};

use harness::{Instance, attributes, connect, testbed};

/// A node of the testbed.
struct Machine<'a> {
    testbed: &'a Json,
    node: &'a Json,
}

impl Machine<'_> {
    fn name(&self) -> &str {
        self.node["name"].as_str().unwrap()
    }

    fn address(&self) -> &str {
        self.node["address"].as_str().unwrap()
    }

    /// Runs a script as root, with `input` on standard input.
    fn run(&self, script: &str, input: &[u8]) -> String {
        let text = |v: &Json| v.as_str().unwrap().to_owned();
        let ssh = &self.testbed["ssh"];
        let mut child = Command::new("ssh")
            .args(["-i", &text(&ssh["identity_file"]), "-o", "BatchMode=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", text(&ssh["known_hosts"])))
            .arg(format!("root@{}", self.address()))
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A script that reads nothing can end before all input is written.
        let _ = child.stdin.take().unwrap().write_all(input);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn write(&self, path: &str, content: &[u8]) {
        self.run(&format!("mkdir -p $(dirname {path}) && cat > {path}"), content);
    }
}

const RIGHTS: &str = "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: kubelet-bootstrap}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:node-bootstrapper}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:bootstrappers}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: auto-approve-csrs-for-group}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: 'system:certificates.k8s.io:certificatesigningrequests:nodeclient'}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:bootstrappers}]
";

const CNI: &str = r#"{"cniVersion": "0.4.0", "name": "bridge", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.77.0/24"}]]}}]}"#;

const UNIT: &str = "[Unit]\nAfter=containerd.service\n[Service]\nExecStart=/opt/kubelet --root-dir=/var/lib/kubelet \
    --bootstrap-kubeconfig=/etc/kubernetes/bootstrap.kubeconfig --kubeconfig=/etc/kubernetes/kubelet.kubeconfig --cert-dir=/etc/kubernetes/cert \
    --config=/etc/kubernetes/kubelet.yaml --hostname-override=NAME --node-ip=ADDRESS\nRestart=always\nRestartSec=2\n";

fn configuration(max_pods: u32) -> String {
    format!(
        "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication:\n  anonymous: {{enabled: false}}\n  webhook: {{enabled: true}}\n  \
         x509: {{clientCAFile: /etc/kubernetes/cert/ca.pem}}\nauthorization: {{mode: Webhook}}\nclusterDomain: cluster.local\nclusterDNS: [10.254.0.2]\n\
         maxPods: {max_pods}\nserializeImagePulls: false\ncgroupDriver: cgroupfs\nruntimeRequestTimeout: 15m\nrotateCertificates: true\nserverTLSBootstrap: true\n\
         readOnlyPort: 0\nfailSwapOn: false\ncontainerRuntimeEndpoint: unix:///run/containerd/containerd.sock\n"
    )
}

/// Removes the files and units of this test from the node.
const CLEAN: &str = "systemctl stop kubelet; rm -rf /etc/kubernetes /var/lib/kubelet /etc/systemd/system/kubelet.service; systemctl daemon-reload";

fn prepare(machine: &Machine<'_>) {
    let testbed = machine.testbed;
    machine.run("apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -qy containerd runc containernetworking-plugins conntrack iptables", b"");
    machine.run("mkdir -p /opt/cni && ln -sfn /usr/lib/cni /opt/cni/bin && systemctl restart containerd", b"");
    machine.write("/etc/cni/net.d/10-bridge.conflist", CNI.as_bytes());
    let kubelet = std::fs::read(testbed["control_plane"]["binaries"]["kubelet"].as_str().unwrap()).unwrap();
    machine.write("/opt/kubelet", &kubelet);
    machine.write(
        "/etc/kubernetes/cert/ca.pem",
        &std::fs::read(testbed["control_plane"]["ca"].as_str().unwrap()).unwrap(),
    );
    machine.write("/etc/kubernetes/kubelet.yaml", configuration(220).as_bytes());
    let unit = UNIT.replace("NAME", machine.name()).replace("ADDRESS", machine.address());
    machine.write("/etc/systemd/system/kubelet.service", unit.as_bytes());
    machine.run("chmod 0755 /opt/kubelet && systemctl daemon-reload", b"");
}

#[tokio::test]
async fn a_kubelet_joins_and_leaves() {
    let Some(testbed) = testbed() else { return };
    let Some(node) = testbed["nodes"].get(0) else {
        println!("skipped: the testbed has no node");
        return;
    };
    let machine = Machine { testbed: &testbed, node };
    let (name, address) = (machine.name(), machine.address());
    let connection = connect(json!({ "kubeconfig": testbed["control_plane"]["kubeconfig"] })).await;
    let instance = |resource_type| Instance::on(connection.clone(), resource_type);
    let mut rights = instance("kubernetes_object");
    let mut token = instance("kubernetes_bootstrap_token");
    let mut kubeconfig = instance("kubernetes_kubeconfig");
    let mut client = instance("kubernetes_certificate_approval");
    let mut joined = instance("kubernetes_node");
    let mut serving = instance("kubernetes_certificate_approval");
    let mut config = instance("kubernetes_kubelet_config");

    rights.bring(&attributes(json!({ "yaml": RIGHTS }))).await;
    let token_wanted = attributes(json!({ "node": name, "description": "kubelet-bootstrap-token", "ttl": "1h" }));
    token.bring(&token_wanted).await;
    let secret = token.read(Some(&token_wanted)).await.unwrap().unwrap().attributes["token"].clone();
    let ca = std::fs::read_to_string(testbed["control_plane"]["ca"].as_str().unwrap()).unwrap();
    let mut kubeconfig_wanted = attributes(
        json!({ "cluster": "kubernetes", "server": testbed["control_plane"]["server"], "certificate_authority": ca, "user": "kubelet-bootstrap", "context": "default" }),
    );
    kubeconfig_wanted.insert("token".to_owned(), secret);
    let content = kubeconfig.plan(&kubeconfig_wanted).await.unwrap().0.planned["content"].as_str().unwrap().to_owned();
    kubeconfig.bring(&kubeconfig_wanted).await;

    machine.run(CLEAN, b"");
    prepare(&machine);
    machine.write("/etc/kubernetes/bootstrap.kubeconfig", content.as_bytes());
    machine.run("systemctl restart kubelet", b"");

    for one in [&mut client, &mut joined, &mut serving, &mut config] {
        one.timeout = Duration::from_secs(120);
    }
    let client_wanted = attributes(json!({ "node": name, "signer": "kubernetes.io/kube-apiserver-client-kubelet" }));
    assert_eq!(client.bring(&client_wanted).await.action, ProposedAction::Create);
    let node_wanted = attributes(json!({ "name": name, "labels": { "role": "worker" } }));
    joined.bring(&node_wanted).await;

    // Without an approved serving certificate, the endpoints of the kubelet do not respond, and the error says so.
    let config_wanted = attributes(json!({ "node": name, "config": configuration(220) }));
    config.timeout = Duration::from_secs(2);
    let silent = config.apply(&config_wanted).await.unwrap_err();
    assert!(silent.summary.contains("no serving certificate yet"), "{silent:?}");
    config.timeout = Duration::from_secs(60);

    let foreign = attributes(json!({ "node": name, "addresses": ["10.9.9.9"] }));
    serving.timeout = Duration::from_secs(4);
    let refused = serving.apply(&foreign).await.unwrap_err();
    assert_eq!(refused.class, Class::Denied);
    assert!(refused.summary.contains(&format!("SAN IP {address} is not an address of {name}")), "{refused:?}");
    let serving_wanted = attributes(json!({ "node": name, "addresses": [address] }));
    serving.timeout = Duration::from_secs(60);
    serving.bring(&serving_wanted).await;
    config.bring(&config_wanted).await;

    // After an hour, the controller manager deletes the requests. The certificates are still valid.
    let requests: kube::Api<k8s_openapi::api::certificates::v1::CertificateSigningRequest> = kube::Api::all(
        harness::client(std::path::Path::new(testbed["control_plane"]["kubeconfig"].as_str().unwrap()), |_| {}).await,
    );
    for request in requests.list(&Default::default()).await.unwrap() {
        requests.delete(&request.metadata.name.unwrap(), &Default::default()).await.unwrap();
    }
    serving.is_settled(&serving_wanted).await;
    client.is_settled(&client_wanted).await;

    // The live configuration differs until the kubelet is restarted with its new file.
    let other = attributes(json!({ "node": name, "config": configuration(110) }));
    config.timeout = Duration::from_secs(2);
    let differs = config.apply(&other).await.unwrap_err();
    assert!(differs.summary.ends_with("maxPods: expected 110, live 220"), "{differs:?}");
    machine.write("/etc/kubernetes/kubelet.yaml", configuration(110).as_bytes());
    let difference_data =
        |max_pods| config.data("kubernetes_kubelet_config", json!({ "node": name, "config": configuration(max_pods) }));
    assert_eq!(difference_data(220).await.unwrap()["differences"], Value::List(Vec::new()));
    assert_eq!(
        difference_data(110).await.unwrap()["differences"],
        Value::from(vec!["maxPods: expected 110, live 220"])
    );
    machine.run("systemctl stop kubelet", b"");
    assert_eq!(config.drift().await, ["answers"]);
    let (plan, _) = config.plan(&other).await.unwrap();
    assert!(plan.notes[1].starts_with("the kubelet does not answer: "), "{:?}", plan.notes);
    serving.is_settled(&serving_wanted).await;
    machine.run("systemctl start kubelet", b"");
    config.timeout = Duration::from_secs(60);
    assert_eq!(config.bring(&other).await.action, ProposedAction::Update);

    // The node joined: a missing token is not a change, and the kubeconfig stays.
    let taken =
        kube::Api::<k8s_openapi::api::core::v1::Secret>::namespaced(requests.clone().into_client(), "kube-system");
    let of_node = kube::api::ListParams::default().labels(&format!("moorfast.dev/node={name}"));
    taken.delete_collection(&Default::default(), &of_node).await.unwrap();
    let (plan, _) = token.plan(&token_wanted).await.unwrap();
    assert_eq!(plan.action, ProposedAction::NoOp);
    kubeconfig_wanted.insert("token".to_owned(), plan.planned["token"].clone());
    assert_eq!(kubeconfig.plan(&kubeconfig_wanted).await.unwrap().0.action, ProposedAction::NoOp);
    assert!(matches!(plan.planned["token"], Value::Sensitive(_)));

    joined.timeout = Duration::from_secs(60);
    joined.destroy().await.unwrap();
    machine.run(CLEAN, b"");
    for one in [&mut config, &mut serving, &mut client, &mut token, &mut rights] {
        one.destroy().await.unwrap();
    }
}
