//! Local files that are sent to nodes: read and hashed once per run, and unchanged from the plan to the end of the run.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use moorfast_engine::model::is_inside;
use moorfast_engine::provider::{Class, Context, ProviderError};
use sha2::{Digest, Sha256};

use crate::untrusted::refusal;

/// The largest size, in bytes, of a file that is kept in memory, sent within the script, and shown as text in plans.
pub(crate) const SMALL: u64 = 64 << 10;

/// A local file as it was when it was hashed.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Source {
    /// Its path.
    pub(crate) path: PathBuf,
    /// Its size in bytes.
    pub(crate) size: u64,
    /// Its SHA-256 in hexadecimal digits.
    pub(crate) sha256: String,
    /// Its content, if it is small.
    pub(crate) bytes: Option<Vec<u8>>,
    modified: Option<SystemTime>,
}

impl Source {
    /// Reads and hashes the file at `path`.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut hasher = Sha256::new();
        let mut kept = (found.len() <= SMALL).then(Vec::new);
        let mut buffer = vec![0; 1 << 20];
        let mut size = 0;
        loop {
            let n = file.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            size += n as u64;
            hasher.update(&buffer[..n]);
            if let Some(kept) = &mut kept {
                kept.extend_from_slice(&buffer[..n]);
            }
        }
        let sha256 = format!("{:x}", hasher.finalize());
        Ok(Self { path: path.to_owned(), size, sha256, bytes: kept, modified: found.modified().ok() })
    }
}

/// The local files of this run.
#[derive(Debug)]
pub(crate) struct Sources {
    root: PathBuf,
    /// The data folder of moorfast, in a plan with `--untrusted`: then only files in `root` are read, and none in that folder.
    untrusted: Option<PathBuf>,
    files: Mutex<HashMap<PathBuf, Arc<Source>>>,
}

impl Sources {
    /// Returns the files of a run. Relative paths start at the folder of the manifest.
    pub(crate) fn new(context: &Context) -> Self {
        let untrusted = context.untrusted.then(|| context.data_dir.clone());
        Self { root: context.root.clone(), untrusted, files: Mutex::default() }
    }

    /// Returns the file with the path `path` in the manifest.
    ///
    /// # Errors
    /// If the file cannot be read, or changed since this run first read it.
    pub(crate) fn get(&self, path: &str) -> Result<Arc<Source>, ProviderError> {
        let path = self.root.join(path);
        if let Some(own) = &self.untrusted
            && !is_inside(&self.root, own, &path)
        {
            let what =
                format!("reads only files in the folder of the manifest, and {} is not one of them", path.display());
            return Err(refusal(what).attribute("source"));
        }
        let unreadable = |e: io::Error| {
            ProviderError::new(Class::Invalid, format!("cannot read {}: {e}", path.display())).attribute("source")
        };
        let found = fs::metadata(&path).map_err(unreadable)?;
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match files.get(&path) {
            Some(source) if source.size == found.len() && source.modified == found.modified().ok() => {
                Ok(source.clone())
            }
            Some(_) => Err(changed(&path)),
            None => {
                let source = Arc::new(Source::read(&path).map_err(unreadable)?);
                files.insert(path.clone(), source.clone());
                Ok(source)
            }
        }
    }

    /// Hashes files in advance, on a thread for blocking work.
    pub(crate) async fn prepare(self: &Arc<Self>, paths: Vec<String>) {
        if paths.is_empty() {
            return;
        }
        let sources = self.clone();
        // A file that fails here fails again, with an error, where it is needed.
        let _ = tokio::task::spawn_blocking(move || paths.iter().for_each(|path| drop(sources.get(path)))).await;
    }
}

/// Returns the error that a file is not the one that was hashed.
pub(crate) fn changed(path: &Path) -> ProviderError {
    ProviderError::new(Class::Failed, format!("{} changed while moorfast was working", path.display()))
        .attribute("source")
        .help("plan again: only planned content is sent")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changes_in_a_run_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let sources = Sources { root: dir.path().to_owned(), untrusted: None, files: Mutex::default() };
        fs::write(dir.path().join("f"), "planned").unwrap();
        let planned = sources.get("f").unwrap();
        assert_eq!(sources.get("f").unwrap(), planned);
        fs::write(dir.path().join("f"), "another").unwrap();
        let later = SystemTime::now() + std::time::Duration::from_secs(1);
        File::options().append(true).open(dir.path().join("f")).unwrap().set_modified(later).unwrap();
        let error = sources.get("f").unwrap_err();
        assert!(error.summary.ends_with("changed while moorfast was working"), "{error}");
    }
}
