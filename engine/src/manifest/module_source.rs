//! Sources of modules: a folder, or a folder of a git repository.

use std::path::{Component, Path, PathBuf};

/// The source of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A folder relative to the folder of the caller.
    Folder(PathBuf),
    /// A folder of a repository.
    Git(GitSource, PathBuf),
}

/// A revision of a git repository: `git::URL?ref=REF`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitSource {
    /// The URL for `git fetch`.
    pub url: String,
    /// The tag, branch or commit. `None` for the default branch.
    pub reference: Option<String>,
}

/// The start of a git source.
pub(super) const GIT: &str = "git::";

impl Source {
    /// Parses the `source` of a call: `./modules/web`, `git::URL//FOLDER?ref=TAG`.
    ///
    /// # Errors
    /// Returns why the text is not a source.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix(GIT) {
            let (source, folder) = git(rest)?;
            return Ok(Source::Git(source, folder));
        }
        let path = Path::new(text);
        match text {
            _ if path.is_absolute() => Err("the source is an absolute path"),
            _ if text.contains("://") || text.contains("::") => Err("the source is neither a folder nor `git::URL`"),
            _ => Ok(Source::Folder(path.to_owned())),
        }
    }
}

/// Parses a git source without `git::`.
fn git(text: &str) -> Result<(GitSource, PathBuf), &'static str> {
    let (location, query) = text.split_once('?').unwrap_or((text, ""));
    let reference = match query.split_once('=') {
        None if query.is_empty() => None,
        Some(("ref", reference)) if !reference.is_empty() => Some(reference.to_owned()),
        _ => return Err("the only parameter of a git source is `?ref=TAG`"),
    };
    let start = location.find("://").map_or(0, |at| at + 3);
    let (url, folder) = match location[start..].find("//") {
        Some(at) => (&location[..start + at], &location[start + at + 2..]),
        None => (location, ""),
    };
    // `ext::` and other helpers of git run commands. A text that starts with `-` would be an option.
    let is_url = !url.is_empty() && !url.contains("::") && !url.starts_with('-');
    let has_no_control = !text.chars().any(|c| c.is_control() || c == ' ');
    if !is_url || !has_no_control || reference.as_ref().is_some_and(|reference| reference.starts_with('-')) {
        return Err("the URL of the git source is not valid");
    }
    let folder = PathBuf::from(folder);
    if !folder.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir)) {
        return Err("the folder of the git source leaves the repository");
    }
    Ok((GitSource { url: url.to_owned(), reference }, folder))
}

impl std::fmt::Display for GitSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{GIT}{}", self.url)?;
        match &self.reference {
            Some(reference) => write!(f, "?ref={reference}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_git_source_has_a_url_a_folder_and_a_revision() {
        for (text, url, folder, reference) in [
            (
                "git::https://example.org/a.git//modules/web?ref=v1",
                "https://example.org/a.git",
                "modules/web",
                Some("v1"),
            ),
            ("git::https://example.org/a.git", "https://example.org/a.git", "", None),
            ("git::ssh://git@example.org/a.git//x", "ssh://git@example.org/a.git", "x", None),
            ("git::git@example.org:a.git//x?ref=main", "git@example.org:a.git", "x", Some("main")),
            ("git::file:///srv/a//x", "file:///srv/a", "x", None),
        ] {
            let source = GitSource { url: url.to_owned(), reference: reference.map(str::to_owned) };
            assert_eq!(Source::parse(text), Ok(Source::Git(source, folder.into())), "{text}");
        }
    }

    #[test]
    fn a_source_that_runs_commands_or_leaves_the_repository_is_an_error() {
        for text in [
            "git::ext::sh -c touch% /tmp/x",
            "git::--upload-pack=touch",
            "git::https://example.org/a.git?ref=--upload-pack=x",
            "git::https://example.org/a.git//../x",
            "git::https://example.org/a.git///etc",
            "git::https://example.org/a.git?depth=1",
            "git::",
            "/etc",
            "https://example.org/a.zip",
            "s3::bucket",
        ] {
            assert!(Source::parse(text).is_err(), "{text}");
        }
    }
}
