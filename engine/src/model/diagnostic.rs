//! Errors and warnings about a manifest, with their places. The binary renders them.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use super::error_code::ErrorCode;

/// A range of bytes in a source file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The index of the file in [`Sources`].
    pub file: usize,
    /// The offset of the first byte.
    pub start: usize,
    /// The offset after the last byte.
    pub end: usize,
}

/// The source files of a manifest, to which [`Span`]s refer.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The files, in the order they were read.
    pub files: Vec<SourceFile>,
    /// The first call of the module that a file belongs to, by the index of the file: `module.web`, and the place of the call.
    pub calls: BTreeMap<usize, (String, Span)>,
}

/// A source file of a manifest.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// The path, as the user wrote it.
    pub path: PathBuf,
    /// The content.
    pub text: String,
}

impl Sources {
    /// Returns the calls that lead to the module of a file, the innermost first.
    pub fn calls_of(&self, file: usize) -> impl Iterator<Item = &(String, Span)> {
        std::iter::successors(self.calls.get(&file), |(_, span)| self.calls.get(&span.file))
    }

    /// Returns the file, line and column where `span` starts. Lines and columns count from 1, columns in characters.
    pub fn locate(&self, span: Span) -> Option<(&SourceFile, usize, usize)> {
        let file = self.files.get(span.file)?;
        let before = file.text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Some((file, before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }
}

/// The severity of a [`Diagnostic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The command fails.
    Error,
    /// The command continues.
    Warning,
}

/// An error or a warning about a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// The severity.
    pub severity: Severity,
    /// The code, if the error has a page.
    pub code: Option<ErrorCode>,
    /// The message in one line: ``unknown attribute `contnet` of ssh_file.motd``.
    pub summary: String,
    /// The place, and the label under the underlined text. The label may be empty.
    pub at: Option<(Span, String)>,
    /// Further places, each with its label: the first of two duplicates, for example.
    pub related: Vec<(Span, String)>,
    /// The remedy: ``did you mean `content`?``.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Creates an error.
    pub fn error(summary: impl Into<String>) -> Self {
        let summary = summary.into();
        Self { severity: Severity::Error, code: None, summary, at: None, related: Vec::new(), help: None }
    }

    /// Creates a warning.
    pub fn warning(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(summary) }
    }

    /// Sets the code.
    pub fn code(mut self, code: ErrorCode) -> Self {
        self.code = Some(code);
        self
    }

    /// Sets the place and its label, which may be empty.
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.at = Some((span, label.into()));
        self
    }

    /// Adds a further place.
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Sets the remedy.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Returns the candidate that `name` probably misspells.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= limit || candidate.eq_ignore_ascii_case(name))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Returns the help for a name that is not among `candidates`: the most similar candidate, or all of them if there are at most 12.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const FEW: usize = 12;
    let mut seen = HashSet::new();
    let candidates: Vec<&str> = candidates.into_iter().filter(|candidate| seen.insert(*candidate)).collect();
    if let Some(nearest) = nearest(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    (!candidates.is_empty() && candidates.len() <= FEW).then(|| match candidates.as_slice() {
        [only] => format!("the only valid name is `{only}`"),
        _ => format!("valid names are {}", quoted_list(&candidates)),
    })
}

/// Returns the names as a sentence lists them: "`a`, `b` and `c`".
pub(crate) fn quoted_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

/// Returns why a block without these attributes is invalid: "missing required attributes `a` and `b`".
pub(crate) fn missing_attributes(names: &[&str]) -> String {
    let attributes = if names.len() == 1 { "attribute" } else { "attributes" };
    format!("missing required {attributes} {}", quoted_list(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_suggests_the_nearest_name_and_another_name_lists_all() {
        let names = ["content", "mode", "owner"];
        let cases = [
            ("contnet", Some("did you mean `content`?")),
            ("MODE", Some("did you mean `mode`?")),
            ("zzz", Some("valid names are `content`, `mode` and `owner`")),
        ];
        for (name, expected) in cases {
            assert_eq!(suggest(name, names).as_deref(), expected, "{name}");
        }
        assert_eq!(suggest("zzz", ["mode", "mode"]).as_deref(), Some("the only valid name is `mode`"));
        assert_eq!(suggest("x", []), None);
    }
}
