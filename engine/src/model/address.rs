//! Addresses: the names of resources and of their instances in a manifest.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::module_path::{Key, ModulePath, is_identifier, moved_key, parse_key};

/// The kind of block that an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `[resource.TYPE.NAME]`: created, changed and destroyed by moorfast.
    Managed,
    /// `[data.TYPE.NAME]`: only read.
    Data,
}

/// The address of a resource: `ssh_file.kubelet_config`, `data.ssh_facts.node`, `module.web.ssh_file.site`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceAddress {
    /// The module instance. The path is empty for a resource of the root, and in a block it starts at the module of the block.
    pub module: ModulePath,
    /// The kind of block.
    pub mode: Mode,
    /// The resource type: `ssh_file`.
    pub resource_type: String,
    /// The name in the manifest: `kubelet_config`.
    pub name: String,
}

/// The address of one instance: `ssh_file.kubelet_config["gpu01"]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// The resource. It is shared: a plan copies an address many times.
    pub resource: Arc<ResourceAddress>,
    /// The node name, the key of `for_each`, or `NODE/KEY` if both are used. `None` for a single instance.
    pub key: Option<String>,
}

/// Selects instances: the address of one instance, of all instances of a resource, or of all resources of a module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Pattern {
    /// `module.web` or `module.web["a"]`.
    Module(ModulePath),
    /// `ssh_file.motd` or `ssh_file.motd["gpu01"]`.
    Resource(Address),
}

/// The error for a text that is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address such as ssh_file.motd, ssh_file.motd[\"gpu01\"] or data.ssh_facts.node")]
pub struct InvalidAddress(pub String);

impl ResourceAddress {
    /// Whether both resources have the same type and are both managed or both data.
    pub fn has_same_type(&self, other: &Self) -> bool {
        (self.mode, &self.resource_type) == (other.mode, &other.resource_type)
    }

    /// Returns the address of a managed resource of the root.
    pub fn managed(resource_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(Mode::Managed, resource_type, name)
    }

    /// Returns the address of a data source of the root.
    pub fn data(resource_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self::new(Mode::Data, resource_type, name)
    }

    /// Returns the address of a resource or data source of the root.
    pub fn new(mode: Mode, resource_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self { module: ModulePath::root(), mode, resource_type: resource_type.into(), name: name.into() }
    }

    /// Returns this address, which starts at `module`, as one that starts at the root.
    pub fn within(&self, module: &ModulePath) -> Self {
        Self { module: module.join(&self.module), ..self.clone() }
    }

    /// Returns the address without the keys of its module: that of the block in the manifest.
    pub fn without_module_keys(&self) -> Self {
        Self { module: self.module.without_keys(), ..self.clone() }
    }

    /// Returns the address of the instance with this key.
    pub fn instance(self: &Arc<Self>, key: Option<String>) -> Address {
        Address { resource: Arc::clone(self), key }
    }
}

impl Address {
    /// Returns the address of an instance of `resource`.
    pub fn new(resource: ResourceAddress, key: Option<String>) -> Self {
        Self { resource: Arc::new(resource), key }
    }

    /// Whether `pattern` selects this instance.
    pub fn matches(&self, pattern: &Pattern) -> bool {
        pattern.selects(&self.resource) && pattern.key().is_none_or(|key| self.key.as_deref() == Some(key))
    }

    /// Returns this address, which starts at `module`, as one that starts at the root.
    pub fn within(&self, module: &ModulePath) -> Self {
        Self::new(self.resource.within(module), self.key.clone())
    }

    /// Returns the address after a move, as [`Pattern::moved`] does.
    pub fn moved(&self, from: &Pattern, to: &Pattern) -> Option<Self> {
        match (from, to) {
            (Pattern::Resource(from), Pattern::Resource(to)) if self.resource == from.resource => {
                Some(to.resource.instance(moved_key(&self.key, &from.key, &to.key)?))
            }
            (Pattern::Module(from), Pattern::Module(to)) => {
                let module = self.resource.module.moved(from, to)?;
                let resource = ResourceAddress { module, ..(*self.resource).clone() };
                Some(Address::new(resource, self.key.clone()))
            }
            _ => None,
        }
    }
}

impl Pattern {
    /// Returns this pattern, which starts at `module`, as one that starts at the root.
    pub fn within(&self, module: &ModulePath) -> Self {
        match self {
            Pattern::Module(path) => Pattern::Module(module.join(path)),
            Pattern::Resource(address) => Pattern::Resource(address.within(module)),
        }
    }

    /// Whether the pattern names instances of this resource.
    pub fn selects(&self, resource: &ResourceAddress) -> bool {
        match self {
            Pattern::Module(path) => resource.module.is_inside(path),
            Pattern::Resource(Address { resource: named, .. }) => {
                resource.has_same_type(named)
                    && resource.name == named.name
                    && resource.module.is_instance_of(&named.module)
            }
        }
    }

    /// Whether both name resources of the same type, or both name modules, so that records can be moved from one to the other.
    pub fn has_same_type(&self, other: &Self) -> bool {
        match (self, other) {
            (Pattern::Module(_), Pattern::Module(_)) => true,
            (Pattern::Resource(one), Pattern::Resource(other)) => one.resource.has_same_type(&other.resource),
            _ => false,
        }
    }

    /// Returns the name of the block: the pattern without any keys.
    pub fn block(&self) -> Self {
        match self {
            Pattern::Module(path) => Pattern::Module(path.without_keys()),
            Pattern::Resource(Address { resource, .. }) => {
                let module = resource.module.without_keys();
                let resource = ResourceAddress { module, ..(**resource).clone() };
                Pattern::Resource(Address::new(resource, None))
            }
        }
    }

    /// Returns what this pattern is after a move from `from` to `to`, or `None` if it does not move.
    ///
    /// A move without keys moves all instances of the block, which keep their keys. Another one moves the instance that it names.
    pub fn moved(&self, from: &Self, to: &Self) -> Option<Self> {
        match (self, from, to) {
            (Pattern::Resource(address), _, _) => Some(Pattern::Resource(address.moved(from, to)?)),
            (Pattern::Module(path), Pattern::Module(from), Pattern::Module(to)) => {
                Some(Pattern::Module(path.moved(from, to)?))
            }
            (Pattern::Module(_), _, _) => None,
        }
    }

    /// Returns the key of the instance that the pattern names, if it names only one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Pattern::Module(_) => None,
            Pattern::Resource(address) => address.key.as_deref(),
        }
    }
}

impl From<Address> for Pattern {
    fn from(address: Address) -> Self {
        Pattern::Resource(address)
    }
}

/// The maximum number of instances of a resource that are named individually.
const MAX_NAMED: usize = 3;

/// Returns the names of `addresses` for a message. Many instances of one resource are summarised as `50 instances of ssh_file.site`.
pub fn named(addresses: &[Address]) -> Vec<String> {
    let mut by_resource: Vec<(&ResourceAddress, Vec<&Address>)> = Vec::new();
    for address in addresses {
        match by_resource.iter_mut().find(|(resource, _)| **resource == *address.resource) {
            Some((_, instances)) => instances.push(address),
            None => by_resource.push((&address.resource, vec![address])),
        }
    }
    let names = |(resource, instances): (&ResourceAddress, Vec<&Address>)| match instances.len() {
        0..=MAX_NAMED => instances.iter().map(ToString::to_string).collect(),
        many => vec![format!("{many} instances of {resource}")],
    };
    by_resource.into_iter().flat_map(names).collect()
}

impl fmt::Display for ResourceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.module.is_root() {
            write!(f, "{}.", self.module)?;
        }
        if self.mode == Mode::Data {
            f.write_str("data.")?;
        }
        write!(f, "{}.{}", self.resource_type, self.name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.resource, Key(self.key.as_deref()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Module(path) => write!(f, "{path}"),
            Pattern::Resource(address) => write!(f, "{address}"),
        }
    }
}

impl FromStr for Pattern {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        parse(text).ok_or_else(|| InvalidAddress(text.to_owned()))
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        match parse(text) {
            Some(Pattern::Resource(address)) => Ok(address),
            _ => Err(InvalidAddress(text.to_owned())),
        }
    }
}

fn parse(text: &str) -> Option<Pattern> {
    let (module, rest) = ModulePath::parse(text)?;
    if rest.is_empty() && !module.is_root() {
        return Some(Pattern::Module(module));
    }
    let (mode, rest) = match rest.strip_prefix("data.") {
        Some(rest) => (Mode::Data, rest),
        None => (Mode::Managed, rest),
    };
    let (resource_type, rest) = rest.split_once('.')?;
    let end = rest.find('[').unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let (key, rest) = parse_key(rest)?;
    let is_complete = rest.is_empty() && is_identifier(resource_type) && is_identifier(name);
    let resource = ResourceAddress { module, mode, resource_type: resource_type.into(), name: name.into() };
    is_complete.then(|| Pattern::Resource(Address::new(resource, key)))
}

impl TryFrom<String> for Pattern {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for Address {
    type Error = InvalidAddress;

    fn try_from(text: String) -> Result<Self, InvalidAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_instances_are_summarised() {
        let address = |text: String| text.parse::<Address>().unwrap();
        let many = (0..50).map(|i| address(format!("ssh_file.site[\"gpu{i}\"]")));
        let few = ["a", "b"].map(|key| address(format!("ssh_file.other[\"{key}\"]")));
        let all: Vec<_> = many.chain(few).collect();
        assert_eq!(named(&all), ["50 instances of ssh_file.site", "ssh_file.other[\"a\"]", "ssh_file.other[\"b\"]"]);
        assert!(named(&[]).is_empty());
    }

    #[test]
    fn an_address_reads_back_as_it_was_written() {
        for text in ["ssh_file.motd", "ssh_file.motd[\"gpu01\"]", "data.ssh_facts.node[\"a/b\"]", "a.b[\"q\\\"\"]"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        for text in [
            "module.web.ssh_file.motd",
            "module.web[\"a.b[\\\"]\"].module.inner.data.ssh_facts.node[\"gpu01\"]",
            "module.web",
            "module.web[\"a\"].module.inner",
        ] {
            assert_eq!(text.parse::<Pattern>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_move_without_keys_keeps_the_keys() {
        for (address, from, to, expected) in [
            ("t.a[\"x\"]", "t.a", "t.b", Some("t.b[\"x\"]")),
            ("t.a[\"x\"]", "t.a", "t.b[\"y\"]", None),
            ("t.a", "t.a", "t.b[\"y\"]", Some("t.b[\"y\"]")),
            ("t.a[\"x\"]", "t.a[\"x\"]", "t.b", Some("t.b")),
            ("t.a", "t.a", "module.m.t.a", Some("module.m.t.a")),
            ("module.m.t.a[\"x\"]", "module.m.t.a", "t.b", Some("t.b[\"x\"]")),
            ("module.m[\"k\"].t.a", "module.m", "module.n", Some("module.n[\"k\"].t.a")),
            ("module.m[\"k\"].module.i.t.a", "module.m[\"k\"]", "module.n", Some("module.n.module.i.t.a")),
            ("module.m[\"k\"].t.a", "module.m", "module.n[\"k\"]", None),
            ("module.m.module.i.t.a", "module.m.module.i", "module.n", Some("module.n.t.a")),
            ("module.m.t.a", "module.m.module.i", "module.n", None),
        ] {
            let address: Address = address.parse().unwrap();
            let moved = address.moved(&from.parse().unwrap(), &to.parse().unwrap());
            assert_eq!(moved.map(|moved| moved.to_string()).as_deref(), expected, "{address}: {from} to {to}");
        }
    }

    #[test]
    fn a_pattern_selects_instances_in_modules() {
        let in_modules = "module.web[\"a\"].module.inner.ssh_file.motd[\"gpu01\"]";
        for (pattern, address, expected) in [
            ("module.web", in_modules, true),
            ("module.web[\"a\"]", in_modules, true),
            ("module.web[\"b\"]", in_modules, false),
            ("module.web.module.inner", in_modules, true),
            ("module.inner", in_modules, false),
            ("module.web.module.inner.ssh_file.motd", in_modules, true),
            ("module.web.module.inner.ssh_file.motd[\"gpu02\"]", in_modules, false),
            ("module.web.ssh_file.motd", in_modules, false),
            ("ssh_file.motd", in_modules, false),
            ("module.web", "ssh_file.motd", false),
            ("ssh_file.motd", "ssh_file.motd[\"gpu01\"]", true),
        ] {
            let address: Address = address.parse().unwrap();
            assert_eq!(address.matches(&pattern.parse().unwrap()), expected, "{pattern}");
        }
    }

    #[test]
    fn an_invalid_address_is_an_error() {
        for text in [
            "",
            "ssh_file",
            "ssh_file.",
            "ssh_file.x[gpu01]",
            "ssh_file.x[\"a\"",
            "a.b.c",
            "1a.b",
            "module.web",
            "module.",
            "module.1.a.b",
            "module.a[x].a.b",
            "module.a[\"x\"]a.b",
            "a.module.b",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
