//! The servers where connections start: the limit of simultaneous connections, and the servers that did not answer in this run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use moorfast_engine::model::Node;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::Hop;
use super::failure::ConnectFailure;

/// The number of connections that may start at the same time. With the default timeout, 1,000 hosts that do not answer take less than two minutes.
static CONNECTING: Semaphore = Semaphore::const_new(160);

/// The number of them that may start at the same server. sshd's MaxStartups starts to drop at 10.
const PER_SERVER: usize = 6;

/// The servers of a run.
#[derive(Debug, Default)]
pub(crate) struct Servers(Mutex<HashMap<String, Arc<Server>>>);

/// An sshd: a node, or the first jump host on the way to nodes.
#[derive(Debug)]
pub(super) struct Server {
    permits: Semaphore,
    availability: Mutex<Availability>,
}

/// The availability of a server in this run.
#[derive(Debug)]
enum Availability {
    Unknown,
    Up,
    Down(ConnectFailure),
}

/// The permission to start a connection.
pub(super) type ConnectPermit<'a> = (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>);

impl Servers {
    /// Returns the server where the route to `node` starts.
    pub(super) fn of(&self, node: &Node) -> Arc<Server> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(first(node)).or_insert_with(|| Arc::new(Server::new())).clone()
    }
}

/// Returns host and port of the first hop.
fn first(node: &Node) -> String {
    let hop = node.jump.first().and_then(|text| Hop::parse(text).ok());
    let (host, port) = hop.map_or((node.address.clone(), node.port), |hop| (hop.destination, hop.port));
    format!("{host} {}", port.map(|port| port.to_string()).unwrap_or_default())
}

impl Server {
    fn new() -> Self {
        Self { permits: Semaphore::new(PER_SERVER), availability: Mutex::new(Availability::Unknown) }
    }

    /// Waits until another connection may start. Waiting for this server blocks no other server.
    pub(super) async fn permit(&self) -> ConnectPermit<'_> {
        let here = self.permits.acquire().await.ok();
        (here, CONNECTING.acquire().await.ok())
    }

    /// Returns why the server did not answer earlier in this run.
    pub(super) fn failure(&self) -> Option<ConnectFailure> {
        match &*self.availability() {
            Availability::Down(failure) => Some(failure.clone()),
            Availability::Unknown | Availability::Up => None,
        }
    }

    /// Records that the server answered.
    pub(super) fn answered(&self) {
        *self.availability() = Availability::Up;
    }

    /// Records that the server did not answer. A server that answered before may only be restarting.
    pub(super) fn failed(&self, failure: &ConnectFailure) {
        let mut availability = self.availability();
        if matches!(*availability, Availability::Unknown) {
            *availability = Availability::Down(failure.clone());
        }
    }

    fn availability(&self) -> std::sync::MutexGuard<'_, Availability> {
        self.availability.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::transport::tests::node;

    #[test]
    fn a_slow_server_does_not_block_another() {
        let servers = Servers::default();
        let (slow, other) = (servers.of(&node("10.0.0.1", &[])), servers.of(&node("10.0.0.2", &[])));
        let permits: Vec<_> = (0..PER_SERVER).map(|_| slow.permit().now_or_never().unwrap()).collect();
        assert!(slow.permit().now_or_never().is_none(), "sshd drops what is more");
        assert!(other.permit().now_or_never().is_some());
        drop(permits);
        assert!(slow.permit().now_or_never().is_some());
    }

    #[test]
    fn nodes_behind_a_jump_host_share_its_server() {
        let servers = Servers::default();
        let of = |address: &str, jump: &[&str]| servers.of(&node(address, jump));
        assert!(Arc::ptr_eq(&of("10.0.0.1", &["me@bastion:22"]), &of("10.0.0.2", &["bastion:22", "inner"])));
        assert!(!Arc::ptr_eq(&of("10.0.0.1", &["bastion:22"]), &of("10.0.0.1", &[])));
    }

    #[test]
    fn a_server_that_failed_is_known_and_one_that_answered_before_is_tried_again() {
        let failure = ConnectFailure { output: "Connection refused".to_owned(), timed_out: None };
        let server = Server::new();
        server.failed(&failure);
        assert!(server.failure().is_some());
        let server = Server::new();
        server.answered();
        server.failed(&failure);
        assert!(server.failure().is_none());
    }
}
