//! What `plan --untrusted` refuses: a manifest of somebody else must not read or run anything on this machine, nor run commands on nodes.

use moorfast_engine::{Attributes, Class, Node, ProviderError, Transport};

use crate::resource::Resource;

/// The refusal of what completes "`plan --untrusted` ".
pub(crate) fn refusal(what: String) -> ProviderError {
    ProviderError::new(Class::Denied, format!("`plan --untrusted` {what}"))
        .help("review the manifest first; then plan without --untrusted")
}

/// Refuses a node that is this machine: what is read there is read here.
pub(crate) fn check_node(node: &Node) -> Result<(), ProviderError> {
    match node.transport {
        Transport::Local => Err(refusal(format!("runs no command on this machine: the node {} is local", node.name))),
        Transport::Ssh => Ok(()),
    }
}

/// Refuses a configuration by which ssh runs programs of the manifest's choice: ProxyCommand, Match exec.
pub(crate) fn check_config(config: &Attributes) -> Result<(), ProviderError> {
    match config.get("config_file").is_some_and(|file| !file.is_null()) {
        true => Err(refusal("uses no `config_file`: an ssh_config can run commands on this machine".to_owned())
            .attribute("config_file")),
        false => Ok(()),
    }
}

/// Refuses an instance whose reading runs a command of the manifest.
pub(crate) fn check_look(resource: &dyn Resource, attributes: &Attributes) -> Result<(), ProviderError> {
    match resource.look_runs(attributes) {
        Some(name) => Err(refusal(format!("runs no command of the manifest: `{name}`")).attribute(name)),
        None => Ok(()),
    }
}
