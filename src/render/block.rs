//! A block of a plan: the headline of a change, its reasons and its attributes.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use moorfast_engine::provider::Action;

use super::fold::{Block, Difference, Member};
use super::instance_name::{on_every_node, starred};
use super::row::Row;
use super::row_lines::Lines;
use super::text::{Line, Style, styled};
use super::text_diff::{changed_lines, text_diff};
use super::text_options::TextOptions;
use super::value::{is_multi_line, is_plainly_unknown};
use super::wording::{headline, listed, object_line, reasons, symbol};

/// Maximum number of instance names in a headline.
const NAMED: usize = 8;
/// The indentation of attributes in columns.
const INDENT: usize = 6;

/// Returns the lines of a block.
pub fn block(block: &Block, options: TextOptions) -> Vec<Line> {
    let mut lines = vec![Line::from("  # ") + title(block)];
    lines.extend(body(block, options));
    lines
}

/// Returns the lines of a block below its title.
pub fn body(block: &Block, options: TextOptions) -> Vec<Line> {
    let change = block.first().change;
    let reason = |reason| styled(Style::Dim, format!("#   {reason}")).indented(2);
    let mut lines: Vec<_> = block_reasons(block).into_iter().map(reason).collect();
    if matches!(change.action, Action::NoOp | Action::Adopt | Action::Forget) {
        return lines;
    }
    let (mark, style) = symbol(change.action);
    // A created object shows all of its attributes. An existing object shows its identity.
    let name = match identity(block).filter(|_| change.action != Action::Create) {
        Some(identity) => format!("{} {identity}", change.resource_type),
        None => change.resource_type.clone(),
    };
    lines.push((styled(style, mark) + " " + name).indented(2));
    lines.extend(listed(change).into_iter().map(|object| object_line(object).indented(INDENT)));
    lines.extend(attributes(block, options));
    lines
}

/// Returns the reasons of a block. If they contain instance names, these are replaced by `*`.
fn block_reasons(block: &Block) -> Vec<String> {
    let first = reasons(block.first().change);
    if block.members.iter().all(|member| reasons(member.change) == first) {
        return first;
    }
    block.first().reasons.iter().map(|reason| starred(reason)).collect()
}

/// Returns the common identity of all members.
fn identity(block: &Block) -> Option<String> {
    let first = block.first();
    let all = |same: &dyn Fn(&Member) -> bool| block.members.iter().all(same);
    if all(&|member| member.change.identity == first.change.identity) {
        return first.change.identity.clone();
    }
    first.identity.as_deref().filter(|_| all(&|member| member.identity == first.identity)).map(starred)
}

/// Returns the title: the instances and their action.
pub fn title(block: &Block) -> Line {
    let change = block.first().change;
    let headline = headline(change, block.members.iter().map(|m| m.rows.len()).sum());
    let count = block.members.len();
    if count == 1 {
        return styled(Style::Bold, &change.address) + " " + headline;
    }
    let names = if count <= NAMED { format!(": {}", block.names().join(", ")) } else { String::new() };
    match block.on_nodes() {
        Some(element) => {
            let resource = styled(Style::Bold, on_every_node(&block.resource(), element));
            resource + " " + headline + format!(" on {count} nodes{names}")
        }
        None => {
            let resource = styled(Style::Bold, block.resource());
            resource + " " + headline + format!(" for {count} instances{names}")
        }
    }
}

/// Returns the lines of the attributes: equal ones once, the others for each member.
fn attributes(block: &Block, options: TextOptions) -> Vec<Line> {
    let mut paths: Vec<&str> = Vec::new();
    let mut later: Vec<&str> = Vec::new();
    let resource_type = &block.first().change.resource_type;
    let is_equal = |row: &Row| block.members.iter().all(|m| m.row(&row.path).is_some_and(|(other, _)| other == row));
    let equal: HashSet<&str> = match options.full {
        true => block.first().rows.iter().filter(|row| is_equal(row)).map(|row| row.path.as_str()).collect(),
        false => HashSet::new(),
    };
    // Digests of different texts add no information to the texts.
    let is_shown = |member: &Member, row: &Row| {
        !options.derived.contain(resource_type, &row.path, member.rows.iter().map(|row| row.path.as_str()))
            || equal.contains(row.path.as_str())
    };
    for row in block.members.iter().flat_map(|m| m.rows.iter().filter(|row| is_shown(m, row))) {
        let list = if is_set_by_apply(row) { &mut later } else { &mut paths };
        if !list.contains(&row.path.as_str()) {
            list.push(&row.path);
        }
    }
    later.retain(|path| !paths.contains(path));
    let label = paths.iter().map(|p| p.chars().count()).filter(|n| *n <= 40).max().unwrap_or(0);
    let inner = TextOptions { width: options.width.saturating_sub(INDENT + 2 + label + 3), ..options };
    let mut lines: Vec<_> = paths.iter().flat_map(|path| attribute(block, path, label, inner)).collect();
    if !later.is_empty() {
        lines.push(styled(Style::Dim, format!("# known after apply: {}", later.join(", "))).indented(INDENT));
    }
    lines
}

/// Returns whether the row is a new attribute with an unknown value. Such attributes share one line.
fn is_set_by_apply(row: &Row) -> bool {
    row.before.is_none() && row.after.as_ref().is_some_and(is_plainly_unknown)
}

fn attribute(block: &Block, path: &str, label: usize, options: TextOptions) -> Vec<Line> {
    let variants = variants_of(block, path, options);
    match variants.as_slice() {
        [Variant { row: Some(row), lines, .. }] if shows_all(block, path, lines, options) => plain(row, lines, label),
        [Variant { row: Some(row), lines, names, edit, .. }] => {
            let note = match edit {
                Some(_) => format!("(with the context lines of {})", names[0]),
                None => format!("(as on {}; the others differ only in their names)", names[0]),
            };
            plain(row, &Lines { head: noted(&lines.head, note), block: lines.block.clone() }, label)
        }
        many if many.iter().all(|v| v.row.is_some_and(is_new_text)) => texts_by_node(many, label),
        // Different values are shown in full, because the difference may be in the part that would be cut.
        _ => by_node(&variants_of(block, path, TextOptions { full: true, ..options }), label),
    }
}

/// Returns whether these lines show the exact attribute of every member.
fn shows_all(block: &Block, path: &str, lines: &Lines, options: TextOptions) -> bool {
    block.members.iter().filter_map(|m| m.row(path)).all(|(row, _)| row.lines(options) == *lines)
}

/// A change of an attribute that some of the members have in common.
struct Variant<'a> {
    /// The row, or `None` if the attribute does not change.
    row: Option<&'a Row>,
    /// The lines of the attribute.
    lines: Lines,
    /// The names of the members.
    names: Vec<Cow<'a, str>>,
    /// The added and removed lines of a text, if they are the same on all of them.
    edit: Option<Vec<String>>,
}

fn variants_of<'a>(block: &'a Block, path: &str, options: TextOptions) -> Vec<Variant<'a>> {
    let mut found: Vec<Variant> = Vec::new();
    let mut known = Known::default();
    for (member, name) in block.members.iter().zip(block.names()) {
        let (row, difference) = member.row(path).unzip();
        let lines = row.map(|row| row.lines(options)).unwrap_or_default();
        match known.variant(row, difference, &lines) {
            Some(index) => {
                let variant = &mut found[index];
                variant.names.push(name);
                variant.edit = variant.edit.take().filter(|lines| row.and_then(edit).as_ref() == Some(lines));
            }
            None => {
                known.add(found.len(), row, difference, &lines);
                found.push(Variant { row, lines, names: vec![name], edit: row.and_then(edit) });
            }
        }
    }
    found
}

/// The indexes of the known variants, so that thousands of different values are not compared with each other.
#[derive(Default)]
struct Known<'a> {
    by_row: HashMap<Option<&'a Row>, usize>,
    by_lines: HashMap<Lines, usize>,
    by_difference: HashMap<&'a Difference, usize>,
}

impl<'a> Known<'a> {
    /// Returns the first variant to which a row belongs. Lines of new strings may be cut, so equal lines do not imply equal values.
    fn variant(&self, row: Option<&'a Row>, difference: Option<&'a Difference>, lines: &Lines) -> Option<usize> {
        let may_be_cut =
            |row: &Row| row.before.is_none() && row.after.as_ref().is_some_and(serde_json::Value::is_string);
        let same_lines = row.filter(|row| !may_be_cut(row)).and_then(|_| self.by_lines.get(lines));
        let same_difference = difference.and_then(|difference| self.by_difference.get(difference));
        self.by_row.get(&row).into_iter().chain(same_lines).chain(same_difference).min().copied()
    }

    fn add(&mut self, index: usize, row: Option<&'a Row>, difference: Option<&'a Difference>, lines: &Lines) {
        self.by_row.entry(row).or_insert(index);
        if let Some(difference) = difference {
            self.by_lines.entry(lines.clone()).or_insert(index);
            self.by_difference.entry(difference).or_insert(index);
        }
    }
}

/// Returns the added and removed lines of a text.
fn edit(row: &Row) -> Option<Vec<String>> {
    let (before, after) = row.before.as_ref().zip(row.after.as_ref())?;
    Some(changed_lines(before.as_str()?, after.as_str()?))
}

fn is_new_text(row: &Row) -> bool {
    row.before.is_none() && row.after.as_ref().is_some_and(is_multi_line)
}

/// Returns the head of an attribute with a note.
fn noted(head: &Line, note: String) -> Line {
    let note = styled(Style::Dim, note);
    if head.is_empty() { note } else { head.clone() + " " + note }
}

fn plain(row: &Row, lines: &Lines, label: usize) -> Vec<Line> {
    let mut all = vec![row.named(lines.head.clone(), label).indented(INDENT)];
    all.extend(indented(&lines.block, INDENT + 4));
    all
}

/// Returns the lines of an attribute for each node.
fn by_node(variants: &[Variant], label: usize) -> Vec<Line> {
    let Some(row) = variants.iter().find_map(|v| v.row) else { return Vec::new() };
    let widest = variants.iter().map(|v| v.names.join(", ").chars().count()).max().unwrap_or(0);
    let heading = row.symbol() + format!(" {:label$}   ", row.path) + styled(Style::Dim, "(differs)");
    let mut all = vec![heading.indented(INDENT)];
    for variant in variants {
        let names = variant.names.join(", ");
        match variant.row {
            None => {
                let line = Line::from(format!("{names:widest$}   ")) + styled(Style::Dim, "no change");
                all.push(line.indented(INDENT + 4));
            }
            Some(_) if variant.lines.block.is_empty() => {
                let line = Line::from(format!("{names:widest$} = ")) + variant.lines.head.clone();
                all.push(line.indented(INDENT + 4));
            }
            Some(_) => {
                let gap = if variant.lines.head.is_empty() { "" } else { " " };
                let line = Line::from(format!("{names}:{gap}")) + variant.lines.head.clone();
                all.push(line.indented(INDENT + 4));
                all.extend(indented(&variant.lines.block, INDENT + 6));
            }
        }
    }
    all
}

/// Returns the lines of a new text that differs between nodes: the first in full, the others as a diff to the first.
fn texts_by_node(variants: &[Variant], label: usize) -> Vec<Line> {
    let text = |v: &Variant| v.row.and_then(|r| r.after.as_ref()?.as_str().map(str::to_owned)).unwrap_or_default();
    let Some((first, others)) = variants.split_first() else { return Vec::new() };
    let Some(row) = first.row else { return Vec::new() };
    let mut lines = first.lines.clone();
    lines.head = lines.head + " " + styled(Style::Dim, format!("on {}", first.names.join(", ")));
    let mut all = plain(row, &lines, label);
    for other in others {
        let heading = format!("on {}, the same except", other.names.join(", "));
        all.push(styled(Style::Dim, heading).indented(INDENT + 4));
        all.extend(indented(&text_diff(&text(first), &text(other)), INDENT + 6));
    }
    all
}

fn indented(lines: &[Line], by: usize) -> Vec<Line> {
    lines.iter().map(|line| line.clone().indented(by)).collect()
}
