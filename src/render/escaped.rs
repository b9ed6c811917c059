//! Text in HTML and SVG.

use maud::Render;

use super::value::printable;

/// A text whose invisible characters are escaped, as well as the special characters of HTML.
pub struct Escaped<'a>(pub &'a str);

impl Render for Escaped<'_> {
    fn render_to(&self, buffer: &mut String) {
        printable(self.0).render_to(buffer);
    }
}
