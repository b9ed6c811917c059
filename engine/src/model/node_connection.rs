//! The connection to a node, as the state remembers it for the time after the node left the inventory.

use serde::{Deserialize, Serialize};

use super::{Node, NodeName, Transport};

/// The connection to a node. It contains no secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConnection {
    address: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    identity_file: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    jump: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    host_keys: Vec<String>,
    transport: Transport,
    sudo: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
}

impl NodeConnection {
    /// Returns the node with this connection. It has no custom values.
    pub fn node(self, name: &NodeName) -> Node {
        let Self { address, user, port, identity_file, jump, host_keys, transport, sudo, roles } = self;
        let node = Node::new(&name.0);
        Node { address, user, port, identity_file, jump, host_keys, transport, sudo, roles, ..node }
    }
}

impl From<&Node> for NodeConnection {
    fn from(node: &Node) -> Self {
        Self {
            address: node.address.clone(),
            user: node.user.clone(),
            port: node.port,
            identity_file: node.identity_file.clone(),
            jump: node.jump.clone(),
            host_keys: node.host_keys.clone(),
            transport: node.transport,
            sudo: node.sudo,
            roles: node.roles.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_the_same_after_it_was_stored() {
        let node = Node {
            address: "10.0.0.1".to_owned(),
            user: Some("ops".to_owned()),
            port: Some(2222),
            identity_file: Some("~/.ssh/id".to_owned()),
            jump: vec!["bastion".to_owned()],
            transport: Transport::Local,
            roles: vec!["worker".to_owned()],
            ..Node::new("gpu03")
        };
        let stored = serde_json::to_string(&NodeConnection::from(&node)).unwrap();
        assert_eq!(serde_json::from_str::<NodeConnection>(&stored).unwrap().node(&node.name), node);
    }
}
