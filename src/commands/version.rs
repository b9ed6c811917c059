//! `moorfast version`

use serde_json::json;

use crate::error::Error;
use crate::exit::Exit;
use crate::invocation::Invocation;

/// The commit of this binary, and its date. A development build has none; see `build.rs`.
const COMMIT: Option<&str> = option_env!("MOORFAST_COMMIT");
const COMMIT_DATE: Option<&str> = option_env!("MOORFAST_COMMIT_DATE");

/// The number of digits of a commit that people read.
const DIGITS: usize = 10;

/// Print the version.
///
/// Prints the version, the commit and its date, and the built-in providers.
#[derive(Debug, clap::Args)]
pub struct Version {
    /// Print the version as JSON
    #[arg(long)]
    json: bool,
}

impl Version {
    pub(super) fn run(self, invocation: &Invocation) -> Result<Exit, Error> {
        let version = env!("CARGO_PKG_VERSION");
        let names: Vec<_> = invocation.providers.iter().map(|provider| provider.name()).collect();
        let platform = format!("{}_{}", std::env::consts::OS, std::env::consts::ARCH);
        invocation.ui.out(if self.json {
            let version = json!({
                "moorfast_version": version,
                "commit": COMMIT,
                "date": COMMIT_DATE,
                "platform": platform,
                "providers": names,
            });
            format!("{version:#}\n")
        } else {
            let origin = origin(COMMIT, COMMIT_DATE);
            format!("moorfast v{version}{origin}\non {platform}, with the providers {}\n", names.join(", "))
        })?;
        Ok(Exit::Success)
    }
}

/// Returns the commit and its day after the version: ` (1a2b3c4d5e 2026-01-02)`.
fn origin(commit: Option<&str>, date: Option<&str>) -> String {
    let (Some(commit), Some(date)) = (commit, date) else { return String::new() };
    let day = date.split('T').next().unwrap_or(date);
    format!(" ({} {day})", commit.get(..DIGITS).unwrap_or(commit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commit_is_shortened() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(origin(Some(commit), Some("2026-01-02T03:04:05+00:00")), " (0123456789 2026-01-02)");
        assert_eq!(origin(None, None), "");
    }
}
