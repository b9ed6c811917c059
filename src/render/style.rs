//! The colours. Texts are always made with them; what writes them takes them out where they are not wanted.

use std::fmt::Display;

use anstyle::{AnsiColor, Effects, Style};

/// What comes into being.
pub const ADD: Style = AnsiColor::Green.on_default();
/// What changes in place.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// What goes.
pub const DESTROY: Style = AnsiColor::Red.on_default();
/// What is only read.
pub const READ: Style = AnsiColor::Cyan.on_default();
/// Headings.
pub const BOLD: Style = Style::new().bold();
/// What is there for completeness.
pub const DIM: Style = Style::new().dimmed();
/// The word `warning`.
pub const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);

/// `text` in this style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// `style` for the words of a line that changed.
pub fn marked(style: Style) -> Style {
    style.effects(Effects::BOLD | Effects::UNDERLINE)
}
