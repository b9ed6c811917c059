//! The first contact: reading the host keys of a node, and trusting them.

use std::path::Path;
use std::process::Stdio;

use moorfast_engine::model::{Node, Transport};
use moorfast_engine::provider::ProviderError;

use super::config::Settings;
use super::failure::{no_ssh, unusable};
use super::known_hosts::{self, HostKey};
use super::program::run_to_end;
use super::route::{Route, private_directory};

/// The kinds of host keys. A server shows one key per connection, so each kind takes one.
const KINDS: &[&str] =
    &["ssh-ed25519", "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521", "rsa-sha2-512,rsa-sha2-256"];

/// Returns the host keys that the node offers now. ssh itself reads them, so that jump hosts and the user's ssh_config apply. There is no login.
pub(super) async fn scan(route: &Route<'_>) -> Result<Vec<HostKey>, ProviderError> {
    let mut keys = Vec::new();
    let mut first_failure = None;
    for kinds in KINDS {
        let directory = private_directory()?;
        let shown = directory.path().join("shown");
        let prepared = route.prepare(directory, &shown)?;
        let log = prepared.log();
        let stderr = std::fs::File::create(&log).map_err(|e| unusable(&log, &e))?;
        let mut ssh = moorfast_programs::command("ssh");
        ssh.arg("-F")
            .arg(&prepared.config)
            .args(["-S", "none"])
            .args(["-o", "StrictHostKeyChecking=accept-new", "-o", "PreferredAuthentications=none"])
            .args(["-o", &format!("HostKeyAlgorithms={kinds}")])
            .arg(&prepared.destination)
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        let status = run_to_end(&mut ssh, route.limit()).await.map_err(|e| no_ssh(&e))?;
        let found = known_hosts::keys_of(&shown, &route.node.name.0).map_err(|e| unusable(&shown, &e))?;
        if found.is_empty() && !prepared.output().contains("no matching host key type") {
            first_failure.get_or_insert_with(|| route.failure(status, prepared.output()).error(route.node));
            break;
        }
        keys.extend(found);
    }
    match first_failure {
        Some(failure) if keys.is_empty() => Err(failure),
        _ => Ok(keys),
    }
}

/// Trusts the host keys that `node` offers now instead of those known before, and returns their fingerprints (`SHA256:…`).
/// Unknown keys of jump hosts are trusted too.
///
/// # Errors
/// If the node cannot be reached, or the known_hosts in `state_dir` cannot be written.
pub async fn trust(node: &Node, state_dir: &Path, settings: &Settings) -> Result<Vec<String>, ProviderError> {
    if node.transport == Transport::Local {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(state_dir).map_err(|e| unusable(state_dir, &e))?;
    let shared = private_directory()?;
    let keys = scan(&Route { node, settings, state_dir, accept_new: true, shared: shared.path() }).await?;
    save_keys(node, state_dir, &keys)?;
    Ok(keys.iter().map(HostKey::fingerprint).collect())
}

/// Returns the host keys that `node` offers now, known or not.
pub(crate) async fn offered_keys(
    node: &Node,
    state_dir: &Path,
    settings: &Settings,
) -> Result<Vec<HostKey>, ProviderError> {
    let shared = private_directory()?;
    scan(&Route { node, settings, state_dir, accept_new: false, shared: shared.path() }).await
}

/// Writes `keys` as the host keys of `node`, instead of those known before.
pub(crate) fn save_keys(node: &Node, state_dir: &Path, keys: &[HostKey]) -> Result<(), ProviderError> {
    let path = known_hosts::file(state_dir);
    known_hosts::set(&path, &node.name.0, keys).map_err(|e| unusable(&path, &e))
}
