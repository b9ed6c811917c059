//! An example of a provider outside of moorfast: the provider `local` with the type `local_file`, a file on the operator's machine.
//!
//! `docs/writing-a-provider.md` of moorfast explains each part.

mod connection;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Connection, Context, Invalid, Provider, ProviderError, ResourceType, TargetKind};

use crate::connection::LocalConnection;

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

    fn resource_types(&self) -> Vec<ResourceType> {
        let schema = Schema::new(
            "A file on the machine where moorfast runs, for example a kubeconfig or an inventory for another program.",
            [
                Attribute::required(
                    "path",
                    Kind::String,
                    "Path of the file. A relative path starts at the folder of the manifest.",
                )
                .replaces(),
                Attribute::required("content", Kind::String, "Content of the file. It is never shown or stored.")
                    .secret(),
                Attribute::optional("mode", Kind::Mode, "Permissions in octal.").or("0600"),
                Attribute::computed(
                    "size",
                    Kind::Integer,
                    "Size of the file in bytes. It is sensitive like the content.",
                )
                .secret(),
            ],
        );
        vec![ResourceType { name: "local_file", target_kind: TargetKind::Provider, schema }]
    }

    fn data_sources(&self) -> Vec<ResourceType> {
        Vec::new()
    }

    fn validate(&self, _: &str, attributes: &Attributes) -> Vec<Invalid> {
        // An unknown path has no text, so it passes.
        let is_folder = text(attributes, "path").is_some_and(|path| path.is_empty() || path.ends_with('/'));
        let invalid = Invalid {
            attribute: Some("path"),
            message: "`path` is not the path of a file".to_owned(),
            help: Some("write the name of the file after the folder: `out/kubeconfig`".to_owned()),
        };
        is_folder.then_some(invalid).into_iter().collect()
    }

    fn identity(&self, _: &str, attributes: &Attributes) -> Option<String> {
        text(attributes, "path").map(str::to_owned)
    }

    async fn configure(&self, _: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(LocalConnection { context }))
    }
}

/// Returns the text of an attribute, or `None` if it is missing, unknown or retained.
fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).and_then(Value::as_str)
}
