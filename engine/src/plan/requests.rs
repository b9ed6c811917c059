//! Batches of requests.

use std::collections::BTreeMap;

use crate::provider::{Class, ProviderError, Target};

/// Batches of requests, one for each provider instance and target.
pub(super) struct Requests<T>(pub(super) BTreeMap<(String, String), (String, Target, Vec<T>)>);

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Requests<T> {
    pub(super) fn add(&mut self, alias: &str, target: &Target, request: T) {
        let key = (alias.to_owned(), target.name().to_owned());
        let batch = self.0.entry(key).or_insert_with(|| (alias.to_owned(), target.clone(), Vec::new()));
        batch.2.push(request);
    }
}

/// Returns the results of a provider, followed by errors in case the provider returned fewer results than requests.
pub(super) fn with_missing_answers<T>(
    answers: Vec<Result<T, ProviderError>>,
) -> impl Iterator<Item = Result<T, ProviderError>> {
    answers.into_iter().chain(std::iter::repeat_with(|| {
        Err(ProviderError::new(Class::Failed, "the provider returned no result").help("this is a bug in moorfast"))
    }))
}
