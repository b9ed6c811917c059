//! Addresses: the names of resources and of their instances in a manifest.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The kind of block that an address names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// `[resource.TYPE.NAME]`: created, changed and destroyed by moorfast.
    Managed,
    /// `[data.TYPE.NAME]`: only read.
    Data,
}

/// The address of a resource: `ssh_file.kubelet_config`, `data.ssh_facts.node`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceAddress {
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
    /// The resource.
    pub resource: ResourceAddress,
    /// The node name, the key of `for_each`, or `NODE/KEY` if both are used. `None` for a single instance.
    pub key: Option<String>,
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

    /// Returns the address of a managed resource.
    pub fn managed(resource_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self { mode: Mode::Managed, resource_type: resource_type.into(), name: name.into() }
    }

    /// Returns the address of a data source.
    pub fn data(resource_type: impl Into<String>, name: impl Into<String>) -> Self {
        Self { mode: Mode::Data, resource_type: resource_type.into(), name: name.into() }
    }

    /// Returns the address of the instance with this key.
    pub fn instance(&self, key: Option<String>) -> Address {
        Address { resource: self.clone(), key }
    }
}

impl Address {
    /// Whether `pattern`, the address of a resource or an instance, matches this instance.
    pub fn matches(&self, pattern: &Address) -> bool {
        self.resource == pattern.resource && (pattern.key.is_none() || self.key == pattern.key)
    }
}

/// The maximum number of instances of a resource that are named individually.
const MAX_NAMED: usize = 3;

/// Returns the names of `addresses` for a message. Many instances of one resource are summarised as `50 instances of ssh_file.site`.
pub fn named(addresses: &[Address]) -> Vec<String> {
    let mut by_resource: Vec<(&ResourceAddress, Vec<&Address>)> = Vec::new();
    for address in addresses {
        match by_resource.iter_mut().find(|(resource, _)| **resource == address.resource) {
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
        if self.mode == Mode::Data {
            f.write_str("data.")?;
        }
        write!(f, "{}.{}", self.resource_type, self.name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.resource)?;
        match &self.key {
            Some(key) => write!(f, "[{}]", serde_json::Value::String(key.clone())),
            None => Ok(()),
        }
    }
}

impl FromStr for Address {
    type Err = InvalidAddress;

    fn from_str(text: &str) -> Result<Self, InvalidAddress> {
        let invalid = || InvalidAddress(text.to_owned());
        let (path, key) = match text.split_once('[') {
            Some((path, rest)) => {
                let quoted = rest.strip_suffix(']').ok_or_else(invalid)?;
                (path, Some(serde_json::from_str(quoted).map_err(|_| invalid())?))
            }
            None => (text, None),
        };
        let (mode, path) = match path.strip_prefix("data.") {
            Some(rest) => (Mode::Data, rest),
            None => (Mode::Managed, path),
        };
        let (resource_type, name) = path.split_once('.').ok_or_else(invalid)?;
        if !is_identifier(resource_type) || !is_identifier(name) {
            return Err(invalid());
        }
        let resource = ResourceAddress { mode, resource_type: resource_type.into(), name: name.into() };
        Ok(Address { resource, key })
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

/// Whether `text` is an HCL identifier: letters, digits, `_` and `-`, starting with a letter or `_`.
pub fn is_identifier(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next().is_some_and(|c| c.is_alphabetic() || c == '_')
        && chars.all(|c| c.is_alphanumeric() || c == '_' || c == '-')
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
    }

    #[test]
    fn an_invalid_address_is_an_error() {
        for text in ["", "ssh_file", "ssh_file.", "ssh_file.x[gpu01]", "ssh_file.x[\"a\"", "a.b.c", "1a.b"] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }
}
