//! The inventory: the nodes that a manifest manages.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::Value;

/// The name of a node in the inventory, `gpu01`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a node is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Transport {
    /// By the user's own ssh.
    #[default]
    Ssh,
    /// This very machine, without ssh.
    Local,
}

/// One `[nodes.NAME]` of the manifest, evaluated.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name: the key of its instances and its HostKeyAlias.
    pub name: NodeName,
    /// Host name or IP address to connect to; the name itself where none is given, so that a `Host` block of the user's ssh_config can say more.
    pub address: String,
    /// The user to log in as; ssh's own choice where none is given.
    pub user: Option<String>,
    /// The port; ssh's own choice where none is given.
    pub port: Option<u16>,
    /// A private key file; ssh's own choice (configuration, agent) where none is given.
    pub identity_file: Option<String>,
    /// Jump hosts, in order, as `ssh -J` takes them.
    pub jump: Vec<String>,
    /// Pinned host keys: a `SHA256:…` fingerprint or a public key line each. Empty: the known_hosts of moorfast decides.
    pub host_keys: Vec<String>,
    /// How it is reached.
    pub transport: Transport,
    /// Become root by `sudo -n` where the login is another user? Not on the local transport unless it is written.
    pub sudo: bool,
    /// The roles by which `on = { role = "worker" }` finds it.
    pub roles: Vec<String>,
    /// Values of the node's own, read as `node.vars.x`.
    pub vars: BTreeMap<String, Value>,
}
