//! Rows: the changed attributes of a change, with their lines.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Change, Difference, PathSegment, differences, parse_path};
use moorfast_engine::provider::Action;
use serde_json::{Map, Value as Json};

use super::derived_attributes::DerivedAttributes;
use super::structure::structure;
use super::text::{Line, Style, styled};
use super::text_diff::text_diff;
use super::value::{inline, is_flat_list, is_hidden, is_multi_line, path};

/// Maximum number of lines of a new text.
const NEW_TEXT_LINES: usize = 12;

/// Number of digits of a shortened digest.
const DIGEST_DIGITS: usize = 12;

/// An attribute that a change adds, changes or removes.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The path of the attribute, in the syntax of expressions.
    pub path: String,
    /// The value before.
    pub before: Option<Json>,
    /// The value after.
    pub after: Option<Json>,
    /// Whether the change of this attribute forces the replacement of the object.
    pub forces_replacement: bool,
}

/// The lines of a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// The text after the name of the attribute.
    pub head: Line,
    /// The lines below the name.
    pub block: Vec<Line>,
}

/// The options of rendered text: its width, its level of detail, and the attributes that are shown only without their source.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions<'a> {
    /// The width in columns.
    pub width: usize,
    /// Whether to show long texts in full.
    pub full: bool,
    /// The derived attributes of all resource types.
    pub derived: &'a DerivedAttributes,
}

/// Returns the rows of a change. Changes of `immutable` attributes force its replacement.
pub fn rows(change: &Change, immutable: &BTreeSet<&str>) -> Vec<Row> {
    rows_between(without_moved_objects(change).as_ref(), change.after.as_ref(), immutable)
}

/// Returns the attributes before the change, without the objects that move to another instance.
fn without_moved_objects(change: &Change) -> Option<Map<String, Json>> {
    let mut before = change.before.clone()?;
    for object in change.objects.iter().filter(|object| object.action == Action::Forget) {
        for held in before.values_mut().filter_map(Json::as_object_mut) {
            held.remove(&object.name);
        }
    }
    Some(before)
}

/// Returns the rows of the differences between two sealed objects.
pub fn rows_between(
    before: Option<&Map<String, Json>>,
    after: Option<&Map<String, Json>>,
    immutable: &BTreeSet<&str>,
) -> Vec<Row> {
    let found = match (before, after) {
        (Some(before), Some(after)) => lists_whole(differences(Some(before), after), before, after),
        (None, Some(after)) => leaves(after, |value| Difference { path: vec![], before: None, after: Some(value) }),
        (Some(before), None) => leaves(before, |value| Difference { path: vec![], before: Some(value), after: None }),
        (None, None) => Vec::new(),
    };
    let immutable: Vec<_> = immutable.iter().map(|path| parse_path(path)).collect();
    let forces =
        |steps: &[PathSegment]| immutable.iter().any(|path| steps.starts_with(path) || path.starts_with(steps));
    found
        .into_iter()
        .map(|d| Row { forces_replacement: forces(&d.path), path: path(&d.path), before: d.before, after: d.after })
        .collect()
}

/// Returns every leaf of an object with its path. Lists of plain values are leaves.
fn leaves(object: &Map<String, Json>, make: impl Fn(Json) -> Difference) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, value) in object {
        collect_leaves(vec![PathSegment::Name(name.clone())], value, &mut |path, value| {
            found.push(Difference { path, ..make(value) });
        });
    }
    found
}

fn collect_leaves(path: Vec<PathSegment>, value: &Json, found: &mut impl FnMut(Vec<PathSegment>, Json)) {
    let extend = |step| path.iter().cloned().chain([step]).collect();
    match value {
        Json::Null => {}
        Json::Object(map) if !is_hidden(value) && !map.is_empty() => {
            map.iter().for_each(|(name, value)| collect_leaves(extend(PathSegment::Name(name.clone())), value, found));
        }
        Json::Array(items) if !is_flat_list(value) => {
            items.iter().enumerate().for_each(|(i, value)| collect_leaves(extend(PathSegment::Index(i)), value, found));
        }
        leaf => found(path, leaf.clone()),
    }
}

/// Joins the differences inside a list of plain values to one difference of the whole list, so that an inserted item is not a change of all others.
fn lists_whole(found: Vec<Difference>, before: &Map<String, Json>, after: &Map<String, Json>) -> Vec<Difference> {
    let mut whole: Vec<Difference> = Vec::new();
    for difference in found {
        let list = difference.path.iter().position(|step| matches!(step, PathSegment::Index(_)));
        let Some((old, new, path)) = list.and_then(|i| {
            let path = &difference.path[..i];
            let (old, new) = (at(before, path)?, at(after, path)?);
            (is_flat_list(old) && is_flat_list(new)).then(|| (old.clone(), new.clone(), path.to_vec()))
        }) else {
            whole.extend(expanded(difference));
            continue;
        };
        if whole.last().is_none_or(|last| last.path != path) {
            whole.push(Difference { path, before: Some(old), after: Some(new) });
        }
    }
    whole
}

/// Splits the difference of an added or removed object into its leaves.
fn expanded(difference: Difference) -> Vec<Difference> {
    let mut found = Vec::new();
    match (&difference.before, &difference.after) {
        (None, Some(value)) => collect_leaves(difference.path.clone(), value, &mut |path, value| {
            found.push(Difference { path, before: None, after: Some(value) });
        }),
        (Some(value), None) => collect_leaves(difference.path.clone(), value, &mut |path, value| {
            found.push(Difference { path, before: Some(value), after: None });
        }),
        _ => found.push(difference),
    }
    found
}

fn at<'a>(object: &'a Map<String, Json>, path: &[PathSegment]) -> Option<&'a Json> {
    let (PathSegment::Name(first), rest) = path.split_first()? else { return None };
    rest.iter().try_fold(object.get(first)?, |value, step| match step {
        PathSegment::Name(name) => value.get(name),
        PathSegment::Index(index) => value.get(index),
    })
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
        let mut block = structure(old, new, options);
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
