//! SIGKILL at any moment, and crashes at every durable write.

use std::collections::{BTreeMap, BTreeSet};

use proptest::strategy::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::bed::Bed;
use super::child::{LANES, Other, RENAMED, RUN, STEPS};
use super::{locked, record};
use crate::{Outcome, Snapshot, Store};

const ROUNDS: usize = 40;

/// The acknowledged steps of each lane: the last started and the last finished one.
#[derive(Default)]
struct Heard {
    begun: BTreeMap<u64, u64>,
    done: BTreeMap<u64, u64>,
}

impl Heard {
    fn note(&mut self, said: &str) {
        let words: Vec<_> = said.split(' ').collect();
        let [what, lane, step] = words[..] else { panic!("{said}") };
        let steps = if what == "begun" { &mut self.begun } else { &mut self.done };
        steps.insert(lane.parse().unwrap(), step.parse().unwrap());
    }

    /// Checks that the state contains all acknowledged steps, and no others than requested ones.
    fn check(&self, found: &Snapshot) {
        for lane in 0..LANES {
            let address = format!("ssh_file.{lane}");
            let recorded = found.records.get(&address).map(|record| record.attributes["value"].as_u64().unwrap());
            let open = found.intents.iter().filter(|intent| intent.id.starts_with(&format!("{lane}-")));
            let open: Vec<u64> = open.map(|intent| intent.id.split_once('-').unwrap().1.parse().unwrap()).collect();
            if let Some(done) = self.done.get(&lane) {
                assert!(recorded >= Some(*done), "the outcome {done} of lane {lane} is lost");
            }
            if let Some(begun) = self.begun.get(&lane) {
                assert!(recorded >= Some(*begun) || open.contains(begun), "step {begun} of lane {lane} is lost");
            }
            assert!(open.iter().all(|step| recorded < Some(*step)), "an intent of lane {lane} outlived its outcome");
        }
    }
}

pub(super) async fn a_killed_writer_loses_nothing_that_was_acknowledged(bed: Bed) {
    let rounds = bed.rounds(ROUNDS);
    let mut runner = TestRunner::deterministic();
    let mut serial = 0;
    let mut lost = 0;
    for round in 0..rounds {
        let mut heard = Heard::default();
        let mut other = Other::start("write", bed.place.clone());
        // Some are killed before the first step, some after hundreds of steps; always during the next steps.
        let lines = (0..300_usize).new_tree(&mut runner).unwrap().current();
        (0..lines).for_each(|_| heard.note(&other.hear().unwrap()));
        // Another process can read while it writes.
        if lines > 0 {
            let store = bed.open_existing().await.unwrap();
            heard.check(&store.snapshot().await.unwrap());
        }
        other.kill().iter().for_each(|said| heard.note(said));

        let store = bed.open().await;
        let found = store.snapshot().await.unwrap();
        heard.check(&found);
        assert!(found.serial.get() >= serial, "round {round}: the serial went back");
        serial = found.serial.get();
        // The next run closes the open operations. A server may commit the last write of the killed process after the snapshot above, but
        // not after the lock has a new owner.
        let lock = locked(&store).await;
        let found = store.snapshot().await.unwrap();
        heard.check(&found);
        for intent in &found.intents {
            lock.finish(&intent.id, Outcome::Unchanged).await.unwrap();
            lost += 1;
        }
    }
    println!("{rounds} kills, serial {serial}, {lost} operations found open, none lost");
}

/// A crash right before and right after each durable write of a run, from the creation of the state to the release of the lock.
pub(super) async fn a_crash_at_any_durable_write_leaves_a_state_that_knows_what_is_open(bed: Bed) {
    for write in 1.. {
        for moment in ["before", "after"] {
            let (bed, at) = (bed.another(), format!("{moment}:{write}"));
            let mut other = Other::start_to_crash("one of each", &at, &bed.place);
            let said: BTreeSet<String> = std::iter::from_fn(|| other.hear()).collect();
            let ended = other.ended_well();
            is_as_acknowledged(&bed, &said, &at).await;
            if ended {
                println!("{} crash points, nothing lost", 2 * (write - 1));
                assert!(write > 15, "there are more durable writes than {write}");
                return;
            }
        }
    }
}

async fn is_as_acknowledged(bed: &Bed, said: &BTreeSet<String>, at: &str) {
    // A reader finds no state or a complete one.
    let looked = bed.open_existing().await;
    assert!(looked.is_some() || said.is_empty(), "{at}: {said:?}, and there is no state");
    let store = bed.open().await;
    let found = store.snapshot().await.unwrap();
    for step in 1..=STEPS {
        let address = format!("ssh_file.{step}");
        let recorded = found.records.contains_key(&address) || (step == 1 && found.records.contains_key(RENAMED));
        let open = found.intents.iter().any(|intent| intent.address == address);
        let [begun, done] = ["begun", "done"].map(|what| said.contains(&format!("{what} {step}")));
        assert!(!begun || recorded || open, "{at}: the intent {step} is lost");
        assert!(!done || recorded, "{at}: the outcome {step} is lost");
        assert!(!(recorded && open), "{at}: the intent {step} outlived its outcome");
    }
    assert!(!said.contains("renamed") || found.records.contains_key(RENAMED), "{at}: another name is lost");
    let runs = store.runs(10).await.unwrap();
    assert!(runs.iter().any(|run| run.id == RUN) || !said.contains("run started"), "{at}: the run is lost");
    assert!(
        runs.iter().any(|run| run.end.is_some()) || !said.contains("run ended"),
        "{at}: the end of the run is lost"
    );
    // The lock of the dead process is free, and the next run closes its open operations.
    let lock = locked(&store).await;
    let found = store.snapshot().await.unwrap();
    for intent in &found.intents {
        lock.finish(&intent.id, Outcome::Put(record(&intent.address, 1).into())).await.unwrap();
    }
    let after = store.snapshot().await.unwrap();
    assert_eq!((after.intents.len(), after.records.len()), (0, found.records.len() + found.intents.len()), "{at}");
}

/// The process is killed while it creates the state, when the folder contains this many files.
#[tokio::test]
async fn an_interrupted_creation_is_completed_by_the_next_process() {
    for files in (1..=4).cycle().take(20) {
        let dir = tempfile::tempdir().unwrap();
        let mut other = Other::start("hold", dir.path());
        while std::fs::read_dir(dir.path()).unwrap().count() < files {}
        other.kill();
        drop(Store::open_existing(dir.path()).await.unwrap());
        locked(&Store::open(dir.path()).await.unwrap()).await.release().await.unwrap();
    }
}
