//! What looks for drift saw before. It is kept beside the state, or in a file of this machine where the state can only be read.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;
use moorfast_engine::model::{Address, NodeChange};
use moorfast_engine::plan::{Drift, Plan};
use moorfast_engine::provider::{Class, ProviderError};
use moorfast_engine::state::{DriftHistory, Look, SealKey, Sighting, Snapshot, StateError, Store, bounded, canonical};
use serde_json::json;

use crate::atomic;
use crate::render::drift::changed_attributes;

const FILE: &str = "drift-history.json";

/// What could not be looked at, and why.
pub type Unread = [(Address, ProviderError)];

/// The history, and the places that keep it.
pub struct Kept<'a> {
    /// What looks saw so far.
    pub history: DriftHistory,
    store: &'a Store,
    folder: &'a Path,
}

impl<'a> Kept<'a> {
    /// What is kept beside the state, or in `folder`: whichever saw more. What can't be read is as good as nothing.
    pub async fn read(store: &'a Store, folder: &'a Path) -> Self {
        let beside = store.drift().await.unwrap_or_default();
        let here = read(folder).unwrap_or_default();
        let history = if here.looked_at > beside.looked_at { here } else { beside };
        Self { history, store, folder }
    }

    /// Adds a look.
    ///
    /// # Errors
    /// If it could be kept neither beside the state nor in the folder, both reasons.
    pub async fn note(self, look: &Look) -> Result<(), (StateError, io::Error)> {
        let Err(refused) = self.store.note_drift(look).await else { return Ok(()) };
        tracing::debug!(%refused, "the history of drift is kept in a file");
        write(self.folder, &self.history.after(look)).map_err(|error| (refused, error))
    }
}

/// What a look saw, with all that the state holds in view.
#[derive(Clone, Copy)]
pub struct Sightings<'a> {
    /// What drifted.
    pub plan: &'a Plan,
    /// What could not be looked at.
    pub unread: &'a Unread,
    /// What the state holds.
    pub snapshot: &'a Snapshot,
    /// The key of its digests.
    pub key: &'a SealKey,
}

impl Sightings<'_> {
    /// The look, which was told to nobody yet.
    pub fn look(&self, at: Timestamp) -> Look {
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
        Look { at, seen, unseen: unseen.collect(), told: false, posted: None }
    }

    /// Is everything well again that a webhook was told of? Not where something was not looked at: nobody knows.
    pub fn is_recovery(&self, look: &Look, history: &DriftHistory) -> bool {
        self.unread.is_empty() && look.seen.is_empty() && history.clone().after(look).owes_recovery()
    }

    /// What of the plan was not told before or is not so any more, and whether there is anything that was not.
    pub fn news(&self, look: &Look, history: &DriftHistory) -> (Plan, bool) {
        let told = history.told();
        let is_new = |sighting: &Sighting| !told.contains(&sighting.way());
        let drift = self.plan.drift.iter().filter(|drift| is_new(&self.object(drift))).cloned().collect();
        let nodes = self.plan.nodes.iter().filter(|node| !node.kind.is_mismatch() || is_new(&self.node(node)));
        let plan = Plan { drift, nodes: nodes.cloned().collect(), ..self.plan.clone() };
        (plan, look.seen.iter().any(is_new))
    }

    fn object(&self, drift: &Drift) -> Sighting {
        self.sighting(drift.address.to_string(), changed_attributes(drift), &json!([drift.before, drift.after]))
    }

    fn node(&self, node: &NodeChange) -> Sighting {
        self.sighting(node_subject(&node.node.0), vec![node.kind.word().to_owned()], &json!([node.before, node.after]))
    }

    /// The targets that could not be looked at by their own fault.
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
        Sighting { subject, attributes, how: self.key.digest(canonical(how).as_bytes()) }
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

    /// A state that holds what drifted in `plan`.
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
            records: plan.drift.iter().map(|d| (d.address.to_string(), record(&d.address))).collect(),
            intents: Vec::new(),
            outputs: BTreeMap::new(),
            nodes: BTreeMap::new(),
        }
    }

    /// Does a look after `history` find that all is well again?
    fn is_recovery(plan: &Plan, unread: &Unread, history: &DriftHistory) -> bool {
        let (snapshot, key) = (snapshot(&samples::refresh()), SealKey::from_bytes([7; 32]));
        let seen = Sightings { plan, unread, snapshot: &snapshot, key: &key };
        seen.is_recovery(&seen.look(at(9)), history)
    }

    /// What a look saw at this second, told and posted, and what of it was new after `history`.
    fn seen(plan: &Plan, unread: &Unread, second: i64, history: &DriftHistory) -> (Look, Plan, bool) {
        let (snapshot, key) = (snapshot(&samples::refresh()), SealKey::from_bytes([7; 32]));
        let seen = Sightings { plan, unread, snapshot: &snapshot, key: &key };
        let look = Look { told: true, posted: Some(Posted::Seen), ..seen.look(at(second)) };
        let (news, has_news) = seen.news(&look, history);
        (look, news, has_news)
    }

    #[test]
    fn only_what_is_new_or_new_in_its_way_is_told_again() {
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
    fn what_went_is_forgotten_and_what_could_not_be_seen_is_not() {
        let plan = samples::refresh();
        let nothing = DriftHistory::default();
        let history = nothing.clone().after(&seen(&plan, &[], 1, &nothing).0);
        let unseen = Plan { drift: vec![], changes: vec![], ..plan.clone() };
        let after = history.clone().after(&seen(&unseen, &[], 2, &history).0);
        assert!(after.entries.iter().all(|entry| entry.gone.is_none()), "nothing was looked at");
    }

    #[test]
    fn a_target_that_does_not_answer_is_told_once_and_its_end_is_a_recovery() {
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
    fn what_a_look_says_nothing_of_has_not_ended() {
        let plan = samples::refresh();
        let away = Plan { drift: vec![], changes: vec![], ..plan.clone() };
        let of = |class| plan.drift.iter().map(|d| (d.address.clone(), ProviderError::new(class, "no"))).collect();
        let (unreachable, denied): (Vec<_>, Vec<_>) = (of(Class::Unreachable), of(Class::Denied));
        let nothing = DriftHistory::default();
        let history = nothing.clone().after(&seen(&away, &unreachable, 1, &nothing).0);
        // It answers and refuses, or nobody asked it.
        for unread in [&denied[..], &[]] {
            assert!(!is_recovery(&away, unread, &history));
            let after = history.clone().after(&seen(&away, unread, 2, &history).0);
            assert_eq!(after.entries[0].gone, None, "{unread:?}");
        }
        // Whoever answers for one object has answered.
        let one = Plan { changes: plan.changes.clone(), ..away };
        assert!(is_recovery(&one, &[], &history));
        assert!(!is_recovery(&one, &denied[1..], &history), "in part only");
    }

    #[test]
    fn a_history_holds_no_values() {
        let plan = samples::refresh();
        let nothing = DriftHistory::default();
        let history = nothing.clone().after(&seen(&plan, &[], 1, &nothing).0);
        let text = serde_json::to_string(&history).unwrap();
        assert!(text.contains("\"mode\"") && !text.contains("0777"), "{text}");
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(path(folder.path()), "{").unwrap();
        assert_eq!(read(folder.path()), None);
        write(folder.path(), &DriftHistory::default()).unwrap();
        assert_eq!(read(folder.path()), Some(DriftHistory::default()));
    }
}
