//! Records the commit of a release build for `moorfast version`.

use std::path::Path;
use std::process::Command;

/// The commit and its date in an archive of the sources: `git archive` replaces the text between the dollar signs (see `.gitattributes`).
const ARCHIVED: &str = "$Format:%H %cI$";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // A development build has no commit: each commit and checkout would compile and link the binary again.
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let commit = match ARCHIVED.starts_with("$Format") {
        true => of_repository(),
        false => Some(ARCHIVED.to_owned()),
    };
    if let Some((commit, date)) = commit.as_deref().and_then(|commit| commit.split_once(' ')) {
        println!("cargo::rustc-env=MOORFAST_COMMIT={commit}");
        println!("cargo::rustc-env=MOORFAST_COMMIT_DATE={date}");
    }
}

/// Returns the commit and its date of the repository. Returns `None` without git, or if the sources are inside another repository.
fn of_repository() -> Option<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if Path::new(&git(&["rev-parse", "--show-toplevel"])?) != root {
        return None;
    }
    // A log of each commit and checkout. Cargo would run this every time for a file that does not exist.
    let log = root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    if log.exists() {
        println!("cargo::rerun-if-changed={}", log.display());
    }
    git(&["log", "-1", "--format=%H %cI"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
