//! Errors of kubeconfigs and logins.

/// An error of a kubeconfig or of its login.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{summary}")]
pub struct Error {
    /// The kind of error.
    pub kind: Kind,
    /// One line: the failure and its cause.
    pub summary: String,
    /// Further lines.
    pub detail: Vec<String>,
    /// The remedy.
    pub help: Option<String>,
}

/// The kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kubeconfig is missing or cannot be used.
    Unusable,
    /// The login failed: there are no usable credentials.
    Login,
    /// The exec plugin exceeded its time limit.
    Timeout,
}

impl Error {
    pub(crate) fn unusable(summary: impl Into<String>) -> Self {
        Self { kind: Kind::Unusable, summary: summary.into(), detail: Vec::new(), help: None }
    }

    pub(crate) fn login(summary: impl Into<String>) -> Self {
        Self { kind: Kind::Login, ..Self::unusable(summary) }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}
