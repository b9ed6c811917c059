//! A TCP proxy that counts what passes, and can delay it like a network with a long round trip.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// A proxy on this machine. It runs until the process ends.
pub struct Proxy {
    pub port: u16,
    connections: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

/// What passed a proxy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Passed {
    /// The number of connections.
    pub connections: u64,
    /// The number of bytes in both directions.
    pub bytes: u64,
}

impl Proxy {
    /// Starts a proxy to `target` (`ADDRESS:PORT`). A round trip takes `round_trip` longer.
    pub fn start(target: String, round_trip: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self { port, connections: Arc::default(), bytes: Arc::default() };
        let (connections, bytes) = (Arc::clone(&proxy.connections), Arc::clone(&proxy.bytes));
        thread::spawn(move || {
            for client in listener.incoming() {
                connections.fetch_add(1, Ordering::Relaxed);
                let client = client.unwrap();
                let server = TcpStream::connect(&target).unwrap();
                for stream in [&client, &server] {
                    stream.set_nodelay(true).unwrap();
                }
                forward(client.try_clone().unwrap(), server.try_clone().unwrap(), round_trip / 2, &bytes);
                forward(server, client, round_trip / 2, &bytes);
            }
        });
        proxy
    }

    /// Returns what passed since the last call.
    pub fn take(&self) -> Passed {
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Passed { connections: take(&self.connections), bytes: take(&self.bytes) }
    }
}

/// Forwards what `from` sends to `to`, each piece after `delay`. Pieces travel at the same time, as on a real network.
fn forward(mut from: TcpStream, mut to: TcpStream, delay: Duration, bytes: &Arc<AtomicU64>) {
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    let bytes = Arc::clone(bytes);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut buffer) {
            bytes.fetch_add(length as u64, Ordering::Relaxed);
            let arrives = Instant::now() + delay;
            if length == 0 || sender.send((arrives, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        while let Ok((arrives, piece)) = receiver.recv() {
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // The other side may have closed the connection.
        let _ = to.shutdown(Shutdown::Write);
    });
}
