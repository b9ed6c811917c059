//! Parsing of the coloured lines of the terminal into spans, for Markdown and HTML.

use std::iter::Peekable;
use std::str::Split;

/// A part of a line with one style.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// The text.
    pub text: String,
    /// The name of the colour: `add`, `change`, `destroy` or `read`; empty for the default colour.
    pub color: &'static str,
    /// Whether the text is bold.
    pub bold: bool,
    /// Whether the text is dimmed.
    pub dim: bool,
    /// Whether the text is a changed word of a changed line.
    pub marked: bool,
}

/// Parses a line into spans.
pub fn spans(line: &str) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut style = Span::default();
    let mut parts: Peekable<Split<_>> = line.split("\u{1b}[").peekable();
    let first = parts.next().unwrap_or_default();
    push(&mut found, &style, first);
    for part in parts {
        let (codes, text) = part.split_once('m').unwrap_or((part, ""));
        codes.split(';').for_each(|code| style = changed(&style, code));
        push(&mut found, &style, text);
    }
    found
}

fn push(found: &mut Vec<Span>, style: &Span, text: &str) {
    match found.last_mut() {
        _ if text.is_empty() => {}
        Some(last) if (Span { text: String::new(), ..last.clone() }) == *style => last.text.push_str(text),
        _ => found.push(Span { text: text.to_owned(), ..style.clone() }),
    }
}

fn changed(style: &Span, code: &str) -> Span {
    let style = style.clone();
    match code {
        "1" => Span { bold: true, ..style },
        "2" => Span { dim: true, ..style },
        "4" => Span { marked: true, ..style },
        "31" => Span { color: "destroy", ..style },
        "32" => Span { color: "add", ..style },
        "33" => Span { color: "change", ..style },
        "36" => Span { color: "read", ..style },
        "0" => Span::default(),
        _ => style,
    }
}

/// Returns the line without its colours.
pub fn plain(line: &str) -> String {
    spans(line).into_iter().map(|span| span.text).collect()
}

/// Returns the symbol `+`, `-` or `~` at the start of a line, if its colour shows that it is a symbol and not part of a text.
pub fn mark(spans: &[Span]) -> Option<char> {
    let first = spans.iter().find(|span| !span.text.trim().is_empty())?;
    let symbol = first.text.trim_start().chars().next()?;
    (!first.color.is_empty() && "+-~".contains(symbol)).then_some(symbol)
}

#[cfg(test)]
mod tests {
    use super::super::style::{DESTROY, DIM, marked, paint};
    use super::*;

    #[test]
    fn styles_become_spans() {
        let line = format!("  {}{} x", paint(DESTROY, "- a "), paint(marked(DESTROY), "b"));
        let found: Vec<_> = spans(&line).into_iter().map(|s| (s.text, s.color, s.marked)).collect();
        let wanted = [("  ", "", false), ("- a ", "destroy", false), ("b", "destroy", true), (" x", "", false)];
        assert_eq!(found, wanted.map(|(text, color, marked)| (text.to_owned(), color, marked)));
        assert_eq!(plain(&line), "  - a b x");
    }

    #[test]
    fn a_mark_is_known_by_its_colour() {
        assert_eq!(mark(&spans(&format!("   {} x", paint(DESTROY, "-/+")))), Some('-'));
        assert_eq!(mark(&spans("  - an item of a YAML list")), None);
        assert_eq!(mark(&spans(&paint(DIM, "+ not a mark"))), None);
        assert_eq!(mark(&[]), None);
    }
}
