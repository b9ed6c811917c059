//! Certificates on a node: what a change keeps, what is drift, and what openssl says of the result. The node is this machine.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use moorfast_conformance::Workbench;
use moorfast_engine::plan::{Change, Plan, PlanMode, PlanOptions};
use moorfast_engine::provider::{Action, Provider};
use moorfast_engine::session::Interrupt;
use moorfast_pki::PkiProvider;
use moorfast_ssh::SshProvider;

struct Node {
    bench: Workbench,
    folder: PathBuf,
}

impl Node {
    fn new() -> Self {
        let providers: [Arc<dyn Provider>; 2] = [Arc::new(PkiProvider), Arc::new(SshProvider)];
        let bench = Workbench::new(&providers).unwrap();
        let folder = bench.data_dir().parent().unwrap().to_owned();
        Self { bench, folder }
    }

    /// Writes the manifest: two authorities, and a certificate with these attributes that the authority `by` issues.
    fn declare(&self, by: &str, authority: &str, attributes: &str) {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let manifest = format!(
            "[keystore]\nfile = \"keys\"\n[nodes.here]\ntransport = \"local\"\nsudo = false\n\
             [resource.pki_authority.root]\nname = \"root\"\ncommon_name = \"Root\"\n{authority}\n\
             [resource.pki_authority.below]\nname = \"below\"\ncommon_name = \"Below\"\nauthority = \"${{pki_authority.root.id}}\"\n\
             [resource.pki_certificate.web]\non = \"here\"\nauthority = \"${{pki_authority.{by}.id}}\"\n\
             certificate_path = {:?}\nkey_path = {:?}\n{attributes}\n",
            path("web.crt"),
            path("web.key"),
        );
        self.bench.write(&manifest).unwrap();
    }

    async fn plan(&self) -> Plan {
        self.bench.plan(&PlanOptions::default()).await.unwrap()
    }

    /// Returns the planned change of the certificate.
    async fn change(&self) -> Change {
        let changes = self.plan().await.changes;
        changes.into_iter().find(|change| change.resource_type == "pki_certificate").unwrap()
    }

    /// Applies, and checks that a second plan is empty.
    async fn apply(&self) {
        self.bench.apply(&PlanOptions::default(), &Interrupt::default()).await.unwrap();
        let plan = self.plan().await;
        assert!(plan.changes.iter().all(|change| change.action == Action::NoOp), "{:?}", plan.changes);
        assert!(plan.drift.is_empty(), "{:?}", plan.drift);
    }

    async fn drift(&self) -> Plan {
        self.bench.plan(&PlanOptions { mode: PlanMode::RefreshOnly, ..PlanOptions::default() }).await.unwrap()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// Writes the certificate of an authority, as the key store has it, to a file.
    fn export(&self, name: &str) -> PathBuf {
        let keys: serde_json::Value = serde_json::from_str(&self.read("keys/keys.json")).unwrap();
        let file = self.folder.join(format!("{name}.crt"));
        fs::write(&file, keys["entries"][format!("authority/{name}")]["certificate"].as_str().unwrap()).unwrap();
        file
    }
}

const WEB: &str = "common_name = \"web\"\ndns_names = [\"web.example\"]\nusages = [\"server\", \"client\"]";

fn openssl(arguments: &[&str]) -> Option<String> {
    let output = Command::new("openssl").args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Some(text)
}

#[tokio::test]
async fn openssl_accepts_the_chain_and_the_key_of_each_algorithm() {
    for algorithm in ["ecdsa-p256", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"] {
        let node = Node::new();
        let chain = "chain = \"${pki_authority.below.certificate}\"";
        node.declare("below", "path_length = 1", &format!("{WEB}\n{chain}\nkey_algorithm = \"{algorithm}\""));
        node.apply().await;
        let (root, certificate) = (node.export("root"), node.folder.join("web.crt"));
        let (root, path) = (root.to_str().unwrap(), certificate.to_str().unwrap());
        let key = node.folder.join("web.key");
        for purpose in ["sslserver", "sslclient"] {
            let host = ["-verify_hostname", "web.example"];
            let strict = ["verify", "-x509_strict", "-purpose", purpose, "-CAfile", root, "-untrusted", path];
            let Some(verified) = openssl(&[strict.as_slice(), &host, &[path]].concat()) else { return };
            assert!(verified.contains("OK"), "{verified}");
        }
        let of_certificate = openssl(&["x509", "-in", path, "-noout", "-pubkey"]).unwrap();
        assert_eq!(of_certificate, openssl(&["pkey", "-in", key.to_str().unwrap(), "-pubout"]).unwrap());
    }
}

#[tokio::test]
async fn a_change_of_the_certificate_keeps_the_key() {
    let node = Node::new();
    node.declare("root", "", WEB);
    node.apply().await;
    let (key, certificate) = (node.read("web.key"), node.read("web.crt"));

    // Permissions are changed without a new certificate.
    node.declare("root", "", &format!("{WEB}\nkey_mode = \"0640\""));
    node.apply().await;
    assert_eq!((node.read("web.key"), node.read("web.crt")), (key.clone(), certificate.clone()));

    node.declare("root", "", &WEB.replace("web.example", "www.example"));
    node.apply().await;
    assert_eq!(node.read("web.key"), key);
    assert_ne!(node.read("web.crt"), certificate);

    // A lost certificate is issued for the existing key, a lost key is made again.
    fs::remove_file(node.folder.join("web.crt")).unwrap();
    let reasons = node.change().await.notes;
    assert_eq!(reasons, ["issued again: the certificate file is missing"]);
    let [drift] = &node.drift().await.drift[..] else { panic!("one drift is expected") };
    assert_eq!(drift.after.as_ref().unwrap()["certificate_mode"], "the certificate file is missing");
    node.apply().await;
    assert_eq!(node.read("web.key"), key);
    fs::remove_file(node.folder.join("web.key")).unwrap();
    let change = node.change().await;
    assert_eq!(change.notes, ["issued again: the key file is missing"]);
    node.apply().await;
    assert_ne!(node.read("web.key"), key);
}

#[tokio::test]
async fn what_somebody_changed_on_the_node_is_drift() {
    let node = Node::new();
    node.declare("root", "", WEB);
    node.apply().await;
    let (certificate, key) = (node.folder.join("web.crt"), node.folder.join("web.key"));
    let other = Node::new();
    other.declare("root", "", "common_name = \"other\"\nusages = [\"client\"]");
    other.apply().await;
    let drifted = async |attributes: &[&str]| {
        let drift = node.drift().await.drift;
        let [found] = drift.as_slice() else { panic!("{drift:?}") };
        let after = found.after.as_ref().unwrap();
        for name in attributes {
            assert_ne!(found.before.get(*name), after.get(*name), "{name}: {found:?}");
        }
        assert_eq!(node.change().await.action, Action::Update);
        node.apply().await;
    };
    fs::write(&certificate, other.read("web.crt")).unwrap();
    drifted(&["authority", "common_name", "dns_names", "usages", "key_matches", "certificate"]).await;
    fs::write(&key, other.read("web.key")).unwrap();
    assert_eq!(node.change().await.notes, ["issued again: the private key does not fit the certificate"]);
    drifted(&["key_matches"]).await;
    assert_ne!(node.read("web.key"), other.read("web.key"), "a key that moorfast did not make is not certified");
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    drifted(&["key_mode"]).await;
    fs::write(&certificate, "no certificate").unwrap();
    assert_eq!(node.change().await.notes, ["issued again: there is no certificate in the certificate file"]);
    drifted(&["key_matches"]).await;
}

#[tokio::test]
async fn a_certificate_that_moorfast_would_not_have_issued_is_issued_again() {
    let node = Node::new();
    node.declare("root", "", WEB);
    node.apply().await;
    let stored: serde_json::Value = serde_json::from_str(&node.read("keys/keys.json")).unwrap();
    let authority = node.export("root");
    let file = |name: &str| node.folder.join(name).display().to_string();
    fs::write(file("root.key"), stored["entries"]["authority/root"]["private_key"].as_str().unwrap()).unwrap();
    let (key, request, extensions) = (file("web.key"), file("web.csr"), file("extensions"));
    let made = openssl(&["req", "-new", "-key", &key, "-subj", "/CN=web", "-out", &request]);
    if made.is_none() {
        return;
    }
    // Everything else is as in the manifest, and the key fits.
    let usual = "subjectAltName=DNS:web.example\nextendedKeyUsage=serverAuth,clientAuth\nsubjectKeyIdentifier=hash\n";
    let constraints = |ca: &str| format!("basicConstraints=critical,CA:{ca}\n");
    let usage = |usage: &str| format!("keyUsage=critical,{usage}\n");
    for (special, days, reason) in [
        (
            constraints("TRUE") + &usage("digitalSignature"),
            "300",
            "the certificate on the node is a certificate of an authority",
        ),
        (
            constraints("FALSE") + &usage("digitalSignature,keyCertSign"),
            "300",
            "the certificate on the node has another key usage",
        ),
        (constraints("FALSE"), "300", "the certificate on the node has another key usage"),
        (
            constraints("FALSE") + &usage("digitalSignature"),
            "3000",
            "the certificate on the node is valid for longer than `validity`",
        ),
    ] {
        fs::write(&extensions, special + usual).unwrap();
        let (authority, key, days) = (authority.to_str().unwrap(), file("root.key"), ["-days", days]);
        let signed = [
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            authority,
            "-CAkey",
            &key,
            "-CAcreateserial",
            "-extfile",
            &extensions,
        ];
        openssl(&[&signed[..], &days, &["-out", &file("web.crt")]].concat()).unwrap();
        let change = node.change().await;
        assert_eq!((change.action, change.notes), (Action::Update, vec![format!("issued again: {reason}")]));
        node.apply().await;
    }
    // A certificate of somebody else with the same contents as ours stays.
    fs::write(&extensions, constraints("FALSE") + &usage("digitalSignature") + usual).unwrap();
    let (authority, key) = (authority.to_str().unwrap(), file("root.key"));
    let signed =
        ["x509", "-req", "-in", &request, "-CA", authority, "-CAkey", &key, "-CAcreateserial", "-extfile", &extensions];
    openssl(&[&signed[..], &["-days", "300", "-out", &file("web.crt")]].concat()).unwrap();
    assert_eq!(node.change().await.action, Action::NoOp);
}

#[tokio::test]
async fn a_certificate_is_renewed_within_renew_before_and_not_while_its_authority_is_older() {
    let node = Node::new();
    let lifetime = |renew_before: &str| format!("{WEB}\nvalidity = \"20h\"\nrenew_before = \"{renew_before}\"");
    // A renewal would not make the certificate live longer than its authority.
    node.declare("root", "validity = \"10h\"\nrenew_before = \"1h\"", &lifetime("19h"));
    node.apply().await;
    let key = node.read("web.key");

    // When the authority is renewed, so is the certificate that was limited by it, in the same apply.
    node.declare("root", "validity = \"3650d\"", &lifetime("19h"));
    let change = node.change().await;
    assert!(change.notes.iter().any(|note| note.starts_with("renewed: the certificate expires at")), "{change:?}");
    node.apply().await;
    assert_eq!(node.read("web.key"), key);
}

#[tokio::test]
async fn an_authority_is_replaced_by_another_one_beside_it() {
    let node = Node::new();
    let path = |name: &str| node.folder.join(name).display().to_string();
    let declare = |names: &[&str], issuer: &str| {
        let authority =
            |name: &&str| format!("[resource.pki_authority.{name}]\nname = \"{name}\"\ncommon_name = \"{name}\"\n");
        let trusted: String = names.iter().map(|name| format!("${{pki_authority.{name}.certificate}}")).collect();
        let manifest = format!(
            "[keystore]\nfile = \"keys\"\n[nodes.here]\ntransport = \"local\"\nsudo = false\n{}\
             [resource.ssh_file.trusted]\non = \"here\"\npath = {:?}\ncontent = \"{trusted}\"\n\
             [resource.pki_certificate.web]\non = \"here\"\nauthority = \"${{pki_authority.{issuer}.id}}\"\n\
             certificate_path = {:?}\nkey_path = {:?}\n{WEB}\n",
            names.iter().map(authority).collect::<String>(),
            path("trusted.crt"),
            path("web.crt"),
            path("web.key"),
        );
        node.bench.write(&manifest).unwrap();
    };
    let accepts = |trusted: &str, certificate: &str| {
        let verified = Command::new("openssl").args(["verify", "-CAfile", trusted, certificate]).output();
        verified.map_or(true, |output| output.status.success())
    };
    declare(&["first"], "first");
    node.apply().await;
    let key = node.read("web.key");
    // In each step, those that have made it accept those that have not, and the other way round.
    for (names, issuer) in
        [(&["first", "second"][..], "first"), (&["first", "second"], "second"), (&["second"], "second")]
    {
        let before = ["trusted.crt", "web.crt"].map(|name| {
            fs::copy(path(name), path(&format!("before.{name}"))).unwrap();
            path(&format!("before.{name}"))
        });
        declare(names, issuer);
        let removed = node.plan().await.changes.into_iter().filter(|change| change.action == Action::Delete);
        let consequences: Vec<_> = removed.flat_map(|change| change.consequences).map(|c| c.to_string()).collect();
        assert_eq!(consequences.len(), usize::from(names == ["second"]), "{consequences:?}");
        node.apply().await;
        let [trusted, certificate] = &before;
        assert!(accepts(trusted, &path("web.crt")) && accepts(&path("trusted.crt"), certificate), "{names:?} {issuer}");
        assert!(accepts(&path("trusted.crt"), &path("web.crt")));
        assert_eq!(node.read("web.key"), key);
    }
}

#[tokio::test]
async fn a_private_key_is_only_on_its_node() {
    let node = Node::new();
    node.declare("root", "", WEB);
    node.apply().await;
    // A lost record, with which the key is read again.
    let state = |node: &Node| {
        let files = fs::read_dir(node.bench.data_dir()).unwrap().map(|entry| entry.unwrap().path());
        files
            .filter(|file| file.is_file())
            .map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned())
            .collect::<String>()
    };
    // The part of the text that is not the same in all keys.
    let secret = |key: String| key.lines().skip(1).collect::<String>()[48..88].to_owned();
    let secret = || secret(node.read("web.key"));
    let first = secret();
    let stored = node.read("keys/keys.json");
    let planned = format!("{:?}", node.plan().await);
    let drift = format!("{:?}", node.drift().await);
    for text in [state(&node), stored, planned, drift, node.read("web.crt")] {
        assert!(!text.contains(&first));
    }
    fs::remove_dir_all(node.bench.data_dir()).unwrap();
    let adopted = node.plan().await;
    assert!(adopted.changes.iter().all(|change| change.action == Action::Adopt), "{adopted:?}");
    assert!(!format!("{adopted:?}").contains(&first));
    node.apply().await;
    assert!(!state(&node).contains(&first));
    assert_eq!(secret(), first, "an existing key is kept");
}
