//! Sections of a rendered plan or report.

use super::style::{BOLD, paint};

/// A heading with its lines. Each format renders the heading in its own way.
#[derive(Clone, Debug)]
pub struct Section {
    /// The heading, without a colon.
    pub heading: &'static str,
    /// The lines. Without lines, the section is not shown.
    pub lines: Vec<String>,
}

impl Section {
    /// Returns the section as lines of the terminal.
    pub fn text(self) -> Vec<String> {
        if self.lines.is_empty() {
            return Vec::new();
        }
        std::iter::once(paint(BOLD, format!("{}:", self.heading))).chain(self.lines).collect()
    }
}
