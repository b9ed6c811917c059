//! What is wrong with a manifest and where: data for a message, which the binary renders.

use std::path::PathBuf;

/// A place in the text of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The index of the file in [`Sources`].
    pub file: usize,
    /// The first byte.
    pub start: usize,
    /// The byte after the last one.
    pub end: usize,
}

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The files, in the order they were read.
    pub files: Vec<SourceFile>,
}

/// One text that spans point into.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its path, as the person named it.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

impl Sources {
    /// The file, line and column (both from 1, the column in characters) where `span` starts.
    pub fn locate(&self, span: Span) -> Option<(&SourceFile, usize, usize)> {
        let file = self.files.get(span.file)?;
        let before = file.text.get(..span.start)?;
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Some((file, before.matches('\n').count() + 1, before[line_start..].chars().count() + 1))
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is done until it is mended.
    Error,
    /// Worth knowing.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line: `unknown attribute "contnet" of ssh_file`.
    pub summary: String,
    /// Where, with what stands under the underlined text (may be empty).
    pub at: Option<(Span, String)>,
    /// Further places, each with its label: where the first of two duplicates is.
    pub related: Vec<(Span, String)>,
    /// What to do: `did you mean "content"?`.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error.
    pub fn error(summary: impl Into<String>) -> Self {
        let summary = summary.into();
        Self { severity: Severity::Error, summary, at: None, related: Vec::new(), help: None }
    }

    /// A warning.
    pub fn warning(summary: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(summary) }
    }

    /// At this place, with this label (may be empty).
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.at = Some((span, label.into()));
        self
    }

    /// With a further place.
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// With what to do.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The candidate that `name` is most likely a misspelling of.
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

/// The help for a name that is none of `candidates`: the nearest one, or all of them where they are few.
pub fn suggest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    const FEW: usize = 12;
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(nearest) = nearest(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    (!candidates.is_empty() && candidates.len() <= FEW).then(|| match candidates.as_slice() {
        [only] => format!("there is only `{only}`"),
        _ => format!("there are {}", quoted_list(&candidates)),
    })
}

/// Names as a sentence lists them: "`a`, `b` and `c`".
pub(crate) fn quoted_list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_neighbour_and_a_stranger_finds_the_list() {
        let names = ["content", "mode", "owner"];
        let cases = [
            ("contnet", Some("did you mean `content`?")),
            ("MODE", Some("did you mean `mode`?")),
            ("zzz", Some("there are `content`, `mode` and `owner`")),
        ];
        for (name, expected) in cases {
            assert_eq!(suggest(name, names).as_deref(), expected, "{name}");
        }
        assert_eq!(suggest("x", []), None);
    }
}
