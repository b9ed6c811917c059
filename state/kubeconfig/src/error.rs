//! Why a cluster cannot be reached by its kubeconfig.

/// An error of a kubeconfig or of the login that it describes.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{summary}")]
pub struct Error {
    /// The sort of error.
    pub kind: Kind,
    /// What failed and why, in one line.
    pub summary: String,
    /// More lines.
    pub detail: Vec<String>,
    /// What to do.
    pub help: Option<String>,
}

/// The sort of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The kubeconfig is missing or cannot be used.
    Unusable,
    /// There are no credentials.
    Login,
    /// The exec plugin did not end in time.
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
