//! Maps positions in a decoded string to positions in the manifest.

use std::ops::Range;

use crate::model::Span;

/// The place of an expression's text in a manifest.
#[derive(Clone, Debug)]
pub struct Place {
    whole: Span,
    offsets: Offsets,
}

#[derive(Clone, Debug)]
enum Offsets {
    /// The text is verbatim, from this byte on.
    Verbatim(usize),
    /// The text has escapes. Contains the position of each byte and of the end.
    Escaped(Vec<usize>),
    /// Only the place of the whole text is known.
    Unknown,
}

impl Place {
    /// Creates the place of a verbatim text at `span`.
    pub fn verbatim(span: Span) -> Self {
        Self { whole: span, offsets: Offsets::Verbatim(span.start) }
    }

    /// Creates the place of a text whose inner positions are not known.
    pub fn opaque(span: Span) -> Self {
        Self { whole: span, offsets: Offsets::Unknown }
    }

    /// Creates the place of the TOML string at `span` of `source`, which decodes to `text`.
    pub(crate) fn toml_string(source: &str, span: Span, text: &str) -> Self {
        let offsets = toml_offsets(source, span, text).unwrap_or(Offsets::Unknown);
        Self { whole: span, offsets }
    }

    /// Returns the span of the whole text, including its quotes.
    pub fn whole(&self) -> Span {
        self.whole
    }

    /// Returns the span of these bytes of the decoded text, or of the whole text without a `range`.
    pub fn span(&self, range: Option<Range<usize>>) -> Span {
        let Some(range) = range else { return self.whole };
        let (start, end) = match &self.offsets {
            Offsets::Verbatim(base) => (base + range.start, base + range.end),
            Offsets::Escaped(offsets) => match (offsets.get(range.start), offsets.get(range.end)) {
                (Some(start), Some(end)) => (*start, *end),
                _ => return self.whole,
            },
            Offsets::Unknown => return self.whole,
        };
        let end = end.min(self.whole.end);
        Span { file: self.whole.file, start: start.min(end), end }
    }
}

fn toml_offsets(source: &str, span: Span, text: &str) -> Option<Offsets> {
    let raw = source.get(span.start..span.end)?;
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| raw.starts_with(quote))?;
    let inner = raw.get(quote.len()..raw.len().checked_sub(quote.len())?)?;
    let newline = match quote.len() {
        3 => ["\r\n", "\n"].into_iter().find(|newline| inner.starts_with(newline)).map_or(0, str::len),
        _ => 0,
    };
    let (inner, base) = (&inner[newline..], span.start + quote.len() + newline);
    if inner == text {
        return Some(Offsets::Verbatim(base));
    }
    let offsets = escaped_offsets(inner, base);
    (offsets.len() == text.len() + 1).then_some(Offsets::Escaped(offsets))
}

/// Returns the position of each decoded byte of `inner`, and of its end.
fn escaped_offsets(inner: &str, base: usize) -> Vec<usize> {
    let mut offsets = Vec::with_capacity(inner.len() + 1);
    let mut rest = inner;
    while let Some(c) = rest.chars().next() {
        let at = base + inner.len() - rest.len();
        let (written, decoded) = if c == '\\' { escape(rest) } else { (c.len_utf8(), c.len_utf8()) };
        // All bytes of an escape have the position of its backslash.
        offsets.extend((0..decoded).map(|i| if c == '\\' { at } else { at + i }));
        rest = rest.get(written..).unwrap_or_default();
    }
    offsets.push(base + inner.len());
    offsets
}

/// Returns the lengths of the escape sequence at the start of `rest`: in the source and decoded.
fn escape(rest: &str) -> (usize, usize) {
    let digits = match rest[1..].chars().next() {
        Some('x') => 2,
        Some('u') => 4,
        Some('U') => 8,
        Some(c) if c.is_whitespace() => {
            return (1 + rest[1..].len() - rest[1..].trim_start_matches([' ', '\t', '\r', '\n']).len(), 0);
        }
        Some(c) => return (1 + c.len_utf8(), 1),
        None => return (1, 0),
    };
    let code = rest.get(2..2 + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok());
    (2 + digits, code.and_then(char::from_u32).map_or(0, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_in_the_text_is_mapped_to_the_file() {
        let cases = [
            (r#"'a ${x}'"#, "a ${x}"),
            ("'''\na ${x}'''", "a ${x}"),
            (r#""\"\u00e9\t${x}""#, "\"é\t${x}"),
            ("\"\"\"\\\n   a ${x}\"\"\"", "a ${x}"),
        ];
        for (source, text) in cases {
            let place = Place::toml_string(source, Span { file: 0, start: 0, end: source.len() }, text);
            let at = text.find('x').unwrap();
            let span = place.span(Some(at..at + 1));
            assert_eq!(&source[span.start..span.end], "x", "{source}");
        }
    }
}
