//! The writer for the terminal.

use annotate_snippets::Renderer;
use annotate_snippets::renderer::DecorStyle;
use anstyle::{AnsiColor, Effects};

use super::text::{Line, Part, Span, Style, Text};
use super::value::printable;

/// A terminal, or a file or pipe in its place.
#[derive(Clone, Copy, Debug)]
pub struct Terminal {
    /// The width in columns. Only messages with excerpts of the manifest are fitted to it.
    pub width: usize,
    /// Whether it shows colours.
    pub colors: bool,
}

impl Terminal {
    /// Returns the characters of a text. The last line ends with a line break.
    pub fn write(&self, text: &Text) -> String {
        text.parts().iter().map(|part| self.part(part) + "\n").collect()
    }

    fn part(&self, part: &Part) -> String {
        match part {
            Part::Line(line) => self.line(line),
            Part::Message(message) => {
                let renderer = if self.colors { Renderer::styled() } else { Renderer::plain() };
                let fitted = renderer.decor_style(DecorStyle::Ascii).term_width(self.width.clamp(40, 200));
                fitted.render(std::slice::from_ref(message))
            }
        }
    }

    /// Returns the characters of a line, without a line break.
    pub fn line(&self, line: &Line) -> String {
        line.spans().iter().map(|span| self.span(span)).collect()
    }

    fn span(&self, Span { text, style }: &Span) -> String {
        let (text, ansi) = (printable(text), ansi(*style));
        if self.colors { format!("{ansi}{text}{ansi:#}") } else { text }
    }
}

fn ansi(style: Style) -> anstyle::Style {
    const WORDS: Effects = Effects::BOLD.insert(Effects::UNDERLINE);
    match style {
        Style::Plain => anstyle::Style::new(),
        Style::Bold => anstyle::Style::new().bold(),
        Style::Dim => anstyle::Style::new().dimmed(),
        Style::Added => AnsiColor::Green.on_default(),
        Style::Changed => AnsiColor::Yellow.on_default(),
        Style::Removed => AnsiColor::Red.on_default(),
        Style::Read => AnsiColor::Cyan.on_default(),
        Style::AddedWords => AnsiColor::Green.on_default().effects(WORDS),
        Style::RemovedWords => AnsiColor::Red.on_default().effects(WORDS),
        Style::Success => AnsiColor::Green.on_default().bold(),
        Style::Danger => AnsiColor::Red.on_default().bold(),
        Style::Warning => AnsiColor::Yellow.on_default().bold(),
    }
}

/// Returns the characters of a text on a terminal of 100 columns without colours.
#[cfg(test)]
pub fn plain(text: impl Into<Text>) -> String {
    Terminal { width: 100, colors: false }.write(&text.into())
}

#[cfg(test)]
mod tests {
    use super::super::text::styled;
    use super::*;

    #[test]
    fn invisible_characters_are_escaped_with_and_without_colours() {
        let text = Text::from(styled(Style::Bold, "a\u{202e}\u{1b}[2J") + "\tb\u{9b}");
        let write = |colors| Terminal { width: 80, colors }.write(&text);
        assert_eq!(write(true), "\u{1b}[1ma\\u{202e}\\u{1b}[2J\u{1b}[0m\tb\\u{9b}\n");
        assert_eq!(write(false), "a\\u{202e}\\u{1b}[2J\tb\\u{9b}\n");
    }
}
