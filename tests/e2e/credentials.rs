//! `[providers.kubernetes] client_certificate`: a certificate in memory, issued by an authority in the key store.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::folder::Folder;
use crate::support::testbed::Testbed;

/// The beginning of a private key in PEM, and in the base64 of a kubeconfig.
const KEYS: [&str; 2] = ["PRIVATE KEY", "LS0tLS1CRUdJTiBQUklWQVRFIEtFWS"];

const OBJECT: &str = r#"
[resource.kubernetes_object.settings]
yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: credentials, namespace: default}, data: {level: info}}"
"#;

fn manifest(server: &str, more: &str) -> String {
    format!(
        "[keystore]\nfile = \"keys\"\n\n[providers.kubernetes]\nserver = \"{server}\"\n\
         client_certificate = {{ authority = \"kubernetes\", common_name = \"moorfast\", organizations = [\"system:masters\"] }}\n{more}{OBJECT}"
    )
}

#[test]
fn a_cluster_of_an_authority_in_the_key_store() {
    let Some(testbed) = Testbed::up("credentials", 1) else { return };
    let folder = Folder::new(&manifest(&testbed.facts.control_plane.server, ""));
    let of_authority = |name: &str| fs::read_to_string(testbed.facts.state.join("pki").join(name)).unwrap();
    let authority =
        json!({ "kind": "authority", "private_key": of_authority("ca.key"), "certificate": of_authority("ca.crt") });
    let keys = json!({ "version": "1", "entries": { "authority/kubernetes": authority } });
    fs::create_dir(folder.path("keys")).unwrap();
    folder.write("keys/keys.json", &keys.to_string());
    fs::set_permissions(folder.path("keys/keys.json"), fs::Permissions::from_mode(0o600)).unwrap();

    let trace = folder.path("trace");
    let options = ["-f", "-s", "1048576", "-e", "trace=execve"];
    let arguments = ["--log", "trace", "apply", "-auto-approve"];
    let applied = match folder.traced(&options, &trace, &arguments).output() {
        Ok(output) => output,
        Err(_) => folder.command(&arguments).output().unwrap(),
    };
    let mut shown = String::from_utf8_lossy(&applied.stdout).into_owned() + &String::from_utf8_lossy(&applied.stderr);
    assert!(applied.status.success(), "{shown}");
    assert_eq!(testbed.get(&["configmap", "credentials", "-n", "default"])["data"]["level"], "info");
    let saved = folder.expect(0, &["plan", "-out", "saved.plan"]).stdout;
    shown += &(saved + &folder.expect(0, &["plan", "-detailed-exitcode", "-json"]).stdout);
    assert!(KEYS.iter().all(|key| !shown.contains(key)), "{shown}");
    for file in folder.files().iter().filter(|file| !file.ends_with("keys/keys.json")) {
        let bytes = fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(KEYS.iter().all(|key| !text.contains(key)), "a private key is in {}", file.display());
    }
    // The user of the certificate is the one that changed the object.
    let denied =
        folder.read("main.toml").replace("organizations = [\"system:masters\"]", "organizations = [\"nobody\"]");
    folder.write("main.toml", &denied);
    folder.expect(1, &["plan"]).complains("User \"moorfast\" cannot");
    folder.expect(1, &["plan", "--untrusted"]).complains("refuses to issue a certificate");
}

#[test]
fn an_authority_that_the_same_manifest_makes() {
    let authority = "depends_on = [\"pki_authority.kubernetes\"]\n\n\
        [resource.pki_authority.kubernetes]\nname = \"kubernetes\"\ncommon_name = \"kubernetes\"\n";
    // Nothing listens on port 9, and nobody is asked before the authority exists.
    let folder = Folder::new(&manifest("https://127.0.0.1:9", authority));
    folder.expect(0, &["plan"]).says("provisional").says("2 to add");
    folder.expect(0, &["apply", "-auto-approve", "-target", "pki_authority.kubernetes"]);
    folder.expect(1, &["plan"]).complains("cannot reach the API server https://127.0.0.1:9");
    let alone = folder.read("main.toml").replace("depends_on", "# depends_on");
    folder.write("main.toml", &alone.replace("authority = \"kubernetes\"", "authority = \"other\""));
    folder.expect(1, &["plan"]).complains("the key store does not contain the authority `other` yet");
}
