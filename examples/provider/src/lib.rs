//! An example of a provider outside of moorfast: the provider `example` with the type `example_file`, a file on the operator's machine.
//!
//! `docs/writing-a-provider.md` of moorfast explains each part.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Context, Invalid, Provider, ProviderError, SimpleProvider, SimpleResource};
use serde_json::{Value as Json, json};
use tempfile::NamedTempFile;

/// Builds the provider `example`.
pub fn example(_: &moorfast::RunOptions) -> Arc<dyn Provider> {
    Arc::new(provider())
}

/// Returns the provider `example`. Its types need nothing but the context of the run.
pub fn provider() -> SimpleProvider<Context> {
    let config = Schema::new("Files on the machine where moorfast runs. There is nothing to configure.", []);
    SimpleProvider::new("example", config, |_, context| Ok(context)).with(ExampleFile)
}

/// The resource type `example_file`.
struct ExampleFile;

#[async_trait]
impl SimpleResource<Context> for ExampleFile {
    fn name(&self) -> &'static str {
        "example_file"
    }

    fn schema(&self) -> Schema {
        let path = "Path of the file. A relative path starts at the folder of the manifest.";
        let attributes = [
            Attribute::required("path", Kind::String, path).replaces(),
            Attribute::required("content", Kind::String, "Content of the file. It is never shown or stored.").secret(),
            Attribute::optional("mode", Kind::Mode, "Permissions in octal.").or("0600"),
            Attribute::computed("size", Kind::Integer, "Size of the file in bytes.").secret(),
        ];
        Schema::new(
            "A file on the machine where moorfast runs, for example a kubeconfig for another program.",
            attributes,
        )
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        text(attributes, "path").map(str::to_owned)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        // An unknown path has no text, so it passes.
        let is_folder = text(attributes, "path").is_some_and(|path| path.is_empty() || path.ends_with('/'));
        let invalid = Invalid::new("path", "`path` is not the path of a file")
            .help("write the name of the file after the folder: `out/kubeconfig`");
        is_folder.then_some(invalid).into_iter().collect()
    }

    fn computed(&self, desired: &Attributes) -> Attributes {
        // As long as the content is unknown, so is the size.
        let size = |content: &str| ("size".to_owned(), Value::from(content.len() as i64));
        text(desired, "content").map(size).into_iter().collect()
    }

    async fn read(&self, context: &Context, path: &str) -> Result<Option<Attributes>, ProviderError> {
        let file = context.file(path)?;
        let content = match fs::read(&file) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.map_err(failed("read", path))?,
        };
        let mode = fs::metadata(&file).map_err(failed("read", path))?.permissions().mode() & 0o7777;
        Ok(Some(Attributes::from([
            ("path".to_owned(), Value::from(path)),
            ("content".to_owned(), Value::from(String::from_utf8_lossy(&content).as_ref())),
            ("mode".to_owned(), Value::from(format!("{mode:04o}"))),
            ("size".to_owned(), Value::from(content.len() as i64)),
        ])))
    }

    async fn create(&self, context: &Context, desired: &Attributes) -> Result<Json, ProviderError> {
        let path = text(desired, "path").unwrap_or_default();
        let file = context.file(path)?;
        let folder = file.parent().filter(|folder| !folder.exists());
        folder.map_or(Ok(()), fs::create_dir_all).map_err(failed("create the folder of", path))?;
        let private = json!({ "folder": folder });
        let created = written(&file, desired).and_then(|written| Ok(written.persist_noclobber(&file)?));
        // The folder that was created is recorded, although the file failed.
        created.map_err(|error| failed("create", path)(error).private(private.clone()))?;
        Ok(private)
    }

    async fn update(&self, context: &Context, desired: &Attributes) -> Result<(), ProviderError> {
        let path = text(desired, "path").unwrap_or_default();
        let file = context.file(path)?;
        let updated = match desired.get("content") {
            Some(Value::Retained) => fs::set_permissions(&file, mode(desired)),
            _ => written(&file, desired).and_then(|written| Ok(written.persist(&file).map(drop)?)),
        };
        updated.map_err(failed("update", path))
    }

    async fn delete(&self, context: &Context, path: &str, private: &Json) -> Result<(), ProviderError> {
        match fs::remove_file(context.file(path)?) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            removed => removed.map_err(failed("delete", path))?,
        }
        if let Some(folder) = private["folder"].as_str() {
            // A folder that holds other files stays.
            _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// Writes the desired content to a temporary file beside `file`, so that a crash leaves the whole file or none.
fn written(file: &Path, desired: &Attributes) -> io::Result<NamedTempFile> {
    let mut written = NamedTempFile::new_in(file.parent().unwrap_or(Path::new("/")))?;
    written.write_all(text(desired, "content").unwrap_or_default().as_bytes())?;
    written.as_file().set_permissions(mode(desired))?;
    Ok(written)
}

fn mode(desired: &Attributes) -> Permissions {
    let mode = text(desired, "mode").and_then(|mode| u32::from_str_radix(mode, 8).ok());
    Permissions::from_mode(mode.unwrap_or(0o600))
}

fn failed(verb: &str, path: &str) -> impl Fn(io::Error) -> ProviderError {
    move |error| ProviderError::io(format!("cannot {verb} {path}"), &error).attribute("path")
}

/// Returns the text of an attribute, or `None` if it is missing, unknown or retained.
fn text<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name).and_then(Value::as_str)
}
