//! The lines of rows.

use serde_json::Value as Json;

use super::row::Row;
use super::structure::{Comparison, compare};
use super::text::{Line, Style, styled};
use super::text_diff::text_diff;
use super::text_options::TextOptions;
use super::value::{inline, is_flat_list, is_hidden, is_multi_line};

/// Maximum number of lines of a new text.
const NEW_TEXT_LINES: usize = 12;

/// Number of digits of a shortened digest.
const DIGEST_DIGITS: usize = 12;

/// The lines of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lines {
    /// The text after the name of the attribute.
    pub head: Line,
    /// The lines below the name.
    pub block: Vec<Line>,
}

impl Row {
    /// Returns the symbol `+`, `~` or `-` in its style.
    pub fn symbol(&self) -> Line {
        match (&self.before, &self.after) {
            (None, _) => styled(Style::Added, "+"),
            (_, None) => styled(Style::Removed, "-"),
            _ => styled(Style::Changed, "~"),
        }
    }

    /// Returns the symbol, the path, padded to `label` columns, and the `head` of the lines.
    pub fn named(&self, head: Line, label: usize) -> Line {
        let name = self.symbol() + " ";
        match head.is_empty() {
            true => name + format!("{}:", self.path),
            false => name + format!("{:label$} = ", self.path) + head,
        }
    }

    /// Returns the lines of the row.
    pub fn lines(&self, options: TextOptions) -> Lines {
        let mut lines = match (&self.before, &self.after) {
            (None, Some(after)) if is_multi_line(after) => new_text(after.as_str().unwrap_or_default(), options),
            (Some(before), None) if is_multi_line(before) => head(line_count(before.as_str().unwrap_or_default())),
            (None, Some(value)) | (Some(value), None) => head(cut(&shortened(value), options)),
            (Some(before), Some(after)) => changed(before, after, options),
            (None, None) => Lines::default(),
        };
        if self.forces_replacement {
            lines.head = lines.head + " " + styled(Style::Removed, "# forces replacement");
        }
        lines
    }
}

/// Returns the aligned lines of rows outside of a block.
pub fn table(rows: &[Row], options: TextOptions) -> Vec<Line> {
    let label = rows.iter().map(|row| row.path.chars().count()).max().unwrap_or(0);
    let inner = TextOptions { width: options.width.saturating_sub(label + 7), ..options };
    let mut lines = Vec::new();
    for row in rows {
        let shown = row.lines(inner);
        lines.push(row.named(shown.head, label).indented(2));
        lines.extend(shown.block.into_iter().map(|line| line.indented(6)));
    }
    lines
}

fn head(head: impl Into<Line>) -> Lines {
    Lines { head: head.into(), block: Vec::new() }
}

fn changed(before: &Json, after: &Json, options: TextOptions) -> Lines {
    if is_hidden(before) && is_hidden(after) {
        let text = inline(after);
        let note = if text == inline(before) { styled(Style::Dim, "# changes").indented(1) } else { Line::default() };
        return head(Line::from(text) + note);
    }
    if let (Json::String(old), Json::String(new)) = (before, after)
        && (is_multi_line(before) || is_multi_line(after))
    {
        let mut block = compare(old, new).map(|comparison| structure(&comparison, options)).unwrap_or_default();
        block.extend(text_diff(old, new));
        return Lines { block, ..Lines::default() };
    }
    let (old, new) = (shortened(before), shortened(after));
    if old.chars().count() + new.chars().count() + 4 <= options.width {
        return head(format!("{old} -> {new}"));
    }
    if let (Json::Array(old), Json::Array(new)) = (before, after)
        && is_flat_list(before)
        && is_flat_list(after)
    {
        let text = |items: &[Json]| items.iter().map(|item| inline(item) + "\n").collect::<String>();
        return Lines { block: text_diff(&text(old), &text(new)), ..Lines::default() };
    }
    let block = vec![styled(Style::Removed, "-") + " " + old, styled(Style::Added, "+") + " " + new];
    Lines { block, ..Lines::default() }
}

/// Returns the changed values of a text with a structure, for the lines above its diff.
pub fn structure(Comparison { format, rows }: &Comparison, options: TextOptions) -> Vec<Line> {
    let note = match rows.is_empty() {
        true => format!("as {format}: no change of values, only of order, comments or spacing"),
        false => format!("as {format}:"),
    };
    std::iter::once(styled(Style::Dim, note)).chain(table(rows, options)).collect()
}

/// Returns the value on one line. A digest is shortened to its first digits.
fn shortened(value: &Json) -> String {
    let is_digest = |text: &str| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match value.as_str() {
        Some(text) if is_digest(text) => format!("\"{}…\"", &text[..DIGEST_DIGITS]),
        _ => inline(value),
    }
}

fn new_text(text: &str, options: TextOptions) -> Lines {
    let all: Vec<_> = text.lines().collect();
    // One remaining line needs no more space than the note about it.
    let shown = if options.full || all.len() <= NEW_TEXT_LINES + 1 { all.len() } else { NEW_TEXT_LINES };
    let mut block: Vec<_> = all[..shown].iter().map(|line| styled(Style::Dim, "| ") + *line).collect();
    if shown < all.len() {
        block.push(styled(Style::Dim, format!("… {} more lines (--full shows them)", all.len() - shown)));
    }
    Lines { head: line_count(text), block }
}

fn line_count(text: &str) -> Line {
    styled(Style::Dim, format!("({} lines)", text.lines().count()))
}

fn cut(text: &str, options: TextOptions) -> Line {
    let length = text.chars().count();
    let kept = options.width.saturating_sub(30).max(40);
    if options.full || length <= options.width.max(kept) {
        return text.into();
    }
    let shown: String = text.chars().take(kept).collect();
    Line::from(shown) + styled(Style::Dim, format!("… ({} more characters)", length - kept))
}
