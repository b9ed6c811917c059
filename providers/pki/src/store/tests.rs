//! Tests of the key store. Another process is this test binary, started again for one test.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

const PLACE: &str = "MOORFAST_PKI_TEST_PLACE";
const RECIPIENTS: &str = "MOORFAST_PKI_TEST_RECIPIENTS";

fn store(file: &Path, recipients: &[String]) -> KeyStore {
    KeyStore(Arc::new(Place::Open(KeyStoreSettings { file: file.to_owned(), recipients: recipients.to_vec() })))
}

fn random(id: &str) -> Entry {
    Entry::Random { id: id.to_owned(), bytes: Zeroizing::new("c2VjcmV0".to_owned()) }
}

fn put(store: &KeyStore, name: &str, id: &str) -> Result<(), ProviderError> {
    store.update(|entries| {
        entries.put(name, random(id));
        Ok(())
    })
}

fn names(entries: &Entries) -> BTreeSet<String> {
    let json = serde_json::to_value(entries).unwrap();
    json["entries"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_change_is_read_again_and_a_failed_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder.path().join("keys"), &[]);
    assert_eq!(store.read().unwrap(), Entries::default());
    put(&store, "random/a", "1").unwrap();
    let refused = ProviderError::new(moorfast_engine::provider::Class::Failed, "no");
    let failed = store.update(|entries| -> Result<(), _> {
        entries.put("random/b", random("2"));
        Err(refused.clone())
    });
    assert_eq!(failed, Err(refused));
    assert_eq!(names(&store.read().unwrap()), ["random/a".to_owned()].into());
    store
        .update(|entries| {
            entries.destroy("random/a");
            Ok(())
        })
        .unwrap();
    let entries = store.read().unwrap();
    assert!(entries.existing("random/a").is_none() && entries.get("random/a").is_some());
}

#[test]
fn without_recipients_only_the_owner_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("keys");
    let store = store(&place, &[]);
    put(&store, "random/a", "1").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let file = place.join(PLAIN_FILE);
    assert_eq!((mode(&place), mode(&file)), (0o700, 0o600));
    fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
    let error = store.read().unwrap_err();
    assert!(error.summary.contains("0640"), "{error}");
}

#[test]
fn damage_is_an_error_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("keys");
    let store = store(&place, &[]);
    put(&store, "random/a", "1").unwrap();
    let file = place.join(PLAIN_FILE);
    for text in ["", "{", "{\"version\":\"2\",\"entries\":{}}", "null"] {
        fs::write(&file, text).unwrap();
        assert!(put(&store, "random/b", "2").is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
    }
}

#[test]
fn it_is_encrypted_for_its_recipients_and_for_nobody_else() {
    let mine = age::x25519::Identity::generate();
    let other = age::x25519::Identity::generate();
    let recipient = |identity: &age::x25519::Identity| sealing::recipient(&identity.to_public().to_string()).unwrap();
    let identity = |identity: &age::x25519::Identity| -> Vec<Box<dyn Identity>> { vec![Box::new(identity.clone())] };
    let encrypted = sealing::encrypt(b"private", &[recipient(&mine)]).unwrap();
    assert!(!String::from_utf8_lossy(&encrypted).contains("private"));
    assert_eq!(*sealing::decrypt(&encrypted, &identity(&mine)).unwrap(), b"private");
    assert!(matches!(sealing::decrypt(&encrypted, &identity(&other)), Err(StoreError::NotForMe)));
    let both = sealing::encrypt(b"private", &[recipient(&mine), recipient(&other)]).unwrap();
    assert!(sealing::decrypt(&both, &identity(&other)).is_ok());
    assert!(matches!(sealing::decrypt(&encrypted[..encrypted.len() / 2], &identity(&mine)), Err(StoreError::Damaged)));
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN me@example";
    assert!(sealing::recipient(ssh).is_ok());
    assert!(matches!(sealing::recipient("age1nobody"), Err(StoreError::Recipient(_))));
}

/// Returns the place and the recipients of the key store, in a process that [`start`] started.
fn of_child() -> Option<(PathBuf, Vec<String>)> {
    let (place, recipients) = (std::env::var_os(PLACE)?, std::env::var(RECIPIENTS).ok()?);
    Some((place.into(), recipients.split_whitespace().map(str::to_owned).collect()))
}

/// Starts one of the tests that do nothing else.
fn start(test: &str, place: &Path, recipients: &[String], identity: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("store::tests::{test}"), "--nocapture"]);
    command.env(PLACE, place).env(RECIPIENTS, recipients.join(" ")).env("MOORFAST_AGE_IDENTITY", identity);
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Returns what a child says that it stored, until it has stored so much. Then kills it in the middle of its work.
fn killed_after(mut child: Child, count: usize) -> Vec<String> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let stored = lines.filter_map(|line| line.strip_prefix("stored ").map(str::to_owned)).take(count).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    stored
}

/// Encrypts the key store for fewer and for more recipients until it is killed. Does nothing as a usual test.
#[test]
fn child_encrypter() {
    let Some((place, recipients)) = of_child() else { return };
    for count in (1..=recipients.len()).cycle() {
        store(&place, &recipients[..count]).encrypt_again().unwrap();
        println!("\nstored {count}");
    }
}

/// Adds entries until it is killed, and prints the name of each when it is stored. Does nothing as a usual test.
#[test]
fn child_writer() {
    let Some((place, recipients)) = of_child() else { return };
    let store = store(&place, &recipients);
    for number in 0.. {
        let name = format!("random/{}-{number}", std::process::id());
        put(&store, &name, "1").unwrap();
        println!("\nstored {name}");
    }
}

#[test]
fn no_stored_key_is_lost_by_kills_and_by_writers_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("keys");
    let start = || start("child_writer", &place, &[], Path::new(""));
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        // Each child is killed at another moment each time.
        let children = [start(), start()];
        acknowledged.extend(children.into_iter().flat_map(|child| killed_after(child, 2 + round)));
        let found = names(&store(&place, &[]).read().unwrap());
        assert!(acknowledged.is_subset(&found), "{:?}", acknowledged.difference(&found).collect::<Vec<_>>());
    }
    assert!(acknowledged.len() >= 18);
}

#[test]
fn no_stored_key_is_lost_while_the_recipients_change() {
    let folder = tempfile::tempdir().unwrap();
    let (place, identity) = (folder.path().join("keys.age"), folder.path().join("identity"));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../engine/src/expression/tests/age/identity");
    fs::copy(file, &identity).unwrap();
    let mine = || -> Vec<Box<dyn Identity>> {
        let text = fs::read_to_string(&identity).unwrap();
        let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-")).unwrap();
        vec![Box::new(secret.parse::<age::x25519::Identity>().unwrap())]
    };
    let public = fs::read_to_string(&identity).unwrap();
    let public = public.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap().to_owned();
    let recipients = [public, age::x25519::Identity::generate().to_public().to_string()];
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let start = |test| start(test, &place, &recipients, &identity);
        acknowledged.extend(killed_after(start("child_writer"), 2 + round));
        assert_eq!(killed_after(start("child_encrypter"), 3 + round).len(), 3 + round);
        let found = sealing::decode(&sealing::decrypt(&fs::read(&place).unwrap(), &mine()).unwrap()).unwrap();
        assert!(acknowledged.is_subset(&names(&found)), "{:?}", acknowledged.difference(&names(&found)));
        assert!(found.recipients.is_some_and(|found| found.contains(&recipients[0])));
    }
    assert!(acknowledged.len() >= 9);
}
