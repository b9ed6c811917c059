//! One attribute of a change: what differs, and the lines that show it.

use std::collections::BTreeSet;

use moorfast_engine::model::is_mark;
use moorfast_engine::plan::{Change, Difference, PathSegment, differences, parse_path};
use moorfast_engine::provider::Action;
use serde_json::{Map, Value as Json};

use super::structure::structure;
use super::style::{ADD, CHANGE, DESTROY, DIM, paint};
use super::text_diff::text_diff;
use super::value::{inline, is_flat_list, is_hidden, is_multi_line, path, printable};

/// How many lines of a new text are shown.
const NEW_TEXT_LINES: usize = 12;

/// How many digits of a digest are shown.
const DIGEST_DIGITS: usize = 12;

/// One attribute that a change makes, changes or takes away.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The way to it, as expressions write it.
    pub path: String,
    /// Its value before.
    pub before: Option<Json>,
    /// Its value after.
    pub after: Option<Json>,
    /// Is it why the object must be replaced?
    pub forces_replacement: bool,
}

/// The lines of a row: what follows its name, and what stands below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lines {
    /// On the line of the name.
    pub head: String,
    /// Below it.
    pub block: Vec<String>,
}

/// How much room and detail there is.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// Columns.
    pub width: usize,
    /// Show texts whole?
    pub full: bool,
}

/// The rows of a change; `immutable` attributes say that they force its replacement.
pub fn rows(change: &Change, immutable: &BTreeSet<&str>) -> Vec<Row> {
    rows_between(without_handed_over(change).as_ref(), change.after.as_ref(), immutable)
}

/// What there was before, without the objects that another instance owns from now on: nothing is done with them.
fn without_handed_over(change: &Change) -> Option<Map<String, Json>> {
    let mut before = change.before.clone()?;
    for object in change.objects.iter().filter(|object| object.action == Action::Forget) {
        for held in before.values_mut().filter_map(Json::as_object_mut) {
            held.remove(&object.name);
        }
    }
    Some(before)
}

/// The rows between two sealed objects.
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

/// Every leaf of an object with the path to it; lists of plain values are leaves.
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
        Json::Object(map) if !is_mark(map) && !map.is_empty() => {
            map.iter().for_each(|(name, value)| collect_leaves(extend(PathSegment::Name(name.clone())), value, found));
        }
        Json::Array(items) if !is_flat_list(value) => {
            items.iter().enumerate().for_each(|(i, value)| collect_leaves(extend(PathSegment::Index(i)), value, found));
        }
        leaf => found(path, leaf.clone()),
    }
}

/// Differences inside a list of plain values become one difference of the whole list: an item put in front is not a change of all.
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

/// What comes or goes as a whole is shown leaf by leaf.
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
    /// `+`, `~` or `-`, coloured.
    pub fn symbol(&self) -> String {
        match (&self.before, &self.after) {
            (None, _) => paint(ADD, "+"),
            (_, None) => paint(DESTROY, "-"),
            _ => paint(CHANGE, "~"),
        }
    }

    /// The lines that show it.
    pub fn lines(&self, room: Room) -> Lines {
        let mut lines = match (&self.before, &self.after) {
            (None, Some(after)) if is_multi_line(after) => new_text(after.as_str().unwrap_or_default(), room),
            (Some(before), None) if is_multi_line(before) => head(line_count(before.as_str().unwrap_or_default())),
            (None, Some(value)) | (Some(value), None) => head(cut(&shortened(value), room)),
            (Some(before), Some(after)) => changed(before, after, room),
            (None, None) => head(String::new()),
        };
        if self.forces_replacement {
            lines.head = format!("{} {}", lines.head, paint(DESTROY, "# forces replacement"));
        }
        lines
    }
}

/// The lines of rows outside of a block, aligned.
pub fn table(rows: &[Row], room: Room) -> Vec<String> {
    let label = rows.iter().map(|row| row.path.chars().count()).max().unwrap_or(0);
    let inner = Room { width: room.width.saturating_sub(label + 7), ..room };
    let mut lines = Vec::new();
    for row in rows {
        let shown = row.lines(inner);
        let name = if shown.head.is_empty() {
            format!("{}:", row.path)
        } else {
            format!("{:label$} = {}", row.path, shown.head)
        };
        lines.push(format!("  {} {name}", row.symbol()));
        lines.extend(shown.block.iter().map(|line| format!("      {line}")));
    }
    lines
}

fn head(head: impl Into<String>) -> Lines {
    Lines { head: head.into(), block: Vec::new() }
}

fn changed(before: &Json, after: &Json, room: Room) -> Lines {
    if is_hidden(before) && is_hidden(after) {
        let text = inline(after);
        return head(if text == inline(before) { format!("{text} {}", paint(DIM, "# changes")) } else { text });
    }
    if let (Json::String(old), Json::String(new)) = (before, after)
        && (is_multi_line(before) || is_multi_line(after))
    {
        let mut block = structure(old, new, room);
        block.extend(text_diff(old, new));
        return Lines { head: String::new(), block };
    }
    let (old, new) = (shortened(before), shortened(after));
    if old.chars().count() + new.chars().count() + 4 <= room.width {
        return head(format!("{old} -> {new}"));
    }
    if let (Json::Array(old), Json::Array(new)) = (before, after)
        && is_flat_list(before)
        && is_flat_list(after)
    {
        let text = |items: &[Json]| items.iter().map(|item| inline(item) + "\n").collect::<String>();
        return Lines { head: String::new(), block: text_diff(&text(old), &text(new)) };
    }
    Lines {
        head: String::new(),
        block: vec![format!("{} {old}", paint(DESTROY, "-")), format!("{} {new}", paint(ADD, "+"))],
    }
}

/// The value on one line; of a digest, the first digits are enough to tell it from another.
fn shortened(value: &Json) -> String {
    let is_digest = |text: &str| text.len() >= 40 && text.bytes().all(|b| b.is_ascii_hexdigit());
    match value.as_str() {
        Some(text) if is_digest(text) => format!("\"{}…\"", &text[..DIGEST_DIGITS]),
        _ => inline(value),
    }
}

fn new_text(text: &str, room: Room) -> Lines {
    let all: Vec<_> = text.lines().collect();
    // A rest of one line takes the place of the line that tells of it.
    let shown = if room.full || all.len() <= NEW_TEXT_LINES + 1 { all.len() } else { NEW_TEXT_LINES };
    let mut block: Vec<_> =
        all[..shown].iter().map(|line| format!("{}{}", paint(DIM, "| "), printable(line))).collect();
    if shown < all.len() {
        block.push(paint(DIM, format!("… {} more lines (--full shows them)", all.len() - shown)));
    }
    Lines { head: line_count(text), block }
}

fn line_count(text: &str) -> String {
    paint(DIM, format!("({} lines)", text.lines().count()))
}

fn cut(text: &str, room: Room) -> String {
    let length = text.chars().count();
    let kept = room.width.saturating_sub(30).max(40);
    if room.full || length <= room.width.max(kept) {
        return text.to_owned();
    }
    let shown: String = text.chars().take(kept).collect();
    format!("{shown}{}", paint(DIM, format!("… ({} more characters)", length - kept)))
}
