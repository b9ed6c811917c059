//! Opening states that do not exist, belong to another program, are damaged or must not be read.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use futures::future::join_all;
use rusqlite::Connection;

use super::{locked, record};
use crate::{StateError, Store};

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

async fn with_a_record(dir: &Path) {
    let store = Store::open(dir).await.unwrap();
    locked(&store).await.put(record("ssh_file.a", 1)).await.unwrap();
}

#[tokio::test]
async fn a_new_state_is_for_its_owner_alone_and_leaves_two_files() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/.moorfast");
    with_a_record(&dir).await;
    assert_eq!(names(&dir), ["state.db", "state.key"].map(str::to_owned).into());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("state.db")), 0o600);
    assert_eq!(mode(&dir.join("state.key")), 0o600);
}

#[tokio::test]
async fn looking_makes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::open_existing(&dir.path().join("none")).await.unwrap().is_none());
    assert!(Store::open_existing(dir.path()).await.unwrap().is_none());
    assert!(names(dir.path()).is_empty());

    with_a_record(dir.path()).await;
    let before = names(dir.path());
    let store = Store::open_existing(dir.path()).await.unwrap().unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
    assert!(store.lock_info().await.unwrap().is_none());
    let refused = store.lock(crate::LockRequest::new("apply"), std::time::Duration::ZERO).await;
    assert!(matches!(refused, Err(StateError::ReadOnly { .. })));
    drop(store);
    assert_eq!(names(dir.path()), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_who_open_a_new_state_at_once_all_get_the_same() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let opened = (0..8).map(|_| {
            let dir = dir.path().to_owned();
            tokio::spawn(async move { Store::open(&dir).await.unwrap() })
        });
        let stores: Vec<_> = join_all(opened).await.into_iter().map(Result::unwrap).collect();
        let lineage = stores[0].snapshot().await.unwrap().lineage;
        for store in &stores {
            assert_eq!(store.snapshot().await.unwrap().lineage, lineage);
            assert_eq!(store.seal_key().as_bytes(), stores[0].seal_key().as_bytes());
        }
    }
}

/// A name, and a damage to a state with a record.
type Damage = (&'static str, fn(&Path));

const DAMAGES: &[Damage] = &[
    ("a newer format", |dir| sql(dir, "PRAGMA user_version = 7")),
    ("another program's database", |dir| sql(dir, "PRAGMA application_id = 7")),
    ("a database without an application", |dir| sql(dir, "PRAGMA application_id = 0")),
    ("not a database", |dir| {
        fs::write(dir.join("state.db"), "a text that is no database at all, but long enough").unwrap()
    }),
    ("an empty file", |dir| fs::write(dir.join("state.db"), "").unwrap()),
    ("a file cut in half", |dir| {
        let bytes = fs::read(dir.join("state.db")).unwrap();
        fs::write(dir.join("state.db"), &bytes[..bytes.len() / 2]).unwrap();
    }),
    ("a row that is no record", |dir| sql(dir, "UPDATE records SET body = '{}'")),
    ("a flipped bit in a row", |dir| {
        sql(dir, r#"UPDATE records SET body = replace(body, '"value":1', '"value":3')"#);
    }),
    ("a row under another address", |dir| sql(dir, "UPDATE records SET address = 'ssh_file.b'")),
    ("no key", |dir| fs::remove_file(dir.join("state.key")).unwrap()),
    ("another key", |dir| fs::write(dir.join("state.key"), [7; 32]).unwrap()),
    ("a key cut short", |dir| fs::write(dir.join("state.key"), [7; 5]).unwrap()),
    ("a key that others can read", |dir| {
        fs::set_permissions(dir.join("state.key"), fs::Permissions::from_mode(0o644)).unwrap();
    }),
];

fn sql(dir: &Path, text: &str) {
    Connection::open(dir.join("state.db")).unwrap().execute_batch(text).unwrap();
}

#[tokio::test]
async fn a_state_that_cannot_be_used_says_why_and_is_left_alone() {
    let mut said = String::new();
    for (name, damage) in DAMAGES {
        let dir = tempfile::tempdir().unwrap();
        with_a_record(dir.path()).await;
        damage(dir.path());
        let before = fs::read(dir.path().join("state.db")).unwrap();
        let errors =
            [read(Store::open(dir.path()).await.map(Some)).await, read(Store::open_existing(dir.path()).await).await];
        let messages = errors.map(|error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR"));
        assert_eq!(messages[0], messages[1], "{name}");
        assert_eq!(fs::read(dir.path().join("state.db")).unwrap(), before, "{name}");
        said += &format!("{name}: {}\n", messages[0]);
    }
    insta::assert_snapshot!(said);
}

async fn read(store: Result<Option<Store>, StateError>) -> StateError {
    match store {
        Ok(store) => store.unwrap().snapshot().await.unwrap_err(),
        Err(error) => error,
    }
}

#[tokio::test]
async fn an_empty_state_gets_a_new_key_where_its_own_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).await.unwrap());
    fs::remove_file(dir.path().join("state.key")).unwrap();
    assert!(Store::open_existing(dir.path()).await.unwrap().is_none());
    with_a_record(dir.path()).await;
    assert!(Store::open_existing(dir.path()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_state_of_an_older_moorfast_is_read_and_gets_checksums_as_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    with_a_record(dir.path()).await;
    sql(dir.path(), "UPDATE records SET body = substr(body, 1, instr(body, ' #') - 1); PRAGMA user_version = 2");
    let read = Store::open_existing(dir.path()).await.unwrap().unwrap();
    assert_eq!(*read.snapshot().await.unwrap().records["ssh_file.a"], record("ssh_file.a", 1));
    drop(read);
    let store = Store::open(dir.path()).await.unwrap();
    locked(&store).await.put(record("ssh_file.a", 2)).await.unwrap();
    drop(store);
    sql(dir.path(), r#"UPDATE records SET body = replace(body, '"value":2', '"value":3')"#);
    let damaged = Store::open_existing(dir.path()).await.unwrap().unwrap().snapshot().await.unwrap_err();
    assert!(matches!(damaged, StateError::Corrupt { .. }), "{damaged}");
}
