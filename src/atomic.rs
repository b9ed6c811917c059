//! Atomic writes of files. Symbolic links are followed. A FIFO or a device is written to, not replaced.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

/// Maximum time to write to a FIFO or a device.
const STREAM_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of symbolic links to follow, as in Linux.
const MAX_LINKS: usize = 40;

/// The destination of a write.
enum Destination {
    /// A regular file, after following all links. It may not exist yet.
    File(PathBuf),
    /// A FIFO, a device, or an open file of a process.
    Stream,
}

/// Writes `text` to `path`. A regular file gets these permissions, and is on disk when this function returns.
///
/// # Errors
/// If `path` cannot be written. An existing regular file is then unchanged.
pub fn write(path: &Path, permissions: u32, text: &[u8]) -> io::Result<()> {
    match destination(path)? {
        Destination::File(path) => {
            complete(&path, permissions, text)?.persist(path).map_err(|error| error.error)?;
            Ok(())
        }
        Destination::Stream => stream(path, text),
    }
}

/// Writes `text` to `path` as [`write`] does, but never replaces a regular file.
///
/// # Errors
/// If `path` cannot be written, or the file exists.
pub fn create(path: &Path, permissions: u32, text: &[u8]) -> io::Result<()> {
    match destination(path)? {
        Destination::File(path) => {
            complete(&path, permissions, text)?.persist_noclobber(path).map_err(|error| error.error)?;
            Ok(())
        }
        Destination::Stream => stream(path, text),
    }
}

/// Writes a temporary file beside `path`, ready to be renamed to it.
fn complete(path: &Path, permissions: u32, text: &[u8]) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".moorfast-")
        .permissions(fs::Permissions::from_mode(permissions))
        .tempfile_in(folder)?;
    file.write_all(text)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(permissions))?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Follows links to the destination of a write.
fn destination(path: &Path) -> io::Result<Destination> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        // `/dev/stdout` is a link into /proc. A file that is open there must not be replaced.
        if path.starts_with("/proc") || path.starts_with("/dev/fd") {
            return Ok(Destination::Stream);
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(&path)?;
                path = path.parent().unwrap_or(Path::new("/")).join(target);
            }
            Ok(found) if found.is_file() || found.is_dir() => return Ok(Destination::File(path)),
            Ok(_) => return Ok(Destination::Stream),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Destination::File(path)),
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many levels of symbolic links"))
}

/// Writes to a FIFO or a device, which may have to wait for its reader.
fn stream(path: &Path, text: &[u8]) -> io::Result<()> {
    let (path, text) = (path.to_owned(), text.to_owned());
    let (sender, written) = mpsc::channel();
    // Opening a FIFO waits for its reader without a timeout, so a separate thread does it.
    std::thread::spawn(move || {
        let opened = OpenOptions::new().append(true).open(path);
        let _ = sender.send(opened.and_then(|mut stream| stream.write_all(&text)));
    });
    let timeout =
        || io::Error::new(io::ErrorKind::TimedOut, format!("no reader within {} s", STREAM_TIMEOUT.as_secs()));
    written.recv_timeout(STREAM_TIMEOUT).unwrap_or_else(|_| Err(timeout()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("deep")).unwrap();
        fs::write(at("deep/real"), "old").unwrap();
        std::os::unix::fs::symlink("deep/real", at("link")).unwrap();
        std::os::unix::fs::symlink("link", at("link of link")).unwrap();
        std::os::unix::fs::symlink("deep/new", at("dangling")).unwrap();
        write(&at("link of link"), 0o600, b"new").unwrap();
        write(&at("dangling"), 0o600, b"made").unwrap();
        assert_eq!(fs::read(at("deep/real")).unwrap(), b"new");
        assert_eq!(fs::read(at("deep/new")).unwrap(), b"made");
        assert!(["link", "link of link", "dangling"].iter().all(|name| at(name).is_symlink()));
        assert_eq!(fs::metadata(at("deep/real")).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(create(&at("link"), 0o600, b"never").is_err());
        assert_eq!(fs::read(at("deep/real")).unwrap(), b"new");
        std::os::unix::fs::symlink("circle", at("circle")).unwrap();
        assert!(write(&at("circle"), 0o600, b"").is_err());
    }

    #[test]
    fn devices_and_open_files_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        write(Path::new("/dev/null"), 0o600, b"text").unwrap();
        create(Path::new("/dev/null"), 0o600, b"text").unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let open = fs::File::create(folder.path().join("open")).unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
        std::os::unix::fs::symlink(&path, folder.path().join("link")).unwrap();
        write(&folder.path().join("link"), 0o600, b"text").unwrap();
        assert_eq!(open.metadata().unwrap().len(), 4, "the open file was replaced");
    }
}
