//! The canonical layout of a manifest (`moorfast fmt`).

use std::str::FromStr;

use toml_edit::{Array, Decor, DocumentMut, InlineTable, Item, KeyMut, RawString, Table, Value};

use super::syntax::explain;
use crate::model::{Diagnostic, Span, error_codes};

/// The indentation of a level inside a multi-line array.
const INDENT: usize = 2;

/// Returns `text` in the canonical layout: one blank line between tables, the `=` of adjacent lines aligned, spaces inside inline tables. Comments and
/// the meaning are kept, and formatting again changes nothing.
///
/// # Errors
/// Returns an error if the text is not valid TOML. Its span refers to file 0.
pub fn format(text: &str) -> Result<String, Box<Diagnostic>> {
    let mut document = DocumentMut::from_str(text).map_err(|error| {
        let range = error.span().unwrap_or(0..0);
        let (label, help) = explain(error.message());
        let span = Span { file: 0, start: range.start, end: range.end };
        Box::new(Diagnostic {
            help,
            ..Diagnostic::error("this is not valid TOML").code(error_codes::INVALID_TOML).at(span, label)
        })
    })?;
    let trailing = comments(raw(Some(document.trailing())), false);
    document.set_trailing(trailing.trim_end_matches('\n'));
    table(document.as_table_mut());
    let formatted = document.to_string();
    let formatted = formatted.trim_matches('\n');
    Ok(if formatted.is_empty() { String::new() } else { format!("{formatted}\n") })
}

fn raw(text: Option<&RawString>) -> &str {
    text.and_then(RawString::as_str).unwrap_or_default()
}

fn table(table: &mut Table) {
    let mut lines = Vec::new();
    entries(table, 0, &mut lines);
    for (i, (key, value, _)) in lines.iter_mut().enumerate() {
        let before = comments(raw(key.leaf_decor().prefix()), i == 0);
        key.leaf_decor_mut().set_prefix(before);
        self::value(value, 0);
        let after = comment(raw(value.decor().suffix()));
        *value.decor_mut() = Decor::new(" ", after);
    }
    align(&mut lines);
    for (mut key, item) in table.iter_mut() {
        match item {
            Item::Table(inner) if inner.is_dotted() => subtables(inner),
            Item::Table(inner) => {
                plain(&mut key);
                header(inner.decor_mut());
                self::table(inner);
            }
            Item::ArrayOfTables(tables) => {
                plain(&mut key);
                for inner in tables.iter_mut() {
                    header(inner.decor_mut());
                    self::table(inner);
                }
            }
            _ => {}
        }
    }
}

/// Formats the tables with headers inside a table that dotted keys created. The values of that table belong to the enclosing table.
fn subtables(dotted: &mut Table) {
    for (mut key, item) in dotted.iter_mut() {
        match item {
            Item::Table(inner) if inner.is_dotted() => subtables(inner),
            Item::Table(inner) => {
                plain(&mut key);
                header(inner.decor_mut());
                table(inner);
            }
            _ => {}
        }
    }
}

/// Collects the keys and values in the body of the table, each with the width of its key.
fn entries<'t>(table: &'t mut Table, before: usize, lines: &mut Vec<(KeyMut<'t>, &'t mut Value, usize)>) {
    for (mut key, item) in table.iter_mut() {
        let width = before + key.display_repr().chars().count();
        match item {
            Item::Value(value) => {
                key.dotted_decor_mut().clear();
                lines.push((key, value, width));
            }
            Item::Table(inner) if inner.is_dotted() => {
                plain(&mut key);
                entries(inner, width + 1, lines);
            }
            _ => {}
        }
    }
}

/// Removes the spaces around a part of a dotted key.
fn plain(key: &mut KeyMut) {
    key.dotted_decor_mut().clear();
    key.leaf_decor_mut().clear();
}

/// Aligns the `=` of adjacent lines. A blank line, a comment or a multi-line value ends a group.
fn align(lines: &mut [(KeyMut, &mut Value, usize)]) {
    let mut start = 0;
    while start < lines.len() {
        let mut end = start + 1;
        while end < lines.len() && is_adjacent(&lines[end].0, lines[end - 1].1) {
            end += 1;
        }
        let widest = lines[start..end].iter().map(|(_, _, width)| *width).max().unwrap_or(0);
        for (key, _, width) in &mut lines[start..end] {
            key.leaf_decor_mut().set_suffix(" ".repeat(widest - *width + 1));
        }
        start = end;
    }
}

fn is_adjacent(key: &KeyMut, previous: &Value) -> bool {
    raw(key.leaf_decor().prefix()).is_empty() && !previous.to_string().contains('\n')
}

/// Puts a blank line before a header and its comment, unless the user already wrote one.
fn header(decor: &mut Decor) {
    let written = comments(raw(decor.prefix()), false);
    let apart = written.starts_with('\n') || written.contains("\n\n");
    let before = if apart { written } else { format!("\n{written}") };
    *decor = Decor::new(before, comment(raw(decor.suffix())));
}

/// Returns the comment lines before an item, without indentation and with at most one blank line in a row.
fn comments(text: &str, first: bool) -> String {
    let mut lines: Vec<&str> = text.split('\n').map(str::trim).collect();
    // The text after the last newline is the indentation of the item.
    lines.pop_if(|last| last.is_empty());
    let mut out = String::new();
    for line in lines {
        let blank_before = out.ends_with("\n\n") || out == "\n" || (first && out.is_empty());
        if !line.is_empty() || !blank_before {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// Returns the comment after an item on the same line.
fn comment(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() { String::new() } else { format!(" {text}") }
}

fn value(value: &mut Value, depth: usize) {
    match value {
        Value::Array(array) => self::array(array, depth),
        Value::InlineTable(table) => inline_table(table, depth),
        _ => {}
    }
}

fn array(array: &mut Array, depth: usize) {
    let several_lines = raw(Some(array.trailing())).contains('\n')
        || array
            .iter()
            .any(|item| raw(item.decor().prefix()).contains('\n') || raw(item.decor().suffix()).contains('\n'));
    array.iter_mut().for_each(|item| value(item, if several_lines { depth + 1 } else { depth }));
    if !several_lines {
        array
            .iter_mut()
            .enumerate()
            .for_each(|(i, item)| *item.decor_mut() = Decor::new(if i == 0 { "" } else { " " }, ""));
        array.set_trailing("");
        array.set_trailing_comma(false);
        return;
    }
    // A comment after an item is moved after the comma.
    let mut carried = String::new();
    for item in array.iter_mut() {
        let before = std::mem::take(&mut carried) + raw(item.decor().prefix());
        carried = raw(item.decor().suffix()).to_owned();
        *item.decor_mut() = Decor::new(lines_before(&before, depth + 1), "");
    }
    let trailing = carried + raw(Some(array.trailing()));
    array.set_trailing(lines_before(&trailing, depth));
    array.set_trailing_comma(!array.is_empty());
}

/// Returns the text between two items of a multi-line array: the comment after the previous item, and comments on their own lines.
fn lines_before(text: &str, depth: usize) -> String {
    let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
    let inner = " ".repeat(INDENT * depth.max(1));
    let mut out = comment(head);
    for line in rest.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        out.push_str(&format!("\n{inner}{line}"));
    }
    out.push('\n');
    out.push_str(&" ".repeat(INDENT * depth));
    out
}

fn inline_table(table: &mut InlineTable, depth: usize) {
    if table.to_string().contains('\n') && has_lines(table) {
        // The layout of a multi-line inline table is kept.
        return;
    }
    let last = table.get_values().len().saturating_sub(1);
    let mut index = 0;
    inline_entries(table, depth, last, &mut index);
    table.set_trailing("");
    table.set_trailing_comma(false);
}

/// Whether the table has line breaks between its entries.
fn has_lines(table: &InlineTable) -> bool {
    let breaks = |decor: &Decor| raw(decor.prefix()).contains('\n') || raw(decor.suffix()).contains('\n');
    raw(Some(table.trailing())).contains('\n')
        || table.get_values().iter().any(|(keys, value)| {
            breaks(value.decor()) || keys.iter().any(|key| breaks(key.leaf_decor()) || breaks(key.dotted_decor()))
        })
}

fn inline_entries(table: &mut InlineTable, depth: usize, last: usize, index: &mut usize) {
    for (mut key, value) in table.iter_mut() {
        plain(&mut key);
        match value {
            Value::InlineTable(inner) if inner.is_dotted() => inline_entries(inner, depth, last, index),
            value => {
                *key.leaf_decor_mut() = Decor::new(" ", " ");
                self::value(value, depth);
                *value.decor_mut() = Decor::new(" ", if *index == last { " " } else { "" });
                *index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_manifest_is_formatted() {
        let text = r#"

# The manifest.
[variables . region]
type="string"   # a comment
description =   "where"


default = "x"
[resource.ssh_file.motd]

on={role="worker",names=[ "a","b" ]}
path= "/etc/motd"
# Who owns it.
owner = "root"
content = """
a
  b
"""
mode= "0644"
list = [
    "a",
  # about b
      "b", # after b
   [1,2], { x=1 } # no comma
]
lifecycle.prevent_destroy=true
lifecycle . ignore_changes = [ ]
# end of the block

# About the next one.
[[moved]]
from="a.b"
to = "a.c"
[[moved]]
# first
from = "a.d"
to="a.e"
# The end.
"#;
        insta::assert_snapshot!(format(text).unwrap());
    }

    #[test]
    fn invalid_toml_is_an_error() {
        let error = format("a = \n").unwrap_err();
        assert_eq!(error.at.unwrap().1, "a value is expected here");
        assert_eq!(format("").unwrap(), "");
        assert_eq!(format("\n\n").unwrap(), "");
        assert_eq!(format("# only\n\n\n# comments").unwrap(), "# only\n\n# comments\n");
    }

    /// Texts like manifests, with unusual spacing.
    fn texts() -> impl Strategy<Value = String> {
        let space = || prop_oneof![Just(""), Just(" "), Just("   ")];
        let scalar = prop_oneof![
            Just("1".to_owned()),
            Just("true".to_owned()),
            Just("\"a # b\"".to_owned()),
            Just("'x'".to_owned()),
            Just("\"\"\"\n a\n\n b\"\"\"".to_owned()),
            Just("0x1F".to_owned()),
            Just("2026-01-01".to_owned()),
        ];
        let value = scalar.prop_recursive(3, 12, 4, move |inner| {
            let gap = prop_oneof![Just(""), Just(" "), Just("\n"), Just("\n\n  # c\n"), Just(" # c\n   ")];
            let list = (proptest::collection::vec((gap.clone(), inner.clone(), gap.clone()), 0..4), gap, any::<bool>())
                .prop_map(|(items, end, comma)| {
                    let items: Vec<String> =
                        items.into_iter().map(|(before, item, after)| format!("{before}{item}{after}")).collect();
                    let comma = if comma && !items.is_empty() { "," } else { "" };
                    format!("[{}{comma}{end}]", items.join(","))
                });
            let table =
                proptest::collection::vec((prop_oneof![Just(""), Just(" ")], inner), 0..3).prop_map(|members| {
                    let members: Vec<String> = members
                        .into_iter()
                        .enumerate()
                        .map(|(i, (space, value))| format!("{space}k{i}{space}={space}{value}{space}"))
                        .collect();
                    format!("{{{}}}", members.join(","))
                });
            prop_oneof![list, table]
        });
        let trivia = || {
            prop_oneof![
                Just("".to_owned()),
                Just("\n".to_owned()),
                Just("\n\n".to_owned()),
                Just("# c\n".to_owned()),
                Just("  # c\n\n\n# d\n".to_owned())
            ]
        };
        let end = prop_oneof![Just("\n"), Just(" # c\n"), Just("  \n")];
        let line = (
            trivia(),
            space(),
            prop_oneof![Just("k"), Just("long_key"), Just("a.b"), Just("\"q k\"")],
            space(),
            value,
            end,
        );
        let block = (
            trivia(),
            prop_oneof![Just("[T]"), Just("[ T . \"x y\" ]"), Just("[[L]]"), Just("[[L.M]]")],
            proptest::collection::vec(line, 0..5),
        );
        proptest::collection::vec(block, 0..4).prop_map(|blocks| {
            let mut out = String::new();
            for (i, (trivia, header, lines)) in blocks.into_iter().enumerate() {
                let header = header.replace('T', &format!("t{i}")).replace("[[L.M]]", &format!("[[l{i}.m]]"));
                out += &format!("{trivia}{}\n", header.replace('L', "list"));
                for (j, (trivia, before, key, space, value, end)) in lines.into_iter().enumerate() {
                    let key = if key.contains('.') {
                        format!("a{j}.b")
                    } else if key.starts_with('"') {
                        format!("\"q {j}\"")
                    } else {
                        format!("{key}{j}")
                    };
                    out += &format!("{trivia}{before}{key}{space}={space}{value}{end}");
                }
            }
            out
        })
    }

    fn count_comments(text: &str) -> usize {
        text.matches("# c").count() + text.matches("# d").count()
    }

    proptest! {
        #[test]
        fn formatting_is_idempotent_and_keeps_the_meaning(text in texts()) {
            let before: toml::Table = text.parse().unwrap();
            let once = format(&text).unwrap();
            prop_assert_eq!(&before, &once.parse::<toml::Table>().unwrap(), "{}\n---\n{}", text, once);
            prop_assert_eq!(count_comments(&text), count_comments(&once), "{}\n---\n{}", text, once);
            prop_assert_eq!(&format(&once).unwrap(), &once, "{}\n---\n{}", text, once);
        }

        #[test]
        fn it_never_panics(text in "[a-z=\\[\\]{}\"'#,. \n0-9]{0,60}") {
            if let Ok(once) = format(&text) {
                prop_assert_eq!(toml::Table::from_str(&text).unwrap(), toml::Table::from_str(&once).unwrap(), "{}\n---\n{}", text, once);
                prop_assert_eq!(format(&once).unwrap(), once.clone(), "{}\n---\n{}", text, once);
            }
        }
    }
}
