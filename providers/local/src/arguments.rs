//! The arguments of data sources.

use std::path::{Path, PathBuf};
use std::time::Duration;

use moorfast_engine::model::{Attributes, ReadAttributes};
use moorfast_engine::provider::Invalid;

/// Returns a path of an argument: relative to the folder of the manifest, with `~` for the home folder.
pub(crate) fn resolved(root: &Path, path: &str) -> PathBuf {
    let home = Path::new(path).strip_prefix("~").ok().zip(std::env::home_dir());
    home.map_or_else(|| root.join(path), |(rest, home)| home.join(rest))
}

/// The longest `timeout`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(600);

/// Checks that `timeout` is at most 10 minutes.
pub(crate) fn check_timeout(arguments: &Attributes) -> Option<Invalid> {
    let is_valid = |timeout: &Duration| !timeout.is_zero() && *timeout <= LONGEST_TIMEOUT;
    arguments
        .duration("timeout")
        .filter(|timeout| !is_valid(timeout))
        .map(|_| Invalid::new("timeout", "`timeout` must be longer than 0s and at most 10m"))
}
