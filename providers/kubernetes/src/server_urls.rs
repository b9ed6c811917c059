//! The URLs of the API servers of a cluster, and the one that is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The URLs of the API servers. All copies use the same one.
#[derive(Clone, Debug)]
pub(crate) struct ServerUrls {
    urls: Arc<[String]>,
    current: Arc<AtomicUsize>,
}

impl ServerUrls {
    /// Starts with the first one.
    pub(crate) fn new(urls: impl IntoIterator<Item = String>) -> Self {
        Self { urls: urls.into_iter().collect(), current: Arc::default() }
    }

    /// Returns the URL of the server that is in use.
    pub(crate) fn current(&self) -> &str {
        self.get(self.current_index())
    }

    /// Returns the index of the server that is in use.
    pub(crate) fn current_index(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Returns the URL with this index.
    pub(crate) fn get(&self, index: usize) -> &str {
        self.urls.get(index).map_or("(none)", String::as_str)
    }

    /// Uses the server after this one from now on, unless another request has passed it over already.
    pub(crate) fn pass_over(&self, index: usize) {
        let next = (index + 1) % self.urls.len().max(1);
        let _ = self.current.compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
    }
}
