//! The errors of the TOML parser.

use crate::model::{Diagnostic, Span, error_codes};

/// Returns the errors of the TOML parser, only the first of each line, because the others usually follow from it.
pub(crate) fn syntax_errors(file: usize, text: &str, errors: &[toml::de::Error]) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut lines = Vec::new();
    let mut errors: Vec<_> = errors.iter().map(|error| (error.span().unwrap_or(0..0), error.message())).collect();
    errors.sort_by_key(|(range, _)| range.start);
    for (range, message) in errors {
        let line = text.get(..range.start).unwrap_or_default().matches('\n').count();
        if lines.contains(&line) {
            continue;
        }
        lines.push(line);
        let span = Span { file, start: range.start, end: range.end };
        let (label, help) = explain(message);
        let diagnostic = Diagnostic::error("this is not valid TOML").code(error_codes::INVALID_TOML).at(span, label);
        diagnostics.push(Diagnostic { help, ..diagnostic });
    }
    diagnostics
}

/// Whether a message is about a value without quotes whose first letter is also that of `true`, `false`, `inf` or `nan`.
fn is_bare_word(message: &str) -> bool {
    ["`true`", "`false`", "`inf`", "`nan`"].iter().any(|word| message.ends_with(&format!("expected {word}")))
}

/// Returns the label and the remedy for a message of the TOML parser.
pub(super) fn explain(message: &str) -> (String, Option<String>) {
    let (label, help) = match message {
        message if message.starts_with("string values must be quoted") || is_bare_word(message) => {
            ("a value is expected here", Some("write a string in quotes: \"text\", and an expression as \"${…}\""))
        }
        message if message.starts_with("duplicate key") => ("this key is defined twice in the same table", None),
        message if message.starts_with("key with no value") => ("a key needs a value: `key = value`", None),
        message if message.starts_with("invalid basic string") => (
            "this string is not closed, or has a character that must be escaped",
            Some("write a string that contains quotes in single quotes: '${file(\"motd\")}'"),
        ),
        message if message.starts_with("invalid literal string") => ("this string is not closed with '", None),
        message if message.starts_with("unexpected leading zero") => {
            ("a number cannot start with 0", Some("write a file mode as a string: \"0644\""))
        }
        message if message.starts_with("unexpected key or value, expected newline") => (
            "the value before this is complete: a new line is expected",
            Some("write a string that contains quotes in single quotes: '${file(\"motd\")}'"),
        ),
        message => return (message.to_owned(), None),
    };
    (label.to_owned(), help.map(str::to_owned))
}
