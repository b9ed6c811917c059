//! The errors of providers.

use std::fmt::Display;
use std::io;

use crate::model::ErrorCode;

/// An error of a provider.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{summary}")]
pub struct ProviderError {
    /// The class of the error.
    pub class: Class,
    /// The code, if the error has a page.
    pub code: Option<ErrorCode>,
    /// The error in one line, without a full stop: `cannot write /etc/motd on gpu01: no space left on device`.
    pub summary: String,
    /// More lines in the words of the target: stderr, journal, conditions. They must not contain sensitive values.
    pub detail: Vec<String>,
    /// How to fix the error.
    pub help: Option<String>,
    /// The attribute of the manifest that causes the error.
    pub attribute: Option<String>,
    /// Private data to record if the operation was done in part. The provider gets it back in `recorded.private`. It must not contain sensitive values.
    pub private: Option<Box<serde_json::Value>>,
}

/// The class of a [`ProviderError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The target does not answer. The status of its objects is unknown.
    Unreachable,
    /// The target answers, but it is not the known target: a changed host key, a foreign certificate.
    Identity,
    /// The target denies access: SSH key, sudo, RBAC.
    Denied,
    /// Somebody else owns what the operation would change.
    Conflict,
    /// The target does not accept the attributes.
    Invalid,
    /// The operation did not complete in time.
    Timeout,
    /// The operation was cancelled. It may have been done in part.
    Cancelled,
    /// The operation was not started, because the run may start nothing more.
    NotStarted,
    /// The operation failed for another reason.
    Failed,
}

impl ProviderError {
    /// Returns an error of this class with this summary.
    pub fn new(class: Class, summary: impl Into<String>) -> Self {
        Self {
            class,
            code: None,
            summary: summary.into(),
            detail: Vec::new(),
            help: None,
            attribute: None,
            private: None,
        }
    }

    /// Returns the error of a file operation, with the class that its kind has: `cannot read /etc/motd: permission denied`.
    pub fn io(failed: impl Display, error: &io::Error) -> Self {
        let class = match error.kind() {
            io::ErrorKind::PermissionDenied => Class::Denied,
            io::ErrorKind::AlreadyExists => Class::Conflict,
            _ => Class::Failed,
        };
        Self::new(class, format!("{failed}: {error}"))
    }

    /// Sets the code.
    pub fn code(mut self, code: ErrorCode) -> Self {
        self.code = Some(code);
        self
    }

    /// Sets the help.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds lines in the words of the target.
    pub fn detail(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.detail.extend(lines.into_iter().map(Into::into));
        self
    }

    /// Sets the private data of an operation that was done in part.
    pub fn private(mut self, private: serde_json::Value) -> Self {
        self.private = Some(Box::new(private));
        self
    }

    /// Sets the attribute that causes the error.
    pub fn attribute(mut self, name: impl Into<String>) -> Self {
        self.attribute = Some(name.into());
        self
    }
}
