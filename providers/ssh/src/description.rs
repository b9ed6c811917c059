//! What a manifest would say about the objects that exist on a node.

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{Class, Described, Existing, Observed, ProviderError, ReadRequest};

use crate::attributes::text;
use crate::failure::require_success;
use crate::limits::QUICK_LIMIT;
use crate::node_shell::NodeShell;
use crate::reading;
use crate::resource_type;
use crate::script::{Script, quote};
use crate::sources::Sources;

/// The largest number of objects below one path.
const LISTED: usize = 1000;

/// The attributes that identify an object, by its type.
struct Key {
    resource_type: String,
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
            Existing::Object { resource_type, key } => keys.push(Key::of(resource_type, key)),
            Existing::Under(path) => keys.extend(under(shell, path).await?),
            Existing::Kind { .. } => {}
        }
    }
    let mut requests = Vec::new();
    for key in &keys {
        requests.push(key.request(key.attributes.clone())?);
        // A unit with a file of its own is read with its content. One of a package is read without.
        let with_content = [("content".to_owned(), Value::from(""))];
        let asks_content = key.resource_type == "ssh_systemd_unit";
        let attributes = key.attributes.clone().into_iter().chain(with_content.into_iter().filter(|_| asks_content));
        requests.push(key.request(attributes.collect())?);
    }
    let mut readings = reading::read(shell, &requests, sources, false).await.into_iter();
    let mut described = Vec::new();
    for key in &keys {
        let (Some(plain), Some(with_content)) = (readings.next(), readings.next()) else { break };
        // An object that not every node has is left out on the others.
        let Some(observed) = with_content?.or(plain?) else { continue };
        described.push(key.described(observed)?);
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
    let mut keys: Vec<Key> = found.lines().filter_map(key).collect();
    keys.sort_by(|a, b| a.label().cmp(b.label()));
    Ok(keys)
}

impl Key {
    fn of(resource_type: &str, key: &str) -> Self {
        let has = |name: &str| {
            let resource_type = resource_type::all().into_iter().find(|known| known.name() == resource_type);
            resource_type.is_some_and(|known| known.schema().attribute(name).is_some_and(|a| a.required))
        };
        let attribute = match () {
            () if has("names") => ("names", Value::List(vec![Value::from(key)])),
            () if has("path") => ("path", Value::from(key)),
            () => ("name", Value::from(key)),
        };
        let attributes = [(attribute.0.to_owned(), attribute.1)].into();
        Self { resource_type: resource_type.to_owned(), attributes }
    }

    /// Returns the key as people write it.
    fn label(&self) -> &str {
        let names = || self.attributes.get("names")?.as_list()?.first()?.as_str();
        text(&self.attributes, "path").or_else(|| text(&self.attributes, "name")).or_else(names).unwrap_or_default()
    }

    fn request(&self, desired: Attributes) -> Result<ReadRequest, ProviderError> {
        let known = resource_type::all().into_iter().find(|known| known.name() == self.resource_type);
        let unknown = || ProviderError::new(Class::Invalid, format!("unknown resource type `{}`", self.resource_type));
        let resource_type = known.ok_or_else(unknown)?;
        let address = format!("{}.existing", self.resource_type).parse();
        let address = address.map_err(|error| ProviderError::new(Class::Invalid, format!("{error}")))?;
        Ok(ReadRequest { address, resource_type, desired: Some(desired), recorded: None })
    }

    fn described(&self, observed: Observed) -> Result<Described, ProviderError> {
        let schema = self.request(Attributes::new())?.resource_type.schema().clone();
        let attributes = match obstacle(&self.resource_type, &observed.attributes) {
            Some(reason) => Err(reason),
            None => {
                let mut attributes = self.attributes.clone();
                for attribute in schema.attributes.iter().filter(|attribute| attribute.optional) {
                    let Some(value) = observed.attributes.get(attribute.name) else { continue };
                    if !value.is_null()
                        && !is_default(&self.resource_type, attribute.name, value)
                        && attribute.default.as_ref() != Some(value)
                    {
                        attributes.insert(attribute.name.to_owned(), value.clone());
                    }
                }
                Ok(attributes)
            }
        };
        let file = match text(&self.attributes, "path") {
            Some(path) => path.trim_start_matches('/').to_owned(),
            None => format!("{}/{}", self.resource_type, self.label().replace('/', "_")),
        };
        Ok(Described { resource_type: self.resource_type.clone(), label: self.label().to_owned(), file, attributes })
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
    let kind = text(observed, "kind").unwrap_or("file");
    let is_private = text(observed, "mode").is_some_and(|mode| mode.ends_with("00"));
    match () {
        () if kind != "file" => Some(format!("there is a {kind} at the path")),
        () if is_private => Some("only its owner can read it, so its content may be secret".to_owned()),
        () if text(observed, "content").is_none() => Some("it is not a text of at most 64 KiB".to_owned()),
        () => None,
    }
}
