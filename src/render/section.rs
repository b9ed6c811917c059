//! Sections of a rendered plan or report.

use super::text::{Line, Style, Text, styled};

/// A heading with its lines. Each format renders the heading in its own way.
#[derive(Clone, Debug)]
pub struct Section {
    /// The heading, without a colon.
    pub heading: &'static str,
    /// The lines. Without lines, the section is not shown.
    pub lines: Vec<Line>,
}

impl Section {
    /// Returns the section for the terminal.
    pub fn text(self) -> Text {
        match self.lines.is_empty() {
            true => Text::default(),
            false => Text::from(styled(Style::Bold, format!("{}:", self.heading))) + self.lines,
        }
    }
}
