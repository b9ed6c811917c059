//! Escaping of invisible characters: characters without a glyph, that reorder or hide other characters, or that move the cursor.

use std::borrow::Cow;

/// Characters of the Unicode categories Cf, Zl and Zp, and those with the property Default_Ignorable_Code_Point (Unicode 16). Control characters (Cc) are
/// invisible too.
const RANGES: [(char, char); 25] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Returns whether `c` is invisible. Line breaks and tabs are not.
pub fn is_invisible(c: char) -> bool {
    match c {
        '\n' | '\t' | ' '..='~' => false,
        c => c.is_control() || RANGES.iter().any(|(first, last)| (*first..=*last).contains(&c)),
    }
}

/// Returns the escape sequence of `c`, for example `\u{202e}`.
pub fn escaped(c: char) -> String {
    c.escape_unicode().to_string()
}

/// Escapes the invisible characters of `text`, except the colours of the terminal: clap colours its help and its errors itself.
pub fn escape_text(text: &str) -> Cow<'_, str> {
    if !text.contains(is_invisible) {
        return text.into();
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(is_invisible) {
        let (before, invisible) = rest.split_at(at);
        result.push_str(before);
        let length = color(invisible).unwrap_or_else(|| {
            let c = invisible.chars().next().unwrap_or_default();
            result.push_str(&escaped(c));
            c.len_utf8()
        });
        if invisible.starts_with('\u{1b}') && length > 1 {
            result.push_str(&invisible[..length]);
        }
        rest = &invisible[length..];
    }
    (result + rest).into()
}

/// Returns the length of the colour sequence at the start of `text`.
fn color(text: &str) -> Option<usize> {
    let codes = text.strip_prefix("\u{1b}[")?;
    let end = codes.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    codes[end..].starts_with('m').then_some("\u{1b}[".len() + end + 1)
}

/// Escapes the invisible characters of a JSON document with JSON's own escapes. The document keeps its meaning.
pub fn escape_json(document: &str) -> Cow<'_, str> {
    if !document.contains(is_invisible) {
        return document.into();
    }
    let mut result = String::with_capacity(document.len());
    for c in document.chars() {
        match is_invisible(c) {
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| result.push_str(&format!("\\u{unit:04x}"))),
            false => result.push(c),
        }
    }
    result.into()
}

/// A text with its invisible characters escaped, which maps positions in the original text.
pub struct Source {
    /// The text.
    pub text: String,
    /// For each escaped character, the byte after it in the original, and how much longer the text is up to that byte.
    grown: Vec<(usize, usize)>,
}

impl Source {
    /// Escapes the invisible characters of `original`. Windows line breaks are kept.
    pub fn new(original: &str) -> Self {
        let (mut text, mut grown) = (String::with_capacity(original.len()), Vec::new());
        for (at, c) in original.char_indices() {
            if is_invisible(c) && !original[at..].starts_with("\r\n") {
                text.push_str(&escaped(c));
                let after = at + c.len_utf8();
                grown.push((after, text.len() - after));
            } else {
                text.push(c);
            }
        }
        Self { text, grown }
    }

    /// Returns the position in the text of a byte of the original.
    pub fn place(&self, at: usize) -> usize {
        let before = self.grown.partition_point(|(after, _)| *after <= at);
        at + before.checked_sub(1).map_or(0, |last| self.grown[last].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_invisible_characters_of_unicode_are_invisible() {
        let invisible = regex::Regex::new(r"^[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Default_Ignorable_Code_Point}]$").unwrap();
        let missed: Vec<_> = ('\u{0}'..=char::MAX)
            .filter(|c| !is_invisible(*c) && invisible.is_match(c.encode_utf8(&mut [0; 4])))
            .collect();
        assert_eq!(missed, ['\t', '\n']);
        let text = "Grüße, 世界 – “ok” … ✓ 🚀 العربية עברית";
        assert!(!text.contains(is_invisible));
    }

    #[test]
    fn invisible_characters_are_escaped_and_colours_are_kept() {
        assert_eq!(escape_text("a\u{202e}b\u{200b}\u{9b}c"), "a\\u{202e}b\\u{200b}\\u{9b}c");
        assert_eq!(escape_text("\u{1b}[1;32mok\u{1b}[0m\n"), "\u{1b}[1;32mok\u{1b}[0m\n");
        assert_eq!(escape_text("\u{1b}[2J\u{1b}]0;x\u{7}"), "\\u{1b}[2J\\u{1b}]0;x\\u{7}");
        assert_eq!(escape_text("\u{1b}["), "\\u{1b}[");
        assert_eq!(escape_text("plain\ttext\n"), "plain\ttext\n");
    }

    #[test]
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({"a\u{202e}": "b\u{e0041}\u{85}\u{feff}"});
        let text = value.to_string();
        assert_eq!(escape_json(&text), r#"{"a\u202e":"b\udb40\udc41\u0085\ufeff"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escape_json(&text)).unwrap(), value);
    }

    #[test]
    fn positions_in_a_source_account_for_its_escapes() {
        let original = "a = \"\u{202e}x\"\r\nb\u{200b} = 1\n";
        let source = Source::new(original);
        assert_eq!(source.text, "a = \"\\u{202e}x\"\r\nb\\u{200b} = 1\n");
        for word in ["a", "x", "b", "= 1"] {
            let at = original.find(word).unwrap();
            assert!(source.text[source.place(at)..].starts_with(word), "{word}");
        }
        assert_eq!(source.place(original.len()), source.text.len());
    }
}
