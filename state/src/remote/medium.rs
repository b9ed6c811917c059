//! The interface of a server that stores a state: rows and a head that change atomically, and a lease.

use async_trait::async_trait;

use super::head::Head;
use super::rows::{Changed, Rows};
use crate::lease::Lease;
use crate::{SealKey, StateError};

/// A state as it was read.
pub(crate) struct Loaded<L> {
    pub(crate) head: Head,
    pub(crate) rows: Rows,
    /// The version, and the places of the rows.
    pub(crate) layout: L,
}

/// The version of an object on a server, which changes with every write.
pub(crate) type Version = String;

/// A server that stores a state.
#[async_trait]
pub(crate) trait Medium: Send + Sync + 'static {
    /// The data that the server needs to write the next version of a state.
    type Layout: Send + Sync + 'static;

    /// Returns the place of the state for messages.
    fn place(&self) -> &str;

    /// Returns the state, or `None` if there is none. Does not read it again if it is still the version of `known`.
    async fn load(&self, known: Option<Loaded<Self::Layout>>) -> Result<Option<Loaded<Self::Layout>>, RequestError>;

    /// Creates a state without rows. Fails with [`RequestError::Conflict`] if a state exists.
    async fn create(&self, head: &Head) -> Result<(), RequestError>;

    /// Replaces the version that was read atomically. Fails with [`RequestError::Conflict`] if it is no longer the current version.
    async fn commit(
        &self,
        from: &Loaded<Self::Layout>,
        head: &Head,
        changed: &Changed,
    ) -> Result<Self::Layout, RequestError>;

    /// Removes partial writes of earlier holders of the lock. Failures are ignored.
    async fn clean_up(&self, now: &Loaded<Self::Layout>);

    /// Returns the lease and its version. If the lease was released, only the version of its place.
    async fn lease(&self) -> Result<(Option<Lease>, Option<Version>), RequestError>;

    /// Writes the lease if it still has the version `from`. Fails with [`RequestError::Conflict`] otherwise.
    async fn set_lease(&self, from: Option<&Version>, lease: Option<&Lease>) -> Result<(), RequestError>;

    /// Returns the history of drift and its version.
    async fn drift(&self) -> Result<(Option<Vec<u8>>, Option<Version>), RequestError>;

    /// Writes the history of drift if it still has the version `from`. Fails with [`RequestError::Conflict`] otherwise.
    async fn set_drift(&self, from: Option<&Version>, bytes: Vec<u8>) -> Result<(), RequestError>;

    /// Returns the keys beside the state.
    async fn keys(&self) -> Result<Vec<SealKey>, RequestError>;

    /// Adds a key beside the state.
    async fn add_key(&self, key: &SealKey) -> Result<(), RequestError>;

    /// Removes a key beside the state. Succeeds if it does not exist.
    async fn remove_key(&self, key: &SealKey) -> Result<(), RequestError>;
}

/// The error of a request to a server.
#[derive(Clone, Debug)]
pub(crate) enum RequestError {
    /// Another process changed the object first.
    Conflict,
    /// No valid answer: whether the request was done is unknown.
    NoAnswer(String),
    /// The server refused the request permanently.
    Refused(String),
    /// The stored data is damaged.
    Corrupt(String),
    /// The stored data has a newer format.
    Newer {
        /// The format.
        found: u64,
        /// The newest format that the store supports.
        supported: u64,
    },
}

impl RequestError {
    /// Returns the error for a state that was deleted while it was open.
    pub(crate) fn deleted() -> Self {
        Self::Refused("the state was deleted".into())
    }

    /// Adds the place and the operation.
    pub(crate) fn at(self, place: &str, doing: &'static str) -> StateError {
        let place = place.to_owned();
        match self {
            Self::Conflict => {
                let detail = "other processes changed it at the same time in every attempt".to_owned();
                StateError::Unreachable { place, doing, detail }
            }
            Self::NoAnswer(detail) => StateError::Unreachable { place, doing, detail: short(&detail) },
            Self::Refused(detail) => StateError::Refused { place, doing, detail: short(&detail) },
            Self::Corrupt(detail) => StateError::Corrupt { place, detail },
            Self::Newer { found, supported } => StateError::Newer { place, found, supported },
        }
    }
}

/// The longest detail of a message, in characters.
const DETAIL: usize = 300;

/// Shortens the answer of a server to one line: code and message of an XML document, or the beginning of any other text.
fn short(detail: &str) -> String {
    let (text, document) = detail.split_at(detail.find("<?xml").or(detail.find("<Error>")).unwrap_or(detail.len()));
    let parts = ["Code", "Message"].into_iter().filter_map(|name| element(document, name));
    let summary = parts.collect::<Vec<_>>().join(": ");
    let line = format!("{text} {summary}").split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(DETAIL) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// Returns the text of the first element of an XML document with this name.
pub(crate) fn element<'d>(document: &'d str, name: &str) -> Option<&'d str> {
    let (_, rest) = document.split_once(&format!("<{name}>"))?;
    Some(rest.split_once("</")?.0)
}

/// Formats an error with its sources.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
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
    fn answers_of_servers_are_shortened_to_one_line() {
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
