//! The resource type `example_file`: its schema, and the rules that need no connection.

use std::sync::LazyLock;

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Declaration, Invalid, ResourceType, TargetKind};

/// The resource type `example_file`.
pub struct ExampleFile;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let path = "Path of the file. A relative path starts at the folder of the manifest.";
    let content = "Content of the file. It is never shown or stored.";
    let size = "Size of the file in bytes. It is sensitive like the content.";
    let schema = Schema::new(
        "A file on the machine where moorfast runs, for example a kubeconfig or an inventory for another program.",
        [
            Attribute::required("path", Kind::String, path).replaces(),
            Attribute::required("content", Kind::String, content).secret(),
            Attribute::optional("mode", Kind::Mode, "Permissions in octal.").or("0600"),
            Attribute::computed("size", Kind::Integer, size).secret(),
        ],
    );
    Declaration { name: "example_file", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for ExampleFile {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        text(attributes, "path").map(str::to_owned)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        // An unknown path has no text, so it passes.
        let is_folder = text(attributes, "path").is_some_and(|path| path.is_empty() || path.ends_with('/'));
        let invalid = Invalid {
            attribute: Some("path"),
            message: "`path` is not the path of a file".to_owned(),
            help: Some("write the name of the file after the folder: `out/kubeconfig`".to_owned()),
        };
        is_folder.then_some(invalid).into_iter().collect()
    }
}

/// Returns the text of an attribute, or `None` if it is missing, unknown or retained.
pub fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).and_then(Value::as_str)
}
