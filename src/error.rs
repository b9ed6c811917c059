//! Why a command failed, with the data that its message needs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Diagnostic, Sources};
use moorfast_engine::provider::{Class, ProviderError};
use moorfast_engine::session::Failure;
use moorfast_engine::state::StateError;

use crate::exit::Exit;
use crate::plan_file::PlanFileError;
use crate::signature::SignatureError;

/// Why a command failed.
#[derive(Debug)]
pub enum Error {
    /// The manifest is wrong.
    Manifest {
        /// The texts that the diagnostics point into.
        sources: Sources,
        /// Everything that is wrong.
        diagnostics: Vec<Diagnostic>,
    },
    /// The engine could not plan or apply.
    Run {
        /// Why.
        failure: Box<Failure>,
        /// The manifest it was about.
        manifest: Arc<Manifest>,
    },
    /// The state can't be read or written.
    State(StateError),
    /// A plan file can't be used.
    PlanFile(PlanFileError),
    /// A key for signatures can't be used.
    Key(SignatureError),
    /// A provider could not do what was asked, outside of a plan.
    Provider(ProviderError),
    /// A file can't be read or written.
    File {
        /// What was under way: `read`, `write`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was asked for makes no sense here.
    Usage {
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// Nobody reads standard output any more, or it can't be written.
    Output(io::Error),
    /// The person ended the run before anything was done.
    Interrupted,
}

impl Error {
    /// What was asked for makes no sense here.
    pub fn usage(message: impl Into<String>, help: impl Into<String>) -> Self {
        Error::Usage { message: message.into(), help: Some(help.into()) }
    }

    /// For [`Result::map_err`]: this was under way with this file.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { doing, path, source }
    }

    /// The exit code.
    pub fn exit(&self) -> Exit {
        match self {
            Error::Run { failure, .. } if matches!(**failure, Failure::Stale(_)) => Exit::StalePlan,
            Error::Run { failure, .. } if matches!(**failure, Failure::Interrupted) => Exit::Interrupted,
            Error::Interrupted => Exit::Interrupted,
            Error::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::OutputClosed,
            _ => Exit::Error,
        }
    }

    /// The exit code for a look at the world: what targets do is told apart from what else went wrong.
    pub fn exit_of_a_look(&self) -> Exit {
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

impl From<StateError> for Error {
    fn from(error: StateError) -> Self {
        Error::State(error)
    }
}

impl From<PlanFileError> for Error {
    fn from(error: PlanFileError) -> Self {
        Error::PlanFile(error)
    }
}

impl From<SignatureError> for Error {
    fn from(error: SignatureError) -> Self {
        Error::Key(error)
    }
}
