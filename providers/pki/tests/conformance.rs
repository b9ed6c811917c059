//! The laws of a provider, and those of the key store.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use moorfast_conformance::{Case, Workbench, check};
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::{Action, Provider};
use moorfast_engine::session::{Failure, Interrupt};
use moorfast_pki::PkiProvider;
use moorfast_ssh::SshProvider;

fn providers() -> [Arc<dyn Provider>; 2] {
    [Arc::new(PkiProvider), Arc::new(SshProvider)]
}

fn key_store(folder: &Path) -> String {
    format!("[keystore]\nfile = {:?}\n", folder.join("keys").display().to_string())
}

/// Returns the contents of all files below `folder`.
fn contents(folder: &Path) -> String {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).into_iter().flatten().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => found.push((entry.clone(), std::fs::read_to_string(&entry).unwrap_or_default())),
            }
        }
    }
    found.sort();
    format!("{found:?}")
}

fn authority(attributes: &str) -> String {
    format!("[resource.pki_authority.root]\nname = \"root\"\ncommon_name = \"Root\"\n{attributes}\n")
}

#[tokio::test]
async fn the_types_of_the_key_store_keep_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    let store = key_store(folder.path());
    let intermediate = |attributes: &str| {
        format!(
            "[resource.pki_authority.issuing]\nname = \"issuing\"\nauthority = \"${{pki_authority.root.id}}\"\ncommon_name = \"Issuing\"\n{attributes}\n"
        )
    };
    let others = "[resource.pki_key.sa]\nname = \"sa\"\n[resource.pki_random.key]\nname = \"key\"\nlength = 16\n";
    let manifest =
        |root: &str, below: &str| [store.clone(), authority(root), intermediate(below), others.to_owned()].concat();
    let case = Case::new(manifest("organizations = [\"b\", \"a\"]", "path_length = 0"))
        .update(manifest("organizations = [\"b\", \"a\"]\nvalidity = \"7300d\"", "path_length = 0"))
        .update(manifest("organizations = [\"b\", \"a\"]\nvalidity = \"7300d\"", ""))
        .update(manifest("organizations = [\"c\"]\nkey_algorithm = \"ed25519\"", "path_length = 3"))
        .reject(manifest("renew_before = \"3650d\"", ""), "renew_before")
        .reject(manifest("path_length = 256", ""), "path_length")
        .reject(manifest("key_algorithm = \"rsa-512\"", ""), "key_algorithm")
        .reject([store.clone(), "[resource.pki_key.sa]\nname = \"a/b\"\n".to_owned()].concat(), "name")
        .reject([store.clone(), "[resource.pki_random.x]\nname = \"x\"\nlength = 4\n".to_owned()].concat(), "length")
        .snapshot({
            let place = folder.path().join("keys");
            move || contents(&place)
        });
    check(&providers(), &case).await.unwrap();
}

/// A workbench whose key store is beside its manifest.
struct Bench {
    bench: Workbench,
    keys: PathBuf,
}

impl Bench {
    fn new(manifest: &str) -> Self {
        let bench = Workbench::new(&providers()).unwrap();
        let keys = bench.path().join("keys");
        let keys = if bench.path().is_dir() { keys } else { bench.path().parent().unwrap().join("keys") };
        bench.write(&format!("[keystore]\nfile = \"keys\"\n{manifest}")).unwrap();
        Self { bench, keys }
    }

    async fn apply(&self) {
        self.bench.apply(&PlanOptions::default(), &Interrupt::default()).await.unwrap();
    }

    async fn plan(&self) -> Result<Plan, Failure> {
        self.bench.plan(&PlanOptions::default()).await
    }

    async fn refusal(&self) -> String {
        format!("{:?}", self.plan().await.unwrap_err())
    }
}

#[tokio::test]
async fn a_lost_a_damaged_and_another_key_store_are_errors_that_change_nothing() {
    let manifest = authority("") + "[resource.pki_key.sa]\nname = \"sa\"\n[resource.pki_random.r]\nname = \"r\"\n";
    let (here, elsewhere) = (Bench::new(&manifest), Bench::new(&manifest));
    here.apply().await;
    elsewhere.apply().await;
    let file = here.keys.join("keys.json");
    let kept = std::fs::read(&file).unwrap();

    std::fs::remove_dir_all(&here.keys).unwrap();
    let lost = here.refusal().await;
    for name in ["authority/root", "key/sa", "random/r"] {
        assert!(lost.contains(&format!("does not contain the key of {name} that the state records")), "{lost}");
    }
    assert!(!here.keys.exists(), "a plan makes no key store");

    std::fs::create_dir(&here.keys).unwrap();
    std::fs::copy(elsewhere.keys.join("keys.json"), &file).unwrap();
    let other = here.refusal().await;
    for name in ["authority/root", "key/sa", "random/r"] {
        assert!(other.contains(&format!("contains another key than that of {name}")), "{other}");
    }

    std::fs::write(&file, &kept[..kept.len() / 2]).unwrap();
    assert!(here.refusal().await.contains("it is damaged"));

    std::fs::write(&file, &kept).unwrap();
    assert!(here.plan().await.unwrap().changes.iter().all(|change| change.action == Action::NoOp));
}

#[tokio::test]
async fn a_plan_that_replaces_a_key_says_what_becomes_invalid() {
    let manifest = |algorithm: &str| {
        authority(&format!("key_algorithm = \"{algorithm}\""))
            + &format!(
                "[resource.pki_key.sa]\nname = \"sa\"\nkey_algorithm = \"{algorithm}\"\n[resource.pki_random.r]\nname = \"r\"\n"
            )
    };
    let bench = Bench::new(&manifest("ecdsa-p256"));
    bench.apply().await;
    let invalidated = |plan: Plan| -> Vec<String> {
        let of = |change: &moorfast_engine::plan::Change| {
            assert!(change.consequences.is_empty() || (change.action == Action::Replace && change.is_dangerous()));
            change
                .consequences
                .iter()
                .map(|consequence| format!("{} {consequence}", change.address))
                .collect::<Vec<_>>()
        };
        plan.changes.iter().flat_map(of).collect()
    };
    let expected = [
        "pki_authority.root invalidates every certificate that its key issued, for all who stop trusting it",
        "pki_key.sa invalidates everything that was signed with it or encrypted for it",
        "pki_random.r invalidates everything that was encrypted or authenticated with it",
    ];
    let replace = ["pki_authority.root", "pki_key.sa", "pki_random.r"].map(|address| address.parse().unwrap());
    let options = PlanOptions { replace: replace.to_vec(), ..PlanOptions::default() };
    assert_eq!(invalidated(bench.bench.plan(&options).await.unwrap()), expected);
    // An attribute that cannot be changed in place.
    bench.bench.write(&format!("[keystore]\nfile = \"keys\"\n{}", manifest("ed25519"))).unwrap();
    assert_eq!(invalidated(bench.plan().await.unwrap()), expected[..2]);
    bench.apply().await;
    assert!(invalidated(bench.plan().await.unwrap()).is_empty());
}

#[tokio::test]
async fn a_lost_state_is_made_again_from_the_key_store() {
    let manifest = authority("") + "[resource.pki_key.sa]\nname = \"sa\"\n";
    let bench = Bench::new(&manifest);
    bench.apply().await;
    let before = contents(&bench.keys);
    std::fs::remove_dir_all(bench.bench.data_dir()).unwrap();
    let plan = bench.plan().await.unwrap();
    assert!(plan.changes.iter().all(|change| change.action == Action::Adopt), "{:?}", plan.changes);
    bench.apply().await;
    assert_eq!(contents(&bench.keys), before);
}

#[tokio::test]
async fn no_private_key_is_in_the_state() {
    let bench =
        Bench::new(&(authority("") + "[resource.pki_key.sa]\nname = \"sa\"\n[resource.pki_random.r]\nname = \"r\"\n"));
    bench.apply().await;
    let text = std::fs::read_to_string(bench.keys.join("keys.json")).unwrap();
    let stored: serde_json::Value = serde_json::from_str(&text).unwrap();
    let plan = format!("{:?}", bench.plan().await.unwrap());
    let state = contents(bench.bench.data_dir());
    for entry in stored["entries"].as_object().unwrap().values() {
        let secret = entry["private_key"].as_str().or(entry["bytes"].as_str()).unwrap();
        let part = secret.lines().nth(1).unwrap_or(secret);
        let hidden = |text: &str| !text.contains(part);
        assert!(hidden(&plan) && hidden(&state));
    }
    let raw = std::fs::read(bench.bench.data_dir().join("state.db"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(!raw.unwrap_or_default().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn the_key_of_an_authority_can_be_written_to_a_node_and_survives_a_renewal() {
    let bench = Bench::new("");
    let file = bench.keys.with_file_name("ca.key");
    let manifest = |validity: &str| {
        let file = file.display();
        format!(
            "[keystore]\nfile = \"keys\"\n[nodes.here]\ntransport = \"local\"\nsudo = false\n{}\
             [resource.ssh_file.key]\non = \"here\"\npath = \"{file}\"\ncontent = \"${{pki_authority.root.private_key}}\"\nmode = \"0600\"\n",
            authority(&format!("validity = \"{validity}\""))
        )
    };
    bench.bench.write(&manifest("3650d")).unwrap();
    bench.apply().await;
    let stored: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(bench.keys.join("keys.json")).unwrap()).unwrap();
    let key = std::fs::read_to_string(&file).unwrap();
    assert_eq!(stored["entries"]["authority/root"]["private_key"], key);

    bench.bench.write(&manifest("7300d")).unwrap();
    let plan = bench.plan().await.unwrap();
    let changed = plan.changes.iter().filter(|change| change.action.is_change());
    assert_eq!(changed.map(|change| change.address.to_string()).collect::<Vec<_>>(), ["pki_authority.root"]);
    bench.apply().await;
    assert_eq!(std::fs::read_to_string(&file).unwrap(), key);
}

/// Returns a manifest with an authority and a certificate in `folder` of this machine.
fn certificate(folder: &Path, attributes: &str) -> String {
    let path = |name: &str| folder.join("tls").join(name).display().to_string();
    key_store(folder)
        + "[nodes.here]\ntransport = \"local\"\nsudo = false\n"
        + &authority("")
        + &format!(
            "[resource.pki_certificate.web]\non = \"here\"\nauthority = \"${{pki_authority.root.id}}\"\nparents = true\n\
             certificate_path = {:?}\nkey_path = {:?}\n{attributes}\n",
            path("web.crt"),
            path("web.key"),
        )
}

#[tokio::test]
async fn a_certificate_on_a_node_keeps_the_laws() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = |attributes: &str| certificate(folder.path(), attributes);
    let server = "common_name = \"web\"\nusages = [\"server\"]\ndns_names = [\"b.example\", \"*.a.example\"]\nip_addresses = [\"::0001\", \"10.0.0.1\"]";
    let with = |more: &str| manifest(&format!("{server}\n{more}"));
    let place = folder.path().join("tls");
    let case = Case::new(with(""))
        .update(with("organizations = [\"x\", \"a\"]"))
        .update(with("key_mode = \"600\"\ncertificate_mode = \"0600\""))
        .update(with("validity = \"48h\"\nrenew_before = \"8h\""))
        .update(with("validity = \"48h\"\nrenew_before = \"9h\""))
        .update(manifest("usages = [\"client\", \"server\"]\nuris = [\"spiffe://a/b\"]\nkey_algorithm = \"ed25519\""))
        .update(manifest("common_name = \"x\"\nusages = [\"client\"]\nchain = \"${pki_authority.root.certificate}\""))
        .reject(with("validity = \"8h\""), "renew_before")
        .reject(manifest("usages = [\"server\"]\ndns_names = [\"a b\"]"), "dns_names")
        .reject(manifest("usages = [\"server\"]\nip_addresses = [\"10.0.0\"]"), "ip_addresses")
        .reject(manifest("usages = [\"server\"]\nuris = [\"a\"]"), "uris")
        .reject(manifest("usages = []\ncommon_name = \"a\""), "usages")
        .reject(with("chain = \"none\""), "chain")
        .snapshot({
            let place = place.clone();
            move || contents(&place)
        })
        .disturb(move || {
            // The key of another certificate.
            std::fs::copy(place.join("web.crt"), place.join("web.key")).unwrap();
        });
    check(&providers(), &case).await.unwrap();
}
