//! SIGKILL at any moment.

use std::collections::BTreeMap;

use proptest::strategy::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::bed::Bed;
use super::child::{LANES, Other};
use super::locked;
use crate::{Snapshot, Store};

const ROUNDS: usize = 40;

/// What a writer said of each lane: the last step that it began and that it finished.
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

    /// Everything that was acknowledged is there, and what is there beyond that was at least asked for.
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
        // Some are killed before they wrote anything, some after hundreds of steps; always in the middle of the next ones.
        let lines = (0..300_usize).new_tree(&mut runner).unwrap().current();
        (0..lines).for_each(|_| heard.note(&other.hear().unwrap()));
        // While it writes, anybody can read.
        if lines > 0 {
            let store = bed.look().await.unwrap();
            heard.check(&store.snapshot().await.unwrap());
        }
        other.kill().iter().for_each(|said| heard.note(said));

        let store = bed.open().await;
        let found = store.snapshot().await.unwrap();
        heard.check(&found);
        assert!(found.serial.get() >= serial, "round {round}: the serial went back");
        serial = found.serial.get();
        // The next run closes what the killed one left open.
        let lock = locked(&store).await;
        for intent in &found.intents {
            lock.finish(&intent.id, crate::Outcome::Unchanged).await.unwrap();
            lost += 1;
        }
    }
    println!("{rounds} kills, serial {serial}, {lost} operations found open, none lost");
}

/// Killed while it makes the state, as soon as the folder holds this many files.
#[tokio::test]
async fn a_state_whose_birth_was_interrupted_is_made_by_the_next() {
    for files in (1..=4).cycle().take(20) {
        let dir = tempfile::tempdir().unwrap();
        let mut other = Other::start("hold", dir.path());
        while std::fs::read_dir(dir.path()).unwrap().count() < files {}
        other.kill();
        drop(Store::open_existing(dir.path()).await.unwrap());
        locked(&Store::open(dir.path()).await.unwrap()).await.release().await.unwrap();
    }
}
