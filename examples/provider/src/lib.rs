//! An example of a provider outside of moorfast: the provider `example` with the type `example_file`, a file on the operator's machine.
//!
//! `docs/writing-a-provider.md` of moorfast explains each part.

mod connection;
mod example_file;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, Schema};
use moorfast_engine::provider::{Connection, Context, Provider, ProviderError, ResourceType};

use crate::connection::ExampleConnection;
use crate::example_file::ExampleFile;

/// Builds the provider `example`.
pub fn example(_: &moorfast::RunOptions) -> Arc<dyn Provider> {
    Arc::new(ExampleProvider)
}

/// The provider `example`.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExampleProvider;

#[async_trait]
impl Provider for ExampleProvider {
    fn name(&self) -> &'static str {
        "example"
    }

    fn config_schema(&self) -> Schema {
        Schema::new("Files on the machine where moorfast runs. There is nothing to configure.", [])
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        vec![Arc::new(ExampleFile)]
    }

    async fn configure(&self, _: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(ExampleConnection { context }))
    }
}
