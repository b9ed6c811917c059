//! Laws of a whole state.

use std::pin::pin;
use std::time::Duration;

use futures::future::join_all;
use futures::{FutureExt, poll};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::bed::Bed;
use super::child::Other;
use super::{intent, large, locked, record};
use crate::{EnvironmentName, LockRequest, Outcome, Record, Run, RunEnd, RunResult, StateError, Store};

pub(super) async fn a_serial_counts_changes_only(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    for _ in 0..2 {
        lock.put(record("ssh_file.a", 1)).await.unwrap();
        lock.set_node("gpu01", serde_json::json!({ "machine_id": "x" })).await.unwrap();
    }
    assert_eq!(store.snapshot().await.unwrap().serial.get(), 2);
}

pub(super) async fn runs_are_listed_newest_first_and_a_killed_one_has_no_end(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    let runs: Vec<_> = ["apply", "destroy", "apply"].map(Run::new).into();
    for run in &runs {
        lock.start_run(run.clone()).await.unwrap();
    }
    let end =
        RunEnd { at: jiff::Timestamp::UNIX_EPOCH, result: RunResult::Failed, counts: [("added".to_owned(), 3)].into() };
    lock.finish_run(&runs[1].id, end.clone()).await.unwrap();
    assert!(matches!(lock.finish_run("none", end.clone()).await, Err(StateError::NoRun { .. })));
    let found = store.runs(2).await.unwrap();
    assert_eq!(found, [runs[2].clone(), Run { end: Some(end), ..runs[1].clone() }]);
    assert_eq!(store.runs(usize::MAX).await.unwrap().len(), 3);
}

pub(super) async fn what_fails_fails_alone(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    lock.begin(vec![intent("open", "ssh_file.open")]).await.unwrap();
    let puts = (0..100).map(|i| lock.put(record(&format!("ssh_file.r{i}"), i)).boxed());
    let others = [
        lock.remove("ssh_file.none").boxed(),
        lock.begin(vec![intent("new", "ssh_file.x"), intent("open", "ssh_file.twice")]).boxed(),
        lock.finish("open", Outcome::Put(record("ssh_file.open", 1).into())).boxed(),
        lock.finish("open", Outcome::Remove).boxed(),
    ];
    let mut results = join_all(puts.chain(others)).await;
    let others = results.split_off(100);
    assert!(results.iter().all(Result::is_ok));
    assert!(matches!(others[0], Err(StateError::NoRecord { .. })));
    assert!(others[1].is_err(), "an id that is taken: {:?}", others[1]);
    assert!(others[2].is_ok());
    assert!(matches!(others[3], Err(StateError::NoIntent { .. })));
    let found = store.snapshot().await.unwrap();
    assert_eq!((found.records.len(), found.intents.len(), found.serial.get()), (101, 0, 101));
}

pub(super) async fn a_request_is_done_though_nobody_waits_for_it(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    {
        let mut put = pin!(lock.put(record("ssh_file.a", 1)));
        let _ = poll!(&mut put);
    }
    drop((lock, store));
    let store = bed.open_existing().await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
    assert_eq!(store.lock_info().await.unwrap(), None, "the lock was given back after it");
}

/// Returns a record of one kilobyte, half of it incompressible.
fn incompressible(address: &str, random: &mut StdRng) -> Record {
    let noise: String = (0..300).map(|_| random.random_range('0'..='z')).collect();
    let attributes = json!({ "content": noise, "path": format!("/etc/{address}"), "filler": "y".repeat(250) });
    Record { attributes: attributes.as_object().unwrap().clone(), ..record(address, 0) }
}

pub(super) async fn ten_thousand_records_fit(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    let mut random = StdRng::seed_from_u64(1);
    let records: Vec<Record> =
        (0..10_000).map(|i| incompressible(&format!("ssh_file.r[\"{i}\"]"), &mut random)).collect();
    for result in join_all(records.iter().map(|record| lock.put(record.clone()))).await {
        result.unwrap();
    }
    let found = bed.open_existing().await.unwrap().snapshot().await.unwrap();
    assert_eq!(found.records.len(), records.len());
    assert!(records.iter().all(|record| *found.records[&record.address] == *record));
    lock.put(record("ssh_file.one_more", 1)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), records.len() + 1);
    bed.sizes_are_fine().await;
    lock.release().await.unwrap();
}

pub(super) async fn a_large_record_fits(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    let mut random = StdRng::seed_from_u64(2);
    let noise: String = (0..3 << 20).map(|_| random.random_range(' '..='~')).collect();
    let large = Record { private: json!(noise), ..record("ssh_file.large", 1) };
    lock.put(large.clone()).await.unwrap();
    lock.put(record("ssh_file.small", 1)).await.unwrap();
    assert_eq!(*bed.open_existing().await.unwrap().snapshot().await.unwrap().records["ssh_file.large"], large);
    bed.sizes_are_fine().await;
    lock.remove("ssh_file.large").await.unwrap();
    assert_eq!(bed.open_existing().await.unwrap().snapshot().await.unwrap().records.len(), 1);
}

pub(super) async fn of_many_who_open_a_new_state_at_once_all_get_the_same(bed: Bed) {
    let stores = join_all((0..6).map(|_| bed.open())).await;
    let lineage = stores[0].snapshot().await.unwrap().lineage;
    for store in &stores {
        assert_eq!(store.snapshot().await.unwrap().lineage, lineage);
        assert_eq!(store.seal_key().as_bytes(), stores[0].seal_key().as_bytes());
    }
}

pub(super) async fn looking_makes_nothing(bed: Bed) {
    assert!(bed.open_existing().await.is_none());
    assert!(bed.open_existing().await.is_none());
    let store = bed.open().await;
    locked(&store).await.put(record("ssh_file.a", 1)).await.unwrap();
    let store = bed.open_existing().await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
    let refused = store.lock(LockRequest::new("apply"), Duration::ZERO).await;
    assert!(matches!(refused, Err(StateError::ReadOnly { .. })));
}

pub(super) async fn contents_are_the_same_in_another_store(bed: Bed) {
    let from = bed.open().await;
    let lock = locked(&from).await;
    lock.start_run(Run::new("apply")).await.unwrap();
    lock.put(record("ssh_file.a", 1)).await.unwrap();
    lock.begin(vec![intent("open", "ssh_file.a"), intent("second", "ssh_file.b")]).await.unwrap();
    lock.set_node("gpu01", json!({ "machine_id": "x" })).await.unwrap();
    let contents = from.contents().await.unwrap();

    let there = bed.another();
    let to = there.open().await;
    let other = locked(&to).await;
    other.put(record("ssh_file.old", 1)).await.unwrap();
    other.replace(contents.clone()).await.unwrap();
    other.release().await.unwrap();
    drop(to);
    for store in [there.open().await, there.open_existing().await.unwrap()] {
        let found = store.contents().await.unwrap();
        assert_eq!((&found.snapshot, &found.runs), (&contents.snapshot, &contents.runs));
        assert_eq!(found.key.as_bytes(), contents.key.as_bytes());
    }
    let lock = locked(&there.open().await).await;
    lock.finish("open", Outcome::Remove).await.unwrap();
}

pub(super) async fn a_run_begins_once(bed: Bed) {
    let store = bed.open().await;
    let lock = locked(&store).await;
    let run = Run::new("apply");
    lock.start_run(run.clone()).await.unwrap();
    assert!(matches!(lock.start_run(run.clone()).await, Err(StateError::RunExists { .. })));
    assert_eq!(store.runs(10).await.unwrap(), [run]);
}

/// The names look like parts of a state: of its key, its lock, its shards, its drift history.
pub(super) async fn environments_share_nothing(bed: Bed) {
    let names = ["", "prod", "prod-key", "prod-lock", "prod-drift", "prod-1", "shards", "keys", "head"];
    let environments = names.map(|name| name.parse::<EnvironmentName>().ok());
    let open = |environment: &Option<EnvironmentName>| {
        let location = bed.place.location.clone().in_environment(environment.as_ref());
        let dir = EnvironmentName::folder(environment.as_ref(), &bed.place.dir);
        async move { Store::open_at(&location, &dir).await.unwrap() }
    };
    let address = |environment: &Option<EnvironmentName>| match environment {
        Some(name) => format!("ssh_file.of_{name}"),
        None => "ssh_file.of_none".to_owned(),
    };
    for environment in &environments {
        let store = open(environment).await;
        let lock = locked(&store).await;
        lock.put(large(&address(environment), 64)).await.unwrap();
        lock.start_run(Run::new("apply").in_environment(environment.clone())).await.unwrap();
    }
    let mut lineages = Vec::new();
    for environment in &environments {
        let store = open(environment).await;
        let found = store.snapshot().await.unwrap();
        assert_eq!(found.records.into_keys().collect::<Vec<_>>(), [address(environment)]);
        assert_eq!(store.runs(9).await.unwrap().iter().map(|run| &run.environment).collect::<Vec<_>>(), [environment]);
        assert!(!lineages.contains(&found.lineage));
        lineages.push(found.lineage);
    }
}

/// If the replacement of a state crashes at any durable write, the next holder of the lock leaves only the key of the state.
pub(super) async fn a_key_that_was_replaced_does_not_stay(bed: Bed) {
    for write in 1.. {
        let (bed, at) = (bed.another(), format!("before:{write}"));
        let mut other = Other::start_to_crash("replace", &at, &bed.place);
        while other.hear().is_some() {}
        let ended = other.ended_well();
        let store = bed.open().await;
        drop(locked(&store).await);
        drop(store);
        let store = bed.open_existing().await.unwrap();
        store.snapshot().await.unwrap();
        let keys = bed.keys().await;
        assert_eq!(keys.len(), 1, "{at}");
        assert_eq!(keys[0].as_bytes(), store.seal_key().as_bytes(), "{at}");
        if ended {
            assert!(write > 4 && store.snapshot().await.unwrap().records.contains_key("ssh_file.new"));
            return;
        }
    }
}
