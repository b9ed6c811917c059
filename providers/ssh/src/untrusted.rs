//! The refusals of `plan --untrusted`: an untrusted manifest must not read or run anything on the local machine, nor run commands on nodes.

use moorfast_engine::model::{Attributes, Node, Transport};
use moorfast_engine::provider::{Class, ProviderError};

/// Returns the refusal "`plan --untrusted` …" with these words.
pub(crate) fn refusal(what: String) -> ProviderError {
    ProviderError::new(Class::Denied, format!("`plan --untrusted` {what}"))
        .help("review the manifest first; then plan without --untrusted")
}

/// Refuses a local node: a read of it is a read of this machine.
pub(crate) fn check_node(node: &Node) -> Result<(), ProviderError> {
    match node.transport {
        Transport::Local => Err(refusal(format!("runs no command on this machine: the node {} is local", node.name))),
        Transport::Ssh => Ok(()),
    }
}

/// Refuses an ssh_config of the manifest, which can run programs: ProxyCommand, Match exec.
pub(crate) fn check_config(config: &Attributes) -> Result<(), ProviderError> {
    match config.get("config_file").is_some_and(|file| !file.is_null()) {
        true => Err(refusal("uses no `config_file`: an ssh_config can run commands on this machine".to_owned())
            .attribute("config_file")),
        false => Ok(()),
    }
}
