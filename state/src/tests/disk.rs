//! Full and read-only file systems: small ones in memory, which only root can mount.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::join_all;

use super::child::Other;
use super::{large, locked, record};
use crate::{StateError, Store};

/// A small file system, unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// Returns `None` and prints the reason if this user cannot mount.
    fn new(size: &str) -> Option<Self> {
        let disk = Self(tempfile::tempdir().unwrap());
        let mounted = mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"], disk.path());
        if !mounted {
            println!("skipped: only root can mount the small file system that this test fills");
        }
        mounted.then_some(disk)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A process that another test starts has the open files of this one until it runs its program, and keeps the file system busy for that moment.
    fn remount(&self, options: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !mount(&["-o", &format!("remount,{options}")], self.path()) {
            assert!(Instant::now() < deadline, "the file system stays busy");
            std::thread::yield_now();
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(self.path()).output().ok();
    }
}

fn mount(arguments: &[&str], at: &Path) -> bool {
    nix::unistd::geteuid().is_root() && Command::new("mount").args(arguments).arg(at).output().unwrap().status.success()
}

#[tokio::test]
async fn a_full_disk_is_an_error_and_loses_nothing() {
    let Some(disk) = Disk::new("1m") else { return };
    let store = Store::open(disk.path()).await.unwrap();
    let lock = locked(&store).await;
    let mut written = 0;
    let error = loop {
        match lock.put(large(&format!("ssh_file.r{written}"), 16)).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StateError::DiskFull { .. }), "{error}");
    assert!(written > 10);
    assert_eq!(store.snapshot().await.unwrap().records.len(), written);

    disk.remount("size=8m");
    lock.put(record("ssh_file.last", 1)).await.unwrap();
    drop((lock, store));
    let store = Store::open(disk.path()).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), written + 1);
}

#[tokio::test]
async fn a_write_too_large_for_the_disk_does_not_fail_its_group() {
    let Some(disk) = Disk::new("2m") else { return };
    let store = Store::open(disk.path()).await.unwrap();
    let lock = locked(&store).await;
    let busy = rusqlite::Connection::open(disk.path().join("state.db")).unwrap();
    busy.execute_batch("BEGIN IMMEDIATE").unwrap();
    let records = [record("ssh_file.a", 1), large("ssh_file.large", 4096), record("ssh_file.b", 1)];
    let mut puts = std::pin::pin!(join_all(records.map(|record| lock.put(record))));
    assert!(futures::poll!(&mut puts).is_pending());
    busy.execute_batch("ROLLBACK").unwrap();
    let results = puts.await;
    assert!(matches!(results[..], [Ok(()), Err(StateError::DiskFull { .. }), Ok(())]), "{results:?}");
    assert_eq!(store.snapshot().await.unwrap().records.len(), 2);
}

#[tokio::test]
async fn a_disk_that_is_full_at_the_start_is_an_error() {
    let Some(disk) = Disk::new("64k") else { return };
    fs::write(disk.path().join("filler"), vec![0; 60 * 1024]).unwrap();
    let Err(error) = Store::open(&disk.path().join(".moorfast")).await else { panic!() };
    assert!(matches!(error, StateError::DiskFull { .. }), "{error}");
}

#[tokio::test]
async fn a_full_disk_can_be_read() {
    let Some(disk) = Disk::new("1m") else { return };
    let mut other = Other::start("hold", disk.path());
    other.hear().unwrap();
    other.kill();
    // A reader would have to create this file again.
    fs::remove_file(disk.path().join("state.db-shm")).unwrap();
    fs::write(disk.path().join("filler"), vec![0; 1024 * 1024]).unwrap_err();
    let store = Store::open_existing(disk.path()).await.unwrap().unwrap();
    assert_eq!(store.snapshot().await.unwrap().intents.len(), 1);
}

#[tokio::test]
async fn a_disk_error_is_reported_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start_with_small_files("write until it fails", dir.path(), 1024);
    let said: Vec<_> = std::iter::from_fn(|| other.hear()).collect();
    let (error, written) = said.split_last().unwrap();
    assert!(error.contains("disk I/O error while recording a resource"), "{error}");
    assert!(written.len() > 5, "{said:?}");
    let store = Store::open(dir.path()).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), written.len());
}

#[tokio::test]
async fn a_read_only_file_system_can_be_read_and_refuses_writes() {
    let Some(disk) = Disk::new("4m") else { return };
    let dir = disk.path().join("state");
    let store = Store::open(&dir).await.unwrap();
    locked(&store).await.put(record("ssh_file.a", 1)).await.unwrap();
    drop(store);
    disk.remount("ro");
    let Err(error) = Store::open(&dir).await else { panic!() };
    assert!(matches!(error, StateError::ReadOnly { .. }), "{error}");
    let Err(error) = Store::open(&disk.path().join("new")).await else { panic!() };
    assert!(matches!(error, StateError::ReadOnly { .. }), "{error}");
    assert!(Store::open_existing(&disk.path().join("new")).await.unwrap().is_none());
    let store = Store::open_existing(&dir).await.unwrap().unwrap();
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
}

/// A writer was killed, and the disk became read-only before its log was merged into the database.
#[tokio::test]
async fn the_log_of_a_killed_writer_is_read_from_a_read_only_file_system() {
    let Some(disk) = Disk::new("4m") else { return };
    let mut other = Other::start("hold", disk.path());
    other.hear().unwrap();
    other.kill();
    assert!(fs::metadata(disk.path().join("state.db-wal")).unwrap().len() > 0);
    fs::remove_file(disk.path().join("state.db-shm")).unwrap();
    disk.remount("ro");
    let store = Store::open_existing(disk.path()).await.unwrap().unwrap();
    assert_eq!(store.snapshot().await.unwrap().intents.len(), 1);
}
