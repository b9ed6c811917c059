//! The network as a node sees it: probes that need nothing on the node but bash and coreutils, and ping for `ping`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use moorfast_engine::model::Node;
use moorfast_engine::provider::{Class, Destination, NodeNetwork, NodeStream, ProbeError, ProviderError, Target};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;

use crate::connection::SshConnection;
use crate::duration;
use crate::script::{Script, Section, quote};

/// The most bytes that a node may print before a connection is open: the output of a login shell.
const NOISE: u64 = 64 << 10;
/// The most bytes that are read of the reason of a failure.
const REASON: u64 = 16 << 10;
/// The time for the node to answer, in addition to the limit of the probe.
const SLACK: Duration = Duration::from_secs(5);

const CONNECT: &str = include_str!("network/connect.sh");
const RESOLVE: &str = include_str!("network/resolve.sh");
const PING: &str = include_str!("network/ping.sh");

#[async_trait]
impl NodeNetwork for SshConnection {
    async fn connect(&self, node: &Target, to: &Destination, limit: Duration) -> Result<NodeStream, ProbeError> {
        let shell = self.shell(node).map_err(ProbeError::NotSent)?;
        let connected = format!("connected-{:032x}", rand::random::<u128>());
        let text = with_variables(
            CONNECT,
            &[
                ("TO_HOST", &to.host),
                ("TO_PORT", &to.port.to_string()),
                ("CONNECTED", &connected),
                ("LIMIT", &seconds(limit)),
            ],
        );
        let (channel, session) = shell.start(&text).await.map_err(ProbeError::NotSent)?;
        let mut stdout = BufReader::new(channel.stdout);
        let opened = timeout(limit + SLACK, read_until_line(&mut stdout, &connected)).await;
        match opened {
            Ok(true) => Ok(NodeStream {
                input: Box::pin(stdout),
                output: channel.stdin,
                alive: Box::new((channel.alive, session)),
            }),
            Ok(false) => Err(refusal(&shell.node, channel.stderr, limit).await),
            Err(_) => Err(no_answer(limit)),
        }
    }

    async fn resolve(&self, node: &Target, name: &str, limit: Duration) -> Result<Vec<IpAddr>, ProbeError> {
        let answer =
            self.ask(node, &with_variables(RESOLVE, &[("NAME", name), ("LIMIT", &seconds(limit))]), limit).await?;
        let found = addresses(&answer.text("addresses").unwrap_or_default());
        match found.is_empty() {
            true => Err(ProbeError::NoAnswer("the resolver finds no address".to_owned())),
            false => Ok(found.into_iter().collect()),
        }
    }

    async fn ping(&self, node: &Target, address: &str, limit: Duration) -> Result<(), ProbeError> {
        self.ask(node, &with_variables(PING, &[("ADDRESS", address), ("LIMIT", &seconds(limit))]), limit)
            .await
            .map(|_| ())
    }
}

impl SshConnection {
    /// Runs a script with one section. A section that failed as [`Class::Failed`] has no answer from the network.
    async fn ask(&self, node: &Target, text: &str, limit: Duration) -> Result<Section, ProbeError> {
        let shell = self.shell(node).map_err(ProbeError::NotSent)?;
        let mut sections = shell.read(&Script::of(text), limit + SLACK).await.map_err(ProbeError::NotSent)?;
        let mut section = sections.pop().unwrap_or_default();
        if let Some(error) = section.interrupted.take() {
            return Err(match error.class {
                Class::Timeout => no_answer(limit),
                _ => ProbeError::NotSent(error),
            });
        }
        match section.failure() {
            None => Ok(section),
            Some((Class::Failed, reason)) => Err(ProbeError::NoAnswer(reason)),
            Some((class, reason)) => Err(not_sent(&shell.node, class, &reason)),
        }
    }
}

/// Returns the error of a connection that was not opened, with the reason that bash printed.
async fn refusal(node: &Node, stderr: impl AsyncRead + Unpin, limit: Duration) -> ProbeError {
    let mut text = Vec::new();
    // What was read before a failure or the limit can be the reason.
    let _ = timeout(SLACK, stderr.take(REASON).read_to_end(&mut text)).await;
    let text = String::from_utf8_lossy(&text);
    match reason(&text) {
        Some(reason) if reason.contains("is not installed") => not_sent(node, Class::Invalid, reason),
        Some(reason) => ProbeError::NoAnswer(reason.to_owned()),
        None => no_answer(limit),
    }
}

/// Returns the last part of the last line, without the place in the script and the address.
fn reason(stderr: &str) -> Option<&str> {
    let line = stderr.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    line.rsplit(": ").next()
}

fn not_sent(node: &Node, class: Class, reason: &str) -> ProbeError {
    ProbeError::NotSent(ProviderError::new(class, format!("{} cannot send the probe: {reason}", node.name)))
}

fn no_answer(limit: Duration) -> ProbeError {
    ProbeError::NoAnswer(format!("no answer within {limit:?}"))
}

/// Returns the limit for a program that counts in seconds.
fn seconds(limit: Duration) -> String {
    duration::seconds(limit).max(1).to_string()
}

fn with_variables(script: &str, variables: &[(&str, &str)]) -> String {
    let assignments: String = variables.iter().map(|(name, value)| format!("{name}={}\n", quote(value))).collect();
    assignments + script
}

/// Returns the addresses that `getent ahosts` printed, each once.
fn addresses(text: &str) -> BTreeSet<IpAddr> {
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// Reads lines until `line`. Returns false if the output ends before it or has too many other bytes.
async fn read_until_line(output: &mut (impl AsyncBufReadExt + Unpin), line: &str) -> bool {
    let mut output = output.take(NOISE);
    let mut read = Vec::new();
    loop {
        read.clear();
        match output.read_until(b'\n', &mut read).await {
            Ok(0) | Err(_) => return false,
            Ok(_) if read.trim_ascii_end() == line.as_bytes() => return true,
            Ok(_) => {}
        }
    }
}
