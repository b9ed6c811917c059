//! The way to a node: a private directory with the ssh_config of each hop.

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

use super::config::{Config, Hop, Settings};
use super::failure::Unconnected;
use super::known_hosts;

/// How much is read of what one ssh says, in bytes.
const LOG: u64 = 64 << 10;

/// How long a login may take once the host has accepted the connection.
const LOGIN: Duration = Duration::from_secs(5);

/// What is needed to connect to a node.
#[derive(Clone, Copy)]
pub(super) struct Route<'a> {
    /// The node.
    pub(super) node: &'a Node,
    /// How connections are made.
    pub(super) settings: &'a Settings,
    /// Where moorfast keeps what is its own.
    pub(super) data_dir: &'a Path,
    /// Take the keys of jump hosts that are not known yet?
    pub(super) accept_new: bool,
    /// Where the connections of jump hosts are shared.
    pub(super) shared: &'a Path,
}

/// A route, ready for ssh. The control socket of the connection is `master` in its directory.
pub(super) struct Way {
    /// Removed when dropped.
    pub(super) directory: TempDir,
    /// For `ssh -F`.
    pub(super) config: PathBuf,
    /// What ssh is told to connect to.
    pub(super) destination: String,
}

impl Way {
    /// Where ssh says what fails.
    pub(super) fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// All that was said on the way: by the ssh of the node, then by those of the jump hosts.
    pub(super) fn said(&self) -> String {
        let hops = (0..).map(|i| log_of(self.directory.path(), i)).take_while(|path| path.exists());
        std::iter::once(self.log()).chain(hops).map(|path| beginning(&path)).collect()
    }
}

impl Route<'_> {
    /// The route on disk, with the node's own host key looked up in `known_hosts`, made in `directory`.
    pub(super) fn lay(&self, directory: TempDir, known_hosts: &Path) -> Result<Way, ProviderError> {
        let hops = self.node.jump.iter().map(|text| Hop::parse(text)).collect::<Result<Vec<_>, _>>()?;
        let ours = known_hosts::file(self.data_dir);
        let users = ["~/.ssh/known_hosts", "~/.ssh/known_hosts2"].map(PathBuf::from);
        let mut through = None;
        for (index, hop) in hops.iter().enumerate() {
            let config = Config {
                hop,
                alias: None,
                identity_file: None,
                known_hosts: std::iter::once(ours.clone()).chain(users.clone()).collect(),
                accept_new: self.accept_new,
                through: through.take(),
                shared: Some(self.shared.join(socket_name(&self.node.jump[..=index]))),
            };
            let path = directory.path().join(format!("hop{index}.conf"));
            self.write(&path, &config)?;
            through = Some((hop, path, log_of(directory.path(), index)));
        }
        let hop = Hop::node(self.node)?;
        let config = Config {
            hop: &hop,
            alias: Some(&self.node.name.0),
            identity_file: self.node.identity_file.as_deref().map(|file| self.key_file(file)),
            known_hosts: vec![known_hosts.to_owned()],
            accept_new: false,
            through,
            shared: None,
        };
        let path = directory.path().join("node.conf");
        self.write(&path, &config)?;
        Ok(Way { directory, config: path, destination: hop.destination.clone() })
    }

    /// How long the connection may take in all: each host on the way accepts it, and the node logs in.
    pub(super) fn limit(&self) -> Duration {
        let hosts = u32::try_from(self.node.jump.len() + 1).unwrap_or(u32::MAX);
        self.settings.connect_timeout.saturating_mul(hosts).saturating_add(LOGIN)
    }

    /// Whether the first jump host, if there is one, let somebody in.
    pub(super) fn is_past_the_first_hop(&self) -> bool {
        !self.node.jump.is_empty() && self.shared.join(socket_name(&self.node.jump[..1])).exists()
    }

    /// The failure of ssh, which said this and ended so, or not in time.
    pub(super) fn failure(&self, status: Option<ExitStatus>, said: String) -> Unconnected {
        Unconnected { said, late: status.is_none().then(|| self.limit()) }
    }

    fn write(&self, path: &Path, config: &Config) -> Result<(), ProviderError> {
        fs::write(path, config.text(self.settings)).map_err(|e| unusable(path, &e))
    }

    /// A relative path starts at the folder of the manifest, beside which `data_dir` lies.
    fn key_file(&self, file: &str) -> PathBuf {
        match self.data_dir.parent() {
            Some(root) if !file.starts_with('~') => root.join(file),
            _ => PathBuf::from(file),
        }
    }
}

/// Where the connections of jump hosts are shared by all nodes behind them, made when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Hops(Mutex<Option<TempDir>>);

impl Hops {
    pub(super) fn directory(&self) -> Result<PathBuf, ProviderError> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.is_none() {
            *slot = Some(scratch()?);
        }
        Ok(slot.as_ref().map(|dir| dir.path().to_owned()).unwrap_or_default())
    }
}

/// The beginning of a log: a server may have ssh print as much as it likes.
fn beginning(path: &Path) -> String {
    let mut bytes = Vec::new();
    // A log that cannot be read says nothing, as one that is not there.
    let _ = fs::File::open(path).and_then(|file| file.take(LOG).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of the control socket of the last of these hops.
fn socket_name(hops: &[String]) -> String {
    let digest = Sha256::digest(hops.join(",").as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn log_of(directory: &Path, hop: usize) -> PathBuf {
    directory.join(format!("hop{hop}.log"))
}

/// A private directory with a short path, since that of a control socket may have some 90 bytes only.
pub(super) fn scratch() -> Result<TempDir, ProviderError> {
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

/// Removes what runs left that were killed, a day later.
fn sweep(base: &Path) {
    let old = |entry: &fs::DirEntry| {
        let modified = entry.metadata().and_then(|found| found.modified());
        modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > Duration::from_secs(86_400)))
    };
    for entry in fs::read_dir(base).into_iter().flatten().flatten().filter(old) {
        // It is only tidiness: where it fails the next run tries again.
        let _ = fs::remove_dir_all(entry.path());
    }
}

pub(super) fn unusable(path: &Path, error: &io::Error) -> ProviderError {
    ProviderError::new(Class::Failed, format!("cannot use {}: {error}", path.display()))
}
