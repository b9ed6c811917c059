//! The first contact: the host keys that a node shows, and taking them as known.

use std::path::Path;
use std::process::Stdio;

use moorfast_engine::model::{Node, Transport};
use moorfast_engine::provider::ProviderError;

use super::config::Settings;
use super::known_hosts::{self, HostKey};
use super::program::{ended, program};
use super::route::{Route, scratch, unusable};
use super::ssh::no_ssh;

/// The kinds of host keys, one connection each: a server shows one key per connection.
const KINDS: &[&str] =
    &["ssh-ed25519", "ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,ecdsa-sha2-nistp521", "rsa-sha2-512,rsa-sha2-256"];

/// The host keys that the node shows now. ssh itself asks for them, so jump hosts and the user's ssh_config hold, and it logs in nowhere.
pub(super) async fn scan(route: &Route<'_>) -> Result<Vec<HostKey>, ProviderError> {
    let mut keys = Vec::new();
    let mut first_failure = None;
    for kinds in KINDS {
        let directory = scratch()?;
        let shown = directory.path().join("shown");
        let way = route.lay(directory, &shown)?;
        let log = way.log();
        let said = std::fs::File::create(&log).map_err(|e| unusable(&log, &e))?;
        let mut ssh = program("ssh");
        ssh.arg("-F")
            .arg(&way.config)
            .args(["-S", "none"])
            .args(["-o", "StrictHostKeyChecking=accept-new", "-o", "PreferredAuthentications=none"])
            .args(["-o", &format!("HostKeyAlgorithms={kinds}")])
            .arg(&way.destination)
            .arg("true")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said);
        let status = ended(&mut ssh, route.limit()).await.map_err(|e| no_ssh(&e))?;
        let found = known_hosts::keys_of(&shown, &route.node.name.0).map_err(|e| unusable(&shown, &e))?;
        if found.is_empty() && !way.said().contains("no matching host key type") {
            first_failure.get_or_insert_with(|| route.failure(status, way.said()).error(route.node));
            break;
        }
        keys.extend(found);
    }
    match first_failure {
        Some(failure) if keys.is_empty() => Err(failure),
        _ => Ok(keys),
    }
}

/// Takes the host keys that `node` shows now as known, in place of those known before, and returns their fingerprints (`SHA256:…`).
/// The keys of jump hosts that neither moorfast nor the user knows yet are taken as well.
///
/// # Errors
/// If the node can't be reached, or the known_hosts in `data_dir` can't be written.
pub async fn trust(node: &Node, data_dir: &Path, settings: &Settings) -> Result<Vec<String>, ProviderError> {
    if node.transport == Transport::Local {
        return Ok(Vec::new());
    }
    std::fs::create_dir_all(data_dir).map_err(|e| unusable(data_dir, &e))?;
    let shared = scratch()?;
    let keys = scan(&Route { node, settings, data_dir, accept_new: true, shared: shared.path() }).await?;
    keep(node, data_dir, &keys)?;
    Ok(keys.iter().map(HostKey::fingerprint).collect())
}

/// The host keys that `node` shows now, whether or not they are known.
pub(crate) async fn shown(node: &Node, data_dir: &Path, settings: &Settings) -> Result<Vec<HostKey>, ProviderError> {
    let shared = scratch()?;
    scan(&Route { node, settings, data_dir, accept_new: false, shared: shared.path() }).await
}

/// Takes `keys` as the host keys of `node`, in place of those known before.
pub(crate) fn keep(node: &Node, data_dir: &Path, keys: &[HostKey]) -> Result<(), ProviderError> {
    let path = known_hosts::file(data_dir);
    known_hosts::set(&path, &node.name.0, keys).map_err(|e| unusable(&path, &e))
}
