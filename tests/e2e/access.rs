//! `moorfast node check` on a real node and a real API server: what works, and each cause of a failure with its remedy.

use serde_json::Value as Json;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

#[test]
fn each_obstacle_is_found_before_the_first_plan() {
    let Some(testbed) = Testbed::up("access", 1) else { return };
    testbed.kubectl(&["create", "serviceaccount", "nobody", "-n", "default"]);
    let moorfast = Folder::new("");
    write(&moorfast, &testbed, "");
    moorfast.write("nobody.kubeconfig", &testbed.kubeconfig_of("nobody", "default"));
    moorfast.write("admin.kubeconfig", &std::fs::read_to_string(&testbed.facts.control_plane.kubeconfig).unwrap());

    // Each node alone, with the exit code of its only obstacle.
    let good = moorfast.expect(0, &["node", "check", "good"]);
    for need in ["address", "host key", "login", "root", "programs", "systemd", "package manager", "clock", "disk"] {
        assert!(good.stdout.contains(&format!("ok   {need}")), "{need}: {}", good.stdout);
    }
    good.says("All well: 1 node.").says("ops by sudo").says("pinned in the manifest");
    moorfast.expect(6, &["node", "check", "wrong"]).says("FAIL host key").says("is not the pinned one");
    moorfast.expect(6, &["node", "check", "unknown"]).says("FAIL host key").says("moorfast node trust unknown");
    moorfast.expect(5, &["node", "check", "nowhere"]).says("FAIL address").says("the host name does not exist");
    moorfast
        .expect(2, &["node", "check", "plain"])
        .says("ok   login")
        .says("FAIL root")
        .says("cannot become root on plain")
        .says("ok   disk");
    moorfast.expect(1, &["node", "check", "missing"]).complains("the inventory has no node `missing`");

    // All targets together: the node and its names share a machine-id, and the worst finding is the exit code.
    let all = moorfast.expect(6, &["node", "check", "--json"]);
    let all: Json = serde_json::from_str(&all.stdout).unwrap();
    let failed = |target: &str| -> Vec<&str> {
        let targets = all["targets"].as_array().unwrap();
        let found = targets.iter().find(|one| one["target"] == target).unwrap();
        let checks = found["checks"].as_array().unwrap().iter().filter(|check| check["status"] == "fail");
        checks.map(|check| check["check"].as_str().unwrap()).collect()
    };
    assert_eq!(failed("good"), ["machine-id"]);
    assert_eq!(failed("plain"), ["root", "machine-id"]);
    assert_eq!(failed("kubernetes"), [""; 0]);

    // A user without rights: one finding for each kind and namespace.
    write(&moorfast, &testbed, "nobody");
    moorfast
        .expect(6, &["node", "check"])
        .says("the user may not get, list, create, patch, delete configmaps in the namespace shop")
        .says("the user may not get, list, create, patch, delete deployments.apps in the namespace default")
        .says("kubectl auth can-i --list -n shop");
}

/// Writes a manifest with a node for each obstacle. The kubeconfig is that of `account`, or of an administrator.
fn write(moorfast: &Folder, testbed: &Testbed, account: &str) {
    let node = &testbed.facts.nodes[0];
    let (address, pin) = (&node.address, node.pin());
    let key = testbed.facts.ssh.identity_file.display();
    let login = |name: &str, user: &str, pin: &str| {
        format!(
            "[nodes.{name}]\naddress = \"{address}\"\nuser = \"{user}\"\nidentity_file = \"{key}\"\nsudo = true\n{pin}\n"
        )
    };
    let pinned = |pin: &str| format!("host_key = \"{pin}\"\n");
    let nodes = [
        login("good", "ops", &pinned(pin)),
        login("plain", "plain", &pinned(pin)),
        login("wrong", "ops", &pinned(&format!("SHA256:{}", "A".repeat(43)))),
        login("unknown", "ops", ""),
        "[nodes.nowhere]\naddress = \"does-not-exist.invalid\"\n".to_owned(),
    ];
    let account = if account.is_empty() { "admin" } else { account };
    let cluster = format!(
        r#"
[providers.kubernetes]
kubeconfig = "{account}.kubeconfig"

[resource.kubernetes_object.settings]
manifest = {{ apiVersion = "v1", kind = "ConfigMap", metadata = {{ name = "settings", namespace = "shop" }} }}

[resource.kubernetes_object.web]
manifest = {{ apiVersion = "apps/v1", kind = "Deployment", metadata = {{ name = "web" }} }}
"#
    );
    moorfast.write("main.toml", &(nodes.concat() + &cluster));
}
