//! The host keys that moorfast trusts: its own known_hosts file, by the names of nodes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use moorfast_engine::model::Node;
use moorfast_engine::provider::ProviderError;
use moorfast_engine::state::bounded;
use sha2::{Digest, Sha256};

use super::failure::unusable;

/// Returns the path of the file.
pub(super) fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("known_hosts")
}

/// A host key: its type and its base64 body.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostKey {
    kind: String,
    body: String,
}

impl HostKey {
    /// Parses a public key line, `ssh-ed25519 AAAA… comment`.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (kind, body) = (words.next()?, words.next()?);
        STANDARD.decode(body).ok()?;
        Some(Self { kind: kind.to_owned(), body: body.to_owned() })
    }

    /// Returns the fingerprint, `SHA256:…`, in the form of ssh-keygen.
    pub(crate) fn fingerprint(&self) -> String {
        let blob = STANDARD.decode(&self.body).unwrap_or_default();
        format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)))
    }

    /// Returns the known_hosts line of the key for `name`.
    pub(super) fn line(&self, name: &str) -> String {
        format!("{name} {} {}\n", self.kind, self.body)
    }
}

/// Returns the keys of `name` in the file at `path`.
pub(super) fn keys_of(path: &Path, name: &str) -> io::Result<Vec<HostKey>> {
    Ok(lines(path)?.iter().filter(|l| is_of(l, name)).filter_map(|l| HostKey::parse(l.split_once(' ')?.1)).collect())
}

/// Replaces the keys of `name` in the file at `path`.
pub(super) fn set(path: &Path, name: &str, keys: &[HostKey]) -> io::Result<()> {
    let mut text: String = lines(path)?.iter().filter(|l| !is_of(l, name)).map(|l| format!("{l}\n")).collect();
    text.extend(keys.iter().map(|key| key.line(name)));
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    // The keys are public, and users who may only read the state need them too.
    let temporary = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o644)).tempfile_in(directory)?;
    fs::write(temporary.path(), text)?;
    temporary.persist(path).map_err(|e| e.error)?;
    Ok(())
}

fn lines(path: &Path) -> io::Result<Vec<String>> {
    match bounded::read_text(path, bounded::TEXT) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

fn is_of(line: &str, name: &str) -> bool {
    line.split_whitespace().next() == Some(name)
}

/// Returns the fingerprints (`SHA256:…`) of the pinned host keys of `node`, otherwise of the trusted ones. Empty if the node is not known.
///
/// # Errors
/// If the known_hosts in `state_dir` cannot be read.
pub fn known(node: &Node, state_dir: &Path) -> Result<Vec<String>, ProviderError> {
    if !node.host_keys.is_empty() {
        let fingerprint = |pin: &String| HostKey::parse(pin).map_or(pin.clone(), |key| key.fingerprint());
        return Ok(node.host_keys.iter().map(fingerprint).collect());
    }
    let path = file(state_dir);
    let keys = keys_of(&path, &node.name.0).map_err(|e| unusable(&path, &e))?;
    Ok(keys.iter().map(HostKey::fingerprint).collect())
}

/// Removes the host keys of `node` and returns whether there were any.
///
/// # Errors
/// If the known_hosts in `state_dir` cannot be read or written.
pub fn forget(node: &Node, state_dir: &Path) -> Result<bool, ProviderError> {
    let path = file(state_dir);
    let failed = |e: io::Error| unusable(&path, &e);
    if keys_of(&path, &node.name.0).map_err(failed)?.is_empty() {
        return Ok(false);
    }
    set(&path, &node.name.0, &[]).map_err(failed)?;
    Ok(true)
}
