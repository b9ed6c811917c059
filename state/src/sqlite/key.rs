//! The file of the seal key: 32 bytes, readable by its owner and optionally a group, created atomically.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{SealKey, StateError};

/// Reads the key. Returns `None` if the file does not exist.
pub(crate) fn read(path: &Path) -> Result<Option<SealKey>, StateError> {
    let doing = "reading the seal key";
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::io(path, doing, error)),
    };
    let meta = file.metadata().map_err(|error| StateError::io(path, doing, error))?;
    let mode = meta.permissions().mode() & 0o7777;
    // A group can read it, so that users who cannot write can run `drift`.
    if mode & 0o037 != 0 {
        return Err(StateError::KeyPermissions { path: path.to_owned(), mode });
    }
    let mut bytes = Zeroizing::new([0; 32]);
    if meta.len() != 32 {
        return Err(StateError::KeyInvalid { place: path.display().to_string(), len: meta.len() });
    }
    file.read_exact(bytes.as_mut()).map_err(|error| StateError::io(path, doing, error))?;
    Ok(Some(SealKey::from_bytes(*bytes)))
}

/// Reads the key, or creates it if it does not exist. If several processes do this at once, all get the same key.
pub(crate) fn read_or_create(path: &Path) -> Result<SealKey, StateError> {
    if let Some(key) = read(path)? {
        return Ok(key);
    }
    let key = SealKey::generate();
    if persist(path, key.as_bytes()).map_err(|error| StateError::io(path, "creating the seal key", error))? {
        return Ok(key);
    }
    read(path)?.ok_or_else(|| StateError::KeyMissing { place: path.display().to_string() })
}

/// Writes the key that will replace the current one.
pub(crate) fn write_next(path: &Path, key: &SealKey) -> Result<(), StateError> {
    let doing = "writing the seal key";
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(StateError::io(path, doing, error)),
        _ => {}
    }
    persist(path, key.as_bytes()).map(drop).map_err(|error| StateError::io(path, doing, error))
}

/// Replaces the current key by the next one.
pub(crate) fn activate_next(from: &Path, to: &Path) -> Result<(), StateError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    fs::rename(from, to)
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(|error| StateError::io(to, "replacing the seal key", error))
}

/// Writes a file that only its owner can read. Returns false and changes nothing if the file exists.
fn persist(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".state.key.").tempfile_in(folder)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    place(file.into_temp_path(), path)
}

/// Renames a complete file durably. Returns false if the name exists.
pub(crate) fn place(file: tempfile::TempPath, path: &Path) -> io::Result<bool> {
    match file.persist_noclobber(path) {
        Ok(()) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error.error),
    }
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::OpenOptionsExt;
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn concurrent_creation_returns_one_key() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("state.key");
            let start = Barrier::new(8);
            let keys: Vec<_> = std::thread::scope(|scope| {
                let one = || {
                    start.wait();
                    *read_or_create(&path).unwrap().as_bytes()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]));
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file remains");
        }
    }

    #[test]
    fn a_key_with_a_wrong_mode_or_size_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.key");
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(&[7; 31]).unwrap();
        assert!(matches!(read(&path), Err(StateError::KeyInvalid { len: 31, .. })));
        file.write_all(&[7]).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().as_bytes(), &[7; 32]);
        for refused in [0o644, 0o660] {
            fs::set_permissions(&path, fs::Permissions::from_mode(refused)).unwrap();
            assert!(matches!(read(&path), Err(StateError::KeyPermissions { mode, .. }) if mode == refused));
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&path).unwrap().is_some(), "a group of readers");
    }
}
