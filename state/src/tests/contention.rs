//! Several writers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::Bed;
use super::child::{BRIEFLY, COUNTS, Other};
use super::{locked, record};
use crate::settings::Settings;
use crate::{LockRequest, StateError};

/// A clock that the test sets.
#[derive(Clone)]
struct Clock(Arc<Mutex<Timestamp>>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Timestamp::UNIX_EPOCH)))
    }

    fn advance(&self, seconds: u64) {
        *self.0.lock().unwrap() += Duration::from_secs(seconds);
    }

    fn settings(&self) -> Settings {
        let clock = self.clone();
        Settings { clock: Arc::new(move || *clock.0.lock().unwrap()), ..Settings::default() }
    }
}

fn wanted() -> LockRequest {
    LockRequest { operation: "destroy".into(), who: "kim".into() }
}

pub(super) async fn the_second_learns_who_holds_the_lock_and_gets_it_when_it_is_released(bed: Bed) {
    let (one, two) = (bed.open().await, bed.open().await);
    assert_eq!(one.lock_info().await.unwrap(), None);
    let lock = one.lock(wanted(), Duration::ZERO).await.unwrap();
    assert!(lock.instead_of().is_none());

    let Err(StateError::Locked(held)) = two.lock(LockRequest::new("apply"), Duration::ZERO).await else { panic!() };
    assert_eq!(&*held, lock.info());
    assert_eq!((held.operation.as_str(), held.who.as_str(), held.pid), ("destroy", "kim", std::process::id()));
    assert_eq!(two.lock_info().await.unwrap().as_ref(), Some(lock.info()));

    let (second, released) = tokio::join!(two.lock(LockRequest::new("apply"), Duration::from_secs(60)), lock.release());
    released.unwrap();
    assert_eq!(second.unwrap().info().epoch, 2);
}

pub(super) async fn a_dropped_lock_is_free(bed: Bed) {
    let store = bed.open().await;
    drop(locked(&store).await);
    locked(&store).await.put(record("ssh_file.a", 1)).await.unwrap();
    assert_eq!(store.snapshot().await.unwrap().serial.get(), 1);
}

pub(super) async fn who_was_overtaken_writes_nothing_and_takes_nothing_away(bed: Bed) {
    let clock = Clock::new();
    let old = bed.open_with(clock.settings()).await;
    let new = bed.open_with(clock.settings()).await;
    let stalled = locked(&old).await;
    stalled.put(record("ssh_file.a", 1)).await.unwrap();
    clock.advance(59);
    assert!(matches!(new.lock(wanted(), Duration::ZERO).await, Err(StateError::Locked(_))));
    clock.advance(1);
    assert_eq!(new.lock_info().await.unwrap(), None);

    let lock = new.lock(wanted(), Duration::ZERO).await.unwrap();
    assert_eq!(lock.instead_of(), Some(stalled.info()));
    assert!(!stalled.lost().is_cancelled());
    let Err(StateError::LockLost { now_held_by: Some(by) }) = stalled.put(record("ssh_file.a", 2)).await else {
        panic!()
    };
    assert_eq!(&*by, lock.info());
    assert!(stalled.lost().is_cancelled());
    assert_eq!(*new.snapshot().await.unwrap().records["ssh_file.a"], record("ssh_file.a", 1));

    stalled.release().await.unwrap();
    lock.put(record("ssh_file.a", 3)).await.unwrap();
}

pub(super) async fn a_lock_that_ran_out_is_lost_even_where_nobody_took_it(bed: Bed) {
    let clock = Clock::new();
    let store = bed.open_with(clock.settings()).await;
    let lock = locked(&store).await;
    let hold = lock.hold();
    clock.advance(59);
    assert!(!hold.is_lost());
    clock.advance(1);
    assert!(hold.is_lost(), "the clock alone says so");
    assert!(lock.lost().is_cancelled());
    assert!(matches!(lock.put(record("ssh_file.a", 1)).await, Err(StateError::LockLost { now_held_by: None })));
}

pub(super) async fn the_heartbeat_renews_the_lock_and_notices_its_loss(bed: Bed) {
    let settings = Settings { heartbeat: Duration::from_millis(1), ..Settings::default() };
    let store = bed.open_with(settings).await;
    let lock = locked(&store).await;
    while store.lock_info().await.unwrap().unwrap().expires == lock.info().expires {}
    store.force_unlock(&lock.info().id).await.unwrap();
    lock.lost().cancelled().await;
}

pub(super) async fn a_person_can_remove_the_lock_they_name(bed: Bed) {
    let store = bed.open().await;
    assert!(matches!(store.force_unlock("any").await, Err(StateError::NotLocked)));
    let lock = locked(&store).await;
    assert!(matches!(store.force_unlock("any").await, Err(StateError::OtherLock { .. })));
    store.force_unlock(&lock.info().id).await.unwrap();
    assert!(matches!(lock.remove("any").await, Err(StateError::LockLost { now_held_by: None })));
}

pub(super) async fn the_lock_of_a_killed_process_is_free_at_once(bed: Bed) {
    let mut other = Other::start("hold", bed.place.clone());
    let id = other.hear().unwrap();
    let store = bed.open().await;
    let Err(StateError::Locked(held)) = store.lock(wanted(), Duration::ZERO).await else { panic!() };
    assert_eq!((held.id, held.pid), (id.clone(), other.pid()));
    other.kill();
    let lock = store.lock(wanted(), Duration::ZERO).await.unwrap();
    assert_eq!(lock.instead_of().unwrap().id, id);
    assert_eq!(store.snapshot().await.unwrap().intents.len(), 1, "what it began is still known");
}

pub(super) async fn the_lock_of_a_process_killed_far_away_is_free_when_it_runs_out(bed: Bed) {
    let mut other = Other::start_far_away("hold briefly", &bed.place);
    let id = other.hear().unwrap();
    let store = bed.open().await;
    // The lock is renewed, so it lasts longer than its expiry.
    let Err(StateError::Locked(_)) = store.lock(wanted(), BRIEFLY * 2).await else { panic!() };
    other.kill();
    let lock = store.lock(wanted(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(lock.instead_of().unwrap().id, id);
    assert!(lock.info().since.duration_since(lock.instead_of().unwrap().expires).as_secs() <= 5);
}

pub(super) async fn a_process_that_stood_still_past_its_expiry_cannot_write(bed: Bed) {
    let mut other = Other::start("stall", bed.place.clone());
    assert_eq!(other.hear().unwrap(), "held");
    let pid = Pid::from_raw(i32::try_from(other.pid()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    let store = bed.open().await;
    let lock = store.lock(wanted(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(lock.instead_of().unwrap().operation, "stall");
    lock.put(record("ssh_file.a", 1)).await.unwrap();
    kill(pid, Signal::SIGCONT).unwrap();
    other.nudge();
    assert_eq!(other.hear().unwrap(), "lost");
    assert_eq!(store.snapshot().await.unwrap().records.len(), 1);
}

pub(super) async fn of_several_processes_one_writes_at_a_time(bed: Bed) {
    let mut others: Vec<_> = (0..3).map(|_| Other::start("count", bed.place.clone())).collect();
    for other in &mut others {
        assert_eq!(other.hear().unwrap(), "counted");
    }
    let found = bed.open_existing().await.unwrap().snapshot().await.unwrap();
    assert_eq!(*found.records["ssh_file.count"], record("ssh_file.count", 3 * COUNTS));
}

pub(super) async fn readers_work_while_writers_come_and_go(bed: Bed) {
    let mut other = Other::start("come and go", bed.place.clone());
    other.hear().unwrap();
    let mut serial = 0;
    for _ in 0..bed.rounds(200) {
        let store = bed.open_existing().await.unwrap();
        let found = store.snapshot().await.unwrap();
        assert!(found.serial.get() >= serial);
        serial = found.serial.get();
        assert_eq!(
            *found.records["ssh_file.a"],
            record("ssh_file.a", serial - 1),
            "a record and its serial go together"
        );
    }
    assert!(!other.kill().is_empty());
}
