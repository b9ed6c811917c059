//! Typed access to the arguments of a data source.

use std::path::{Path, PathBuf};
use std::time::Duration;

use moorfast_engine::model::{Attributes, Value, parse_duration};
use moorfast_engine::provider::Invalid;

/// Typed reading of arguments by name. A null or unknown value counts as unset.
pub(crate) trait Read {
    /// Returns the text of the argument.
    fn text(&self, name: &str) -> Option<&str>;
    /// Returns the texts of a list.
    fn texts(&self, name: &str) -> Vec<&str>;
    /// Returns the texts of a map with their names.
    fn text_map(&self, name: &str) -> Vec<(&str, &str)>;
    /// Returns the duration of the argument.
    fn duration(&self, name: &str) -> Option<Duration>;
}

impl Read for Attributes {
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    fn texts(&self, name: &str) -> Vec<&str> {
        self.get(name).and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_str).collect()
    }

    fn text_map(&self, name: &str) -> Vec<(&str, &str)> {
        let map = self.get(name).and_then(Value::as_map);
        map.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect()
    }

    fn duration(&self, name: &str) -> Option<Duration> {
        self.text(name).and_then(parse_duration)
    }
}

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
