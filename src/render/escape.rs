//! Escaping of text for HTML and SVG.

use super::invisible::{escaped, is_invisible};

/// Escapes `text` for the content and the attributes of HTML, also inside of Markdown.
pub fn html(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            // Characters that XML does not allow or that are invisible.
            c if is_invisible(c) => html.push_str(&escaped(c)),
            c => html.push(c),
        }
    }
    html
}
