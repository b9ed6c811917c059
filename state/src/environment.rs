//! The names of environments, which keep the states of one manifest apart.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The maximum length of a name. Kubernetes limits the names that contain it.
const LONGEST: usize = 30;

/// The name of an environment: `prod`, `eu-west-1`.
///
/// It is part of paths and of names in every store, so it is also valid as a label of DNS, and no two names are the same file on a file system that ignores case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EnvironmentName(String);

/// The error of a text that is not a valid name of an environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the name of an environment consists of up to {LONGEST} lowercase letters, digits and dashes, and starts with a letter"
)]
pub struct InvalidEnvironmentName;

impl EnvironmentName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the folder of the state in `data_dir`: the folder of the environment, or `data_dir` itself without an environment.
    pub fn folder(environment: Option<&Self>, data_dir: &Path) -> PathBuf {
        match environment {
            Some(Self(name)) => Self::folders(data_dir).join(name),
            None => data_dir.to_owned(),
        }
    }

    /// Returns the folder in `data_dir` that contains the folders of all environments.
    pub fn folders(data_dir: &Path) -> PathBuf {
        data_dir.join("environments")
    }
}

impl FromStr for EnvironmentName {
    type Err = InvalidEnvironmentName;

    fn from_str(text: &str) -> Result<Self, InvalidEnvironmentName> {
        let is_letter = |c: char| c.is_ascii_lowercase();
        let fits = |c: char| is_letter(c) || c.is_ascii_digit() || c == '-';
        let is_name = text.starts_with(is_letter) && !text.ends_with('-') && text.chars().all(fits);
        if is_name && text.len() <= LONGEST { Ok(Self(text.to_owned())) } else { Err(InvalidEnvironmentName) }
    }
}

impl TryFrom<String> for EnvironmentName {
    type Error = InvalidEnvironmentName;

    fn try_from(text: String) -> Result<Self, InvalidEnvironmentName> {
        text.parse()
    }
}

impl From<EnvironmentName> for String {
    fn from(name: EnvironmentName) -> Self {
        name.0
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_in_every_store_are_valid() {
        for valid in ["a", "prod", "eu-west-1", &"a".repeat(LONGEST)] {
            assert_eq!(valid.parse::<EnvironmentName>().unwrap().as_str(), valid);
        }
        let long = "a".repeat(LONGEST + 1);
        for invalid in ["", ".", "..", "a/b", "a.b", "../x", "Prod", "1a", "-a", "a-", "a_b", "a b", "ä", "a\n", &long]
        {
            assert_eq!(invalid.parse::<EnvironmentName>(), Err(InvalidEnvironmentName), "{invalid:?}");
        }
        assert!(serde_json::from_str::<EnvironmentName>("\"../x\"").is_err());
    }

    #[test]
    fn each_environment_has_its_own_folder() {
        let folder = |name: &str| {
            EnvironmentName::folder(name.parse().ok().as_ref(), Path::new(".moorfast")).display().to_string()
        };
        assert_eq!(folder(""), ".moorfast");
        assert_eq!(folder("prod"), ".moorfast/environments/prod");
    }
}
