//! Loading a manifest from a file or a folder. All errors are reported at once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use moorfast_state::bounded;

use super::Manifest;
use super::files::manifest_files;
use super::module_source::GitSource;
use super::module_tree::Tree;
use crate::expression::Files;
use crate::model::{Diagnostic, SourceFile, Sources};

impl Manifest {
    /// Reads the manifest at `path`: a file, or all `*.toml` files of a folder except `*.vars.toml` and hidden files.
    ///
    /// # Errors
    /// Returns all errors, with the sources that they refer to.
    pub fn load(path: &Path) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        Self::load_from(path, None)
    }

    /// Reads a manifest that is not trusted. Its expressions and symbolic links cannot read files outside its folder or in `data_dir`.
    ///
    /// # Errors
    /// As [`Manifest::load`].
    pub fn load_untrusted(path: &Path, data_dir: &Path) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        Self::load_from(path, Some(data_dir.to_owned()))
    }

    /// Returns the access to files for the expressions of this manifest.
    pub fn files(&self) -> Files {
        let Manifest { root, untrusted, boundary, secrets_can_be_unknown, .. } = self;
        Files {
            root: root.clone(),
            untrusted: untrusted.clone(),
            boundary: boundary.clone(),
            secrets_can_be_unknown: *secrets_can_be_unknown,
            ..Files::default()
        }
    }

    /// Returns the git repositories that the manifest at `path` and its modules need, as far as they are fetched, and whether each is fetched as the lock
    /// file says.
    ///
    /// # Errors
    /// If there is no manifest.
    pub fn repositories(path: &Path) -> Result<BTreeMap<GitSource, bool>, Box<Diagnostic>> {
        let files = manifest_files(path)?.into_iter();
        let read = |path: PathBuf| Some(SourceFile { text: bounded::read_text(&path, bounded::TEXT).ok()?, path });
        let sources = Sources { files: files.filter_map(read).collect(), ..Sources::default() };
        let root = folder(path);
        Ok(Tree::new(sources, Vec::new()).repositories(Manifest { root, ..Manifest::default() }))
    }

    fn load_from(path: &Path, untrusted: Option<PathBuf>) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        let paths = manifest_files(path).map_err(|diagnostic| (Sources::default(), vec![*diagnostic]))?;
        let mut files = Vec::new();
        let mut unreadable = Vec::new();
        let root = folder(path);
        let allowed = Files { root: root.clone(), untrusted: untrusted.clone(), ..Files::default() };
        for path in paths {
            if let Err(message) = allowed.check(&path) {
                unreadable.push(Diagnostic::error(message));
                continue;
            }
            match bounded::read_text(&path, bounded::TEXT) {
                Ok(text) => files.push(SourceFile { path, text }),
                Err(error) => unreadable.push(Diagnostic::error(format!("cannot read {}: {error}", path.display()))),
            }
        }
        let sources = Sources { files, ..Sources::default() };
        Tree::new(sources, unreadable).load(Manifest { root, untrusted, ..Manifest::default() })
    }

    /// Parses a manifest of these sources in the folder `root`.
    ///
    /// # Errors
    /// Returns `problems` and all errors in the sources.
    pub fn from_sources(
        root: PathBuf,
        sources: Sources,
        problems: Vec<Diagnostic>,
    ) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
        Tree::new(sources, problems).load(Manifest { root, ..Manifest::default() })
    }
}

/// Returns the folder of the manifest at `path`.
fn folder(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
    if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() }
}
