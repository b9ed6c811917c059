//! The coloured lines of the terminal, taken apart for pages that have other means to show colours.

use std::iter::Peekable;
use std::str::Split;

/// A piece of a line of one look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// What it says.
    pub text: String,
    /// `add`, `change`, `destroy`, `read`; empty for the colour of the page.
    pub color: &'static str,
    /// Is it bold?
    pub bold: bool,
    /// Is it there for completeness?
    pub dim: bool,
    /// Is it one of the words of a line that changed?
    pub marked: bool,
}

/// The spans of a line.
pub fn spans(line: &str) -> Vec<Span> {
    let mut found: Vec<Span> = Vec::new();
    let mut look = Span::default();
    let mut parts: Peekable<Split<_>> = line.split("\u{1b}[").peekable();
    let first = parts.next().unwrap_or_default();
    push(&mut found, &look, first);
    for part in parts {
        let (codes, text) = part.split_once('m').unwrap_or((part, ""));
        codes.split(';').for_each(|code| look = changed(&look, code));
        push(&mut found, &look, text);
    }
    found
}

fn push(found: &mut Vec<Span>, look: &Span, text: &str) {
    match found.last_mut() {
        _ if text.is_empty() => {}
        Some(last) if (Span { text: String::new(), ..last.clone() }) == *look => last.text.push_str(text),
        _ => found.push(Span { text: text.to_owned(), ..look.clone() }),
    }
}

fn changed(look: &Span, code: &str) -> Span {
    let look = look.clone();
    match code {
        "1" => Span { bold: true, ..look },
        "2" => Span { dim: true, ..look },
        "4" => Span { marked: true, ..look },
        "31" => Span { color: "destroy", ..look },
        "32" => Span { color: "add", ..look },
        "33" => Span { color: "change", ..look },
        "36" => Span { color: "read", ..look },
        "0" => Span::default(),
        _ => look,
    }
}

/// The line without its colours.
pub fn plain(line: &str) -> String {
    spans(line).into_iter().map(|span| span.text).collect()
}

/// The `+`, `-` or `~` that a line begins with, where it is a mark by its colour and not a part of a text.
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
        assert_eq!(mark(&spans(&paint(DIM, "+ no mark"))), None);
        assert_eq!(mark(&[]), None);
    }
}
