//! Instances of one resource differ by their own names: what they have in common once those are left out.

use moorfast_engine::model::{Address, ResourceAddress};
use moorfast_engine::plan::Change;
use serde_json::Value as Json;

/// What takes the place of an instance's own name. A text that has it already is compared as it is.
const PLACEHOLDER: char = '\0';

/// How an instance on a node is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnNode<'a> {
    /// The node.
    pub node: &'a str,
    /// The element of `for_each` beside it.
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

/// Returns how the instance of a change is named if it is one of many on nodes.
pub fn change_on_node(change: &Change) -> Option<OnNode<'_>> {
    // Plan files of before have no node.
    let node = change.node.as_ref().map_or(change.target.as_str(), |node| node.0.as_str());
    on_node(&change.address, node)
}

/// Returns the name of all instances of one element: `ssh_file.motd`, `ssh_file.site["*/shop"]`.
pub fn on_every_node(resource: &ResourceAddress, element: Option<&str>) -> String {
    resource.instance(element.map(|element| format!("*/{element}"))).to_string()
}

/// Returns `text` without the instance's own name.
pub fn without(text: &str, own: &str) -> String {
    if own.is_empty() || text.contains(PLACEHOLDER) {
        return text.to_owned();
    }
    text.replace(own, "\0")
}

/// Returns `value` with the instance's own name left out of every text in it.
pub fn value_without(value: &Json, own: &str) -> Json {
    match value {
        Json::String(text) => Json::String(without(text, own)),
        Json::Array(items) => items.iter().map(|item| value_without(item, own)).collect(),
        Json::Object(map) => map.iter().map(|(name, value)| (without(name, own), value_without(value, own))).collect(),
        scalar => scalar.clone(),
    }
}

/// Returns `text`, from which an own name was left out, as a person reads it.
pub fn starred(text: &str) -> String {
    text.replace(PLACEHOLDER, "*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_the_node_and_the_element() {
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
    fn a_star_that_was_written_is_no_name() {
        assert_eq!(without("allow n1", "n1"), without("allow n2", "n2"));
        assert_ne!(without("allow *", "n1"), without("allow n2", "n2"));
        assert_ne!(without("allow \0", "n1"), without("allow n2", "n2").replace('\0', "\\0"));
        assert_eq!(starred(&without("allow n1", "n1")), "allow *");
    }
}
