//! The user's own ssh, one multiplexed connection per node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use moorfast_engine::{Class, Node, ProviderError};
use openssh::Session;
use tokio::sync::{Mutex, Semaphore};

use super::config::Settings;
use super::failure::Unconnected;
use super::known_hosts::{self, HostKey};
use super::program::{ended, program};
use super::route::{Hops, Route, Way, scratch, unusable};
use super::servers::Servers;
use super::trust::scan;
use super::{Channel, Transport};
use crate::duration;
use crate::link::Counters;

/// How often a connection is tried that sshd drops because too many come at once.
const TRIES: u32 = 6;

/// How many connections that were dropped are tried again at once: they may all go through a jump host that only the user's ssh_config names.
static DROPPED: Semaphore = Semaphore::const_new(6);

/// A node behind ssh.
pub(crate) struct Ssh {
    node: Arc<Node>,
    settings: Settings,
    data_dir: PathBuf,
    counters: Arc<Counters>,
    hops: Arc<Hops>,
    servers: Arc<Servers>,
    /// The host keys that are taken for the node's in this run, whatever is known of it.
    accepted: Option<Vec<HostKey>>,
    /// The fingerprints of those by which it was let in.
    proven: std::sync::Mutex<Vec<String>>,
    master: Mutex<Option<Arc<Session>>>,
    /// Why the first connection failed: the same host is not tried again in this run.
    failed: OnceLock<ProviderError>,
}

impl Ssh {
    pub(crate) fn new(
        node: Arc<Node>,
        settings: Settings,
        data_dir: PathBuf,
        counters: Arc<Counters>,
        hops: Arc<Hops>,
        servers: Arc<Servers>,
    ) -> Self {
        Self {
            node,
            settings,
            data_dir,
            counters,
            hops,
            servers,
            accepted: None,
            proven: std::sync::Mutex::default(),
            master: Mutex::new(None),
            failed: OnceLock::new(),
        }
    }

    /// The same, with these keys taken for the node's.
    pub(crate) fn accepting(self, keys: Vec<HostKey>) -> Self {
        Self { accepted: Some(keys), ..self }
    }

    /// The connection that all share; a new one in place of `lost`.
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
            // Only who holds the slot comes here.
            let _ = self.failed.set(error.clone());
        }
        let master = Arc::new(connected?);
        *slot = Some(master.clone());
        Ok(master)
    }

    async fn connect(&self) -> Result<Session, ProviderError> {
        let server = self.servers.of(&self.node);
        let _turn = server.turn().await;
        if let Some(failure) = server.failure() {
            return Err(failure.error(&self.node));
        }
        let directory = scratch()?;
        let hops = self.hops.directory()?;
        let known_hosts = self.host_keys(directory.path(), &hops).await?;
        let route = self.route(&hops);
        let way = route.lay(directory, &known_hosts)?;
        let (begun, mut few) = (Instant::now(), None);
        let mut wait = Duration::from_millis(200);
        let mut tries = 1;
        while let Err(failure) = launch(&route, &way).await? {
            if tries == TRIES || !failure.is_drop() || begun.elapsed() > route.limit() {
                let error = failure.error(&self.node);
                if error.class == Class::Unreachable && !failure.is_drop() && !route.is_past_the_first_hop() {
                    server.failed(&failure);
                }
                return Err(error);
            }
            if few.is_none() {
                few = DROPPED.acquire().await.ok();
            }
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>())).await;
            wait *= 2;
            tries += 1;
        }
        server.answered();
        self.counters.connections.fetch_add(1, Ordering::Relaxed);
        // It looks for the control socket where we put it, and ends the connection when it is dropped.
        Ok(Session::new_native_mux(way.directory))
    }

    /// Starts `command` on the connection. A host may let somebody in and then say no more.
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
        Route { node: &self.node, settings: &self.settings, data_dir: &self.data_dir, accept_new: false, shared }
    }

    /// The known_hosts file that decides: of the keys that are accepted or pinned where there are any, else of those that are known.
    async fn host_keys(&self, directory: &Path, hops: &Path) -> Result<PathBuf, ProviderError> {
        let keys = match &self.accepted {
            Some(keys) => keys.clone(),
            None if self.node.host_keys.is_empty() => {
                let path = known_hosts::file(&self.data_dir);
                known_hosts::keys_of(&path, &self.node.name.0).map_err(|e| unusable(&path, &e))?
            }
            None => self.pinned_keys(hops).await?,
        };
        let path = directory.join("known_hosts");
        known_hosts::set(&path, &self.node.name.0, &keys).map_err(|e| unusable(&path, &e))?;
        *self.proven.lock().unwrap_or_else(PoisonError::into_inner) = keys.iter().map(HostKey::fingerprint).collect();
        Ok(path)
    }

    /// The keys that the manifest names.
    async fn pinned_keys(&self, hops: &Path) -> Result<Vec<HostKey>, ProviderError> {
        let (prints, lines): (Vec<_>, Vec<_>) = self.node.host_keys.iter().partition(|k| k.starts_with("SHA256:"));
        let mut keys = lines.iter().map(|line| self.pinned(line)).collect::<Result<Vec<_>, _>>()?;
        if !prints.is_empty() {
            let offered = scan(&self.route(hops)).await?;
            keys.extend(self.pinned_by_fingerprint(&prints, offered, keys.is_empty())?);
        }
        Ok(keys)
    }

    fn pinned(&self, line: &str) -> Result<HostKey, ProviderError> {
        HostKey::parse(line).ok_or_else(|| {
            let summary = format!("a pinned host key of {} is neither a public key nor a fingerprint", self.node.name);
            ProviderError::new(Class::Invalid, summary)
                .help("write `ssh-ed25519 AAAA…` or `SHA256:…`")
                .attribute("host_key")
        })
    }

    fn pinned_by_fingerprint(
        &self,
        pins: &[&String],
        offered: Vec<HostKey>,
        needed: bool,
    ) -> Result<Vec<HostKey>, ProviderError> {
        let fits = |key: &&HostKey| pins.iter().any(|pin| **pin == key.fingerprint());
        let keys: Vec<_> = offered.iter().filter(fits).cloned().collect();
        if !keys.is_empty() || !needed {
            return Ok(keys);
        }
        let shown = offered.iter().map(|key| format!("offered: {}", key.fingerprint()));
        let pinned = pins.iter().map(|pin| format!("pinned: {pin}"));
        let summary = format!("the host key of {} is not the pinned one", self.node.name);
        Err(ProviderError::new(Class::Identity, summary)
            .detail(shown.chain(pinned))
            .help("if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then set host_key to it")
            .attribute("host_key"))
    }
}

#[async_trait]
impl Transport for Ssh {
    async fn open(&self, command: &str) -> Result<Channel, ProviderError> {
        let master = self.master(None).await?;
        if let Ok(channel) = self.spawn(&master, command).await? {
            return Ok(channel);
        }
        // An idle or broken connection ended since it was used last: once more on a new one.
        let master = self.master(Some(&master)).await?;
        self.spawn(&master, command).await?.map_err(|e| {
            let source = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
            ProviderError::new(Class::Unreachable, format!("cannot start a command on {}: {e}{source}", self.node.name))
        })
    }

    fn host_keys(&self) -> Vec<String> {
        self.proven.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// Starts the connection in the background; what was said where that failed.
async fn launch(route: &Route<'_>, way: &Way) -> Result<Result<(), Unconnected>, ProviderError> {
    let log = way.log();
    let said = std::fs::File::create(&log).map_err(|e| unusable(&log, &e))?;
    let mut ssh = program("ssh");
    ssh.arg("-F")
        .arg(&way.config)
        .arg("-S")
        .arg(way.directory.path().join("master"))
        .args(["-M", "-f", "-N", "-o", "ControlPersist=60"])
        .arg(&way.destination)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    let status = ended(&mut ssh, route.limit()).await.map_err(|e| no_ssh(&e))?;
    Ok(if status.is_some_and(|status| status.success()) { Ok(()) } else { Err(route.failure(status, way.said())) })
}

/// The failure to start ssh itself.
pub(super) fn no_ssh(error: &std::io::Error) -> ProviderError {
    ProviderError::new(Class::Failed, format!("cannot start ssh: {error}"))
        .help("install the OpenSSH client on this machine")
}
