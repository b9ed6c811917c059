//! The manifests of `examples/drift-cron/kubernetes` in a real API server: the pod passes the policy, and its ServiceAccount can read and nothing else.

use std::path::Path;

use serde_json::{Value as Json, json};

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

const MANIFEST: &str = r#"
[backend.kubernetes]
namespace  = "moorfast"
kubeconfig = "now.kubeconfig"

[providers.kubernetes]
kubeconfig = "${path.root}/now.kubeconfig"

[resource.kubernetes_object.settings]
manifest = { apiVersion = "v1", kind = "ConfigMap", metadata = { name = "settings", namespace = "moorfast" }, data = { level = "info" } }

[resource.kubernetes_object.reader]
manifest = { apiVersion = "rbac.authorization.k8s.io/v1", kind = "ClusterRole", metadata = { name = "reader-of-the-test" }, rules = [{ apiGroups = [""], resources = ["pods"], verbs = ["get"] }] }
"#;

fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/drift-cron/kubernetes").join(name);
    path.to_str().unwrap().to_owned()
}

/// Makes all following commands use the token of the ServiceAccount, for the state too.
fn as_the_account(testbed: &Testbed, moorfast: &Folder) {
    moorfast.write("now.kubeconfig", &testbed.kubeconfig_of("moorfast-drift", "moorfast"));
}

/// Makes all following commands use the rights of the administrator.
fn as_the_admin(testbed: &Testbed, moorfast: &Folder) {
    moorfast.write("now.kubeconfig", &std::fs::read_to_string(&testbed.facts.control_plane.kubeconfig).unwrap());
}

/// Creates the pod of the CronJob as its Job would.
fn create_pod(testbed: &Testbed, moorfast: &Folder) {
    let cronjob = testbed.get(&["cronjob", "moorfast-drift", "-n", "moorfast"]);
    let template = &cronjob["spec"]["jobTemplate"]["spec"]["template"];
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("drift-of-the-test");
    pod["metadata"]["namespace"] = json!("moorfast");
    moorfast.write("pod.json", &pod.to_string());
    testbed.kubectl(&["create", "-f", moorfast.path("pod.json").to_str().unwrap()]);
    // A pod that violates the policy is refused, so the policy is in force.
    pod["metadata"]["name"] = json!("root-of-the-test");
    pod["spec"]["securityContext"] = json!({"runAsUser": 0});
    moorfast.write("pod.json", &pod.to_string());
    let refused = testbed.try_kubectl(&["create", "-f", moorfast.path("pod.json").to_str().unwrap()]);
    assert!(refused.contains("violates PodSecurity"), "{refused}");
}

#[test]
fn the_cron_job_can_read_and_nothing_else() {
    let Some(testbed) = Testbed::up("drift-cron", 0) else { return };
    testbed.kubectl(&["apply", "-f", &example("rbac.yaml")]);
    testbed.kubectl(&["apply", "-f", &example("cronjob.yaml")]);
    let moorfast = Folder::new(MANIFEST);
    create_pod(&testbed, &moorfast);

    as_the_admin(&testbed, &moorfast);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    as_the_account(&testbed, &moorfast);
    moorfast.expect(0, &["drift"]).says("In sync.");
    // The drift history is all that it writes, into the Secret that exists for it.
    let history = || testbed.get(&["secret", "moorfast-drift", "-n", "moorfast"])["data"]["state"].clone();
    let quiet = history();
    assert_ne!(quiet, "e30=", "the history is still empty");
    let patch = r#"{"data":{"level":"debug"}}"#;
    testbed.kubectl(&["patch", "configmap", "settings", "-n", "moorfast", "-p", patch]);
    testbed.kubectl(&["delete", "clusterrole", "reader-of-the-test"]);
    moorfast
        .expect(2, &["drift"])
        .says("\"info\" -> \"debug\"")
        .says("kubernetes_object.reader is gone")
        .says("Drift: 2 objects");

    assert_ne!(history(), quiet);
    moorfast.expect(0, &["drift", "--history"]).says("kubernetes_object.settings: manifest.data.level");
    assert!(!moorfast.path(".moorfast/drift-history.json").exists(), "the drift history is in the cluster");
    // Without the right to write the Secret the drift history is kept beside the manifest.
    testbed.kubectl(&["delete", "rolebinding", "moorfast-drift-history", "-n", "moorfast"]);
    moorfast.expect(2, &["drift", "--since-last"]).says("Drift: 2 objects");
    moorfast.expect(0, &["drift", "--since-last"]).says("No new drift.");
    assert!(moorfast.path(".moorfast/drift-history.json").exists());

    // With these rights nothing is changed.
    moorfast.expect(1, &["apply", "--auto-approve"]).complains("orbidden");
    let settings: Json = testbed.get(&["configmap", "settings", "-n", "moorfast"]);
    assert_eq!(settings["data"]["level"], "debug");
    for (verb, kind) in
        [("create", "configmaps"), ("delete", "nodes"), ("patch", "clusterroles"), ("update", "secrets")]
    {
        let who = "--as=system:serviceaccount:moorfast:moorfast-drift";
        let answer = testbed.try_kubectl(&["auth", "can-i", verb, kind, who, "-n", "moorfast"]);
        assert!(answer.lines().any(|line| line == "no"), "{verb} {kind}: {answer}");
    }
    // The manager that patched the ConfigMap owns the field now. After the ConfigMap is deleted, an apply creates it again.
    testbed.kubectl(&["delete", "configmap", "settings", "-n", "moorfast"]);
    as_the_admin(&testbed, &moorfast);
    moorfast.expect(0, &["apply", "--auto-approve"]);
    as_the_account(&testbed, &moorfast);
    moorfast.expect(0, &["drift"]);
    as_the_admin(&testbed, &moorfast);
    moorfast.expect(0, &["destroy", "--auto-approve"]);
}
