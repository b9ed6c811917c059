//! The servers where connections begin: how many are asked at once, and which of them did not answer in this run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use moorfast_engine::model::Node;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::config::Hop;
use super::failure::Unconnected;

/// How many connections are in the making at once. With the default timeout 1,000 hosts that do not answer take less than two minutes.
static CONNECTING: Semaphore = Semaphore::const_new(160);

/// How many of them begin at the same server: sshd's MaxStartups begins to drop at 10.
const EACH: usize = 6;

/// The servers of a run.
#[derive(Debug, Default)]
pub(crate) struct Servers(Mutex<HashMap<String, Arc<Server>>>);

/// An sshd: a node, or the first jump host on the way to nodes.
#[derive(Debug)]
pub(super) struct Server {
    turns: Semaphore,
    known: Mutex<Known>,
}

/// What this run knows of a server.
#[derive(Debug)]
enum Known {
    Nothing,
    Up,
    Down(Unconnected),
}

/// The permission to connect.
pub(super) type Turn<'a> = (Option<SemaphorePermit<'a>>, Option<SemaphorePermit<'a>>);

impl Servers {
    /// The server where the way to `node` begins.
    pub(super) fn of(&self, node: &Node) -> Arc<Server> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.entry(first(node)).or_insert_with(|| Arc::new(Server::new())).clone()
    }
}

/// The host and the port of the first hop.
fn first(node: &Node) -> String {
    let hop = node.jump.first().and_then(|text| Hop::parse(text).ok());
    let (host, port) = hop.map_or((node.address.clone(), node.port), |hop| (hop.destination, hop.port));
    format!("{host} {}", port.map(|port| port.to_string()).unwrap_or_default())
}

impl Server {
    fn new() -> Self {
        Self { turns: Semaphore::new(EACH), known: Mutex::new(Known::Nothing) }
    }

    /// Waits until another connection may be made. Who waits for this server takes no turn from the others.
    pub(super) async fn turn(&self) -> Turn<'_> {
        let here = self.turns.acquire().await.ok();
        (here, CONNECTING.acquire().await.ok())
    }

    /// Why the server did not answer earlier in this run.
    pub(super) fn failure(&self) -> Option<Unconnected> {
        match &*self.known() {
            Known::Down(failure) => Some(failure.clone()),
            Known::Nothing | Known::Up => None,
        }
    }

    /// Notes that the server answered.
    pub(super) fn answered(&self) {
        *self.known() = Known::Up;
    }

    /// Notes that the server did not answer. One that answered before may only be restarting.
    pub(super) fn failed(&self, failure: &Unconnected) {
        let mut known = self.known();
        if matches!(*known, Known::Nothing) {
            *known = Known::Down(failure.clone());
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::transport::tests::node;

    #[test]
    fn a_slow_server_takes_no_turn_from_another() {
        let servers = Servers::default();
        let (slow, other) = (servers.of(&node("10.0.0.1", &[])), servers.of(&node("10.0.0.2", &[])));
        let turns: Vec<_> = (0..EACH).map(|_| slow.turn().now_or_never().unwrap()).collect();
        assert!(slow.turn().now_or_never().is_none(), "sshd drops what is more");
        assert!(other.turn().now_or_never().is_some());
        drop(turns);
        assert!(slow.turn().now_or_never().is_some());
    }

    #[test]
    fn nodes_behind_a_jump_host_begin_at_the_same_server() {
        let servers = Servers::default();
        let of = |address: &str, jump: &[&str]| servers.of(&node(address, jump));
        assert!(Arc::ptr_eq(&of("10.0.0.1", &["me@bastion:22"]), &of("10.0.0.2", &["bastion:22", "inner"])));
        assert!(!Arc::ptr_eq(&of("10.0.0.1", &["bastion:22"]), &of("10.0.0.1", &[])));
    }

    #[test]
    fn a_server_that_failed_is_known_and_one_that_answered_before_is_tried_again() {
        let failure = Unconnected { said: "Connection refused".to_owned(), late: None };
        let server = Server::new();
        server.failed(&failure);
        assert!(server.failure().is_some());
        let server = Server::new();
        server.answered();
        server.failed(&failure);
        assert!(server.failure().is_none());
    }
}
