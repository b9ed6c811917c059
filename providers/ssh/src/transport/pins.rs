//! The host keys that a connection accepts, and the pins of the manifest.
//!
//! A pinned fingerprint is checked within the connection itself: ssh asks a script for each key that the node offers. The key that fitted is kept, so
//! that later runs know its type. It is accepted only as long as its fingerprint is pinned.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use moorfast_engine::model::Node;
use moorfast_engine::provider::{Class, ProviderError};

use super::failure::unusable;
use super::known_hosts::{self, HostKey};
use crate::error_codes;

/// The script that checks the fingerprint of an offered key.
const CHECK: &str = include_str!("pinned.sh");

/// The host keys that a connection accepts.
#[derive(Clone, Debug, Default)]
pub(super) struct AcceptedKeys {
    /// The keys themselves.
    pub(super) keys: Vec<HostKey>,
    /// The fingerprints of further keys.
    pub(super) fingerprints: Vec<String>,
}

impl AcceptedKeys {
    /// Returns the keys that the manifest pins for `node`, and those known of the pinned fingerprints.
    pub(super) fn pinned(node: &Node, state_dir: &Path) -> Result<Self, ProviderError> {
        let (fingerprints, lines): (Vec<_>, Vec<_>) =
            node.host_keys.iter().cloned().partition(|pin| pin.starts_with("SHA256:"));
        let mut keys = lines.iter().map(|line| parsed(node, line)).collect::<Result<Vec<_>, _>>()?;
        if !fingerprints.is_empty() {
            // Without the keys of earlier runs, ssh finds out by itself which key the node offers.
            let kept = known_hosts::keys_of(&file(state_dir), &node.name.0).unwrap_or_default();
            keys.extend(kept.into_iter().filter(|key| fingerprints.contains(&key.fingerprint())));
        }
        Ok(Self { keys, fingerprints })
    }

    /// Returns those of the keys that `node` offers now that the manifest pins.
    pub(super) fn pinned_of(node: &Node, offered: Vec<HostKey>) -> Result<Self, ProviderError> {
        let (fingerprints, lines): (Vec<_>, Vec<_>) = node.host_keys.iter().partition(|pin| pin.starts_with("SHA256:"));
        let mut keys = lines.iter().map(|line| parsed(node, line)).collect::<Result<Vec<_>, _>>()?;
        keys.extend(offered.iter().filter(|key| fingerprints.contains(&&key.fingerprint())).cloned());
        if keys.is_empty() {
            return Err(not_pinned(node, &offered, &fingerprints));
        }
        Ok(Self { keys, fingerprints: Vec::new() })
    }

    /// Writes the known_hosts file of a connection to `node`, and the script that checks the fingerprints. Returns the path of the file.
    pub(super) fn write(&self, directory: &Path, node: &Node) -> Result<PathBuf, ProviderError> {
        let path = directory.join("known_hosts");
        known_hosts::set(&path, &node.name.0, &self.keys).map_err(|e| unusable(&path, &e))?;
        let pins: String = self.fingerprints.iter().map(|pin| format!("{pin}\n")).collect();
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).map_err(|e| unusable(&path, &e))
        };
        if !pins.is_empty() {
            write("pins", &pins)?;
            write(SCRIPT, CHECK)?;
        }
        Ok(path)
    }

    /// Returns the keys after a connection with the files in `directory`, the one that the node showed first, and keeps that for later runs.
    pub(super) fn after_connection(&self, directory: &Path, node: &Node, state_dir: &Path) -> Vec<HostKey> {
        let shown = known_hosts::keys_of(&directory.join("shown"), &node.name.0).unwrap_or_default();
        let mut keys: Vec<_> = shown.into_iter().filter(|key| self.fingerprints.contains(&key.fingerprint())).collect();
        keys.extend(self.keys.iter().filter(|key| !keys.contains(key)).cloned().collect::<Vec<_>>());
        keep(node, state_dir, &keys);
        keys
    }
}

/// The name of the script in the directory of a connection.
pub(super) const SCRIPT: &str = "pinned.sh";

/// Keeps the keys of `node` whose fingerprints are pinned. A run that may not write, or that has no data folder, goes without them.
fn keep(node: &Node, state_dir: &Path, keys: &[HostKey]) {
    let keys: Vec<_> = keys.iter().filter(|key| node.host_keys.contains(&key.fingerprint())).cloned().collect();
    let path = file(state_dir);
    let is_known = |kept: Vec<HostKey>| keys.iter().all(|key| kept.contains(key));
    if state_dir.is_dir() && !known_hosts::keys_of(&path, &node.name.0).is_ok_and(is_known) {
        let kept: io::Result<()> = known_hosts::set(&path, &node.name.0, &keys);
        if let Err(error) = kept {
            tracing::debug!(node = %node.name, %error, "the host key is not kept");
        }
    }
}

/// Returns the path of the file with the keys whose fingerprints are pinned.
fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("pinned_hosts")
}

fn parsed(node: &Node, line: &str) -> Result<HostKey, ProviderError> {
    HostKey::parse(line).ok_or_else(|| {
        let summary = format!("a pinned host key of {} is neither a public key nor a fingerprint", node.name);
        ProviderError::new(Class::Invalid, summary)
            .help("write `ssh-ed25519 AAAA…` or `SHA256:…`")
            .attribute("host_key")
    })
}

fn not_pinned(node: &Node, offered: &[HostKey], pins: &[&String]) -> ProviderError {
    let shown = offered.iter().map(|key| format!("offered: {}", key.fingerprint()));
    let pinned = pins.iter().map(|pin| format!("pinned: {pin}"));
    ProviderError::new(Class::Identity, format!("the host key of {} is not the pinned one", node.name))
        .code(error_codes::HOST_KEY_CHANGED)
        .detail(shown.chain(pinned))
        .help("if the machine was replaced or its keys were rotated, compare the fingerprint on its console, then set host_key to it")
        .attribute("host_key")
}
