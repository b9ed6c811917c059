//! The secrets that a run knows.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Redaction;
use crate::model::Value;

/// The secrets that a run knows: those of the manifest's variables and providers, and those of all requests so far.
///
/// A message about one object can quote the secret of another one: a program that fails prints the file that an earlier operation wrote.
pub(crate) struct KnownSecrets(Mutex<Known>);

struct Known {
    /// The redaction of the variables and of `texts` without `added`. It is completed only if a message needs it.
    redaction: Redaction,
    texts: BTreeSet<String>,
    added: Vec<String>,
}

impl KnownSecrets {
    /// Creates the secrets of a run with the values of the variables.
    pub(crate) fn of<'v>(variables: impl IntoIterator<Item = &'v Value>) -> Self {
        let redaction = Redaction::of(variables);
        Self(Mutex::new(Known { redaction, texts: BTreeSet::new(), added: Vec::new() }))
    }

    /// Adds the sensitive values in `values`, except those that are words of many messages.
    pub(crate) fn add<'v>(&self, values: impl IntoIterator<Item = &'v Value>) {
        for value in values {
            let texts = value.secrets();
            if texts.is_empty() {
                continue;
            }
            let mut known = self.lock();
            for text in texts {
                if !known.texts.contains(text.as_ref()) {
                    known.added.push(text.clone().into_owned());
                    known.texts.insert(text.into_owned());
                }
            }
        }
    }

    /// Returns the redaction of the secrets.
    pub(crate) fn redaction(&self) -> Redaction {
        let mut known = self.lock();
        if !known.added.is_empty() {
            let added = Redaction::of_texts(std::mem::take(&mut known.added));
            known.redaction = std::mem::take(&mut known.redaction).and(&added.without_words());
        }
        known.redaction.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
