//! Histories of changes compared with a model, also after a crash at every byte of the log.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use super::bed::Bed;
use super::{dependant, intent, locked, record};
use crate::{Intent, Lock, Outcome, Output, Record, StateError, Store};

/// A step of a history.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there are few of them")]
enum Step {
    Begin(u8),
    Finish(u8, End),
    Put(Record),
    Remove(String),
    Rename(String, String),
    Outputs(BTreeMap<String, u8>),
    Node(String, u8),
    Forget(String),
}

#[derive(Clone, Debug)]
enum End {
    Put(u64),
    Remove,
    Unchanged,
}

/// The expected state.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    serial: u64,
    records: BTreeMap<String, Record>,
    intents: Vec<Intent>,
    outputs: BTreeMap<String, Output>,
    nodes: BTreeMap<String, Value>,
}

impl Model {
    async fn of(store: &Store) -> Self {
        let found = store.snapshot().await.unwrap();
        Self {
            serial: found.serial.get(),
            records: found
                .records
                .into_iter()
                .map(|(address, record)| (address, Arc::unwrap_or_clone(record)))
                .collect(),
            intents: found.intents,
            outputs: found.outputs,
            nodes: found.nodes,
        }
    }

    /// Makes the step and returns whether it is valid.
    fn make(&mut self, step: &Step) -> bool {
        let before = self.clone();
        let possible = self.change(step);
        if !possible {
            *self = before;
        } else if (&before.records, &before.outputs, &before.nodes) != (&self.records, &self.outputs, &self.nodes) {
            self.serial += 1;
        }
        possible
    }

    fn change(&mut self, step: &Step) -> bool {
        match step {
            Step::Begin(n) => {
                let new = opened(*n);
                let free = self.intents.iter().all(|intent| intent.id != new.id);
                self.intents.push(new);
                return free;
            }
            Step::Finish(n, end) => {
                let id = opened(*n).id;
                let Some(at) = self.intents.iter().position(|intent| intent.id == id) else { return false };
                let address = self.intents.remove(at).address;
                match end {
                    End::Put(value) => drop(self.records.insert(address.clone(), record(&address, *value))),
                    End::Remove => drop(self.records.remove(&address)),
                    End::Unchanged => {}
                }
            }
            Step::Put(record) => drop(self.records.insert(record.address.clone(), record.clone())),
            Step::Remove(address) => return self.records.remove(address).is_some(),
            Step::Rename(from, to) => return self.rename(from, to),
            Step::Outputs(values) => self.outputs = outputs(values),
            Step::Node(name, n) => drop(self.nodes.insert(name.clone(), json!({ "machine_id": n }))),
            Step::Forget(name) => drop(self.nodes.remove(name)),
        }
        true
    }

    fn rename(&mut self, from: &str, to: &str) -> bool {
        let Some(moved) = self.records.remove(from) else { return false };
        if from == to || self.records.insert(to.to_owned(), Record { address: to.to_owned(), ..moved }).is_some() {
            return false;
        }
        for record in self.records.values_mut() {
            record
                .dependencies
                .iter_mut()
                .filter(|address| *address == from)
                .for_each(|address| *address = to.to_owned());
            if let Some(digest) = record.triggers.remove(from) {
                record.triggers.insert(to.to_owned(), digest);
            }
        }
        self.intents
            .iter_mut()
            .filter(|intent| intent.address == from)
            .for_each(|intent| intent.address = to.to_owned());
        true
    }
}

async fn make(lock: &Lock, step: &Step, model: &Model) -> Result<(), StateError> {
    match step.clone() {
        Step::Begin(n) => lock.begin(vec![opened(n)]).await,
        Step::Finish(n, end) => {
            let id = opened(n).id;
            // The outcome uses the current address of the operation, which may have been renamed.
            let address =
                model.intents.iter().find(|intent| intent.id == id).map_or(String::new(), |i| i.address.clone());
            let outcome = match end {
                End::Put(value) => Outcome::Put(record(&address, value).into()),
                End::Remove => Outcome::Remove,
                End::Unchanged => Outcome::Unchanged,
            };
            lock.finish(&id, outcome).await
        }
        Step::Put(record) => lock.put(record).await,
        Step::Remove(address) => lock.remove(&address).await,
        Step::Rename(from, to) => lock.rename(&from, &to).await,
        Step::Outputs(values) => lock.set_outputs(outputs(&values)).await,
        Step::Node(name, n) => lock.set_node(&name, json!({ "machine_id": n })).await,
        Step::Forget(name) => lock.forget_node(&name).await,
    }
}

fn opened(n: u8) -> Intent {
    intent(&format!("intent-{n}"), ADDRESSES[usize::from(n) % ADDRESSES.len()])
}

fn outputs(values: &BTreeMap<String, u8>) -> BTreeMap<String, Output> {
    values.iter().map(|(name, n)| (name.clone(), Output { value: json!(n), sensitive: n % 2 == 0 })).collect()
}

const ADDRESSES: &[&str] =
    &["ssh_file.a", "ssh_file.a[\"gpu01\"]", "ssh_file.ab", "module.m.ssh_file.a", "ssh_file.\\\"é", "%"];

fn address() -> impl Strategy<Value = String> {
    prop::sample::select(ADDRESSES).prop_map(str::to_owned)
}

fn step() -> impl Strategy<Value = Step> {
    let end = prop_oneof![(0..3_u64).prop_map(End::Put), Just(End::Remove), Just(End::Unchanged)];
    let depending = (address(), vec(address(), 0..3)).prop_map(|(address, on)| dependant(&address, &on));
    prop_oneof![
        3 => (0..8_u8).prop_map(Step::Begin),
        3 => (0..8_u8, end).prop_map(|(n, end)| Step::Finish(n, end)),
        4 => depending.prop_map(Step::Put),
        1 => address().prop_map(Step::Remove),
        2 => (address(), address()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => btree_map("[ab]", 0..3_u8, 0..3).prop_map(Step::Outputs),
        1 => ("[ab]", 0..2_u8).prop_map(|(name, n)| Step::Node(name, n)),
        1 => "[ab]".prop_map(Step::Forget),
    ]
}

pub(super) async fn every_prefix_of_a_history_is_what_the_model_says(bed: Bed) {
    let mut runner = TestRunner::deterministic();
    let histories = (vec(step(), 1..40), 0..40_usize);
    for _ in 0..bed.rounds(24) {
        let (steps, reopen) = histories.new_tree(&mut runner).unwrap().current();
        let bed = bed.another();
        let mut store = bed.open().await;
        let mut lock = locked(&store).await;
        let mut model = Model::default();
        for (at, step) in steps.iter().enumerate() {
            let result = make(&lock, step, &model).await;
            assert_eq!(result.is_ok(), model.make(step), "{step:?}: {result:?}, in {steps:?}");
            assert_eq!(Model::of(&store).await, model, "after {step:?}, in {steps:?}");
            if at == reopen {
                drop((lock, store));
                store = bed.open().await;
                lock = locked(&store).await;
            }
        }
        assert_eq!(Model::of(&bed.open_existing().await.unwrap()).await, model, "another reader, after {steps:?}");
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// The log ends at a generated byte, as after a crash, followed by garbage.
    #[test]
    fn after_a_crash_the_state_is_a_prefix_with_all_acknowledged_writes(
        steps in vec(step(), 1..12),
        cuts in vec(any::<prop::sample::Index>(), 20),
        garbage in vec(any::<u8>(), 0..5000),
    ) {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let store = Store::open(dir.path()).await.unwrap();
            let log = dir.path().join("state.db-wal");
            let lock = locked(&store).await;
            let mut model = Model::default();
            let mut acknowledged = vec![(0, model.clone())];
            for step in &steps {
                let result = make(&lock, step, &model).await;
                assert_eq!(result.is_ok(), model.make(step));
                acknowledged.push((fs::metadata(&log).unwrap().len(), model.clone()));
            }
            let full = fs::read(&log).unwrap();
            for cut in cuts.iter().map(|cut| cut.index(full.len() + 1)).chain(acknowledged.iter().map(|(len, _)| *len as usize)) {
                let crashed = crashed(dir.path(), &full[..cut], &garbage);
                let found = Model::of(&Store::open(crashed.path()).await.unwrap()).await;
                let expected = acknowledged.iter().rfind(|(len, _)| *len <= cut as u64).unwrap();
                assert_eq!(&found, &expected.1, "cut at {cut} of {}", full.len());
            }
        });
    }
}

/// Returns a folder as after a crash: the database, the beginning of the log, then garbage.
fn crashed(dir: &Path, log: &[u8], garbage: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["state.db", "state.key"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    fs::write(copy.path().join("state.db-wal"), [log, garbage].concat()).unwrap();
    copy
}
