//! The trait of a provider before it is configured.

use std::sync::Arc;

use async_trait::async_trait;

use super::{CertificateIssuer, Connection, Context, HostKeys, ProviderError, ResourceType, Target};
use crate::model::{Address, Attributes, ErrorCode, Schema};

/// A provider: its name, its configuration, and its resource types.
///
/// No method except [`Provider::configure`] does any I/O.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Returns the name of the provider. It is the prefix of its resource types, up to the first `_`: `ssh`.
    fn name(&self) -> &'static str;

    /// Returns the schema of `[providers.NAME]`.
    fn config_schema(&self) -> Schema;

    /// Returns the resource types.
    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>>;

    /// Returns the data sources.
    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        Vec::new()
    }

    /// Returns the codes of its errors that have a page: the list that [`error_codes`](crate::error_codes) declares.
    fn error_codes(&self) -> &'static [ErrorCode] {
        &[]
    }

    /// Returns the names of the providers whose connections this provider uses, for example to reach nodes. They are in
    /// [`Context::used`](super::Context::used), with the configuration of `[providers.NAME]`.
    fn uses(&self) -> &'static [&'static str] {
        &[]
    }

    /// Returns the dependencies that a manifest does not have to declare, as pairs of indexes into `instances`: the first comes before the second.
    ///
    /// For example, a directory comes before the files in it, and a Namespace before the objects in it. `instances` are all instances of this provider, with
    /// the attributes that are known before anything is read. A dependency that contradicts a declared one is dropped.
    fn implied_order(&self, _instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// Returns the interface to the host keys of nodes. `None` if the provider does not connect to nodes.
    fn host_keys(&self) -> Option<&dyn HostKeys> {
        None
    }

    /// Returns the issuer of client certificates for the run of `context`. `None` if the provider issues none.
    fn certificate_issuer(&self, _context: &Context) -> Option<Arc<dyn CertificateIssuer>> {
        None
    }

    /// Returns a provider instance with this configuration. It connects to its targets only when they are needed.
    ///
    /// # Errors
    /// If the configuration is not usable.
    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError>;
}
