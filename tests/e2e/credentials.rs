//! `[providers.kubernetes] client_certificate`: a certificate in memory, issued by an authority in the key store.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::folder::{Folder, Run};
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

/// Writes a key store with the authority of the testbed's cluster.
fn has_authority_of(testbed: &Testbed, folder: &Folder) {
    let of_authority = |name: &str| fs::read_to_string(testbed.facts.state.join("pki").join(name)).unwrap();
    let authority =
        json!({ "kind": "authority", "private_key": of_authority("ca.key"), "certificate": of_authority("ca.crt") });
    let keys = json!({ "version": "1", "entries": { "authority/kubernetes": authority } });
    fs::create_dir(folder.path("keys")).unwrap();
    folder.write("keys/keys.json", &keys.to_string());
    fs::set_permissions(folder.path("keys/keys.json"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_cluster_of_an_authority_in_the_key_store() {
    let Some(testbed) = Testbed::up("credentials", 1) else { return };
    let folder = Folder::new(&manifest(&testbed.facts.control_plane.server, ""));
    has_authority_of(&testbed, &folder);

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

#[test]
fn the_version_of_a_cluster_that_the_same_manifest_starts_is_read_when_planning() {
    let authority = "depends_on = [\"pki_authority.kubernetes\"]\n\n\
        [resource.pki_authority.kubernetes]\nname = \"kubernetes\"\ncommon_name = \"kubernetes\"\n\
        [data.kubernetes_version.running]\ndefault = \"none\"\n\
        [outputs.version]\nvalue = \"${data.kubernetes_version.running.version}\"\n";
    let folder = Folder::new(&manifest("https://127.0.0.1:9", authority));
    folder.expect(0, &["plan"]).says("+ version = \"none\"");
    folder.expect(0, &["apply", "-auto-approve", "-target", "pki_authority.kubernetes"]);
    folder.expect(1, &["plan"]).complains("1 object could not be read");
    let required = folder.read("main.toml").replace("default = \"none\"\n", "");
    folder.write("main.toml", &required);
    let error = folder.expect(1, &["plan"]);
    error.complains("cannot reach the API server https://127.0.0.1:9").complains("help: set `default` to the version");
}

#[test]
fn another_api_server_is_used_if_one_cannot_be_reached() {
    let Some(testbed) = Testbed::up("servers", 1) else { return };
    let server = &testbed.facts.control_plane.server;
    let several = |servers: &str| manifest("", "").replace("server = \"\"", &format!("servers = [{servers}]"));
    let folder = Folder::new(&several(&format!("\"https://127.0.0.1:9\", \"{server}\"")));
    has_authority_of(&testbed, &folder);
    folder.expect(0, &["apply", "-auto-approve"]);
    assert_eq!(testbed.get(&["configmap", "credentials", "-n", "default"])["data"]["level"], "info");
    folder.expect(0, &["plan", "-detailed-exitcode"]);
    // Each server has its own proxy, or none.
    folder.write("main.toml", &several(&format!("\"https://192.0.2.1:6443\", \"{server}\"")));
    let host = server.trim_start_matches("https://").rsplit_once(':').unwrap().0;
    let mut plan = folder.command(&["plan", "-detailed-exitcode"]);
    let run = Run::of(plan.env("HTTPS_PROXY", "127.0.0.1:9").env("NO_PROXY", host).output().unwrap());
    assert_eq!(run.code, 0, "{run}");
    folder.write("main.toml", &several("\"https://127.0.0.1:9\", \"https://127.0.0.1:1\""));
    folder.expect(1, &["plan"]).complains(
        "cannot reach any API server: https://127.0.0.1:9 (connection refused), https://127.0.0.1:1 (connection refused)",
    );
}
