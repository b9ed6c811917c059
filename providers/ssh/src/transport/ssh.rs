//! The user's own ssh, with one multiplexed connection per node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moorfast_engine::model::Node;
use moorfast_engine::provider::{Class, ProviderError};
use openssh::Session;
use tokio::sync::{Mutex, Semaphore};

use super::config::Settings;
use super::failure::{ConnectFailure, no_ssh, unusable};
use super::known_hosts::{self, HostKey};
use super::pins::AcceptedKeys;
use super::program::run_to_end;
use super::route::{JumpSockets, PreparedRoute, Route, private_directory};
use super::servers::{Server, Servers};
use super::trust::scan;
use super::{Channel, Transport};
use crate::duration;
use crate::node_shell::Counters;

/// The number of attempts if sshd drops connections because too many start at the same time.
const TRIES: u32 = 6;

/// The number of dropped connections that retry at the same time: they may share a jump host that only the user's ssh_config names.
static RETRIES: Semaphore = Semaphore::const_new(6);

/// A transport to a node by ssh.
pub(crate) struct Ssh {
    node: Arc<Node>,
    settings: Settings,
    state_dir: PathBuf,
    counters: Arc<Counters>,
    jump_sockets: Arc<JumpSockets>,
    servers: Arc<Servers>,
    /// The host keys that are accepted in this run instead of the known ones.
    accepted: Option<Vec<HostKey>>,
    /// The fingerprints of the host keys that the connection accepts.
    trusted_fingerprints: std::sync::Mutex<Vec<String>>,
    master: Mutex<Option<Arc<Session>>>,
    /// Why the first connection failed. The same host is not tried again in this run.
    failed: OnceLock<ProviderError>,
}

impl Ssh {
    pub(crate) fn new(
        node: Arc<Node>,
        settings: Settings,
        state_dir: PathBuf,
        counters: Arc<Counters>,
        jump_sockets: Arc<JumpSockets>,
        servers: Arc<Servers>,
    ) -> Self {
        Self {
            node,
            settings,
            state_dir,
            counters,
            jump_sockets,
            servers,
            accepted: None,
            trusted_fingerprints: std::sync::Mutex::default(),
            master: Mutex::new(None),
            failed: OnceLock::new(),
        }
    }

    /// Returns this transport with other accepted host keys.
    pub(crate) fn with_host_keys(self, keys: Vec<HostKey>) -> Self {
        Self { accepted: Some(keys), ..self }
    }

    /// Returns the shared connection, or a new one in place of `lost`.
    async fn master(&self, lost: Option<&Arc<Session>>) -> Result<Arc<Session>, ProviderError> {
        let mut slot = self.master.lock().await;
        match slot.as_ref() {
            Some(master) if !lost.is_some_and(|lost| Arc::ptr_eq(lost, master)) => return Ok(master.clone()),
            _ => {}
        }
        if let Some(error) = self.failed.get() {
            return Err(error.clone());
        }
        let connected = self.connect().await;
        if let (Err(error), None) = (&connected, lost) {
            // The lock on the slot is held, so no other value was set.
            let _ = self.failed.set(error.clone());
        }
        let master = Arc::new(connected?);
        *slot = Some(master.clone());
        Ok(master)
    }

    async fn connect(&self) -> Result<Session, ProviderError> {
        let server = self.servers.of(&self.node);
        let _permit = server.permit().await;
        if let Some(failure) = server.failure() {
            return Err(failure.error(&self.node));
        }
        let hops = self.jump_sockets.directory()?;
        let route = self.route(&hops);
        let accepted = self.accepted_keys()?;
        let session = match self.connect_with(&route, &server, &accepted).await? {
            Err(failure) if failure.is_about_host_key() && !accepted.fingerprints.is_empty() => {
                // The pinned key may be of another type than the offered one.
                let accepted = AcceptedKeys::pinned_of(&self.node, scan(&route).await?)?;
                self.connect_with(&route, &server, &accepted).await?
            }
            other => other,
        };
        let session = session.map_err(|failure| failure.error(&self.node))?;
        server.answered();
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        Ok(session)
    }

    /// Connects with these accepted host keys. The inner error has the output of ssh.
    async fn connect_with(
        &self,
        route: &Route<'_>,
        server: &Server,
        accepted: &AcceptedKeys,
    ) -> Result<Result<Session, ConnectFailure>, ProviderError> {
        let directory = private_directory()?;
        let known_hosts = accepted.write(directory.path(), &self.node)?;
        let prepared = route.prepare(directory, &known_hosts)?;
        let (started, mut retry_permit) = (Instant::now(), None);
        let mut wait = Duration::from_millis(200);
        let mut tries = 1;
        while let Err(failure) = launch(route, &prepared).await? {
            if tries == TRIES || !failure.is_drop() || started.elapsed() > route.limit() {
                let is_unreachable = failure.error(&self.node).class == Class::Unreachable;
                if is_unreachable && !failure.is_drop() && !route.is_past_the_first_hop() {
                    server.failed(&failure);
                }
                return Ok(Err(failure));
            }
            if retry_permit.is_none() {
                retry_permit = RETRIES.acquire().await.ok();
            }
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>())).await;
            wait *= 2;
            tries += 1;
        }
        let keys = accepted.after_connection(prepared.directory.path(), &self.node, &self.state_dir);
        *self.trusted_fingerprints.lock().unwrap_or_else(PoisonError::into_inner) =
            keys.iter().map(HostKey::fingerprint).collect();
        // The session uses the control socket in this directory, and closes the connection on drop.
        Ok(Ok(Session::new_native_mux(prepared.directory)))
    }

    /// Starts `command` on the connection, with a limit: a host may accept the login and then hang.
    async fn spawn(
        &self,
        master: &Arc<Session>,
        command: &str,
    ) -> Result<Result<Channel, openssh::Error>, ProviderError> {
        let limit = self.settings.connect_timeout;
        tokio::time::timeout(limit, spawn(master, command)).await.map_err(|_| {
            let why = format!("{} did not start a command within {}", self.node.name, duration::shown(limit));
            ProviderError::new(Class::Unreachable, why)
                .help("log in by hand: the node accepts the connection and then hangs")
        })
    }

    fn route<'a>(&'a self, shared: &'a Path) -> Route<'a> {
        Route { node: &self.node, settings: &self.settings, state_dir: &self.state_dir, accept_new: false, shared }
    }

    /// Returns the host keys that the connection accepts: those of this run or of the manifest, otherwise the known ones.
    fn accepted_keys(&self) -> Result<AcceptedKeys, ProviderError> {
        let keys = match &self.accepted {
            Some(keys) => keys.clone(),
            None if self.node.host_keys.is_empty() => {
                let path = known_hosts::file(&self.state_dir);
                known_hosts::keys_of(&path, &self.node.name.0).map_err(|e| unusable(&path, &e))?
            }
            None => return AcceptedKeys::pinned(&self.node, &self.state_dir),
        };
        Ok(AcceptedKeys { keys, ..AcceptedKeys::default() })
    }
}

#[async_trait]
impl Transport for Ssh {
    async fn open(&self, command: &str) -> Result<Channel, ProviderError> {
        let master = self.master(None).await?;
        if let Ok(channel) = self.spawn(&master, command).await? {
            return Ok(channel);
        }
        // The connection was lost since its last use: retry once on a new one.
        let master = self.master(Some(&master)).await?;
        self.spawn(&master, command).await?.map_err(|e| {
            let source = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
            ProviderError::new(Class::Unreachable, format!("cannot start a command on {}: {e}{source}", self.node.name))
        })
    }

    fn host_keys(&self) -> Vec<String> {
        self.trusted_fingerprints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn close(&self) {
        self.master.lock().await.take();
    }
}

async fn spawn(master: &Arc<Session>, command: &str) -> Result<Channel, openssh::Error> {
    let mut child = master
        .clone()
        .arc_raw_command(command)
        .stdin(openssh::Stdio::piped())
        .stdout(openssh::Stdio::piped())
        .stderr(openssh::Stdio::piped())
        .spawn()
        .await?;
    match (child.stdin().take(), child.stdout().take(), child.stderr().take()) {
        (Some(stdin), Some(stdout), Some(stderr)) => Ok(Channel {
            stdin: Box::pin(stdin),
            stdout: Box::pin(stdout),
            stderr: Box::pin(stderr),
            alive: Box::new(child),
        }),
        _ => Err(openssh::Error::Disconnected),
    }
}

/// Starts the connection in the background. The inner error has the output of ssh.
async fn launch(route: &Route<'_>, prepared: &PreparedRoute) -> Result<Result<(), ConnectFailure>, ProviderError> {
    let log = prepared.log();
    let stderr = std::fs::File::create(&log).map_err(|e| unusable(&log, &e))?;
    let mut ssh = moorfast_programs::command("ssh");
    ssh.arg("-F")
        .arg(&prepared.config)
        .arg("-S")
        .arg(prepared.directory.path().join("master"))
        .args(["-M", "-f", "-N", "-o", "ControlPersist=60"])
        .arg(&prepared.destination)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr);
    let status = run_to_end(&mut ssh, route.limit()).await.map_err(|e| no_ssh(&e))?;
    Ok(if status.is_some_and(|status| status.success()) {
        Ok(())
    } else {
        Err(route.failure(status, prepared.output()))
    })
}
