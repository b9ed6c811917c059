//! Waiting requests share a transaction.

use std::fs;
use std::path::Path;
use std::pin::pin;

use futures::future::join_all;
use futures::{FutureExt, poll};
use rusqlite::Connection;

use super::{intent, locked, record};
use crate::{Outcome, StateError, Store};

/// SQLite's log: a header, then frames of a page each.
struct Log(Vec<u8>);

impl Log {
    fn of(dir: &Path) -> Self {
        Self(fs::read(dir.join("state.db-wal")).unwrap())
    }

    fn frames(&self) -> impl Iterator<Item = &[u8]> {
        let page = u32::from_be_bytes(self.0[8..12].try_into().unwrap()) as usize;
        self.0[32..].chunks_exact(24 + page)
    }

    /// Returns the number of transactions: the last frame of each contains the size of the database.
    fn commits(&self) -> usize {
        self.frames().filter(|frame| frame[4..8] != [0; 4]).count()
    }
}

#[tokio::test]
async fn what_waits_shares_a_sync_and_what_fails_fails_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let lock = locked(&store).await;
    lock.begin(vec![intent("open", "ssh_file.open")]).await.unwrap();
    let before = Log::of(dir.path()).commits();

    // While another process writes, requests queue up.
    let busy = Connection::open(dir.path().join("state.db")).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    let puts = (0..100).map(|i| lock.put(record(&format!("ssh_file.r{i}"), i)).boxed());
    let others = [
        lock.remove("ssh_file.none").boxed(),
        lock.begin(vec![intent("new", "ssh_file.x"), intent("open", "ssh_file.twice")]).boxed(),
        lock.finish("open", Outcome::Put(record("ssh_file.open", 1).into())).boxed(),
        lock.finish("open", Outcome::Remove).boxed(),
    ];
    let mut all = pin!(join_all(puts.chain(others)));
    assert!(poll!(&mut all).is_pending());
    busy.execute_batch("ROLLBACK").unwrap();
    let mut results = all.await;

    assert_eq!(Log::of(dir.path()).commits() - before, 1);
    let others = results.split_off(100);
    assert!(results.iter().all(Result::is_ok));
    assert!(matches!(others[0], Err(StateError::NoRecord { .. })));
    assert!(matches!(others[1], Err(StateError::Database { .. })), "an id that is taken: {:?}", others[1]);
    assert!(others[2].is_ok());
    assert!(matches!(others[3], Err(StateError::NoIntent { .. })));

    let found = store.snapshot().await.unwrap();
    assert_eq!((found.records.len(), found.intents.len(), found.serial.get()), (101, 0, 101));
}

#[tokio::test]
async fn a_request_is_done_though_nobody_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let lock = locked(&store).await;
    {
        let mut put = pin!(lock.put(record("ssh_file.a", 1)));
        let _ = poll!(&mut put);
    }
    drop((lock, store));
    let store = Store::open_existing(dir.path()).await.unwrap().unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn a_write_costs_what_it_changes_however_large_the_state_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let lock = locked(&store).await;
    join_all((0..10_000).map(|i| lock.put(record(&format!("ssh_file.r{i}"), i))))
        .await
        .into_iter()
        .collect::<Result<(), _>>()
        .unwrap();
    let other = Connection::open(dir.path().join("state.db")).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    lock.put(record("ssh_file.r5000", 1)).await.unwrap();
    let pages = Log::of(dir.path()).frames().count();
    assert!(pages <= 4, "{pages} pages for one of 10000 records");
}
