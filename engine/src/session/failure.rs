//! Failures of a whole plan or apply.

use moorfast_state::StateError;

use crate::model::{Address, Diagnostic};
use crate::provider::ProviderError;

/// A failure of a whole plan or apply.
#[derive(Debug)]
pub enum Failure {
    /// The manifest is invalid, or an expression cannot be evaluated.
    Manifest(Vec<Diagnostic>),
    /// Instances could not be read or planned. Each instance is listed once.
    ///
    /// Other instances may have succeeded, but a plan without these instances would be incomplete.
    Providers(Vec<(Address, ProviderError)>),
    /// A provider could not be configured.
    Provider(String, Box<ProviderError>),
    /// The state cannot be read or written.
    State(Box<StateError>),
    /// The saved plan is stale: it does not fit the manifest, its inputs or the state any more. One line for each reason.
    Stale(Vec<String>),
    /// The user interrupted the run.
    Interrupted,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(Box::new(error))
    }
}
