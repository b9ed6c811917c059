//! Instance names: comparing the values of several instances of a resource without their own names in them.

use moorfast_engine::model::{Address, ResourceAddress};
use moorfast_engine::plan::Change;
use serde_json::Value as Json;

/// The placeholder for the instance name. A text that already contains it is compared unchanged.
const PLACEHOLDER: char = '\0';

/// The parts of the key of an instance on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnNode<'a> {
    /// The node.
    pub node: &'a str,
    /// The element of `for_each`, if any.
    pub element: Option<&'a str>,
}

/// Returns the parts of the instance's key if it names `node`.
pub fn on_node<'a>(address: &'a Address, node: &'a str) -> Option<OnNode<'a>> {
    let rest = address.key.as_deref()?.strip_prefix(node)?;
    match rest.strip_prefix('/') {
        Some(element) => Some(OnNode { node, element: Some(element) }),
        None => rest.is_empty().then_some(OnNode { node, element: None }),
    }
}

/// Returns the parts of the key of a changed instance, if it is on a node.
pub fn change_on_node(change: &Change) -> Option<OnNode<'_>> {
    // Plan files of older versions have no node.
    let node = change.node.as_ref().map_or(change.target.as_str(), |node| node.0.as_str());
    on_node(&change.address, node)
}

/// Returns the common address of the instances of one element, for example `ssh_file.site["*/shop"]`.
pub fn on_every_node(resource: &ResourceAddress, element: Option<&str>) -> String {
    Address::new(resource.clone(), element.map(|element| format!("*/{element}"))).to_string()
}

/// Replaces the instance name in `text` by the placeholder.
pub fn without(text: &str, name: &str) -> String {
    if name.is_empty() || text.contains(PLACEHOLDER) {
        return text.to_owned();
    }
    text.replace(name, "\0")
}

/// Replaces the instance name in every text of `value` by the placeholder.
pub fn value_without(value: &Json, name: &str) -> Json {
    match value {
        Json::String(text) => Json::String(without(text, name)),
        Json::Array(items) => items.iter().map(|item| value_without(item, name)).collect(),
        Json::Object(map) => map.iter().map(|(key, value)| (without(key, name), value_without(value, name))).collect(),
        scalar => scalar.clone(),
    }
}

/// Replaces the placeholder in `text` by `*`.
pub fn starred(text: &str) -> String {
    text.replace(PLACEHOLDER, "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_a_node_and_an_element() {
        let parts = |address: &str, node| {
            let address: Address = address.parse().unwrap();
            on_node(&address, node).map(|on| on.element.map(str::to_owned))
        };
        assert_eq!(parts("ssh_file.a[\"n1\"]", "n1"), Some(None));
        assert_eq!(parts("ssh_file.a[\"n1/x\"]", "n1"), Some(Some("x".to_owned())));
        assert_eq!(parts("ssh_file.a[\"n10\"]", "n1"), None);
        assert_eq!(parts("ssh_file.a", "n1"), None);
    }

    #[test]
    fn a_star_in_a_text_is_not_a_placeholder() {
        assert_eq!(without("allow n1", "n1"), without("allow n2", "n2"));
        assert_ne!(without("allow *", "n1"), without("allow n2", "n2"));
        assert_ne!(without("allow \0", "n1"), without("allow n2", "n2").replace('\0', "\\0"));
        assert_eq!(starred(&without("allow n1", "n1")), "allow *");
    }
}
