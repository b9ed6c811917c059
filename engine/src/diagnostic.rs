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
