//! `moorfast.lock.toml`: the commit and the content of each git repository with modules.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use moorfast_state::{Digest, bounded};
use serde::{Deserialize, Serialize};

use super::module_source::GitSource;

/// The name of the lock file, beside the manifest.
pub const LOCK_FILE: &str = "moorfast.lock.toml";

/// The folder of the fetched repositories, relative to the folder of the manifest.
const MODULES: &str = ".moorfast/modules";

/// The pinned revisions of repositories by their source, `git::URL?ref=REF`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    /// The repositories.
    #[serde(default)]
    pub modules: BTreeMap<String, LockedModule>,
}

/// A pinned revision of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedModule {
    /// The commit.
    pub commit: String,
    /// The BLAKE3 digest of the files.
    pub digest: String,
}

impl LockFile {
    /// Reads the lock file in the folder `root`. A missing file is an empty one.
    ///
    /// # Errors
    /// Returns a message if the file cannot be read.
    pub fn read(root: &Path) -> Result<Self, String> {
        let path = root.join(LOCK_FILE);
        match bounded::read_text(&path, bounded::TEXT) {
            Ok(text) => toml::from_str(&text).map_err(|error| {
                format!(
                    "cannot read {}: {}; `moorfast init --upgrade` writes it again",
                    path.display(),
                    error.message()
                )
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Returns the text of the file.
    ///
    /// # Errors
    /// If the entries cannot be written as TOML.
    pub fn text(&self) -> Result<String, String> {
        let entries = toml::to_string(self).map_err(|error| error.to_string())?;
        Ok(format!("# Written by `moorfast init`. Commit this file: it pins the modules.\n\n{entries}"))
    }

    /// Returns the folder with the files of `source`, after comparing them with the lock.
    ///
    /// # Errors
    /// Returns why the files are not those of the lock, and what to do.
    pub(super) fn folder(&self, root: &Path, source: &GitSource) -> Result<PathBuf, (String, &'static str)> {
        let name = source.to_string();
        let Some(locked) = self.modules.get(&name) else {
            return Err((format!("{name} is not in {LOCK_FILE}"), "run `moorfast init` to fetch and pin it"));
        };
        let folder = fetched_folder(root, &locked.digest);
        if !folder.is_dir() {
            return Err((format!("{name} is not fetched"), "run `moorfast init`"));
        }
        match tree_digest(&folder) {
            Ok(digest) if digest.as_str() == locked.digest => Ok(folder),
            Ok(_) => {
                let message = format!("the files in {} differ from {LOCK_FILE}", folder.display());
                Err((message, "remove the folder and run `moorfast init` to fetch it again"))
            }
            Err(error) => Err((format!("cannot read {}: {error}", folder.display()), "run `moorfast init`")),
        }
    }
}

/// Returns the folder of all fetched repositories.
pub fn modules_folder(root: &Path) -> PathBuf {
    root.join(MODULES)
}

/// Returns the folder of a fetched repository with this digest.
pub fn fetched_folder(root: &Path, digest: &str) -> PathBuf {
    const SHOWN: usize = 32;
    let name = digest.rsplit(':').next().unwrap_or_default();
    // The lock file can come from somebody else: only a part of a digest is a name.
    let name: String = name.chars().filter(char::is_ascii_hexdigit).take(SHOWN).collect();
    modules_folder(root).join(if name.is_empty() { "none".to_owned() } else { name })
}

/// Returns the BLAKE3 digest of all files of a folder with their paths.
///
/// # Errors
/// If a file cannot be read, or a symbolic link leads out of the folder.
pub fn tree_digest(folder: &Path) -> io::Result<Digest> {
    let mut files = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop() {
        for entry in fs::read_dir(folder.join(&path))? {
            let entry = entry?;
            let (path, kind) = (path.join(entry.file_name()), entry.file_type()?);
            // A link inside the folder leads to files that the digest covers.
            let is_inside = || Ok::<_, io::Error>(entry.path().canonicalize()?.starts_with(folder.canonicalize()?));
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() || is_inside()? {
                files.push(path);
            } else {
                return Err(io::Error::other(format!("{} leads out of the folder", path.display())));
            }
        }
    }
    files.sort();
    let mut bytes = Vec::new();
    for path in files {
        let content = match fs::read_link(folder.join(&path)) {
            Ok(target) => target.to_string_lossy().into_owned().into_bytes(),
            Err(_) => bounded::read(&folder.join(&path), bounded::DATA)?,
        };
        bytes.extend_from_slice(format!("{}\0{}\0", path.display(), Digest::of(&content)).as_bytes());
    }
    Ok(Digest::of(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_a_tree_covers_names_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/x"), "1").unwrap();
        let first = tree_digest(dir.path()).unwrap();
        fs::write(dir.path().join("a/x"), "2").unwrap();
        let second = tree_digest(dir.path()).unwrap();
        fs::rename(dir.path().join("a/x"), dir.path().join("a/y")).unwrap();
        let third = tree_digest(dir.path()).unwrap();
        assert!(first != second && second != third);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(tree_digest(dir.path()).is_err());
    }

    #[test]
    fn a_lock_file_reads_back_and_names_no_other_folder() {
        let dir = tempfile::tempdir().unwrap();
        let locked = LockedModule { commit: "c".to_owned(), digest: "blake3:00".to_owned() };
        let lock = LockFile { modules: BTreeMap::from([("git::https://example.org/a?ref=v1".to_owned(), locked)]) };
        fs::write(dir.path().join(LOCK_FILE), lock.text().unwrap()).unwrap();
        assert_eq!(LockFile::read(dir.path()), Ok(lock));
        assert_eq!(fetched_folder(Path::new("r"), "../../etc"), Path::new("r/.moorfast/modules/ec"));
    }
}
