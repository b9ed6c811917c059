//! The entries of the key store.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// All entries, by their identity: `authority/kubernetes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Entries {
    /// The version of the format.
    version: Version,
    /// The recipients for which the file is encrypted. `None` if it is not encrypted, or was written by a version of moorfast that did not note them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) recipients: Option<BTreeSet<String>>,
    entries: BTreeMap<String, Entry>,
}

/// The only version of the format. A file of another version is not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
enum Version {
    #[default]
    #[serde(rename = "1")]
    One,
}

/// An entry of the key store.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Entry {
    /// A certificate authority.
    Authority {
        /// The key in PEM.
        private_key: Zeroizing<String>,
        /// The certificate in PEM.
        certificate: String,
    },
    /// A key pair.
    Key {
        /// The key in PEM.
        private_key: Zeroizing<String>,
    },
    /// Random bytes.
    Random {
        /// A random name of these bytes, which is not secret.
        id: String,
        /// The bytes in base64.
        bytes: Zeroizing<String>,
    },
    /// An entry that was destroyed. It shows that its absence is no loss.
    Destroyed {
        /// When it was destroyed.
        at: Timestamp,
    },
}

/// Writes the kind only.
impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Entry::Authority { .. } => "authority",
            Entry::Key { .. } => "key",
            Entry::Random { .. } => "random",
            Entry::Destroyed { .. } => "destroyed",
        })
    }
}

impl Entries {
    /// Returns the entries of a key store that does not exist yet.
    pub(super) fn none(recipients: Option<BTreeSet<String>>) -> Self {
        Self { recipients, ..Self::default() }
    }

    /// Returns an entry, also one that was destroyed.
    pub(crate) fn get(&self, identity: &str) -> Option<&Entry> {
        self.entries.get(identity)
    }

    /// Returns an entry that exists.
    pub(crate) fn existing(&self, identity: &str) -> Option<&Entry> {
        self.get(identity).filter(|entry| !matches!(entry, Entry::Destroyed { .. }))
    }

    /// Returns all entries, including those that were destroyed, with their identities.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(identity, entry)| (identity.as_str(), entry))
    }

    /// Sets an entry.
    pub(crate) fn put(&mut self, identity: &str, entry: Entry) {
        self.entries.insert(identity.to_owned(), entry);
    }

    /// Marks an entry as destroyed.
    pub(crate) fn destroy(&mut self, identity: &str) {
        if self.existing(identity).is_some() {
            self.put(identity, Entry::Destroyed { at: Timestamp::now() });
        }
    }
}
