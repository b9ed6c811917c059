//! The unified diff of two texts, with the changed words marked.

use std::ops::Add;

use similar::{ChangeTag, TextDiff};

use super::text::{Line, Style, styled};

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// Returns the lines of the diff from `before` to `after`. Hunks start with `@@ -line,count +line,count @@`.
pub fn text_diff(before: &str, after: &str) -> Vec<Line> {
    let diff = TextDiff::from_lines(before, after);
    let mut lines = Vec::new();
    for group in diff.grouped_ops(CONTEXT) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let old = first.old_range().start..last.old_range().end;
        let new = first.new_range().start..last.new_range().end;
        let header = format!("@@ -{},{} +{},{} @@", old.start + 1, old.len(), new.start + 1, new.len());
        lines.push(styled(Style::Dim, header));
        for change in group.iter().flat_map(|op| diff.iter_inline_changes(op)) {
            lines.push(line(change.tag(), change.iter_strings_lossy()));
            if change.missing_newline() {
                lines.push(styled(Style::Dim, "\\ no newline at the end"));
            }
        }
    }
    lines
}

/// Returns only the added and removed lines, without context.
pub fn changed_lines(before: &str, after: &str) -> Vec<String> {
    let diff = TextDiff::from_lines(before, after);
    let changes = diff.iter_all_changes().filter(|change| change.tag() != ChangeTag::Equal);
    changes.map(|change| format!("{}{}", change.tag(), change.value())).collect()
}

fn line<'a>(tag: ChangeTag, words: impl Iterator<Item = (bool, std::borrow::Cow<'a, str>)>) -> Line {
    let (symbol, style, changed_style) = match tag {
        ChangeTag::Delete => ("- ", Style::Removed, Style::RemovedWords),
        ChangeTag::Insert => ("+ ", Style::Added, Style::AddedWords),
        ChangeTag::Equal => ("  ", Style::Plain, Style::Plain),
    };
    let word = |(changed, word): (bool, std::borrow::Cow<str>)| {
        styled(if changed { changed_style } else { style }, word.trim_end_matches('\n'))
    };
    words.map(word).fold(styled(style, symbol), Line::add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(before: &str, after: &str) -> String {
        text_diff(before, after).iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_changed_line_shows_with_its_context() {
        let before: String = (1..=20).map(|i| format!("line {i}\n")).collect();
        let after = before.replace("line 10\n", "line ten\n");
        insta::assert_snapshot!(plain(&before, &after), @r"
        @@ -7,7 +7,7 @@
          line 7
          line 8
          line 9
        - line 10
        + line ten
          line 11
          line 12
          line 13
        ");
    }

    #[test]
    fn a_missing_newline_is_shown() {
        insta::assert_snapshot!(plain("a\nb\n", "a\nb"), @r"
        @@ -1,2 +1,2 @@
          a
        - b
        + b
        \ no newline at the end
        ");
    }
}
