//! Transports: how a shell on a node is reached. A transport only opens a channel to a command; the protocol over it is the same for all.

mod config;
mod failure;
mod known_hosts;
mod local;
mod pins;
mod program;
mod route;
mod servers;
mod ssh;
mod trust;

use std::any::Any;
use std::pin::Pin;

use async_trait::async_trait;
use moorfast_engine::provider::ProviderError;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use config::Settings;
pub(crate) use failure::{failed_need, from_sudo};
pub(crate) use known_hosts::HostKey;
pub(crate) use known_hosts::{forget, known};
pub(crate) use local::Local;
pub(crate) use route::JumpSockets;
pub(crate) use servers::Servers;
pub(crate) use ssh::Ssh;
pub(crate) use trust::{offered_keys, save_keys, trust};

/// A running command on a node. Dropping it closes its stdin, which ends the command.
pub(crate) struct Channel {
    /// The stdin of the command.
    pub(crate) stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// The stdout of the command.
    pub(crate) stdout: Pin<Box<dyn AsyncRead + Send>>,
    /// The stderr of the command.
    pub(crate) stderr: Pin<Box<dyn AsyncRead + Send>>,
    /// A value that must live as long as the command.
    pub(crate) alive: Box<dyn Any + Send>,
}

/// A way to a node.
#[async_trait]
pub(crate) trait Transport: Send + Sync {
    /// Starts `command` in the login shell, after connecting if necessary.
    async fn open(&self, command: &str) -> Result<Channel, ProviderError>;

    /// Returns the fingerprints of the host keys that authenticated the node. Empty before the connection and without ssh.
    fn host_keys(&self) -> Vec<String> {
        Vec::new()
    }

    /// Closes the connection, if there is one.
    async fn close(&self);
}

#[cfg(test)]
mod tests {
    use moorfast_engine::model::Node;

    /// Returns a node at `address` behind these jump hosts.
    pub(super) fn node(address: &str, jump: &[&str]) -> Node {
        Node { address: address.to_owned(), jump: jump.iter().map(|hop| (*hop).to_owned()).collect(), ..Node::new("n") }
    }
}
