//! The history of drift: what was seen not to be as the last apply left it, since when, and until when.
//!
//! It is kept beside the state and not in it: noting a look takes no lock, hinders nobody, and makes no new version of the state.

use std::collections::{BTreeSet, HashSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Digest;

/// With how many entries those of what went are forgotten.
const ENTRIES: usize = 1000;

/// How large all entries together are, about, in bytes, when those of what went are forgotten: well within what a Secret or a request may hold.
const BYTES: usize = 400_000;

/// How long an entry is kept after its drift went.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

/// Drift that was seen at one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The address of the object, or what is said of a node.
    pub subject: String,
    /// The paths of the attributes that changed; none where the object is gone. Never their values.
    pub attributes: Vec<String>,
    /// The keyed digest of how it drifted: it tells whether it drifted further, and nothing of the values.
    pub how: Digest,
}

/// One look at the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When.
    pub at: Timestamp,
    /// What had drifted.
    pub seen: Vec<Sighting>,
    /// The addresses that the look says nothing of, because they could not be read or were left out.
    pub unseen: BTreeSet<String>,
    /// Was it told to who asks for new drift only, so that the same is not told again?
    pub told: bool,
    /// What a webhook took of it.
    pub posted: Option<Posted>,
}

/// What a webhook took of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posted {
    /// What was seen.
    Seen,
    /// That all is well again.
    Recovery,
}

/// The drift of one object in one way, from when it was first seen until it went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftEntry {
    /// See [`Sighting::subject`].
    pub subject: String,
    /// See [`Sighting::attributes`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<String>,
    /// See [`Sighting::how`].
    pub how: Digest,
    /// When a look saw it first.
    pub first_seen: Timestamp,
    /// When a look saw it last.
    pub last_seen: Timestamp,
    /// When a look saw first that it is not so any more: it was mended, or drifted otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Timestamp>,
    /// When it was told as new; see [`Look::told`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Timestamp>,
    /// When a webhook took the message of it; none again once one took that all is well again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posted: Option<Timestamp>,
}

/// What looks saw: all that is still so, and of what went the last entries, 1000 in all or fewer where they are very large, of 90 days.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftHistory {
    /// When somebody looked last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_at: Option<Timestamp>,
    /// The entries, in the order in which they were first seen.
    #[serde(default)]
    pub entries: Vec<DriftEntry>,
}

/// What is added to a history.
#[derive(Clone, Debug)]
pub(crate) enum DriftNote {
    /// A look at the world.
    Look(Look),
    /// The history of the place where the state was before.
    Moved(DriftHistory),
}

impl DriftHistory {
    /// The history with what is added; the same once more adds nothing.
    pub(crate) fn with(self, note: &DriftNote) -> Self {
        match note {
            DriftNote::Look(look) => self.after(look),
            DriftNote::Moved(history) => self.joined(history),
        }
    }

    fn joined(mut self, other: &Self) -> Self {
        let new: Vec<_> = other.entries.iter().filter(|entry| !self.entries.contains(entry)).cloned().collect();
        self.entries.extend(new);
        self.entries.sort_by_key(|entry| entry.first_seen);
        self.looked_at = self.looked_at.max(other.looked_at);
        self.forget();
        self
    }

    /// The history after another look.
    #[must_use]
    pub fn after(mut self, look: &Look) -> Self {
        let seen: HashSet<_> = look.seen.iter().map(Sighting::way).collect();
        for entry in self.entries.iter_mut().filter(|entry| entry.gone.is_none()) {
            if seen.contains(&entry.way()) {
                entry.last_seen = look.at;
                entry.told = entry.told.or(look.told_at());
                entry.posted = entry.posted.or(look.posted_at());
            } else if !look.unseen.contains(&entry.subject) {
                entry.gone = Some(look.at);
            }
        }
        let open: HashSet<_> = self.open().map(DriftEntry::way).collect();
        let new = look.seen.iter().filter(|sighting| !open.contains(&sighting.way()));
        let new: Vec<_> = new.map(|sighting| DriftEntry::new(sighting, look)).collect();
        self.entries.extend(new);
        if look.posted == Some(Posted::Recovery) {
            self.entries.iter_mut().filter(|entry| entry.gone.is_some()).for_each(|entry| entry.posted = None);
        }
        self.looked_at = Some(look.at);
        self.forget();
        self
    }

    /// What drift, still the same, was told as new already: the [`Sighting::way`] of each.
    pub fn told(&self) -> HashSet<(&str, &Digest)> {
        self.open().filter(|entry| entry.told.is_some()).map(DriftEntry::way).collect()
    }

    /// Did all go that a webhook was told of, and was none told that?
    pub fn owes_recovery(&self) -> bool {
        let mut posted = self.entries.iter().filter(|entry| entry.posted.is_some()).peekable();
        posted.peek().is_some() && posted.all(|entry| entry.gone.is_some())
    }

    fn open(&self) -> impl Iterator<Item = &DriftEntry> {
        self.entries.iter().filter(|entry| entry.gone.is_none())
    }

    /// Keeps it within its bounds. Only what went is forgotten: what is still so would be new again at every look.
    fn forget(&mut self) {
        let Some(now) = self.looked_at else { return };
        self.entries.retain(|entry| entry.gone.is_none_or(|gone| now.duration_since(gone) <= KEPT));
        let (mut count, mut bytes) = (self.entries.len(), self.entries.iter().map(DriftEntry::bytes).sum::<usize>());
        self.entries.retain(|entry| {
            let goes = entry.gone.is_some() && (count > ENTRIES || bytes > BYTES);
            if goes {
                (count, bytes) = (count - 1, bytes - entry.bytes());
            }
            !goes
        });
    }
}

impl Sighting {
    /// What drifted, and how: by this it is known again.
    pub fn way(&self) -> (&str, &Digest) {
        (&self.subject, &self.how)
    }
}

impl Look {
    fn told_at(&self) -> Option<Timestamp> {
        self.told.then_some(self.at)
    }

    fn posted_at(&self) -> Option<Timestamp> {
        (self.posted == Some(Posted::Seen)).then_some(self.at)
    }
}

impl DriftEntry {
    fn new(sighting: &Sighting, look: &Look) -> Self {
        Self {
            subject: sighting.subject.clone(),
            attributes: sighting.attributes.clone(),
            how: sighting.how.clone(),
            first_seen: look.at,
            last_seen: look.at,
            gone: None,
            told: look.told_at(),
            posted: look.posted_at(),
        }
    }

    /// How large it is as JSON, about: digest and times are of one size.
    fn bytes(&self) -> usize {
        350 + self.subject.len() + self.attributes.iter().map(|attribute| attribute.len() + 4).sum::<usize>()
    }

    /// See [`Sighting::way`].
    fn way(&self) -> (&str, &Digest) {
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

    fn look(hours: i64, seen: &[(&str, &str)]) -> Look {
        let seen = seen.iter().map(|(subject, how)| sighting(subject, how)).collect();
        Look { at: at(hours), seen, unseen: BTreeSet::new(), told: true, posted: None }
    }

    /// Subject, when first and last seen, and when gone, in hours.
    fn shown(history: &DriftHistory) -> Vec<(String, i64, i64, Option<i64>)> {
        let hours = |time: Timestamp| time.duration_since(Timestamp::UNIX_EPOCH).as_hours();
        let entries = history.entries.iter();
        entries.map(|e| (e.subject.clone(), hours(e.first_seen), hours(e.last_seen), e.gone.map(hours))).collect()
    }

    #[test]
    fn an_entry_lasts_until_the_drift_goes_or_becomes_another() {
        let history = DriftHistory::default().after(&look(1, &[("a", "x"), ("b", "x")]));
        let history = history.after(&look(2, &[("a", "x"), ("b", "y")])).after(&look(3, &[("b", "y")]));
        let history = history.after(&look(4, &[("a", "x"), ("b", "y")]));
        let expected = [("a", 1, 2, Some(3)), ("b", 1, 1, Some(2)), ("b", 2, 4, None), ("a", 4, 4, None)];
        assert_eq!(shown(&history), expected.map(|(name, first, last, gone)| (name.to_owned(), first, last, gone)));
    }

    #[test]
    fn what_a_look_says_nothing_of_stays_as_it_was() {
        let unseen = ["a".to_owned()].into();
        let history = DriftHistory::default().after(&look(1, &[("a", "x"), ("b", "x")]));
        let history = history.after(&Look { unseen, ..look(2, &[]) });
        assert_eq!(shown(&history), [("a".to_owned(), 1, 1, None), ("b".to_owned(), 1, 1, Some(2))]);
    }

    #[test]
    fn only_what_was_told_as_new_is_known() {
        let was_told = |history: &DriftHistory, how| history.told().contains(&sighting("a", how).way());
        let quiet = Look { told: false, ..look(1, &[("a", "x")]) };
        let history = DriftHistory::default().after(&quiet);
        assert!(!was_told(&history, "x"), "somebody else looked");
        let history = history.after(&look(2, &[("a", "x")]));
        assert!(was_told(&history, "x") && !was_told(&history, "y"));
        let history = history.after(&look(3, &[]));
        assert!(!was_told(&history, "x"), "it went, and would be new");
    }

    #[test]
    fn the_end_of_what_was_posted_is_owed_until_it_is_posted() {
        let posted = |posted, look| Look { posted: Some(posted), ..look };
        let history = DriftHistory::default().after(&posted(Posted::Seen, look(1, &[("a", "x"), ("b", "x")])));
        let history = history.after(&look(2, &[("b", "x")]));
        assert!(!history.owes_recovery(), "b is still so");
        let history = history.after(&look(3, &[("c", "x")]));
        assert!(history.owes_recovery(), "nobody was told of c");
        // A look that nobody was told of, or that says nothing of it, pays nothing back.
        let history = history.after(&look(4, &[])).after(&look(5, &[]));
        assert!(history.owes_recovery());
        let history = history.after(&posted(Posted::Recovery, look(6, &[])));
        assert!(!history.owes_recovery());
    }

    #[test]
    fn a_history_of_before_webhooks_were_noted_owes_nothing() {
        let entry = serde_json::json!({
            "subject": "a", "how": "blake3:00", "first_seen": at(1), "last_seen": at(1), "gone": at(2), "told": at(1),
        });
        let old: DriftHistory = serde_json::from_value(serde_json::json!({ "entries": [entry] })).unwrap();
        assert_eq!(shown(&old), [("a".to_owned(), 1, 1, Some(2))]);
        assert!(!old.owes_recovery());
    }

    #[test]
    fn the_history_of_another_place_is_added_once() {
        let other = DriftHistory::default().after(&look(1, &[("a", "x")])).after(&look(3, &[]));
        let moved = DriftNote::Moved(other.clone());
        assert_eq!(DriftHistory::default().with(&moved), other);
        let own = DriftHistory::default().after(&look(2, &[("b", "x")]));
        let joined = own.with(&moved).with(&moved);
        assert_eq!(shown(&joined), [("a".to_owned(), 1, 1, Some(3)), ("b".to_owned(), 2, 2, None)]);
        assert_eq!(joined.looked_at, other.looked_at);
    }

    #[test]
    fn what_went_is_bounded_and_what_is_still_there_is_kept() {
        let names: Vec<String> = (0..ENTRIES + 10).map(|i| format!("o{i}")).collect();
        let all: Vec<_> = names.iter().map(|name| (name.as_str(), "x")).collect();
        let history = DriftHistory::default().after(&look(1, &all[..5])).after(&look(2, &all[5..]));
        assert_eq!(history.entries.len(), all.len() - 5, "what went is forgotten");
        assert_eq!(history.told().len(), all.len() - 5, "what is there is not new again");
        let history = history.after(&look(3, &[]));
        assert_eq!(history.entries.len(), ENTRIES);
        let large: Vec<String> = (0..1000).map(|i| format!("{i:01000}")).collect();
        let large: Vec<_> = large.iter().map(|name| (name.as_str(), "x")).collect();
        let large = DriftHistory::default().after(&look(1, &large)).after(&look(2, &[]));
        let text = serde_json::to_vec(&large).unwrap();
        assert!(text.len() < BYTES, "{}", text.len());
        let later = 3 + 24 * 91;
        assert_eq!(shown(&history.after(&look(later, &[]))), []);
    }
}
