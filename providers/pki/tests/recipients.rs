//! For whom the key store is encrypted, and the way from a key store that is not encrypted to one that is, and back.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::x25519::Identity;
use age::{Decryptor, Encryptor};
use moorfast_conformance::Workbench;
use moorfast_engine::apply::Report;
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::{Action, Provider};
use moorfast_engine::session::Interrupt;
use moorfast_pki::PkiProvider;
use moorfast_ssh::SshProvider;

const IDENTITY: &str = "MOORFAST_AGE_IDENTITY";
const MINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../engine/src/expression/tests/age/identity");

/// Returns the identity of the person who runs moorfast. An environment belongs to a whole process, so a test runs itself again in one with that identity, and
/// gets `None` when that has succeeded.
fn me(test: &str) -> Option<Identity> {
    if std::env::var(IDENTITY).as_deref() == Ok(MINE) {
        let text = fs::read_to_string(MINE).unwrap();
        return Some(text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap().parse().unwrap());
    }
    let mut again = Command::new(std::env::current_exe().unwrap());
    let output = again.args(["--exact", test, "--nocapture"]).env(IDENTITY, MINE).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    None
}

fn recipient(identity: &Identity) -> String {
    identity.to_public().to_string()
}

struct Site {
    bench: Workbench,
    keys: PathBuf,
}

impl Site {
    fn new() -> Self {
        let providers: [Arc<dyn Provider>; 2] = [Arc::new(PkiProvider), Arc::new(SshProvider)];
        let bench = Workbench::new(&providers).unwrap();
        let keys = bench.path().join("the keys");
        Self { bench, keys }
    }

    /// Writes the manifest: a key store with these recipients, an authority, and more.
    fn declare(&self, recipients: &[&Identity], more: &str) {
        let texts: Vec<_> = recipients.iter().map(|identity| recipient(identity)).collect();
        let recipients = if texts.is_empty() { String::new() } else { format!("recipients = {texts:?}\n") };
        let authority = "[resource.pki_authority.root]\nname = \"root\"\ncommon_name = \"Root\"\n";
        self.bench.write(&format!("[keystore]\nfile = \"the keys\"\n{recipients}{authority}{more}")).unwrap();
    }

    async fn plan(&self) -> Plan {
        self.bench.plan(&PlanOptions::default()).await.unwrap()
    }

    async fn refusal(&self) -> String {
        format!("{:?}", self.bench.plan(&PlanOptions::default()).await.unwrap_err())
    }

    /// Plans, checks that nothing but the key store itself changes, and returns the warnings about it.
    async fn warnings(&self) -> Vec<String> {
        let plan = self.plan().await;
        assert!(plan.changes.iter().all(|change| change.action == Action::NoOp), "{:?}", plan.changes);
        let warnings: Vec<_> =
            plan.warnings.iter().filter(|warning| warning.contains("other recipients")).cloned().collect();
        assert_eq!(plan.has_changes(), !warnings.is_empty(), "an apply asks for approval");
        warnings
    }

    async fn apply(&self) -> Report {
        self.bench.apply(&PlanOptions::default(), &Interrupt::default()).await.unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.keys).unwrap()
    }

    /// Returns the contents of the encrypted key store. `None` if it is not encrypted for this identity.
    fn opened(&self, identity: &Identity) -> Option<String> {
        let bytes = self.bytes();
        let decryptor = Decryptor::new(ArmoredReader::new(&bytes[..])).unwrap();
        let mut text = String::new();
        decryptor.decrypt([identity as &dyn age::Identity].into_iter()).ok()?.read_to_string(&mut text).unwrap();
        Some(text)
    }

    /// Writes the key store, encrypted for one identity.
    fn seal(&self, text: &str, identity: &Identity) {
        let recipient = identity.to_public();
        let encryptor = Encryptor::with_recipients([&recipient as &dyn age::Recipient].into_iter()).unwrap();
        let mut bytes = Vec::new();
        let armored = ArmoredWriter::wrap_output(&mut bytes, Format::AsciiArmor).unwrap();
        let mut writer = encryptor.wrap_output(armored).unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().and_then(ArmoredWriter::finish).unwrap();
        fs::write(&self.keys, bytes).unwrap();
    }
}

#[tokio::test]
async fn an_apply_encrypts_the_key_store_for_the_recipients_in_the_manifest() {
    let test = "an_apply_encrypts_the_key_store_for_the_recipients_in_the_manifest";
    let Some(me) = me(test) else { return };
    let other = Identity::generate();
    let site = Site::new();
    site.declare(&[&me], "");
    site.apply().await;
    let authority = |text: &str| -> serde_json::Value {
        serde_json::from_str::<serde_json::Value>(text).unwrap()["entries"].clone()
    };
    let entries = authority(&site.opened(&me).unwrap());
    assert_eq!((site.opened(&other), site.warnings().await), (None, vec![]));

    // A recipient is added. Only the apply changes the key store, and the plan names who is added.
    let before = site.bytes();
    site.declare(&[&me, &other], "");
    let warned = site.warnings().await;
    let added = format!("the key store will be encrypted for other recipients: adds {}", recipient(&other));
    assert_eq!((warned, site.bytes()), (vec![added], before));
    let report = site.apply().await;
    assert!(report.errors.is_empty() && report.outcomes.iter().all(|outcome| outcome.is_done()), "{report:?}");
    assert_eq!(authority(&site.opened(&other).unwrap()), entries);

    // It is written once, and the order of the recipients means nothing.
    let before = site.bytes();
    site.declare(&[&other, &me], "");
    assert_eq!(site.warnings().await, [""; 0]);
    site.apply().await;
    assert_eq!(site.bytes(), before);

    // A recipient is removed.
    site.declare(&[&me], "");
    assert!(site.warnings().await[0].ends_with(&format!(": removes {}", recipient(&other))));
    site.apply().await;
    assert_eq!((site.opened(&other), authority(&site.opened(&me).unwrap())), (None, entries.clone()));

    // A change of something else is made in the same apply.
    let key = "[resource.pki_key.sa]\nname = \"sa\"\n";
    site.declare(&[&me, &other], key);
    assert_eq!(site.plan().await.warnings.len(), 1);
    site.apply().await;
    assert!(site.opened(&other).unwrap().contains("key/sa"));
    assert_eq!(site.warnings().await, [""; 0]);
}

#[tokio::test]
async fn a_key_store_that_does_not_say_for_whom_it_is_encrypted_is_encrypted_again() {
    let test = "a_key_store_that_does_not_say_for_whom_it_is_encrypted_is_encrypted_again";
    let Some(me) = me(test) else { return };
    let other = Identity::generate();
    let site = Site::new();
    site.declare(&[&me, &other], "");
    site.apply().await;
    // As an earlier version wrote it.
    let mut json: serde_json::Value = serde_json::from_str(&site.opened(&me).unwrap()).unwrap();
    assert!(json.as_object_mut().unwrap().remove("recipients").is_some());
    site.seal(&json.to_string(), &me);
    assert_eq!(site.warnings().await.len(), 1);
    site.apply().await;
    assert!(site.opened(&other).is_some());
    assert_eq!(site.warnings().await, [""; 0]);
}

#[tokio::test]
async fn nobody_locks_themselves_out_with_other_recipients() {
    let Some(me) = me("nobody_locks_themselves_out_with_other_recipients") else { return };
    let other = Identity::generate();
    let site = Site::new();
    site.declare(&[&me], "");
    site.apply().await;
    let before = site.bytes();
    site.declare(&[&other], "");
    let report = site.apply().await;
    assert!(report.errors[0].summary.contains("it would not be encrypted for the identity"), "{report:?}");
    assert_eq!(site.bytes(), before);
}

#[tokio::test]
async fn a_key_store_without_recipients_gets_some_by_the_commands_of_the_error() {
    let test = "a_key_store_without_recipients_gets_some_by_the_commands_of_the_error";
    let Some(me) = me(test) else { return };
    let site = Site::new();
    site.declare(&[], "");
    site.apply().await;
    site.declare(&[&me], "");
    let refusal = site.refusal().await;
    assert!(refusal.contains("it is a folder with a key store that is not encrypted"), "{refusal}");
    let commands = refusal.split('`').find(|part| part.starts_with("mv ")).unwrap();
    assert!(Command::new("sh").args(["-ec", commands]).status().unwrap().success(), "{commands}");
    // An unencrypted file that others can read is refused, as in a folder.
    fs::set_permissions(&site.keys, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(site.refusal().await.contains("others can read it"));
    fs::set_permissions(&site.keys, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(site.warnings().await.len(), 1);
    site.apply().await;
    assert!(site.opened(&me).is_some());
    assert_eq!(site.warnings().await, [""; 0]);
}

#[tokio::test]
async fn an_encrypted_key_store_without_recipients_in_the_manifest_is_an_error_with_the_way_back() {
    let test = "an_encrypted_key_store_without_recipients_in_the_manifest_is_an_error_with_the_way_back";
    let Some(me) = me(test) else { return };
    let site = Site::new();
    site.declare(&[&me], "");
    site.apply().await;
    site.declare(&[], "");
    let refusal = site.refusal().await;
    assert!(refusal.contains("it is a file, but [keystore] has no `recipients`"), "{refusal}");
    assert!(refusal.contains("age --decrypt"), "{refusal}");
    // What the commands do. The program age is not part of the test.
    let text = site.opened(&me).unwrap();
    fs::remove_file(&site.keys).unwrap();
    fs::DirBuilder::new().mode(0o700).create(&site.keys).unwrap();
    let file = site.keys.join("keys.json");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(site.warnings().await, [""; 0]);
}
