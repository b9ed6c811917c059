//! The error of a command, with the data for its message.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Diagnostic, ErrorCode, Sources};
use moorfast_engine::provider::{Class, ProviderError};
use moorfast_engine::session::Failure;
use moorfast_engine::state::StateError;

use crate::exit::Exit;
use crate::plan_file::PlanFileError;
use crate::signature::SignatureError;

/// The error of a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is invalid.
    #[error("the manifest is invalid")]
    Manifest {
        /// The texts of the manifest.
        sources: Sources,
        /// All errors.
        diagnostics: Vec<Diagnostic>,
    },
    /// The engine failed to plan or apply.
    #[error("cannot plan or apply")]
    Run {
        /// The failure of the engine.
        #[source]
        failure: Box<Failure>,
        /// The manifest.
        manifest: Arc<Manifest>,
    },
    /// The state cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// A plan file cannot be used.
    #[error(transparent)]
    PlanFile(#[from] PlanFileError),
    /// A signing key cannot be used.
    #[error(transparent)]
    Key(#[from] SignatureError),
    /// A provider failed outside of a plan.
    #[error(transparent)]
    Provider(ProviderError),
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", .path.display())]
    File {
        /// The failed action, for example `read` or `write`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The command cannot do what its arguments ask for.
    #[error("{message}")]
    Usage {
        /// The message.
        message: String,
        /// The remedy.
        help: Option<String>,
        /// The code, if the error has a page.
        code: Option<ErrorCode>,
    },
    /// Standard output is closed or cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[source] io::Error),
    /// The run was interrupted before it changed anything.
    #[error("Interrupted; nothing was changed")]
    Interrupted,
}

impl Error {
    /// Returns the message in one line: of an invalid manifest, the summary of its first error.
    pub fn first_summary(&self) -> String {
        match self {
            Error::Manifest { diagnostics, .. } => {
                diagnostics.first().map_or_else(String::new, |diagnostic| diagnostic.summary.clone())
            }
            other => other.to_string(),
        }
    }

    /// Creates an error with a message and a remedy.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Usage { message: message.into(), help: Some(help.into()), code: None }
    }

    /// Returns a function for [`Result::map_err`] that adds the failed action and the file.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { doing, path, source }
    }

    /// Returns the exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Run { failure, .. } if matches!(**failure, Failure::Stale(_)) => Exit::StalePlan,
            Error::Run { failure, .. } if matches!(**failure, Failure::Interrupted) => Exit::Interrupted,
            Error::Interrupted => Exit::Interrupted,
            Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            _ => Exit::Error,
        }
    }

    /// Returns the exit code of `drift`, which has separate codes for targets that do not answer or have another identity.
    pub fn drift_exit(&self) -> Exit {
        let of_target = |error: &ProviderError| match error.class {
            Class::Unreachable => Exit::Unreachable,
            Class::Identity => Exit::Identity,
            _ => Exit::Error,
        };
        let Error::Run { failure, .. } = self else { return self.exit() };
        match &**failure {
            Failure::Providers(errors) => {
                errors.iter().map(|(_, error)| of_target(error)).fold(Exit::Success, Exit::worse)
            }
            Failure::Provider(_, error) => of_target(error),
            _ => self.exit(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn an_error_has_a_message_and_a_source() {
        let error = Error::file("read", "main.toml")(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(error.to_string(), "cannot read main.toml: permission denied");
        assert!(error.source().is_some());
    }
}
