//! An example of a provider outside of moorfast: the provider `local` with the type `local_file`, a file on the operator's machine.
//!
//! `docs/writing-a-provider.md` of moorfast explains each part.

mod connection;
mod local_file;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, Schema};
use moorfast_engine::provider::{Connection, Context, Provider, ProviderError, ResourceType};

use crate::connection::LocalConnection;
use crate::local_file::LocalFile;

/// Builds the provider `local`.
pub fn local(_: &moorfast::RunOptions) -> Arc<dyn Provider> {
    Arc::new(LocalProvider)
}

/// The provider `local`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalProvider;

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    fn config_schema(&self) -> Schema {
        Schema::new("Files on the machine where moorfast runs. There is nothing to configure.", [])
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        vec![Arc::new(LocalFile)]
    }

    async fn configure(&self, _: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(LocalConnection { context }))
    }
}
