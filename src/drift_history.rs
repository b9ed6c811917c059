//! The drift history: the drift that earlier runs found. It is stored beside the state, or in a local file if the state is read-only.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use moorfast_engine::model::{Address, NodeChange};
use moorfast_engine::plan::{Drift, Plan};
use moorfast_engine::provider::{Class, ProviderError};
use moorfast_engine::state::{
    DriftHistory, Observation, SealKey, Sighting, Snapshot, StateError, Store, bounded, canonical,
};
use serde_json::json;

use crate::atomic;
use crate::render::drift::changed_attributes;

const FILE: &str = "drift-history.json";

/// The objects that could not be read, with the errors.
pub type Unread = [(Address, ProviderError)];

/// The drift history and where it is stored.
pub struct StoredHistory<'a> {
    /// The drift history.
    pub history: DriftHistory,
    store: &'a Store,
    folder: &'a Path,
}

impl<'a> StoredHistory<'a> {
    /// Reads the history beside the state and the one in `folder`, and returns the newer one. A history that cannot be read counts as empty.
    pub async fn read(store: &'a Store, folder: &'a Path) -> Self {
        let beside = store.drift().await.unwrap_or_default();
        let here = read(folder).unwrap_or_default();
        let history = if here.looked_at > beside.looked_at { here } else { beside };
        Self { history, store, folder }
    }

    /// Adds a run to the history and stores it.
    ///
    /// # Errors
    /// If the history can be stored neither beside the state nor in the folder, with both reasons.
    pub async fn add(self, observation: &Observation) -> Result<(), (StateError, io::Error)> {
        let Err(refused) = self.store.note_drift(observation).await else { return Ok(()) };
        tracing::debug!(%refused, "the drift history is stored in a local file");
        write(self.folder, &self.history.after(observation)).map_err(|error| (refused, error))
    }
}

/// The drift that a run found, with the state that it is compared to.
#[derive(Clone, Copy)]
pub struct Sightings<'a> {
    /// The plan with the drift.
    pub plan: &'a Plan,
    /// The objects that could not be read.
    pub unread: &'a Unread,
    /// The state.
    pub snapshot: &'a Snapshot,
    /// The key of the digests in the state.
    pub key: &'a SealKey,
}

impl Sightings<'_> {
    /// Returns the entry of this run for the history, not yet reported to anybody.
    pub fn observation(&self, at: Timestamp) -> Observation {
        let looked_at: BTreeSet<String> = self.plan.changes.iter().map(|change| change.address.to_string()).collect();
        let answered: BTreeSet<&str> = self.plan.changes.iter().map(|change| change.target.as_str()).collect();
        let others = self.snapshot.records.values().filter(|record| !looked_at.contains(&record.address));
        let unseen = others.flat_map(|record| {
            let of_target = [node_subject(&record.target), target_subject(&record.target)];
            let unanswered = of_target.into_iter().filter(|_| !answered.contains(record.target.as_str()));
            unanswered.chain([record.address.clone()])
        });
        let objects = self.plan.drift.iter().map(|drift| self.object(drift));
        let nodes = self.plan.nodes.iter().filter(|node| node.kind.is_mismatch()).map(|node| self.node(node));
        let seen = objects.chain(nodes).chain(self.targets()).collect();
        Observation { at, seen, unseen: unseen.collect(), reported: false, posted: None }
    }

    /// Returns whether all drift that was posted to a webhook is gone. If an object could not be read, its status is unknown and there is no
    /// recovery.
    pub fn is_recovery(&self, observation: &Observation, history: &DriftHistory) -> bool {
        self.unread.is_empty() && observation.seen.is_empty() && history.clone().after(observation).owes_recovery()
    }

    /// Returns the plan with only the drift that was not reported before, and whether anything is new.
    pub fn news(&self, observation: &Observation, history: &DriftHistory) -> (Plan, bool) {
        let reported = history.reported();
        let is_new = |sighting: &Sighting| !reported.contains(&sighting.key());
        let drift = self.plan.drift.iter().filter(|drift| is_new(&self.object(drift))).cloned().collect();
        let nodes = self.plan.nodes.iter().filter(|node| !node.kind.is_mismatch() || is_new(&self.node(node)));
        let plan = Plan { drift, nodes: nodes.cloned().collect(), ..self.plan.clone() };
        (plan, observation.seen.iter().any(is_new))
    }

    fn object(&self, drift: &Drift) -> Sighting {
        self.sighting(drift.address.to_string(), changed_attributes(drift), &json!([drift.before, drift.after]))
    }

    fn node(&self, node: &NodeChange) -> Sighting {
        self.sighting(node_subject(&node.node.0), vec![node.kind.word().to_owned()], &json!([node.before, node.after]))
    }

    /// Returns the targets that do not answer or have another identity.
    fn targets(&self) -> impl Iterator<Item = Sighting> {
        let found: BTreeSet<_> =
            self.unread.iter().filter_map(|(address, error)| self.target(address, error)).collect();
        found.into_iter().map(|(target, why)| self.sighting(target, vec![why.to_owned()], &json!(why)))
    }

    fn target(&self, address: &Address, error: &ProviderError) -> Option<(String, &'static str)> {
        let why = match error.class {
            Class::Unreachable => "unreachable",
            Class::Identity => "another identity",
            _ => return None,
        };
        let record = self.snapshot.records.get(&address.to_string())?;
        Some((target_subject(&record.target), why))
    }

    fn sighting(&self, subject: String, attributes: Vec<String>, how: &serde_json::Value) -> Sighting {
        Sighting { subject, attributes, how: self.key.digest(&canonical(how)) }
    }
}

fn node_subject(name: &str) -> String {
    format!("node {name}")
}

fn target_subject(name: &str) -> String {
    format!("target {name}")
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn read(folder: &Path) -> Option<DriftHistory> {
    serde_json::from_slice(&bounded::read(&path(folder), bounded::DATA).ok()?).ok()
}

fn write(folder: &Path, history: &DriftHistory) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(history)?;
    fs::create_dir_all(folder)?;
    atomic::write(&path(folder), 0o600, &text)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use moorfast_engine::state::{Lineage, Posted, Record};

    use super::*;
    use crate::render::samples;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Returns a state with the drifted objects of `plan`.
    fn snapshot(plan: &Plan) -> Snapshot {
        let record = |address: &Address| Record {
            address: address.to_string(),
            resource_type: address.resource.resource_type.clone(),
            provider: "ssh".to_owned(),
            target: "gpu01".to_owned(),
            identity: address.to_string(),
            attributes: serde_json::Map::new(),
            dependencies: Vec::new(),
            triggers: BTreeMap::new(),
            private: serde_json::Value::Null,
            prevent_destroy: false,
            machine: None,
            incomplete: false,
            pending: Vec::new(),
            updated_at: at(0),
        };
        Snapshot {
            lineage: Lineage::from("l".to_owned()),
            serial: 1.into(),
            records: plan.drift.iter().map(|d| (d.address.to_string(), record(&d.address).into())).collect(),
            intents: Vec::new(),
            outputs: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Returns whether a run after `history` finds that all drift is gone.
    fn is_recovery(plan: &Plan, unread: &Unread, history: &DriftHistory) -> bool {
        let (snapshot, key) = (snapshot(&samples::refresh()), SealKey::from_bytes([7; 32]));
        let seen = Sightings { plan, unread, snapshot: &snapshot, key: &key };
        seen.is_recovery(&seen.observation(at(9)), history)
    }

    /// Returns the reported and posted entry of a run at this second, and its drift that is new after `history`.
    fn seen(plan: &Plan, unread: &Unread, second: i64, history: &DriftHistory) -> (Observation, Plan, bool) {
        let (snapshot, key) = (snapshot(&samples::refresh()), SealKey::from_bytes([7; 32]));
        let seen = Sightings { plan, unread, snapshot: &snapshot, key: &key };
        let observation = Observation { reported: true, posted: Some(Posted::Seen), ..seen.observation(at(second)) };
        let (news, has_news) = seen.news(&observation, history);
        (observation, news, has_news)
    }

    #[test]
    fn only_new_or_different_drift_is_reported_again() {
        let plan = samples::refresh();
        let nothing = DriftHistory::default();
        let (first, news, has_news) = seen(&plan, &[], 1, &nothing);
        assert_eq!((news.drift.len(), has_news), (3, true));
        let history = nothing.after(&first);
        let (_, news, has_news) = seen(&plan, &[], 2, &history);
        assert_eq!((news.drift.len(), has_news), (0, false));

        let mut later = plan.clone();
        later.drift[0].after = json!({"mode": "0700"}).as_object().cloned();
        later.nodes.push(samples::replaced("gpu02"));
        let (_, news, _) = seen(&later, &[], 3, &history);
        assert_eq!((&news.drift[..], &news.nodes), (&later.drift[..1], &later.nodes));
    }

    #[test]
    fn drift_of_unread_objects_has_not_ended() {
        let plan = samples::refresh();
        let nothing = DriftHistory::default();
        let history = nothing.clone().after(&seen(&plan, &[], 1, &nothing).0);
        let unseen = Plan { drift: vec![], changes: vec![], ..plan.clone() };
        let after = history.clone().after(&seen(&unseen, &[], 2, &history).0);
        assert!(after.entries.iter().all(|entry| entry.gone.is_none()), "no object was read");
    }

    #[test]
    fn an_unreachable_target_is_reported_once_and_its_return_is_a_recovery() {
        let plan = samples::refresh();
        let calm = Plan { drift: vec![], nodes: vec![], ..plan.clone() };
        let error = ProviderError::new(Class::Unreachable, "gpu01 does not answer");
        let unread: Vec<_> = plan.drift.iter().map(|d| (d.address.clone(), error.clone())).collect();
        let nothing = DriftHistory::default();
        let (first, _, has_news) = seen(&calm, &unread, 1, &nothing);
        assert_eq!(first.seen.iter().map(|s| s.subject.as_str()).collect::<Vec<_>>(), ["target gpu01"]);
        assert!(has_news && !is_recovery(&calm, &unread, &nothing));
        let history = nothing.clone().after(&first);
        let (_, _, has_news) = seen(&calm, &unread, 2, &history);
        assert!(!has_news && !is_recovery(&calm, &unread, &history));
        assert!(is_recovery(&calm, &[], &history));
    }

    #[test]
    fn the_problem_of_a_target_that_was_not_read_has_not_ended() {
        let plan = samples::refresh();
        let away = Plan { drift: vec![], changes: vec![], ..plan.clone() };
        let of = |class| plan.drift.iter().map(|d| (d.address.clone(), ProviderError::new(class, "no"))).collect();
        let (unreachable, denied): (Vec<_>, Vec<_>) = (of(Class::Unreachable), of(Class::Denied));
        let nothing = DriftHistory::default();
        let history = nothing.clone().after(&seen(&away, &unreachable, 1, &nothing).0);
        // The target answers with a refusal, or no object of it was read.
        for unread in [&denied[..], &[]] {
            assert!(!is_recovery(&away, unread, &history));
            let after = history.clone().after(&seen(&away, unread, 2, &history).0);
            assert_eq!(after.entries[0].gone, None, "{unread:?}");
        }
        // A target that answers for one object is reachable.
        let one = Plan { changes: plan.changes.clone(), ..away };
        assert!(is_recovery(&one, &[], &history));
        assert!(!is_recovery(&one, &denied[1..], &history), "in part only");
    }

    #[test]
    fn a_history_contains_no_values() {
        let plan = samples::refresh();
        let nothing = DriftHistory::default();
        let history = nothing.clone().after(&seen(&plan, &[], 1, &nothing).0);
        let text = serde_json::to_string(&history).unwrap();
        assert!(text.contains("\"mode\"") && !text.contains("0777"), "{text}");
    }

    #[test]
    fn a_damaged_file_counts_as_empty() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "{").unwrap();
        assert_eq!(read(folder.path()), None);
        write(folder.path(), &DriftHistory::default()).unwrap();
        assert_eq!(read(folder.path()), Some(DriftHistory::default()));
    }
}
