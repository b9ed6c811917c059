//! A proxy that delays every byte, like a network with a long round trip.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Starts a proxy to `target` (`ADDRESS:PORT`) on this machine and returns its port. A round trip takes `round_trip` longer. It runs until the process ends.
pub fn delayed(target: String, round_trip: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let server = TcpStream::connect(&target).unwrap();
            for stream in [&client, &server] {
                stream.set_nodelay(true).unwrap();
            }
            forward(client.try_clone().unwrap(), server.try_clone().unwrap(), round_trip / 2);
            forward(server, client, round_trip / 2);
        }
    });
    port
}

/// Forwards what `from` sends to `to`, each piece after `delay`. Pieces travel at the same time, as on a real network.
fn forward(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, receiver) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut buffer) {
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
