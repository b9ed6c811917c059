//! Requests grouped by target, so that a provider gets one call for each target.

use std::collections::BTreeMap;

use crate::provider::Target;

/// The requests for one target of one provider instance.
pub(crate) struct Batch<T> {
    /// The provider instance.
    pub alias: String,
    pub target: Target,
    pub requests: Vec<T>,
}

/// Requests in one batch for each provider instance and target.
pub(crate) struct Batches<T>(BTreeMap<(String, String), Batch<T>>);

impl<T> Batches<T> {
    pub fn add(&mut self, alias: &str, target: &Target, request: T) {
        let key = (alias.to_owned(), target.name().to_owned());
        let empty = || Batch { alias: alias.to_owned(), target: target.clone(), requests: Vec::new() };
        self.0.entry(key).or_insert_with(empty).requests.push(request);
    }
}

impl<T> Default for Batches<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> IntoIterator for Batches<T> {
    type Item = Batch<T>;
    type IntoIter = std::collections::btree_map::IntoValues<(String, String), Batch<T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_values()
    }
}
