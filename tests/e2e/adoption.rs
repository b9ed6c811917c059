//! Machines and objects that exist: a generated manifest describes them, and an apply changes nothing.

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

/// How a person sets up a kubelet on many machines: with a loop. The addresses differ.
const LOOP: &str = r#"
mkdir -p /etc/kubernetes/manifests /etc/kubelet.d
printf 'kind: KubeletConfiguration\nclusterDomain: cluster.local\n# ${not} an expression\n' > /etc/kubelet.d/10-base.yaml
printf 'KUBELET_ARGS=--node-ip=%s\n' "$ADDRESS" > /etc/kubelet.d/args.env
printf 'secret\n' > /etc/kubelet.d/token
chmod 600 /etc/kubelet.d/token
ln -s 10-base.yaml /etc/kubelet.d/current.yaml
printf '[Unit]\nDescription=A kubelet\n[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
  > /etc/systemd/system/kubelet-like.service
printf 'overlay\nbr_netfilter\n' > /etc/modules-load.d/kubernetes.conf
systemctl daemon-reload
systemctl enable --now kubelet-like.service
"#;

#[test]
fn three_nodes_made_by_hand_are_adopted_without_a_change() {
    let Some(testbed) = Testbed::up("adopted", 3) else { return };
    let key = testbed.facts.ssh.identity_file.display();
    let mut nodes = String::new();
    for node in &testbed.facts.nodes {
        testbed.on(&node.name, &format!("ADDRESS={}\n{LOOP}", node.address));
        let host_key = node.host_keys.iter().find(|key| key.kind.contains("ed25519")).unwrap();
        nodes.push_str(&format!(
            "[nodes.{}]\naddress = \"{}\"\nuser = \"root\"\nidentity_file = \"{key}\"\nhost_key = \"{}\"\n\n",
            node.name, node.address, host_key.fingerprint
        ));
    }
    // One machine has a file more, and another mode.
    let first = &testbed.facts.nodes[0].name;
    testbed.on(first, "printf 'x\\n' > /etc/kubelet.d/extra.conf; chmod 640 /etc/kubelet.d/10-base.yaml");
    let folder = Folder::new(&nodes);

    let generate = "moorfast import --generate --all-under /etc/kubelet.d --unit kubelet-like.service \
                    ssh_directory=/etc/kubernetes/manifests ssh_file=/etc/modules-load.d/kubernetes.conf > generated";
    let run = folder.shell(generate);
    assert_eq!(run.code, 0, "{run}");
    run.complains("/etc/kubelet.d/token").complains("may be secret");
    let manifest = folder.read("generated");
    assert!(!manifest.contains("secret") && !manifest.contains("token"), "{manifest}");
    assert!(manifest.parse::<toml_1_0::Table>().is_ok(), "{manifest}");
    // The unit and the common files are written once, the file of one node for that node.
    assert_eq!(manifest.matches("kubelet-like.service\"").count(), 2, "{manifest}");
    assert!(manifest.contains(&format!("on = \"{first}\"")), "{manifest}");
    assert!(manifest.contains("files/${node.name}/etc/kubelet.d/args.env"), "{manifest}");
    assert!(manifest.contains("local.") && !manifest.contains("0644\"\n"), "{manifest}");
    std::fs::rename(folder.path("generated"), folder.path("generated.toml")).unwrap();

    folder.expect(0, &["validate"]);
    folder.expect(0, &["plan"]).says("Plan: 0 to add, 0 to change, 0 to destroy, 22 to adopt.");
    folder.expect(0, &["apply", "--auto-approve"]);
    folder.expect(0, &["drift"]).says("In sync.");
    folder.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
    folder.expect(0, &["state", "list"]).says("ssh_systemd_unit.kubelet_like_service");

    // A changed file is never overwritten.
    folder.write("files/etc/modules-load.d/kubernetes.conf", "mine\n");
    let object = "ssh_file=/etc/modules-load.d/kubernetes.conf";
    folder.expect(1, &["import", "--generate", object]).complains("exists with another content");
    assert_eq!(folder.read("files/etc/modules-load.d/kubernetes.conf"), "mine\n");
}

#[test]
fn objects_made_by_kubectl_are_adopted_without_a_change() {
    let Some(testbed) = Testbed::up("kubectl", 0) else { return };
    testbed.kubectl(&["create", "namespace", "shop"]);
    testbed.kubectl(&["create", "deployment", "web", "-n", "shop", "--image=nginx:1.27", "--replicas=0", "--port=80"]);
    testbed.kubectl(&["create", "service", "clusterip", "web", "-n", "shop", "--tcp=80:80"]);
    testbed.kubectl(&["create", "configmap", "settings", "-n", "shop", "--from-literal=level=info"]);
    testbed.kubectl(&["create", "secret", "generic", "password", "-n", "shop", "--from-literal=password=hunter2"]);
    let kubeconfig = testbed.facts.control_plane.kubeconfig.display();
    let folder = Folder::new(&format!("[providers.kubernetes]\nkubeconfig = \"{kubeconfig}\"\n"));
    let generate = "moorfast import --generate --kind Deployment --kind Service --kind configmap --kind Secret \
                    --namespace shop > generated";
    let run = folder.shell(generate);
    assert_eq!(run.code, 0, "{run}");
    run.complains("Secret/shop/password").complains("secret");
    std::fs::rename(folder.path("generated"), folder.path("generated.toml")).unwrap();
    let manifest = folder.read("generated.toml");
    assert!(manifest.parse::<toml_1_0::Table>().is_ok(), "{manifest}");
    let deployment = folder.read("files/shop/deployment-web.yaml");
    for set_by_server in ["status", "uid", "managedFields", "terminationMessagePath", "progressDeadlineSeconds"] {
        assert!(!deployment.contains(set_by_server), "{deployment}");
    }
    let written =
        folder.files().iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect::<String>();
    assert!(!written.contains("hunter2") && !written.contains("aHVudGVyMg"), "{written}");

    let state = || {
        ["deployment", "service", "configmap"]
            .map(|kind| testbed.get(&[kind, "-n", "shop"]).pointer("/items/0/spec").cloned())
    };
    let before = state();
    folder.expect(0, &["validate"]);
    // Server-side apply writes the new manager into the object, and nothing else.
    let plan = folder.expect(0, &["plan"]);
    plan.says("Plan: 0 to add, 3 to change, 0 to destroy.");
    assert_eq!(plan.stdout.matches("moorfast becomes the manager of the declared fields").count(), 3, "{plan}");
    folder.expect(0, &["apply", "--auto-approve"]);
    assert_eq!(state(), before);
    folder.expect(0, &["drift"]).says("In sync.");
    folder.expect(0, &["plan", "--detailed-exitcode"]).says("No changes.");
}
