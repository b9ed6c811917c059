//! A manifest for objects that exist: blocks in TOML, and files with the contents.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use moorfast_engine::manifest::Inventory;
use moorfast_engine::model::{Attributes, NodeName, Value, is_identifier};
use moorfast_engine::provider::{Described, Target};

/// The folder of the contents, beside the manifest.
const FOLDER: &str = "files";

/// A generated manifest.
#[derive(Debug, Default)]
pub struct Generated {
    /// The blocks in TOML.
    pub text: String,
    /// The contents, by their path beside the manifest.
    pub files: BTreeMap<PathBuf, String>,
    /// The objects that are left out, each with the reason.
    pub left_out: BTreeSet<String>,
}

/// An object with its descriptions. `None` stands for the target of an object that is on no node.
struct Object<'a> {
    resource_type: &'a str,
    label: &'a str,
    file: &'a str,
    on: BTreeMap<Option<&'a NodeName>, &'a Attributes>,
}

/// Returns the manifest of the described objects. An object that several nodes have is written once; what differs is a local value by the name of the node.
///
/// # Errors
/// If an object cannot be written as YAML.
pub fn generate(described: &[(Target, Vec<Described>)], inventory: &Inventory) -> Result<Generated, String> {
    let mut generated = Generated::default();
    let mut objects: BTreeMap<(&str, &str), Object> = BTreeMap::new();
    for (target, described) in described {
        let node = match target {
            Target::Node(node) => Some(&node.name),
            Target::Provider(_) => None,
        };
        for found in described {
            let attributes = found.attributes.as_ref().map_err(String::as_str);
            match attributes.and_then(|attributes| if is_plain(&found.file) { Ok(attributes) } else { Err(NOT_PLAIN) })
            {
                Err(reason) => {
                    let place = node.map(|node| format!(" on {node}")).unwrap_or_default();
                    generated.left_out.insert(format!("{} {}{place}: {reason}", found.resource_type, found.label));
                }
                Ok(attributes) => {
                    let object = objects.entry((&found.resource_type, &found.label)).or_insert_with(|| Object {
                        resource_type: &found.resource_type,
                        label: &found.label,
                        file: &found.file,
                        on: BTreeMap::new(),
                    });
                    object.on.insert(node, attributes);
                }
            }
        }
    }
    let mut names = BTreeSet::new();
    let mut locals = String::new();
    for object in objects.values() {
        let name = unused_name(object, &mut names);
        let block = object.block(&name, inventory, &mut generated.files, &mut locals)?;
        generated.text.push_str(&block);
    }
    if !locals.is_empty() {
        generated.text = format!("[locals]\n{locals}\n{}", generated.text);
    }
    Ok(generated)
}

/// Whether a file of this name is below the folder of the contents, and its name can be written in an expression. A node or a cluster chose the name.
fn is_plain(file: &str) -> bool {
    let is_inside = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    is_inside && file.chars().all(|c| c.is_ascii_alphanumeric() || "._-/@:+ ".contains(c))
}

const NOT_PLAIN: &str = "its name has unusual characters";

/// Returns a name of the resource that no other resource of its type has: the end of its path, or its whole path.
fn unused_name(object: &Object, names: &mut BTreeSet<(String, String)>) -> String {
    let last = object.label.rsplit('/').next().unwrap_or(object.label);
    let mut candidates = [last, object.label].into_iter().map(identifier);
    let numbered = (2..).map(|number| format!("{}_{number}", identifier(object.label)));
    let mut is_unused = |name: &String| names.insert((object.resource_type.to_owned(), name.clone()));
    candidates.by_ref().chain(numbered).find(&mut is_unused).unwrap_or_default()
}

/// Returns `text` as a name of a resource.
fn identifier(text: &str) -> String {
    let text = text.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    if is_identifier(&name) { name } else { format!("_{name}") }
}

impl Object<'_> {
    /// Returns the block, and adds its contents and its local values.
    fn block(
        &self,
        name: &str,
        inventory: &Inventory,
        files: &mut BTreeMap<PathBuf, String>,
        locals: &mut String,
    ) -> Result<String, String> {
        let mut lines = vec![format!("[resource.{}.{name}]", self.resource_type)];
        let nodes: Vec<&NodeName> = self.on.keys().copied().flatten().collect();
        if !nodes.is_empty() {
            lines.push(format!("on = {}", selection(&nodes, inventory)));
        }
        let mut attributes: Vec<&String> = self.on.values().flat_map(|attributes| attributes.keys()).collect();
        // What identifies the object comes first.
        attributes.sort_by_key(|name| (!["path", "name", "names"].contains(&name.as_str()), *name));
        attributes.dedup();
        for attribute in attributes {
            let values: BTreeMap<_, _> =
                self.on.iter().map(|(node, known)| (*node, known.get(attribute).unwrap_or(&Value::Null))).collect();
            let value = self.value(name, attribute, &values, files, locals)?;
            lines.push(format!("{attribute} = {value}"));
        }
        Ok(lines.join("\n") + "\n\n")
    }

    /// Returns the value of an attribute in TOML.
    fn value(
        &self,
        name: &str,
        attribute: &str,
        values: &BTreeMap<Option<&NodeName>, &Value>,
        files: &mut BTreeMap<PathBuf, String>,
        locals: &mut String,
    ) -> Result<String, String> {
        let distinct: Vec<&Value> = values.values().copied().fold(Vec::new(), |mut distinct, value| {
            if !distinct.contains(&value) {
                distinct.push(value);
            }
            distinct
        });
        let is_yaml = self.file.ends_with(".yaml") && distinct.iter().any(|value| matches!(value, Value::Map(_)));
        let is_text = distinct.iter().any(|value| value.as_str().is_some_and(|text| text.contains('\n')));
        if is_yaml || is_text {
            for (node, value) in values {
                let content = match value.as_str() {
                    Some(text) => text.to_owned(),
                    None => yaml(value)?,
                };
                let folder = node.filter(|_| distinct.len() > 1).map(ToString::to_string).unwrap_or_default();
                files.insert(Path::new(FOLDER).join(folder).join(self.file), content);
            }
            let folder = if distinct.len() > 1 { "${node.name}/" } else { "" };
            let file = format!("file(\"{FOLDER}/{folder}{}\")", self.file);
            return Ok(if is_yaml { format!("'${{yamldecode({file})}}'") } else { format!("'${{{file}}}'") });
        }
        if let [only] = distinct.as_slice() {
            return toml(only);
        }
        let local = format!("{name}_{attribute}");
        let of_nodes = values.iter().filter_map(|(node, value)| Some((node.as_ref()?, value)));
        let entries: Vec<_> = of_nodes
            .map(|(node, value)| Ok(format!("\"{node}\" = {}", toml(value)?)))
            .collect::<Result<_, String>>()?;
        locals.push_str(&format!("{local} = {{ {} }}\n", entries.join(", ")));
        Ok(format!("\"${{local.{local}[node.name]}}\""))
    }
}

/// Returns the value of `on` for these nodes: all nodes, a role that exactly these nodes have, or their names.
fn selection(nodes: &[&NodeName], inventory: &Inventory) -> String {
    if inventory.iter().count() == nodes.len() {
        return "\"all\"".to_owned();
    }
    let roles: BTreeSet<&String> = inventory.iter().flat_map(|node| &node.roles).collect();
    let role = roles.into_iter().find(|role| {
        let having: Vec<_> = inventory.iter().filter(|node| node.roles.contains(role)).map(|node| &node.name).collect();
        having.len() == nodes.len() && having.iter().all(|name| nodes.contains(name))
    });
    match (role, nodes) {
        (Some(role), _) => format!("{{ role = {} }}", quoted(role)),
        (None, [only]) => format!("\"{only}\""),
        (None, several) => {
            let names: Vec<_> = several.iter().map(|name| format!("\"{name}\"")).collect();
            format!("[{}]", names.join(", "))
        }
    }
}

/// Returns an object as YAML.
fn yaml(value: &Value) -> Result<String, String> {
    let json = value.to_json().ok_or("a value is unknown")?;
    serde_saphyr::to_string(&json).map_err(|error| error.to_string())
}

/// Returns a value in TOML. Its texts are no templates.
fn toml(value: &Value) -> Result<String, String> {
    Ok(match value {
        Value::Null => "\"${null}\"".to_owned(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => quoted(&text.replace("${", "$${").replace("%{", "%%{")),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(toml).collect::<Result<_, _>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Map(members) => {
            let member = |(name, value): (&String, &Value)| Ok(format!("{} = {}", quoted(name), toml(value)?));
            let members: Vec<String> = members.iter().map(member).collect::<Result<_, String>>()?;
            format!("{{ {} }}", members.join(", "))
        }
        Value::Unknown | Value::Retained | Value::Sensitive(_) => return Err("a value is not known".to_owned()),
    })
}

/// Returns a string of TOML.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use moorfast_engine::model::Node;

    use super::*;

    fn file(path: &str, content: &str, mode: Option<&str>) -> Described {
        let attributes = [("path", Some(path)), ("content", Some(content)), ("mode", mode)];
        let attributes =
            attributes.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        Described {
            resource_type: "ssh_file".to_owned(),
            label: path.to_owned(),
            file: path.trim_start_matches('/').to_owned(),
            attributes: Ok(attributes.collect()),
        }
    }

    #[test]
    fn what_nodes_share_is_written_once_and_what_differs_by_node() {
        let target = |name: &str| Target::Node(Arc::new(Node::new(name)));
        let described = [
            (target("a"), vec![file("/etc/x.conf", "x\n", Some("0600")), file("/etc/id", "a ${b}", None)]),
            (target("b"), vec![file("/etc/x.conf", "y\n", None), file("/srv/id", "b", None)]),
            (target("c"), vec![file("/etc/../../x", "z", None)]),
        ];
        let generated = generate(&described, &Inventory::default()).unwrap();
        insta::assert_snapshot!(generated.text, @r#"
        [locals]
        x_conf_mode = { "a" = "0600", "b" = "${null}" }

        [resource.ssh_file.id]
        on = "a"
        path = "/etc/id"
        content = "a $${b}"

        [resource.ssh_file.x_conf]
        on = ["a", "b"]
        path = "/etc/x.conf"
        content = '${file("files/${node.name}/etc/x.conf")}'
        mode = "${local.x_conf_mode[node.name]}"

        [resource.ssh_file.srv_id]
        on = "b"
        path = "/srv/id"
        content = "b"
        "#);
        let files: Vec<_> =
            generated.files.iter().map(|(path, text)| (path.to_str().unwrap(), text.as_str())).collect();
        assert_eq!(files, [("files/a/etc/x.conf", "x\n"), ("files/b/etc/x.conf", "y\n")]);
        assert_eq!(
            generated.left_out.iter().collect::<Vec<_>>(),
            ["ssh_file /etc/../../x on c: its name has unusual characters"]
        );
    }
}
