//! The files that an untrusted manifest can read: those in its folder, except moorfast's own data.

use std::path::{Path, PathBuf};

/// Whether `path`, with symbolic links resolved, is in the folder `root` and not in moorfast's folder `data_dir`.
pub fn is_inside(root: &Path, data_dir: &Path, path: &Path) -> bool {
    let (Some(root), Some(path)) = (real(root), real(path)) else { return false };
    path.starts_with(root) && real(data_dir).is_none_or(|own| !path.starts_with(own))
}

/// Returns the path without symbolic links. If the path does not exist, the existing part of it is resolved.
fn real(path: &Path) -> Option<PathBuf> {
    if let Ok(real) = path.canonicalize() {
        return Some(real);
    }
    // A dangling link has no target to check.
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
    fn only_paths_in_the_folder_are_inside() {
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
