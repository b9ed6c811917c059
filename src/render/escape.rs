//! Text in HTML and SVG.

use super::hidden::{self, is_invisible};

/// `text` so that it is only text in HTML, in an attribute and in Markdown's HTML.
pub fn html(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What XML cannot hold, and what a reader would not see.
            c if is_invisible(c) => escaped.push_str(&hidden::escaped(c)),
            c => escaped.push(c),
        }
    }
    escaped
}
