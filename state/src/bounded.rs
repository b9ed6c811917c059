//! Reads whole files and streams up to a limit in bytes, because other programs write them.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::Path;

/// The limit of a text that a person writes, in bytes: a manifest, variables, a kubeconfig, a key.
pub const TEXT: u64 = 16 << 20;

/// The limit of data that moorfast or a server writes, in bytes: a plan, a state, an answer.
pub const DATA: u64 = 256 << 20;

/// Returns the bytes of the file at `path`.
///
/// # Errors
/// If the file cannot be read or has more than `limit` bytes.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    read_stream(File::open(path)?, limit)
}

/// Returns the text of the file at `path`.
///
/// # Errors
/// If the file cannot be read, has more than `limit` bytes or is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> Result<String> {
    text(read(path, limit)?)
}

/// Returns the text of `stream` up to its end.
///
/// # Errors
/// If the stream cannot be read, has more than `limit` bytes or is not UTF-8.
pub fn read_stream_text(stream: impl Read, limit: u64) -> Result<String> {
    text(read_stream(stream, limit)?)
}

fn read_stream(stream: impl Read, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit { Err(too_large(limit)) } else { Ok(bytes) }
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::new(ErrorKind::InvalidData, "it is not UTF-8 text"))
}

fn too_large(limit: u64) -> Error {
    Error::new(ErrorKind::FileTooLarge, format!("it is larger than {}", size(limit)))
}

/// Formats a number of bytes for a message.
pub(crate) fn size(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_end_is_an_error_that_names_the_limit() {
        let error = read(Path::new("/dev/zero"), 2 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 2 MiB");
        let error = read_stream_text(std::io::repeat(b'y'), 100).unwrap_err();
        assert_eq!(error.to_string(), "it is larger than 100 bytes");
    }

    #[test]
    fn a_file_of_exactly_the_limit_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        assert!(read_text(&path, 3).is_err());
    }
}
