//! The example `examples/certificates`: the key store, certificates on nodes of this machine, and what happens without the key store.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::folder::{Folder, Run};
use crate::support::wait_for;

const IDENTITY: (&str, &str) = ("MOORFAST_AGE_IDENTITY", "demo.identity");
const KEYS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/engine/src/expression/tests/age");

fn run(folder: &Folder, arguments: &[&str]) -> Run {
    folder.start_in(arguments, &[IDENTITY]).end()
}

/// Returns the part of a private key in PEM that differs from other keys.
fn secret_part(pem: &str) -> String {
    let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    lines.concat()[48..88].to_owned()
}

#[test]
fn the_example_runs() {
    let folder = Folder::copy_of_tree("examples/certificates");
    folder.expect(0, &["fmt", "-check"]);
    let trace = folder.path("trace");
    let arguments = ["--log", "trace", "apply", "-auto-approve"];
    let mut traced = folder.traced(&["-f", "-s", "65536", "-e", "trace=execve"], &trace, &arguments);
    let output = match traced.env(IDENTITY.0, IDENTITY.1).output() {
        Ok(output) => output,
        // Without strace, the arguments of programs are not checked.
        Err(_) => folder.command(&arguments).env(IDENTITY.0, IDENTITY.1).output().unwrap(),
    };
    let mut shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{shown}");
    for arguments in [&["plan", "-detailed-exitcode"][..], &["plan", "-json"], &["plan", "-out", "saved.plan"]] {
        let again = run(&folder, arguments);
        assert_eq!(again.code, 0, "{again}");
        shown += &(again.stdout + &again.stderr);
    }
    shown += &fs::read_to_string(&trace).unwrap_or_default();

    // Each private key is in its files and nowhere else.
    let keys =
        ["out/etcd1/etcd.key", "out/etcd2/etcd.key", "out/etcd1/sa.key"].map(|name| secret_part(&folder.read(name)));
    assert_ne!(keys[0], keys[1]);
    let is_key = |file: &Path| ["etcd.key", "sa.key"].iter().any(|name| file.ends_with(name));
    for file in folder.files().iter().filter(|file| !is_key(file)) {
        let bytes = fs::read(file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(keys.iter().all(|key| !text.contains(key)), "a private key is in {}", file.display());
    }
    assert!(keys.iter().all(|key| !shown.contains(key)));
    assert!(folder.read("keys.age").starts_with("-----BEGIN AGE ENCRYPTED FILE-----"));

    let drift = run(&folder, &["drift", "-metrics=metrics.prom"]);
    assert_eq!(drift.code, 0, "{drift}");
    let metrics = folder.read("metrics.prom");
    let expiries: Vec<_> = metrics.lines().filter(|line| line.starts_with("moorfast_drift_expiry_seconds{")).collect();
    assert_eq!(expiries.len(), 3, "{metrics}");
    let seconds = |address: &str| -> i64 {
        let line = expiries.iter().find(|line| line.contains(address)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!((364 * 86_400..366 * 86_400).contains(&seconds("pki_certificate.etcd[\\\"etcd1\\\"]")), "{metrics}");
    assert!((3649 * 86_400..3651 * 86_400).contains(&seconds("pki_authority.etcd")), "{metrics}");

    let renewed = run(&folder, &["plan", "-replace", "pki_certificate.etcd[\"etcd1\"]"]);
    assert_eq!(renewed.code, 0, "{renewed}");
    assert!(renewed.stdout.contains("1 to add, 0 to change, 1 to destroy"), "{renewed}");
    let destroyed = run(&folder, &["destroy", "-auto-approve"]);
    assert_eq!(destroyed.code, 0, "{destroyed}");
    assert!(!folder.path("out/etcd1/etcd.key").exists());
}

#[test]
fn an_authority_that_is_about_to_expire_is_reported() {
    let folder = Folder::copy_of_tree("examples/certificates");
    // It is due a second after it was made, 30 days before it expires.
    folder.edit(
        "main.toml",
        "path_length   = 0\n",
        "path_length = 0\nvalidity = \"30d\"\nrenew_before = \"719h59m59s\"\n",
    );
    let apply = run(&folder, &["apply", "-auto-approve"]);
    assert_eq!(apply.code, 0, "{apply}");
    let drift = wait_for("the authority to be due", Duration::from_secs(30), || {
        Some(run(&folder, &["drift", "-metrics=metrics.prom"])).filter(|drift| drift.code == 2)
    });
    drift.says("pki_authority.etcd").says("renewal_due");
    let expiry = |address: &str| -> i64 {
        let metrics = folder.read("metrics.prom");
        let is_expiry = |line: &&str| line.contains("expiry_seconds{") && line.contains(address);
        metrics
            .lines()
            .find(is_expiry)
            .unwrap_or_else(|| panic!("{metrics}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert!((29 * 86_400..30 * 86_400).contains(&expiry("pki_authority.etcd")));
    let plan = run(&folder, &["plan"]);
    plan.says("pki_authority.etcd").says("renewed: the certificate expires at");

    // A lost certificate expires now.
    fs::remove_file(folder.path("out/etcd1/etcd.crt")).unwrap();
    assert_eq!(run(&folder, &["drift", "-metrics=metrics.prom"]).code, 2);
    assert_eq!(expiry(r#"pki_certificate.etcd[\"etcd1\"]"#), 0);
}

#[test]
fn a_key_store_that_cannot_be_used_changes_nothing() {
    let folder = Folder::copy_of_tree("examples/certificates");
    assert_eq!(run(&folder, &["apply", "-auto-approve"]).code, 0);
    let (keys, certificate) = (folder.read("keys.age"), folder.read("out/etcd1/etcd.crt"));
    let refused = |identity: &str, arguments: &[&str], reason: &str| {
        let refused = folder.start_in(arguments, &[(IDENTITY.0, identity)]).end();
        assert_eq!(refused.code, 1, "{refused}");
        assert!(refused.stderr.contains(reason), "{refused}");
    };
    for arguments in [&["plan"][..], &["apply", "-auto-approve"], &["destroy", "-auto-approve"]] {
        refused(
            &format!("{KEYS}/other_identity"),
            arguments,
            "it is not encrypted for the identity of MOORFAST_AGE_IDENTITY",
        );
        refused("", arguments, "no identity decrypts it");
    }
    refused(IDENTITY.1, &["plan", "--untrusted"], "`plan --untrusted` does not open the key store");
    fs::rename(folder.path("keys.age"), folder.path("lost.age")).unwrap();
    refused(
        IDENTITY.1,
        &["apply", "-auto-approve"],
        "does not contain the key of authority/etcd that the state records",
    );
    assert!(!folder.path("keys.age").exists());
    folder.write("keys.age", &keys[..keys.len() / 2]);
    refused(IDENTITY.1, &["plan"], "it is damaged");
    folder.write("keys.age", &keys);
    let unchanged = run(&folder, &["plan", "-detailed-exitcode"]);
    assert_eq!(unchanged.code, 0, "{unchanged}");
    assert_eq!(folder.read("out/etcd1/etcd.crt"), certificate);

    // Nobody can lock themselves out, or write keys in the clear by mistake.
    let other = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    let locked_out = ["apply", "-auto-approve", "-replace", "pki_random.encryption", "-var"];
    let with =
        |value: String| [&locked_out[..], &[&value]].concat().iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    for (recipients, reason) in [
        (format!("recipients=[\"{other}\"]"), "it would not be encrypted for the identity"),
        ("recipients=[\"age1nobody\"]".to_owned(), "`age1nobody` is not an age recipient"),
        ("recipients=[]".to_owned(), "the key store is encrypted for nobody"),
    ] {
        let arguments = with(recipients);
        refused(IDENTITY.1, &arguments.iter().map(String::as_str).collect::<Vec<_>>(), reason);
        assert_eq!(folder.read("keys.age"), keys);
    }
}

#[test]
fn a_key_store_without_recipients_is_warned_about() {
    let manifest = "[keystore]\nfile = \"keys\"\n[resource.pki_random.x]\nname = \"x\"\n";
    let folder = Folder::new(manifest);
    folder.expect(0, &["validate"]).complains("the key store is not encrypted");
    folder.expect(0, &["apply", "-auto-approve"]);
    folder.expect(0, &["plan", "-detailed-exitcode"]);
    let without =
        Folder::new(manifest.split_once("[resource").map(|(_, rest)| format!("[resource{rest}")).unwrap().as_str());
    without.expect(1, &["plan"]).complains("the manifest has no key store");
}

#[test]
fn a_kubeconfig_is_written_before_there_is_an_api_server() {
    let folder = Folder::new(
        r#"
[keystore]
file = "keys"

[nodes.here]
transport = "local"
sudo      = false

[resource.pki_authority.ca]
name        = "ca"
common_name = "ca"

[resource.kubernetes_kubeconfig.scheduler]
server                  = "https://127.0.0.1:1"
certificate_authority   = "${pki_authority.ca.certificate}"
client_certificate_path = "/etc/kubernetes/scheduler.crt"
client_key_path         = "/etc/kubernetes/scheduler.key"

[resource.ssh_file.scheduler]
on      = "here"
path    = "${path.root}/scheduler.kubeconfig"
content = "${kubernetes_kubeconfig.scheduler.content}"

[providers.kubernetes]
kubeconfig = "admin.kubeconfig"
depends_on = ["ssh_file.scheduler"]
"#,
    );
    folder.expect(0, &["apply", "-auto-approve"]);
    assert!(folder.read("scheduler.kubeconfig").contains("client-key: /etc/kubernetes/scheduler.key"));
    folder.expect(0, &["plan", "-detailed-exitcode"]);
}
