//! Failures of a whole plan or apply.

use moorfast_state::StateError;

use crate::model::{Address, Diagnostic};
use crate::provider::ProviderError;

/// A failure of a whole plan or apply.
///
/// As text it is one line, with the first of its errors. Commands render all of them.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The manifest is invalid, or an expression cannot be evaluated.
    #[error("the manifest is invalid: {}", first(.0, |diagnostic| diagnostic.summary.clone()))]
    Manifest(Vec<Diagnostic>),
    /// Instances could not be read or planned. Each instance is listed once.
    ///
    /// Other instances may have succeeded, but a plan without these instances would be incomplete.
    #[error("cannot read or plan {}", first(.0, |(address, error)| format!("{address}: {}", error.summary)))]
    Providers(Vec<(Address, ProviderError)>),
    /// A provider could not be configured.
    #[error("cannot configure the provider `{name}`: {}", .1.summary, name = .0)]
    Provider(String, Box<ProviderError>),
    /// The state cannot be read or written.
    #[error(transparent)]
    State(Box<StateError>),
    /// The saved plan is stale: it does not fit the manifest, its inputs or the state any more. One line for each reason.
    #[error("the plan is stale: {}", .0.join("; "))]
    Stale(Vec<String>),
    /// The user interrupted the run.
    #[error("the run was interrupted")]
    Interrupted,
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::State(Box::new(error))
    }
}

/// Returns the first of `errors` as text, with the number of the others.
fn first<T>(errors: &[T], text: impl Fn(&T) -> String) -> String {
    let first = errors.first().map(text).unwrap_or_default();
    match errors.len().saturating_sub(1) {
        0 => first,
        others => format!("{first} (and {others} more)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_with_its_first_error() {
        let errors = ["no node `a`", "no node `b`"].map(Diagnostic::error).to_vec();
        assert_eq!(Failure::Manifest(errors).to_string(), "the manifest is invalid: no node `a` (and 1 more)");
        let stale = Failure::Stale(vec!["the state changed since the plan was made".to_owned()]);
        assert_eq!(stale.to_string(), "the plan is stale: the state changed since the plan was made");
    }
}
