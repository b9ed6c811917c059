//! The history of drift: which objects drifted, since when, and until when.
//!
//! It is stored beside the state: adding an observation takes no lock, blocks nobody, and does not change the serial.

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Digest;

/// The number of entries beyond which entries of past drift are removed.
const ENTRIES: usize = 1000;

/// The approximate size in bytes beyond which entries of past drift are removed: well within the limits of a Secret and a request.
const BYTES: usize = 400_000;

/// How long an entry is kept after its drift ended.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Drift of one object in one observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The address of the object, or a text for a node or target.
    pub subject: String,
    /// The paths of the changed attributes; empty if the object does not exist any more. Never contains values.
    pub attributes: Vec<String>,
    /// The keyed digest of the drift: it shows whether the drift changed, without revealing values.
    pub how: Digest,
}

/// One observation: the result of one `drift` run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The time of the observation.
    pub at: Timestamp,
    /// The drift that was found.
    pub seen: Vec<Sighting>,
    /// The addresses that were not read, because their target did not answer or they were not selected.
    pub unseen: BTreeSet<String>,
    /// Whether it was reported as new drift (`--since-last`), so that the same drift is not reported again.
    pub reported: bool,
    /// The message that a webhook accepted, if any.
    pub posted: Option<Posted>,
}

/// A message about an observation that a webhook accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// The drift.
    Seen,
    /// That everything is in sync again.
    Recovery,
}

/// One drift of one object, from its first observation until its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftEntry {
    /// See [`Sighting::subject`].
    pub subject: String,
    /// See [`Sighting::attributes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// See [`Sighting::how`].
    pub how: Digest,
    /// The first observation of the drift.
    pub first_seen: Timestamp,
    /// The last observation of the drift.
    pub last_seen: Timestamp,
    /// The first observation without this drift: it was repaired, or the object drifted in another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
    /// When it was reported as new; see [`Observation::reported`].
    #[serde(default, rename = "told", skip_serializing_if = "Option::is_none")]
    pub reported_at: Option<Timestamp>,
    /// When a webhook accepted its message. Reset when a webhook accepts that everything is in sync again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<Timestamp>,
}

/// The history of drift: all current drift, and past drift of 90 days, in total about 1000 entries or fewer if they are very large.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftHistory {
    /// The time of the last observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The entries in the order of their first observation.
    #[serde(default)]
    pub entries: Vec<DriftEntry>,
}

/// An addition to a history.
#[derive(Clone, Debug)]
pub(crate) enum DriftNote {
    /// An observation.
    Observation(Observation),
    /// The history of the store from which the state was moved.
    Moved(DriftHistory),
}

impl DriftHistory {
    /// Returns the history with the addition. Adding the same again has no effect.
    pub(crate) fn with(self, note: &DriftNote) -> Self {
        match note {
            DriftNote::Observation(observation) => self.after(observation),
            DriftNote::Moved(history) => self.joined(history),
        }
    }

    fn joined(mut self, other: &Self) -> Self {
        let new: Vec<_> = other.entries.iter().filter(|entry| !self.entries.contains(entry)).cloned().collect();
        self.entries.extend(new);
        self.entries.sort_by_key(|entry| entry.first_seen);
        self.looked_at = self.looked_at.max(other.looked_at);
        self.remove_old();
        self
    }

    /// Returns the history with another observation.
    #[must_use]
    pub fn after(mut self, observation: &Observation) -> Self {
        let seen: HashSet<_> = observation.seen.iter().map(Sighting::key).collect();
        for entry in self.entries.iter_mut().filter(|entry| entry.gone.is_none()) {
            if seen.contains(&entry.key()) {
                entry.last_seen = observation.at;
                entry.reported_at = entry.reported_at.or(observation.reported_at());
                entry.posted = entry.posted.or(observation.posted_at());
            } else if !observation.unseen.contains(&entry.subject) {
                entry.gone = Some(observation.at);
            }
        }
        let open: HashSet<_> = self.open().map(DriftEntry::key).collect();
        let new = observation.seen.iter().filter(|sighting| !open.contains(&sighting.key()));
        let new: Vec<_> = new.map(|sighting| DriftEntry::new(sighting, observation)).collect();
        self.entries.extend(new);
        if observation.posted == Some(Posted::Recovery) {
            self.entries.iter_mut().filter(|entry| entry.gone.is_some()).for_each(|entry| entry.posted = None);
        }
        self.looked_at = Some(observation.at);
        self.remove_old();
        self
    }

    /// Returns the [`Sighting::key`] of all current drift that was already reported as new.
    pub fn reported(&self) -> HashSet<(&str, &Digest)> {
        self.open().filter(|entry| entry.reported_at.is_some()).map(DriftEntry::key).collect()
    }

    /// Returns whether all drift that a webhook reported has ended, and no webhook reported this yet.
    pub fn owes_recovery(&self) -> bool {
        let mut posted = self.entries.iter().filter(|entry| entry.posted.is_some()).peekable();
        posted.peek().is_some() && posted.all(|entry| entry.gone.is_some())
    }

    fn open(&self) -> impl Iterator<Item = &DriftEntry> {
        self.entries.iter().filter(|entry| entry.gone.is_none())
    }

    /// Removes entries beyond the limits. Only past drift is removed, because a removed current drift would be reported as new again.
    fn remove_old(&mut self) {
        let Some(now) = self.looked_at else { return };
        self.entries.retain(|entry| entry.gone.is_none_or(|gone| now.duration_since(gone) <= KEPT));
        let (mut count, mut bytes) = (self.entries.len(), self.entries.iter().map(DriftEntry::bytes).sum::<usize>());
        self.entries.retain(|entry| {
            let remove = entry.gone.is_some() && (count > ENTRIES || bytes > BYTES);
            if remove {
                (count, bytes) = (count - 1, bytes - entry.bytes());
            }
            !remove
        });
    }
}

impl Sighting {
    /// Returns the key that identifies a drift: the object and how it drifted.
    pub fn key(&self) -> (&str, &Digest) {
        (&self.subject, &self.how)
    }
}

impl Observation {
    fn reported_at(&self) -> Option<Timestamp> {
        self.reported.then_some(self.at)
    }

    fn posted_at(&self) -> Option<Timestamp> {
        (self.posted == Some(Posted::Seen)).then_some(self.at)
    }
}

impl DriftEntry {
    fn new(sighting: &Sighting, observation: &Observation) -> Self {
        Self {
            subject: sighting.subject.clone(),
            attributes: sighting.attributes.clone(),
            how: sighting.how.clone(),
            first_seen: observation.at,
            last_seen: observation.at,
            gone: None,
            reported_at: observation.reported_at(),
            posted: observation.posted_at(),
        }
    }

    /// Returns the approximate size as JSON. Digest and times have a constant size.
    fn bytes(&self) -> usize {
        350 + self.subject.len() + self.attributes.iter().map(|attribute| attribute.len() + 4).sum::<usize>()
    }

    /// See [`Sighting::key`].
    fn key(&self) -> (&str, &Digest) {
        (&self.subject, &self.how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
    }

    fn sighting(subject: &str, how: &str) -> Sighting {
        Sighting { subject: subject.into(), attributes: vec!["mode".into()], how: Digest::of(how.as_bytes()) }
    }

    fn observation(hours: i64, seen: &[(&str, &str)]) -> Observation {
        let seen = seen.iter().map(|(subject, how)| sighting(subject, how)).collect();
        Observation { at: at(hours), seen, unseen: BTreeSet::new(), reported: true, posted: None }
    }

    /// Subject, when first and last seen, and when gone, in hours.
    fn shown(history: &DriftHistory) -> Vec<(String, i64, i64, Option<i64>)> {
        let hours = |time: Timestamp| time.duration_since(Timestamp::UNIX_EPOCH).as_hours();
        let entries = history.entries.iter();
        entries.map(|e| (e.subject.clone(), hours(e.first_seen), hours(e.last_seen), e.gone.map(hours))).collect()
    }

    #[test]
    fn an_entry_ends_when_the_drift_ends_or_changes() {
        let history = DriftHistory::default().after(&observation(1, &[("a", "x"), ("b", "x")]));
        let history = history.after(&observation(2, &[("a", "x"), ("b", "y")])).after(&observation(3, &[("b", "y")]));
        let history = history.after(&observation(4, &[("a", "x"), ("b", "y")]));
        let expected = [("a", 1, 2, Some(3)), ("b", 1, 1, Some(2)), ("b", 2, 4, None), ("a", 4, 4, None)];
        assert_eq!(shown(&history), expected.map(|(name, first, last, gone)| (name.to_owned(), first, last, gone)));
    }

    #[test]
    fn entries_of_unread_objects_do_not_change() {
        let unseen = ["a".to_owned()].into();
        let history = DriftHistory::default().after(&observation(1, &[("a", "x"), ("b", "x")]));
        let history = history.after(&Observation { unseen, ..observation(2, &[]) });
        assert_eq!(shown(&history), [("a".to_owned(), 1, 1, None), ("b".to_owned(), 1, 1, Some(2))]);
    }

    #[test]
    fn only_reported_drift_is_not_new() {
        let was_reported = |history: &DriftHistory, how| history.reported().contains(&sighting("a", how).key());
        let quiet = Observation { reported: false, ..observation(1, &[("a", "x")]) };
        let history = DriftHistory::default().after(&quiet);
        assert!(!was_reported(&history, "x"), "an observation that was not reported");
        let history = history.after(&observation(2, &[("a", "x")]));
        assert!(was_reported(&history, "x") && !was_reported(&history, "y"));
        let history = history.after(&observation(3, &[]));
        assert!(!was_reported(&history, "x"), "it ended, and would be new again");
    }

    #[test]
    fn a_recovery_message_is_due_until_it_is_sent() {
        let posted = |posted, observation| Observation { posted: Some(posted), ..observation };
        let history = DriftHistory::default().after(&posted(Posted::Seen, observation(1, &[("a", "x"), ("b", "x")])));
        let history = history.after(&observation(2, &[("b", "x")]));
        assert!(!history.owes_recovery(), "b still drifts");
        let history = history.after(&observation(3, &[("c", "x")]));
        assert!(history.owes_recovery(), "c was not reported");
        // Observations without an accepted message change nothing.
        let history = history.after(&observation(4, &[])).after(&observation(5, &[]));
        assert!(history.owes_recovery());
        let history = history.after(&posted(Posted::Recovery, observation(6, &[])));
        assert!(!history.owes_recovery());
    }

    #[test]
    fn a_history_without_webhook_data_needs_no_recovery_message() {
        let entry = serde_json::json!({
            "subject": "a", "how": "blake3:00", "first_seen": at(1), "last_seen": at(1), "gone": at(2), "told": at(1),
        });
        let old: DriftHistory = serde_json::from_value(serde_json::json!({ "entries": [entry] })).unwrap();
        assert_eq!(shown(&old), [("a".to_owned(), 1, 1, Some(2))]);
        assert!(!old.owes_recovery());
    }

    #[test]
    fn the_history_of_another_store_is_added_once() {
        let other = DriftHistory::default().after(&observation(1, &[("a", "x")])).after(&observation(3, &[]));
        let moved = DriftNote::Moved(other.clone());
        assert_eq!(DriftHistory::default().with(&moved), other);
        let own = DriftHistory::default().after(&observation(2, &[("b", "x")]));
        let joined = own.with(&moved).with(&moved);
        assert_eq!(shown(&joined), [("a".to_owned(), 1, 1, Some(3)), ("b".to_owned(), 2, 2, None)]);
        assert_eq!(joined.looked_at, other.looked_at);
    }

    #[test]
    fn past_drift_is_limited_and_current_drift_is_kept() {
        let names: Vec<String> = (0..ENTRIES + 10).map(|i| format!("o{i}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let history = DriftHistory::default().after(&observation(1, &all[..5])).after(&observation(2, &all[5..]));
        assert_eq!(history.entries.len(), all.len() - 5, "past drift is removed");
        assert_eq!(history.reported().len(), all.len() - 5, "current drift is not new again");
        let history = history.after(&observation(3, &[]));
        assert_eq!(history.entries.len(), ENTRIES);
        let large: Vec<String> = (0..1000).map(|i| format!("{i:01000}")).collect();
        let large: Vec<_> = large.iter().map(|name| (name.as_str(), "x")).collect();
        let large = DriftHistory::default().after(&observation(1, &large)).after(&observation(2, &[]));
        let text = serde_json::to_vec(&large).unwrap();
        assert!(text.len() < BYTES, "{}", text.len());
        let later = 3 + 24 * 91;
        assert_eq!(shown(&history.after(&observation(later, &[]))), []);
    }
}
