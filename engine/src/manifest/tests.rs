//! Tests of manifests and their errors.

mod environments;
mod errors;
mod inventory;
mod schema;
mod values;

use std::path::{Path, PathBuf};

use super::Manifest;
use crate::model::{Diagnostic, Severity, SourceFile, Sources};

/// Loads a manifest from these files.
pub(crate) fn load(files: &[(&str, &str)]) -> Result<Manifest, (Sources, Vec<Diagnostic>)> {
    let file = |(path, text): &(&str, &str)| SourceFile { path: PathBuf::from(path), text: (*text).to_owned() };
    let sources = Sources { files: files.iter().map(file).collect(), ..Sources::default() };
    Manifest::from_sources("src/manifest/tests".into(), sources, Vec::new())
}

/// Loads a manifest from these files and returns its errors as plain text.
pub(super) fn problems(files: &[(&str, &str)]) -> String {
    match load(files) {
        Ok(_) => "no problems".to_owned(),
        Err((sources, diagnostics)) => render(&sources, &diagnostics),
    }
}

/// Renders diagnostics as plain text.
pub(crate) fn render(sources: &Sources, diagnostics: &[Diagnostic]) -> String {
    let mut out = String::new();
    for diagnostic in diagnostics {
        let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
        out += &format!("{severity}: {}\n", diagnostic.summary);
        for (span, label) in diagnostic.at.iter().chain(&diagnostic.related) {
            let Some((file, line, column)) = sources.locate(*span) else { continue };
            let text = file.text.lines().nth(line - 1).unwrap_or_default();
            let marked = file.text[span.start..span.end].lines().next().unwrap_or_default().chars().count().max(1);
            let path: &Path = &file.path;
            out += &format!("  {}:{line}:{column}\n", path.display());
            out += &format!("  | {text}\n  | {}{} {label}\n", " ".repeat(column - 1), "^".repeat(marked));
        }
        if let Some(help) = &diagnostic.help {
            out += &format!("  help: {help}\n");
        }
        out.push('\n');
    }
    out.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
