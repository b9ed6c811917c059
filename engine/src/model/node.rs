//! The nodes of the inventory.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::ValueMap;

/// The name of a node in the inventory: `gpu01`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl NodeName {
    /// Whether a node can have this name. Nodes are named like hosts.
    pub fn is_valid(name: &str) -> bool {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The connection to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// The ssh program of the user.
    #[default]
    Ssh,
    /// The local machine, without ssh.
    Local,
}

/// A node of the inventory: an evaluated block `[nodes.NAME]`, or one element of its `for_each`.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name, which is also the key of its instances and its HostKeyAlias.
    pub name: NodeName,
    /// The host name or IP address. Default: the name of the node, so that a `Host` block of the user's ssh_config applies.
    pub address: String,
    /// The login user. `None`: ssh decides.
    pub user: Option<String>,
    /// The port. `None`: ssh decides.
    pub port: Option<u16>,
    /// The private key file. `None`: ssh decides by its configuration and agent.
    pub identity_file: Option<String>,
    /// The jump hosts in order, as for `ssh -J`.
    pub jump: Vec<String>,
    /// The pinned host keys: `SHA256:…` fingerprints or public key lines. Empty: the known_hosts of moorfast decides.
    pub host_keys: Vec<String>,
    /// The transport.
    pub transport: Transport,
    /// Whether to become root with `sudo -n` if the login user is not root. Default: true for ssh, false for the local transport.
    pub sudo: bool,
    /// The roles for selection with `on = { role = "worker" }`.
    pub roles: Vec<String>,
    /// Custom values, available as `node.vars.NAME`.
    pub vars: ValueMap,
}

impl Node {
    /// Returns the node `name` with the defaults of a block without attributes.
    pub fn new(name: &str) -> Self {
        Self {
            name: NodeName(name.to_owned()),
            address: name.to_owned(),
            user: None,
            port: None,
            identity_file: None,
            jump: Vec::new(),
            host_keys: Vec::new(),
            transport: Transport::Ssh,
            sudo: true,
            roles: Vec::new(),
            vars: ValueMap::new(),
        }
    }
}
