//! The colours. Texts are always rendered with colours; the writer removes them if they are not wanted.

use std::fmt::Display;

use anstyle::{AnsiColor, Effects, Style};

/// The style of added objects and lines.
pub const ADD: Style = AnsiColor::Green.on_default();
/// The style of objects that change in place.
pub const CHANGE: Style = AnsiColor::Yellow.on_default();
/// The style of destroyed objects, removed lines and errors.
pub const DESTROY: Style = AnsiColor::Red.on_default();
/// The style of objects that are only read or recorded.
pub const READ: Style = AnsiColor::Cyan.on_default();
/// The style of headings and names.
pub const BOLD: Style = Style::new().bold();
/// The style of less important text.
pub const DIM: Style = Style::new().dimmed();
/// The style of warnings.
pub const WARNING: Style = AnsiColor::Yellow.on_default().effects(Effects::BOLD);

/// Returns `text` in a style.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Returns `style` for the changed words of a line.
pub fn marked(style: Style) -> Style {
    style.effects(Effects::BOLD | Effects::UNDERLINE)
}
