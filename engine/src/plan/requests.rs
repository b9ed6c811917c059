//! Requests in batches.

use std::collections::BTreeMap;

use crate::provider::{Class, ProviderError, Target};

/// Requests in batches: one per provider instance and target.
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

/// A provider's answers, followed by errors for those it might have left out: no request may go unnoticed.
pub(super) fn or_unanswered<T>(
    answers: Vec<Result<T, ProviderError>>,
) -> impl Iterator<Item = Result<T, ProviderError>> {
    answers.into_iter().chain(std::iter::repeat_with(|| {
        Err(ProviderError::new(Class::Failed, "the provider did not answer").help("this is a defect of moorfast"))
    }))
}
