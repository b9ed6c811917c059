//! What a manifest would say about the objects that exist on a node.

use std::sync::Arc;

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::provider::{Class, Described, Existing, Observed, ProviderError, ReadRequest, ResourceType};

use crate::failure::require_success;
use crate::limits::QUICK_LIMIT;
use crate::node_shell::NodeShell;
use crate::reading;
use crate::resource_type;
use crate::script::{Script, quote};
use crate::sources::Sources;

/// The largest number of objects below one path.
const LISTED: usize = 1000;

/// An object to describe: its type, and the attribute that identifies it.
struct Key {
    resource_type: Arc<dyn ResourceType>,
    attributes: Attributes,
}

/// Describes the objects of `wanted` on the node behind `shell`.
pub(crate) async fn describe(
    shell: &NodeShell,
    wanted: &[Existing],
    sources: &Sources,
) -> Result<Vec<Described>, ProviderError> {
    let mut keys = Vec::new();
    for existing in wanted {
        match existing {
            Existing::Object { resource_type, key } => keys.push(Key::of(resource_type, key)?),
            Existing::Under(path) => keys.extend(under(shell, path).await?),
            Existing::Kind { .. } => {}
        }
    }
    let requests = keys.iter().map(Key::requests).collect::<Result<Vec<_>, _>>()?;
    let mut readings = reading::read(shell, &requests.concat(), sources, false).await.into_iter();
    let mut described = Vec::new();
    for (key, requests) in keys.iter().zip(&requests) {
        let found = readings.by_ref().take(requests.len()).collect::<Result<Vec<_>, _>>()?;
        // An object that not every node has is left out on the others.
        described.extend(found.into_iter().flatten().next().map(|observed| key.described(observed)));
    }
    Ok(described)
}

/// Returns the files, directories and links at `path` and below it.
async fn under(shell: &NodeShell, path: &str) -> Result<Vec<Key>, ProviderError> {
    let invalid = |summary: String| ProviderError::new(Class::Invalid, summary);
    if !path.starts_with('/') {
        return Err(invalid(format!("`{path}` is not an absolute path")));
    }
    let path = if path.len() > 1 { path.trim_end_matches('/') } else { path };
    let find = format!(
        "[ ! -e {0} ] || find {0} -xdev \\( -type f -o -type d -o -type l \\) -printf '%y %p\\n' | blob found",
        quote(path)
    );
    let answer = shell.read(&Script::of(&find), QUICK_LIMIT).await?.into_iter().next();
    let answer = answer.ok_or_else(|| ProviderError::new(Class::Failed, "the node returned no answer"))?;
    let found = require_success(&shell.node, &format!("list {path}"), answer)?.text("found").unwrap_or_default();
    if found.lines().count() > LISTED {
        let error = invalid(format!("there are more than {LISTED} objects under {path} on {}", shell.node.name));
        return Err(error.help("name a path with fewer objects"));
    }
    let key = |line: &str| {
        let (kind, path) = line.split_once(' ')?;
        let resource_type = match kind {
            "d" => "ssh_directory",
            "l" => "ssh_link",
            _ => "ssh_file",
        };
        Some(Key::of(resource_type, path))
    };
    let mut keys = found.lines().filter_map(key).collect::<Result<Vec<_>, _>>()?;
    keys.sort_by(|a, b| a.label().cmp(b.label()));
    Ok(keys)
}

impl Key {
    /// Returns the object of a type with this path or name.
    ///
    /// # Errors
    /// If there is no such type.
    fn of(resource_type: &str, key: &str) -> Result<Self, ProviderError> {
        let known = resource_type::all().into_iter().find(|known| known.name() == resource_type);
        let unknown = || ProviderError::new(Class::Invalid, format!("unknown resource type `{resource_type}`"));
        let resource_type = known.ok_or_else(unknown)?;
        let has = |name: &str| resource_type.schema().attribute(name).is_some_and(|attribute| attribute.required);
        let (name, value) = match () {
            () if has("names") => ("names", Value::List(vec![Value::from(key)])),
            () if has("path") => ("path", Value::from(key)),
            () => ("name", Value::from(key)),
        };
        Ok(Self { resource_type, attributes: [(name.to_owned(), value)].into() })
    }

    /// Returns the key as people write it.
    fn label(&self) -> &str {
        let names = || self.attributes.get("names")?.as_list()?.first()?.as_str();
        self.attributes.text("path").or_else(|| self.attributes.text("name")).or_else(names).unwrap_or_default()
    }

    /// Returns the readings of the object. The first one that finds it counts: a unit with a file of its own is read with its content, one of a package without.
    fn requests(&self) -> Result<Vec<ReadRequest>, ProviderError> {
        let with_content = || {
            let content = ("content".to_owned(), Value::from(""));
            self.attributes.clone().into_iter().chain([content]).collect()
        };
        let is_unit = self.resource_type.name() == "ssh_systemd_unit";
        let desired = is_unit.then(with_content).into_iter().chain([self.attributes.clone()]);
        desired.map(|desired| self.request(desired)).collect()
    }

    fn request(&self, desired: Attributes) -> Result<ReadRequest, ProviderError> {
        let address = format!("{}.existing", self.resource_type.name()).parse();
        let address = address.map_err(|error| ProviderError::new(Class::Invalid, format!("{error}")))?;
        Ok(ReadRequest { address, resource_type: self.resource_type.clone(), desired: Some(desired), recorded: None })
    }

    fn described(&self, observed: Observed) -> Described {
        let resource_type = self.resource_type.name();
        let attributes = match obstacle(resource_type, &observed.attributes) {
            Some(reason) => Err(reason),
            None => {
                let mut attributes = self.attributes.clone();
                let optional = self.resource_type.schema().attributes.iter().filter(|attribute| attribute.optional);
                for attribute in optional {
                    let Some(value) = observed.attributes.get(attribute.name) else { continue };
                    if !value.is_null()
                        && !is_default(resource_type, attribute.name, value)
                        && attribute.default.as_ref() != Some(value)
                    {
                        attributes.insert(attribute.name.to_owned(), value.clone());
                    }
                }
                Ok(attributes)
            }
        };
        let file = match self.attributes.text("path") {
            Some(path) => path.trim_start_matches('/').to_owned(),
            None => format!("{resource_type}/{}", self.label().replace('/', "_")),
        };
        Described { resource_type: resource_type.to_owned(), label: self.label().to_owned(), file, attributes }
    }
}

/// Whether an attribute that is not written has this value after an apply on a new machine.
fn is_default(resource_type: &str, name: &str, value: &Value) -> bool {
    match (resource_type, name) {
        (_, "owner" | "group") => value.as_str() == Some("root"),
        // The path follows from the name. A unit that does not run now may be one that ends by itself.
        ("ssh_systemd_unit", "path") => true,
        ("ssh_systemd_unit", "state") => value.as_str() != Some("running"),
        ("ssh_systemd_unit", "masked") => value.as_bool() == Some(false),
        _ => false,
    }
}

/// Returns the reason why an object cannot be described.
fn obstacle(resource_type: &str, observed: &Attributes) -> Option<String> {
    if observed.values().any(Value::is_sensitive) {
        return Some("its content is sensitive".to_owned());
    }
    if resource_type != "ssh_file" {
        return None;
    }
    let kind = observed.text("kind").unwrap_or("file");
    let is_private = observed.text("mode").is_some_and(|mode| mode.ends_with("00"));
    match () {
        () if kind != "file" => Some(format!("there is a {kind} at the path")),
        () if is_private => Some("only its owner can read it, so its content may be secret".to_owned()),
        () if observed.text("content").is_none() => Some("it is not a text of at most 64 KiB".to_owned()),
        () => None,
    }
}
