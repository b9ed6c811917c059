//! The origin of a probe: this machine or a node.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::provider::{Class, Destination, NodeNetwork, NodeStream, ProbeError, ProviderError, Target};

/// The machine that sends a probe.
pub(super) enum Origin<'a> {
    /// The machine on which moorfast runs.
    ThisMachine,
    /// A node, and the network as it sees it.
    Node(Target, &'a dyn NodeNetwork),
}

impl Origin<'_> {
    /// Opens a TCP connection.
    pub async fn connect(&self, to: &Destination, limit: Duration) -> Result<NodeStream, ProbeError> {
        match self {
            Self::Node(target, network) => network.connect(target, to, limit).await,
            Self::ThisMachine => {
                let connected = within(limit, TcpStream::connect((to.host.as_str(), to.port))).await?;
                let (input, output) = connected.into_split();
                Ok(NodeStream { input: Box::pin(input), output: Box::pin(output), alive: Box::new(()) })
            }
        }
    }

    /// Returns the addresses of a name, by the resolver of the machine.
    pub async fn resolve(&self, name: &str, limit: Duration) -> Result<Vec<IpAddr>, ProbeError> {
        match self {
            Self::Node(target, network) => network.resolve(target, name, limit).await,
            Self::ThisMachine => {
                let found = within(limit, tokio::net::lookup_host((name, 0))).await?;
                Ok(found.map(|address| address.ip()).collect())
            }
        }
    }

    /// Sends an ICMP echo request.
    pub async fn ping(&self, address: &str, limit: Duration) -> Result<(), ProbeError> {
        match self {
            Self::Node(target, network) => network.ping(target, address, limit).await,
            Self::ThisMachine => Err(ProbeError::NotSent(ProviderError::new(Class::Invalid, "`ping` needs `from`"))),
        }
    }
}

/// Awaits an answer for at most `limit`.
async fn within<T>(limit: Duration, answer: impl Future<Output = std::io::Result<T>>) -> Result<T, ProbeError> {
    match timeout(limit, answer).await {
        Ok(answer) => answer.map_err(|error| ProbeError::NoAnswer(error.to_string())),
        Err(_) => Err(no_answer_within(limit)),
    }
}

/// Returns the error of an answer that did not come in time.
pub(super) fn no_answer_within(limit: Duration) -> ProbeError {
    ProbeError::NoAnswer(format!("no answer within {limit:?}"))
}
