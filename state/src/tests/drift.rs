//! The history of drift, beside the state.

use futures::future::join_all;
use jiff::Timestamp;

use super::bed::Bed;
use super::{locked, record};
use crate::{Digest, DriftHistory, Observation, Sighting, StateError};

fn observation(subject: &str) -> Observation {
    let sighting =
        Sighting { subject: subject.into(), attributes: vec!["mode".into()], how: Digest::of(subject.as_bytes()) };
    // The drift of other observations stays, because this one did not read their objects.
    let unseen = (0..8).map(|i| format!("ssh_file.r{i}")).filter(|other| other != subject).collect();
    Observation { at: Timestamp::UNIX_EPOCH, seen: vec![sighting], unseen, reported: false, posted: None }
}

pub(super) async fn a_look_takes_no_lock_and_makes_no_version(bed: Bed) {
    let (store, other) = (bed.open().await, bed.open().await);
    let lock = locked(&store).await;
    lock.put(record("ssh_file.r0", 1)).await.unwrap();
    let before = store.snapshot().await.unwrap();
    assert_eq!(other.drift().await.unwrap().entries, []);
    other.note_drift(&observation("ssh_file.r0")).await.unwrap();
    let seen = store.drift().await.unwrap();
    assert_eq!(seen.entries.iter().map(|entry| entry.subject.as_str()).collect::<Vec<_>>(), ["ssh_file.r0"]);
    assert_eq!(store.snapshot().await.unwrap(), before);
    // The run continues unaffected.
    lock.put(record("ssh_file.r0", 2)).await.unwrap();
    lock.release().await.unwrap();
    assert_eq!(other.drift().await.unwrap(), seen);
}

pub(super) async fn of_looks_at_the_same_moment_none_is_lost(bed: Bed) {
    let stores = join_all((0..8).map(|_| bed.open())).await;
    let notes = stores.iter().enumerate().map(|(i, store)| async move {
        let observation = observation(&format!("ssh_file.r{i}"));
        // Adding the same observation twice has no further effect.
        store.note_drift(&observation).await.unwrap();
        store.note_drift(&observation).await.unwrap();
    });
    join_all(notes).await;
    let entries = stores[0].drift().await.unwrap().entries;
    let mut subjects: Vec<_> = entries.into_iter().map(|entry| entry.subject).collect();
    subjects.sort();
    assert_eq!(subjects, (0..8).map(|i| format!("ssh_file.r{i}")).collect::<Vec<_>>());
}

pub(super) async fn without_write_access_the_history_is_not_stored(bed: Bed) {
    let store = bed.open().await;
    store.note_drift(&observation("ssh_file.r0")).await.unwrap();
    let reader = bed.open_existing().await.unwrap();
    let refused = reader.note_drift(&observation("ssh_file.r1")).await;
    assert!(matches!(refused, Err(StateError::ReadOnly { .. })), "{refused:?}");
    assert_eq!(reader.drift().await.unwrap(), store.drift().await.unwrap());
    assert_eq!(store.drift().await.unwrap().entries.len(), 1);
}

pub(super) async fn more_drift_than_an_object_holds_as_text_is_kept(bed: Bed) {
    let store = bed.open().await;
    let sighting = |i: usize| Sighting {
        subject: format!("ssh_file.configuration[\"node-{i:05}\"]"),
        attributes: vec!["content".into(), "sha256".into(), "size".into()],
        how: Digest::of(&i.to_le_bytes()),
    };
    let seen = (0..10_000).map(sighting).collect();
    let observation =
        Observation { at: Timestamp::UNIX_EPOCH, seen, unseen: Default::default(), reported: true, posted: None };
    store.note_drift(&observation).await.unwrap();
    let history = bed.open_existing().await.unwrap().drift().await.unwrap();
    assert!(history == DriftHistory::default().after(&observation), "{} entries", history.entries.len());
}
