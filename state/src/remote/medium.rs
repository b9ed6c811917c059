//! What a server must be able to do to keep a state: rows and a head that change together or not at all, and a lease.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::rows::{Changed, Rows};
use crate::lease::Lease;
use crate::{Digest, Lineage, SealKey, StateError};

/// The format of what is written. A newer one is refused.
pub(crate) const FORMAT: u64 = 1;

/// What is known of a state as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) lineage: Lineage,
    pub(crate) serial: u64,
    /// How many locks there were.
    pub(crate) epoch: u64,
    /// The id of the lock that may write. A write is possible only under this lock and this epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<String>,
    /// The id of the last write: who does not know whether their write was done finds it here.
    pub(crate) write: String,
    /// What tells whether a key is that of the state.
    pub(crate) key_check: Digest,
}

impl Head {
    /// The id of a write that was never used.
    pub(crate) fn new_write() -> String {
        Uuid::new_v4().simple().to_string()
    }
}

/// A state as it was read.
pub(crate) struct Loaded<L> {
    pub(crate) head: Head,
    pub(crate) rows: Rows,
    /// What the medium knows of where things lie, and which version of them this is.
    pub(crate) layout: L,
}

/// What a server says of a thing that changes with every write of it.
pub(crate) type Version = String;

/// A server that keeps a state.
#[async_trait]
pub(crate) trait Medium: Send + Sync + 'static {
    /// What it must know of a state to write the next version of it.
    type Layout: Send + Sync + 'static;

    /// Where it is, for messages.
    fn place(&self) -> &str;

    /// The state, read anew unless it is still as `known`. None where there is none.
    async fn load(&self, known: Option<Loaded<Self::Layout>>) -> Result<Option<Loaded<Self::Layout>>, Trouble>;

    /// Makes a state without rows. [`Trouble::Conflict`] where there is one.
    async fn create(&self, head: &Head) -> Result<(), Trouble>;

    /// Makes what was read the next version, as a whole, where nobody else did; [`Trouble::Conflict`] otherwise.
    async fn commit(
        &self,
        from: &Loaded<Self::Layout>,
        head: &Head,
        changed: &Changed,
    ) -> Result<Self::Layout, Trouble>;

    /// Clears away what earlier holders of the lock left behind half done. What cannot be cleared away stays.
    async fn tidy(&self, now: &Loaded<Self::Layout>);

    /// The lease and its version; without a lease the version of its empty place.
    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), Trouble>;

    /// Writes the lease where it is still of version `from`; [`Trouble::Conflict`] otherwise.
    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), Trouble>;

    /// The history of drift and its version; without one the version of its empty place.
    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), Trouble>;

    /// Writes the history of drift where it is still of version `from`; [`Trouble::Conflict`] otherwise.
    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), Trouble>;

    /// The keys that lie beside the state.
    async fn keys(&self) -> Result<Vec<SealKey>, Trouble>;

    /// Lays a key beside the state.
    async fn add_key(&self, key: &SealKey) -> Result<(), Trouble>;

    /// Removes a key from beside the state; that there is none is as good.
    async fn remove_key(&self, key: &SealKey) -> Result<(), Trouble>;
}

/// Why a server did not do it.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// Somebody else was faster.
    Conflict,
    /// It did not answer, or not to the point: it may have been done or not.
    Unclear(String),
    /// It will never do it.
    Refused(String),
    /// What was found is not what we write.
    Corrupt(String),
    /// A newer moorfast wrote it.
    Newer(u64),
}

impl Trouble {
    /// There was a state and there is none any more.
    pub(crate) fn gone() -> Self {
        Self::Refused("the state is gone: somebody removed it".into())
    }

    /// The error to hand out.
    pub(crate) fn at(self, place: &str, doing: &'static str) -> StateError {
        let place = place.to_owned();
        match self {
            Self::Conflict => {
                let detail = "others changed it again and again at the same time".to_owned();
                StateError::Unreachable { place, doing, detail }
            }
            Self::Unclear(detail) => StateError::Unreachable { place, doing, detail: short(&detail) },
            Self::Refused(detail) => StateError::Refused { place, doing, detail: short(&detail) },
            Self::Corrupt(detail) => StateError::Corrupt { place, detail },
            Self::Newer(found) => StateError::Newer { place, found, supported: FORMAT },
        }
    }
}

/// The longest detail of a message, in characters.
const DETAIL: usize = 300;

/// What a server said, in one line: of an XML document its code and its message, of anything else the beginning.
fn short(detail: &str) -> String {
    let (text, document) = detail.split_at(detail.find("<?xml").or(detail.find("<Error>")).unwrap_or(detail.len()));
    let said = ["Code", "Message"].into_iter().filter_map(|name| element(document, name));
    let said = said.collect::<Vec<_>>().join(": ");
    let line = format!("{text} {said}").split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(DETAIL) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// The text of the first element of this name.
fn element<'d>(document: &'d str, name: &str) -> Option<&'d str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

/// An error with what it comes from.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let source_text = source.to_string();
        if !text.contains(&source_text) {
            text = format!("{text}: {source_text}");
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_short_line() {
        let document = "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message>\
            <RequestId>1</RequestId></Error>";
        let denied = format!("Generic S3 error: 403 Forbidden: {document}");
        assert_eq!(short(&denied), "Generic S3 error: 403 Forbidden: AccessDenied: Access Denied");
        assert_eq!(short("no answer within 15 s"), "no answer within 15 s");
        for long in ["<html>".repeat(1000), format!("<?xml><Message>{}", "é".repeat(3000)), "x\n".repeat(3000)] {
            assert!(short(&long).chars().count() <= DETAIL + 1 && !short(&long).contains('\n'));
        }
    }
}
