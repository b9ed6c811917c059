//! The writer of lines for Markdown.

use super::super::text::{Line, Span};
use super::super::value::printable;

/// Returns a line within a paragraph, in HTML with its bold words.
pub fn inline(line: &Line) -> String {
    let span = |span: &Span| match span.style.is_strong() {
        true => format!("<b>{}</b>", text(&span.text)),
        false => text(&span.text),
    };
    line.spans().iter().map(span).collect()
}

/// Returns lines as a diff, folded under a summary.
pub fn folded(summary: &str, lines: &[Line]) -> String {
    if lines.is_empty() {
        return format!("- {summary}\n");
    }
    let body: String = lines.iter().map(|line| diff_line(line) + "\n").collect();
    let fence = "`".repeat(longest_run(&body, '`').max(2) + 1);
    format!("<details><summary>{summary}</summary>\n\n{fence}diff\n{body}{fence}\n\n</details>\n\n")
}

/// Returns a line of a diff. Forges colour it by its first character.
fn diff_line(line: &Line) -> String {
    let text = printable(&line.to_string());
    let Some(symbol) = line.symbol() else { return format!(" {text}").trim_end().to_owned() };
    let rest = text.trim_start();
    let indent = " ".repeat(text.len() - rest.len());
    let rest = rest.strip_prefix(symbol).filter(|rest| rest.starts_with(' ')).unwrap_or(rest);
    let first = if symbol == '~' { '!' } else { symbol };
    format!("{first}{indent}{}", rest.trim_end())
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|c| c != of).map(str::len).max().unwrap_or(0)
}

/// Escapes the invisible characters, and the special characters of Markdown and HTML.
pub fn text(text: &str) -> String {
    let text = printable(text);
    let mut before = ' ';
    let mut escaped = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        // Markdown keeps an underscore within a word.
        let in_word = before.is_alphanumeric() && characters.peek().is_some_and(|c| c.is_alphanumeric());
        match c {
            '_' if in_word => escaped.push(c),
            '&' | '<' | '>' | '\\' | '*' | '_' | '[' | ']' | '`' | '~' | '|' | '@' | '#' | '$' => {
                escaped.push_str(&format!("&#{};", u32::from(c)));
            }
            c => escaped.push(c),
        }
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_end_its_fence() {
        let lines = ["a", "````", "</details>"].map(Line::from);
        assert_eq!(folded("x", &lines).matches("`````").count(), 2);
        assert_eq!(text("ssh_file _x_"), "ssh_file &#95;x&#95;");
        assert_eq!(text("<b>[x](y) @all"), "&#60;b&#62;&#91;x&#93;(y) &#64;all");
    }
}
