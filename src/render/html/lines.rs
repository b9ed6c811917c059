//! The writer of lines for HTML.

use maud::{Markup, html};

use super::super::escaped::Escaped;
use super::super::text::{Line, Span, Style};

/// Returns a line within a paragraph.
pub fn inline(line: &Line) -> Markup {
    html! { @for span in line.spans() { (self::span(span)) } }
}

/// Returns lines as a block of text.
pub fn block_of(lines: &[Line]) -> Markup {
    let class = |line: &Line| match line.symbol() {
        Some('+') => "l add",
        Some('-') => "l del",
        Some('~') => "l chg",
        _ => "l",
    };
    html! {
        @if !lines.is_empty() {
            // The line break is inside the element, so that copied text has line breaks.
            pre { code { @for line in lines { span class=(class(line)) { (inline(line)) "\n" } } } }
        }
    }
}

fn span(Span { text, style }: &Span) -> Markup {
    let text = Escaped(text);
    match style {
        Style::Plain => html! { (text) },
        Style::Bold => html! { b { (text) } },
        Style::Dim => html! { span.dim { (text) } },
        Style::Added => html! { span.add-ink { (text) } },
        Style::Changed => html! { span.change-ink { (text) } },
        Style::Removed => html! { span.destroy-ink { (text) } },
        Style::Read => html! { span.read-ink { (text) } },
        Style::AddedWords => html! { span.add-ink { mark { (text) } } },
        Style::RemovedWords => html! { span.destroy-ink { mark { (text) } } },
        Style::Success => html! { span.add-ink { b { (text) } } },
        Style::Danger => html! { span.destroy-ink { b { (text) } } },
        Style::Warning => html! { span.change-ink { b { (text) } } },
    }
}
