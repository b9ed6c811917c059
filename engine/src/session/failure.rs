//! Why a plan or an apply could not be made at all.

use moorfast_state::StateError;

use crate::model::{Address, Diagnostic};
use crate::provider::ProviderError;

/// Why a plan or an apply could not be made at all.
#[derive(Debug)]
pub enum Failure {
    /// The manifest is wrong, or an expression failed.
    Manifest(Vec<Diagnostic>),
    /// Instances could not be read or planned; an instance is named once. Other instances were fine, but a plan of a part is no plan.
    Providers(Vec<(Address, ProviderError)>),
    /// A provider could not be configured.
    Provider(String, Box<ProviderError>),
    /// The state can't be read or written.
    State(Box<StateError>),
    /// A saved plan does not fit the manifest, its inputs or the state any more; one line each.
    Stale(Vec<String>),
    /// The person ended the run.
    Interrupted,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(Box::new(error))
    }
}
