//! The route to a node: a private directory with the ssh_config of each hop.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use moorfast_engine::model::Node;
use moorfast_engine::provider::{Class, ProviderError};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::config::{Hop, HopConfig, Settings};
use super::failure::{ConnectFailure, unusable};
use super::known_hosts;
use super::pins;

/// The most bytes that are read of the log of one ssh.
const LOG: u64 = 64 << 10;

/// The time for a login after the host has accepted the connection.
const LOGIN: Duration = Duration::from_secs(5);

/// The parameters of a connection to a node.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    /// The node.
    pub(super) node: &'a Node,
    /// The settings of the provider.
    pub(super) settings: &'a Settings,
    /// The data folder of moorfast.
    pub(super) state_dir: &'a Path,
    /// Whether unknown host keys of jump hosts are accepted.
    pub(super) accept_new: bool,
    /// The directory of the control sockets of jump hosts.
    pub(super) shared: &'a Path,
}

/// A route on disk, ready for ssh. The control socket of the connection is `master` in its directory.
pub(super) struct PreparedRoute {
    /// The private directory, removed on drop.
    pub(super) directory: TempDir,
    /// The argument of `ssh -F`.
    pub(super) config: PathBuf,
    /// The host argument of ssh.
    pub(super) destination: String,
}

impl PreparedRoute {
    /// Returns the log file of ssh.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Returns the output of the node's ssh, then of those of the jump hosts.
    pub(super) fn output(&self) -> String {
        let hops = (0..).map(|i| log_of(self.directory.path(), i)).take_while(|path| path.exists());
        std::iter::once(self.log()).chain(hops).map(|path| beginning(&path)).collect()
    }
}

impl Route<'_> {
    /// Writes the route to `directory`. The host key of the node is checked against `known_hosts`.
    pub(super) fn prepare(&self, directory: TempDir, known_hosts: &Path) -> Result<PreparedRoute, ProviderError> {
        let hops = self.node.jump.iter().map(|text| Hop::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let own_file = known_hosts::file(self.state_dir);
        let user_files = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"].map(PathBuf::from);
        let mut through = None;
        for (index, hop) in hops.iter().enumerate() {
            let config = HopConfig {
                hop,
                alias: None,
                identity_file: None,
                known_hosts: std::iter::once(own_file.clone()).chain(user_files.clone()).collect(),
                known_hosts_script: None,
                accept_new: self.accept_new,
                through: through.take(),
                control_socket: Some(self.shared.join(socket_name(&self.node.jump[..=index]))),
            };
            let path = directory.path().join(format!("hop{index}.conf"));
            self.write(&path, &config)?;
            through = Some((hop, path, log_of(directory.path(), index)));
        }
        let hop = Hop::node(self.node)?;
        let config = HopConfig {
            hop: &hop,
            alias: Some(&self.node.name.0),
            identity_file: self.node.identity_file.as_deref().map(|file| self.key_file(file)),
            known_hosts: vec![known_hosts.to_owned()],
            known_hosts_script: Some(directory.path().join(pins::SCRIPT)).filter(|script| script.exists()),
            accept_new: false,
            through,
            control_socket: None,
        };
        let path = directory.path().join("node.conf");
        self.write(&path, &config)?;
        Ok(PreparedRoute { directory, config: path, destination: hop.destination.clone() })
    }

    /// Returns the limit of the whole connection: each host accepts it, and the node logs in.
    pub(super) fn limit(&self) -> Duration {
        let hosts = u32::try_from(self.node.jump.len() + 1).unwrap_or(u32::MAX);
        self.settings.connect_timeout.saturating_mul(hosts).saturating_add(LOGIN)
    }

    /// Whether the route has a jump host and the first one accepted the login.
    pub(super) fn is_past_the_first_hop(&self) -> bool {
        !self.node.jump.is_empty() && self.shared.join(socket_name(&self.node.jump[..1])).exists()
    }

    /// Returns the failure of ssh with this output. No status means that it exceeded the limit.
    pub(super) fn failure(&self, status: Option<ExitStatus>, output: String) -> ConnectFailure {
        ConnectFailure { output, timed_out: status.is_none().then(|| self.limit()) }
    }

    fn write(&self, path: &Path, config: &HopConfig) -> Result<(), ProviderError> {
        fs::write(path, config.text(self.settings)).map_err(|e| unusable(path, &e))
    }

    /// Returns the path of a key file. A relative path starts at the folder of the manifest.
    fn key_file(&self, file: &str) -> PathBuf {
        match file.starts_with('~') {
            true => PathBuf::from(file),
            false => self.settings.root.join(file),
        }
    }
}

/// The directory of the control sockets of jump hosts, which all nodes behind them share. It is created when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct JumpSockets(Mutex<Option<TempDir>>);

impl JumpSockets {
    pub(super) fn directory(&self) -> Result<PathBuf, ProviderError> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(private_directory()?);
        }
        Ok(slot.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default())
    }
}

/// Returns the beginning of a log. A server can make ssh print without end.
fn beginning(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A log that cannot be read counts as empty.
    let _ = fs::File::open(path).and_then(|file| file.take(LOG).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the name of the control socket of the last hop.
fn socket_name(hops: &[String]) -> String {
    let digest = Sha256::digest(hops.join(",").as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn log_of(directory: &Path, hop: usize) -> PathBuf {
    directory.join(format!("hop{hop}.log"))
}

/// Returns a new private directory with a short path, because the path of a control socket is limited to about 90 bytes.
pub(super) fn private_directory() -> Result<TempDir, ProviderError> {
    let base = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_dir() && runtime.as_os_str().len() < 40 => runtime.join("moorfast"),
        _ => PathBuf::from(format!("/tmp/mf-{}", nix::unistd::geteuid())),
    };
    let made = fs::DirBuilder::new().mode(0o700).create(&base);
    match made {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(&base, &e)),
        _ => {}
    }
    let found = fs::symlink_metadata(&base).map_err(|e| unusable(&base, &e))?;
    if !found.is_dir() || found.uid() != nix::unistd::geteuid().as_raw() || found.permissions().mode() & 0o077 != 0 {
        let summary = format!("{} is not a private directory of yours", base.display());
        return Err(ProviderError::new(Class::Failed, summary).help("remove it, or set XDG_RUNTIME_DIR"));
    }
    sweep(&base);
    tempfile::Builder::new().prefix("").rand_bytes(8).tempdir_in(&base).map_err(|e| unusable(&base, &e))
}

/// Removes the directories of killed runs after a day.
fn sweep(base: &Path) {
    let old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|found| found.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(86_400)))
    };
    for entry in fs::read_dir(base).into_iter().flatten().flatten().filter(old) {
        // This is only cleanup: the next run tries again.
        let _ = fs::remove_dir_all(entry.path());
    }
}
