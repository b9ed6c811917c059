//! A static binary, as a release has it, but without optimisation.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::testbed::is_required;

/// The target of the binary.
pub const TARGET: &str = "x86_64-unknown-linux-musl";

/// Builds the binary, or prints the reason and returns `None`. The build folder is outside the checkout, so that checkouts share it.
pub fn static_binary() -> Option<PathBuf> {
    let installed = Command::new("rustc").args(["--target", TARGET, "--print", "target-libdir"]).output().unwrap();
    if !Path::new(String::from_utf8(installed.stdout).unwrap().trim()).exists() {
        assert!(!is_required(), "the target {TARGET} is not installed");
        eprintln!("skipped: the target {TARGET} is not installed");
        return None;
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|| Path::new(&std::env::var_os("HOME").unwrap()).join(".cache"));
    let folder = cache.join("moorfast/static");
    let build = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--bin", "moorfast", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // The folder is kept, and incremental data of every checkout would fill the disk.
        .env("CARGO_INCREMENTAL", "0")
        .status();
    assert!(build.unwrap().success());
    let binary = folder.join(TARGET).join("debug/moorfast");
    let interpreter = Command::new("ldd").arg(&binary).output().unwrap();
    let said = String::from_utf8([interpreter.stdout, interpreter.stderr].concat()).unwrap();
    assert!(said.contains("statically linked") || said.contains("not a dynamic executable"), "{said}");
    Some(binary)
}
