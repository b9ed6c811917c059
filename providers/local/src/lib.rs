//! The provider `local`: data from the machine where moorfast runs. It has data sources only.
//!
//! `LocalConnection` hands each request to its data source (`data/`).

mod arguments;
mod connection;
mod content;
mod data;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, Schema};
use moorfast_engine::provider::{Connection, Context, Provider, ProviderError, ResourceType};

use connection::LocalConnection;

/// The provider `local`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LocalProvider;

#[async_trait]
impl Provider for LocalProvider {
    fn name(&self) -> &'static str {
        "local"
    }

    fn config_schema(&self) -> Schema {
        Schema::new("Data from the machine where moorfast runs. There is nothing to configure.", [])
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        Vec::new()
    }

    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        data::data_sources()
    }

    async fn configure(&self, _: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(LocalConnection { context }))
    }
}
