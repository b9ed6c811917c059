//! The data sources, one module each.

mod command;
mod http;
mod outputs;

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{
    Class, Context, DataRequest, Declaration, Invalid, LocalAccess, ProviderError, ResourceType,
};

/// One data source.
#[async_trait]
pub(crate) trait Data: Send + Sync {
    /// Returns the name and the schema. It is called once.
    fn declaration(&self) -> Declaration;

    /// Returns what reading does on this machine.
    fn access(&self) -> LocalAccess;

    /// Returns the violated rules that the schema cannot express.
    fn validate(&self, arguments: &Attributes) -> Vec<Invalid>;

    /// Reads the data source. Returns the computed attributes.
    async fn read(&self, context: &Context, request: &DataRequest) -> Result<Attributes, ProviderError>;
}

/// All data sources.
const DATA: [&dyn Data; 3] = [&command::Command, &http::Http, &outputs::Outputs];

static DATA_SOURCES: LazyLock<Vec<Arc<dyn ResourceType>>> = LazyLock::new(|| {
    let held = |data: &'static dyn Data| -> Arc<dyn ResourceType> {
        Arc::new(LocalData { declaration: data.declaration(), data })
    };
    DATA.into_iter().map(held).collect()
});

/// Returns all data sources as the engine holds them.
pub(crate) fn data_sources() -> Vec<Arc<dyn ResourceType>> {
    DATA_SOURCES.clone()
}

/// Returns the data source of a request.
///
/// # Errors
/// If the data source is one of another provider.
pub(crate) fn data_of(data_source: &Arc<dyn ResourceType>) -> Result<&'static dyn Data, ProviderError> {
    data_source.downcast_ref::<LocalData>().map(|held| held.data).ok_or_else(|| {
        let summary = format!("the provider `local` has no data source `{}`", data_source.name());
        ProviderError::new(Class::Invalid, summary)
    })
}

/// A data source with its declaration.
struct LocalData {
    declaration: Declaration,
    data: &'static dyn Data,
}

impl ResourceType for LocalData {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        None
    }

    fn local_access(&self) -> Option<LocalAccess> {
        Some(self.data.access())
    }

    fn validate(&self, arguments: &Attributes) -> Vec<Invalid> {
        self.data.validate(arguments)
    }
}
