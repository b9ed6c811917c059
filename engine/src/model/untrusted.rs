//! What a plan of somebody else's manifest may read on this machine: files in the folder of the manifest, and nothing of moorfast's own.

use std::path::{Path, PathBuf};

/// Whether `path` leads, links followed, to a place in the folder `root` that is not in moorfast's own folder `data_dir`.
pub fn is_inside(root: &Path, data_dir: &Path, path: &Path) -> bool {
    let (Some(root), Some(path)) = (real(root), real(path)) else { return false };
    path.starts_with(root) && real(data_dir).is_none_or(|own| !path.starts_with(own))
}

/// The path without links. Of a path that does not exist, the part that does is resolved.
fn real(path: &Path) -> Option<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Some(real);
    }
    // A link that leads nowhere has no place.
    if path.is_symlink() {
        return None;
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    Some(real(parent)?.join(path.file_name()?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_what_lies_in_the_folder_is_inside() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("site");
        fs::create_dir_all(root.join("files/.moorfast")).unwrap();
        fs::create_dir_all(root.join(".moorfast")).unwrap();
        for file in ["files/a", ".moorfast/state.key", "../secret"] {
            fs::write(root.join(file), "x").unwrap();
        }
        symlink("../../secret", root.join("files/link")).unwrap();
        symlink("/nowhere/at/all", root.join("files/dangling")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink(".moorfast", root.join("own")).unwrap();
        for (path, expected) in [
            ("files/a", true),
            ("files/none", true),
            ("files/../files/a", true),
            ("files/link", false),
            ("files/dangling", false),
            ("up/secret", false),
            ("../secret", false),
            ("../site2/x", false),
            ("/etc/passwd", false),
            (".moorfast/state.key", false),
            ("own/state.key", false),
            ("none/../../secret", false),
        ] {
            assert_eq!(is_inside(&root, &root.join(".moorfast"), &root.join(path)), expected, "{path}");
        }
    }
}
