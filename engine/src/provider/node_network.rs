//! The interface to the network as a node sees it, for checks with `from`.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::Pin;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, Join};

use super::{ProviderError, Target};

/// The network as a node sees it. A connection to nodes can implement it.
///
/// A node needs nothing for it that a bare machine does not have.
#[async_trait]
pub trait NodeNetwork: Send + Sync {
    /// Opens a TCP connection from the node. Dropping the stream closes it.
    ///
    /// # Errors
    /// If the node cannot be asked, or if the destination does not accept the connection within `limit`.
    async fn connect(&self, node: &Target, to: &Destination, limit: Duration) -> Result<NodeStream, ProbeError>;

    /// Returns the addresses of `name`, as the resolver of the node finds them.
    ///
    /// # Errors
    /// If the node cannot be asked, or if it finds no address within `limit`.
    async fn resolve(&self, node: &Target, name: &str, limit: Duration) -> Result<Vec<IpAddr>, ProbeError>;

    /// Sends an ICMP echo request to an address or a name.
    ///
    /// # Errors
    /// If the node cannot be asked, or if no answer comes within `limit`.
    async fn ping(&self, node: &Target, address: &str, limit: Duration) -> Result<(), ProbeError>;
}

/// A TCP connection that begins on a node.
pub struct NodeStream {
    /// What the destination sends.
    pub input: Pin<Box<dyn AsyncRead + Send>>,
    /// What is sent to the destination.
    pub output: Pin<Box<dyn AsyncWrite + Send>>,
    /// A value that must live as long as the connection.
    pub alive: Box<dyn Any + Send>,
}

impl NodeStream {
    /// Returns both directions as one stream.
    pub fn both(&mut self) -> Join<&mut (dyn AsyncRead + Send + Unpin), &mut (dyn AsyncWrite + Send + Unpin)> {
        tokio::io::join(&mut self.input, &mut self.output)
    }
}

/// The reason why a probe has no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum ProbeError {
    /// The destination did not answer, for this reason.
    NoAnswer(String),
    /// The node could not be asked.
    NotSent(ProviderError),
}

/// The destination of a TCP connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The name or the address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Destination {
    /// Parses an address with a port: `10.0.0.1:53`, `[fd00::1]:53`, `example.org:53`. Without a port it is `port`, if there is one.
    ///
    /// # Errors
    /// What is expected.
    pub fn parse(text: &str, port: Option<u16>) -> Result<Self, String> {
        let expected = match port {
            Some(_) => "expected an address, with or without a port: `10.0.0.1` or `10.0.0.1:53`",
            None => "expected an address with a port: `10.0.0.1:2379`",
        };
        let (host, written) = match text.rsplit_once(':') {
            // An IPv6 address without brackets has no port.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| expected)?)),
            None => (text, None),
        };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let is_valid = match bare {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        match written.or(port).filter(|_| is_valid) {
            Some(port) => Ok(Self { host: bare.unwrap_or(host).to_owned(), port }),
            None => Err(expected.to_owned()),
        }
    }
}

/// Whether `text` is an IP address or a host name, without a port. It is safe as an argument of a program.
pub(crate) fn is_host(text: &str) -> bool {
    let is_name = || text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    text.parse::<Ipv6Addr>().is_ok() || (!text.is_empty() && !text.starts_with('-') && is_name())
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_an_address_with_a_port() {
        for (text, shown) in [
            ("10.0.0.1:53", "10.0.0.1:53"),
            ("[fd00::1]:53", "[fd00::1]:53"),
            ("etcd-0.example.org:2379", "etcd-0.example.org:2379"),
        ] {
            assert_eq!(Destination::parse(text, None).unwrap().to_string(), shown);
        }
        for (text, shown) in [("10.0.0.1", "10.0.0.1:53"), ("fd00::1", "[fd00::1]:53"), ("[fd00::1]", "[fd00::1]:53")] {
            assert!(Destination::parse(text, None).is_err(), "{text}");
            assert_eq!(Destination::parse(text, Some(53)).unwrap().to_string(), shown);
        }
        for wrong in ["", ":53", "a:", "a:b", "a:70000", "a b:1", "-x;y:1", "[a]:1", "http://a:1", "fd00::zz"] {
            assert!(Destination::parse(wrong, Some(53)).is_err(), "{wrong}");
        }
    }
}
