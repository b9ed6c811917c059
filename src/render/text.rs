//! Texts as data: lines of spans, whose styles have a meaning. A writer for each format shows them.

use std::fmt::{self, Display, Formatter};
use std::ops::Add;

use annotate_snippets::Group;

/// The meaning of a span. Each writer shows it in its own way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Style {
    /// Text without a special meaning.
    #[default]
    Plain,
    /// A heading or a name.
    Bold,
    /// Less important text.
    Dim,
    /// An added object, attribute or line.
    Added,
    /// An object or attribute that changes in place.
    Changed,
    /// A destroyed object, or a removed attribute or line.
    Removed,
    /// An object that is only read or recorded.
    Read,
    /// The changed words of an added line.
    AddedWords,
    /// The changed words of a removed line.
    RemovedWords,
    /// A good result.
    Success,
    /// A destructive change or a failure.
    Danger,
    /// A warning.
    Warning,
}

impl Style {
    /// Returns whether text of this style stands out from its line.
    pub fn is_strong(self) -> bool {
        use Style::{AddedWords, Bold, Danger, RemovedWords, Success, Warning};
        matches!(self, Bold | AddedWords | RemovedWords | Success | Danger | Warning)
    }

    /// Returns whether the style is about a change or a result, and not only about the importance of the text.
    fn has_color(self) -> bool {
        !matches!(self, Style::Plain | Style::Bold | Style::Dim)
    }
}

/// A part of a line with one style. Its text may contain any character; the writers escape those that their format cannot show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// The text.
    pub text: String,
    /// The meaning of the text.
    pub style: Style,
}

/// A line of spans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Line(Vec<Span>);

/// Returns a line with `text` in one style.
pub fn styled(style: Style, text: impl Display) -> Line {
    let text = text.to_string();
    if text.is_empty() { Line::default() } else { Line(vec![Span { text, style }]) }
}

impl Line {
    /// Returns the spans. None of them is empty.
    pub fn spans(&self) -> &[Span] {
        &self.0
    }

    /// Returns whether the line has no text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the line with spaces before it.
    pub fn indented(self, by: usize) -> Line {
        Line::from(" ".repeat(by)) + self
    }

    /// Returns the symbol `+`, `-` or `~` at the start of the line, if its style shows that it is a symbol and not part of a text.
    pub fn symbol(&self) -> Option<char> {
        let first = self.0.iter().find(|span| !span.text.trim().is_empty())?;
        let symbol = first.text.trim_start().chars().next()?;
        (first.style.has_color() && "+-~".contains(symbol)).then_some(symbol)
    }
}

impl<T: Into<Line>> Add<T> for Line {
    type Output = Line;

    fn add(mut self, other: T) -> Line {
        self.0.extend(other.into().0);
        self
    }
}

impl From<&str> for Line {
    fn from(text: &str) -> Self {
        styled(Style::Plain, text)
    }
}

impl From<String> for Line {
    fn from(text: String) -> Self {
        styled(Style::Plain, text)
    }
}

impl Display for Line {
    fn fmt(&self, f: &mut Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|span| f.write_str(&span.text))
    }
}

/// A text for the terminal.
#[derive(Clone, Debug, Default)]
pub struct Text(Vec<Part>);

/// A part of a text, which starts on a new line.
#[derive(Clone, Debug)]
pub enum Part {
    /// A line.
    Line(Line),
    /// An error or a warning, with excerpts of the manifest.
    Message(Box<Group<'static>>),
}

impl Text {
    /// Returns the texts with blank lines between them, without the empty ones.
    pub fn separated(texts: impl IntoIterator<Item = Text>) -> Text {
        let texts = texts.into_iter().filter(|text| !text.is_empty());
        texts.reduce(|all, text| all + "\n" + text).unwrap_or_default()
    }

    /// Returns the parts.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Returns whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<Text>> Add<T> for Text {
    type Output = Text;

    fn add(mut self, other: T) -> Text {
        self.0.extend(other.into().0);
        self
    }
}

impl From<Line> for Text {
    fn from(line: Line) -> Self {
        Text(vec![Part::Line(line)])
    }
}

impl From<Vec<Line>> for Text {
    fn from(lines: Vec<Line>) -> Self {
        lines.into_iter().collect()
    }
}

impl FromIterator<Line> for Text {
    fn from_iter<I: IntoIterator<Item = Line>>(lines: I) -> Self {
        Text(lines.into_iter().map(Part::Line).collect())
    }
}

impl From<Group<'static>> for Text {
    fn from(message: Group<'static>) -> Self {
        Text(vec![Part::Message(Box::new(message))])
    }
}

impl From<&str> for Text {
    /// Returns the lines of a plain text. The last line does not have to end with a line break.
    fn from(text: &str) -> Self {
        text.split_terminator('\n').map(Line::from).collect()
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text::from(text.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Style::{Dim, Removed, RemovedWords};
    use super::*;

    #[test]
    fn lines_are_joined_from_spans() {
        let line = Line::from("  ") + styled(Removed, "- a ") + styled(RemovedWords, "b") + "" + " x";
        let found: Vec<_> = line.spans().iter().map(|span| (span.text.as_str(), span.style)).collect();
        assert_eq!(found, [("  ", Style::Plain), ("- a ", Removed), ("b", RemovedWords), (" x", Style::Plain)]);
        assert_eq!(line.to_string(), "  - a b x");
        assert!(Line::from("").is_empty());
    }

    #[test]
    fn a_symbol_is_known_by_its_style() {
        assert_eq!((Line::from("   ") + styled(Removed, "-/+") + " x").symbol(), Some('-'));
        assert_eq!(Line::from("  - an item of a YAML list").symbol(), None);
        assert_eq!(styled(Dim, "+ not a symbol").symbol(), None);
        assert_eq!(Line::default().symbol(), None);
    }

    #[test]
    fn empty_texts_are_not_separated() {
        let text = Text::separated([Text::default(), "a\nb\n".into(), Text::default(), Line::from("c").into()]);
        let lines: Vec<_> = text.parts().iter().map(|part| matches!(part, Part::Line(l) if l.is_empty())).collect();
        assert_eq!(lines, [false, false, true, false]);
    }
}
