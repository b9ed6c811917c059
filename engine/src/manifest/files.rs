//! The files of a manifest.

use std::path::{Path, PathBuf};

use super::module_lock::LOCK_FILE;
use crate::model::{Diagnostic, error_codes};

/// Returns the files of the manifest at `path`, a file or a folder, in the order of their names.
pub(super) fn manifest_files(path: &Path) -> Result<Vec<PathBuf>, Box<Diagnostic>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let listing = std::fs::read_dir(path).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
    let entries = listing.map_err(|error| {
        Box::new(match error.kind() {
            std::io::ErrorKind::NotFound => Diagnostic::error(format!("{} does not exist", path.display())),
            _ => Diagnostic::error(format!("cannot list {}: {error}", path.display())),
        })
    })?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| is_manifest_file(name));
    names.sort();
    if names.is_empty() {
        let help = "a manifest is one or more *.toml files; `moorfast init` creates one";
        let missing = Diagnostic::error(format!("no manifest in {}", path.display())).code(error_codes::NO_MANIFEST);
        return Err(Box::new(missing.help(help)));
    }
    Ok(names.into_iter().map(|name| path.join(name)).collect())
}

/// Whether a file with this name is a part of the manifest of its folder: a visible `*.toml` that is neither a file of variables, nor the lock file, nor a file of Rust's tools.
pub fn is_manifest_file(name: &str) -> bool {
    let is_other = name == LOCK_FILE || is_rust_configuration(name);
    name.ends_with(".toml") && !name.ends_with(".vars.toml") && !name.starts_with('.') && !is_other
}

/// Whether a TOML file with this name belongs to Rust's tools.
pub fn is_rust_configuration(name: &str) -> bool {
    ["Cargo.toml", "rust-toolchain.toml", "rustfmt.toml", "clippy.toml", "deny.toml"].contains(&name)
}
