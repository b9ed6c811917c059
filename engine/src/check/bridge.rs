//! A socket of this machine behind which the connections of a node begin, for an HTTP client of this machine.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{UnixListener, UnixStream};

use super::origin::Origin;
use crate::provider::{Destination, ProbeError};

/// A socket whose connections continue from a node to a destination.
pub(super) struct Bridge<'a> {
    origin: &'a Origin<'a>,
    destination: Destination,
    limit: Duration,
    listener: UnixListener,
    socket: PathBuf,
    /// Why the last connection could not be opened.
    failure: Mutex<Option<ProbeError>>,
    /// Only this user can open the socket in it.
    _directory: TempDir,
}

impl<'a> Bridge<'a> {
    /// Opens the socket. The connection to the destination may take `limit`.
    ///
    /// # Errors
    /// If the socket cannot be created.
    pub fn open(origin: &'a Origin<'a>, destination: Destination, limit: Duration) -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("moorfast-").tempdir()?;
        let socket = directory.path().join("probe");
        let listener = UnixListener::bind(&socket)?;
        Ok(Self { origin, destination, limit, listener, socket, failure: Mutex::default(), _directory: directory })
    }

    /// Returns the path of the socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns why the last connection could not be opened, once.
    pub fn take_failure(&self) -> Option<ProbeError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Forwards connections until the future is dropped.
    pub async fn serve(&self) -> Infallible {
        let mut connections = FuturesUnordered::new();
        loop {
            tokio::select! {
                accepted = self.listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        connections.push(self.forward(stream));
                    }
                }
                Some(()) = connections.next() => {}
            }
        }
    }

    async fn forward(&self, mut near: UnixStream) {
        match self.origin.connect(&self.destination, self.limit).await {
            Ok(mut far) => {
                // The client reports a connection that breaks.
                let _ = copy_bidirectional(&mut near, &mut far.both()).await;
            }
            Err(error) => *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
        }
    }
}
