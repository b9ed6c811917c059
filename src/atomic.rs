//! Files that are there whole or as they were before.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Writes `text` to `path` with these permissions; it is on the disk when this returns.
///
/// # Errors
/// If it can't be written; then what was there is as it was.
pub fn write(path: &Path, permissions: u32, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".moorfast-")
        .permissions(fs::Permissions::from_mode(permissions))
        .tempfile_in(folder)?;
    file.write_all(text)?;
    file.as_file().set_permissions(fs::Permissions::from_mode(permissions))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}
