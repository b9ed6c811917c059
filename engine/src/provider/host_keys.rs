//! The interface to the host keys of nodes, for providers that connect to nodes.

use std::path::Path;

use async_trait::async_trait;

use super::ProviderError;
use crate::model::{Attributes, Node};

/// The host keys of nodes, which `moorfast node` shows, trusts and removes. A provider that connects to nodes can implement it.
///
/// Host keys are fingerprints: `SHA256:…`. No method needs a configured provider.
#[async_trait]
pub trait HostKeys: Send + Sync {
    /// Returns the known host keys of a node: those that the manifest pins, otherwise the trusted ones in the folder of moorfast's own files.
    ///
    /// # Errors
    /// If the trusted keys cannot be read.
    fn known(&self, node: &Node, data_dir: &Path) -> Result<Vec<String>, ProviderError>;

    /// Trusts the host keys that a node presents now instead of those trusted before, and returns them. Returns no keys if the node needs none.
    ///
    /// `config` is the configuration of the provider; relative paths in it start at `root`.
    ///
    /// # Errors
    /// If the node does not answer, or the keys cannot be stored.
    async fn trust(
        &self,
        node: &Node,
        config: &Attributes,
        root: &Path,
        data_dir: &Path,
    ) -> Result<Vec<String>, ProviderError>;

    /// Removes the trusted host keys of a node. Returns whether there were any.
    ///
    /// # Errors
    /// If the trusted keys cannot be changed.
    fn forget(&self, node: &Node, data_dir: &Path) -> Result<bool, ProviderError>;
}
