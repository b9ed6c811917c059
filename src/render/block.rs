//! One block of a plan: the headline of a change, why, and its attributes.

use moorfast_engine::plan::Action;

use super::fold::{Block, Member};
use super::restated::is_restated;
use super::row::{Lines, Room, Row};
use super::style::{BOLD, DIM, paint};
use super::text_diff::{changed_lines, text_diff};
use super::value::{is_multi_line, is_plainly_unknown, printable};
use super::wording::{headline, listed, object_line, reasons, symbol};

/// The names of how many instances stand in a headline.
const NAMED: usize = 8;
/// The columns left of an attribute's name.
const INDENT: usize = 6;

/// The lines of a block.
pub fn block(block: &Block, room: Room) -> Vec<String> {
    let mut lines = vec![format!("  # {}", title(block))];
    lines.extend(body(block, room));
    lines
}

/// The lines of a block below its title.
pub fn body(block: &Block, room: Room) -> Vec<String> {
    let change = block.first().change;
    let mut lines = Vec::new();
    lines.extend(reasons(change).into_iter().map(|reason| format!("  {}", paint(DIM, format!("#   {reason}")))));
    if matches!(change.action, Action::NoOp | Action::Adopt | Action::Forget) {
        return lines;
    }
    let (mark, style) = symbol(change.action);
    // What is made shows all of its attributes; of what is there already the name tells which one it is.
    let same = |identity: &&String| block.members.iter().all(|m| m.change.identity.as_ref() == Some(identity));
    let identity = change.identity.as_ref().filter(|_| change.action != Action::Create).filter(same);
    let name = match identity {
        Some(identity) => format!("{} {}", change.resource_type, printable(identity)),
        None => change.resource_type.clone(),
    };
    lines.push(format!("  {} {name}", paint(style, mark)));
    lines.extend(listed(change).into_iter().map(|object| format!("{}{}", " ".repeat(INDENT), object_line(object))));
    lines.extend(attributes(block, room));
    lines
}

/// What happens to which instances, on one line.
pub fn title(block: &Block) -> String {
    let change = block.first().change;
    let headline = headline(change, block.members.iter().map(|m| m.rows.len()).sum());
    if block.members.len() == 1 {
        return format!("{} {headline}", paint(BOLD, &change.address));
    }
    let keys: Vec<_> = block.members.iter().filter_map(|m| m.change.address.key.as_deref()).collect();
    let (on, noun) = if block.is_per_node() { ("on", "nodes") } else { ("for", "instances") };
    let names = if keys.len() <= NAMED { format!(": {}", keys.join(", ")) } else { String::new() };
    let resource = paint(BOLD, &change.address.resource);
    format!("{resource} {headline} {on} {} {noun}{names}", keys.len())
}

/// The attributes of all members: those that are equal once, the others for each.
fn attributes(block: &Block, room: Room) -> Vec<String> {
    let mut paths: Vec<&str> = Vec::new();
    let mut later: Vec<&str> = Vec::new();
    let resource_type = &block.first().change.resource_type;
    let is_news = |member: &Member, row: &Row| room.full || !is_restated(resource_type, row, member.rows.iter());
    for row in block.members.iter().flat_map(|m| m.rows.iter().filter(|row| is_news(m, row))) {
        let list = if is_set_by_apply(row) { &mut later } else { &mut paths };
        if !list.contains(&row.path.as_str()) {
            list.push(&row.path);
        }
    }
    later.retain(|path| !paths.contains(path));
    let label = paths.iter().map(|p| p.chars().count()).filter(|n| *n <= 40).max().unwrap_or(0);
    let inner = Room { width: room.width.saturating_sub(INDENT + 2 + label + 3), ..room };
    let mut lines: Vec<_> = paths.iter().flat_map(|path| attribute(block, path, label, inner)).collect();
    if !later.is_empty() {
        lines.push(format!(
            "{}{}",
            " ".repeat(INDENT),
            paint(DIM, format!("# known after apply: {}", later.join(", ")))
        ));
    }
    lines
}

/// A new attribute of which nothing is known yet is not worth a line of its own.
fn is_set_by_apply(row: &Row) -> bool {
    row.before.is_none() && row.after.as_ref().is_some_and(is_plainly_unknown)
}

fn attribute(block: &Block, path: &str, label: usize, room: Room) -> Vec<String> {
    let variants = variants_of(block, path, room);
    match variants.as_slice() {
        [Variant { row: Some(row), lines, .. }] if lines.block.is_empty() || shows_all(block, path, lines, room) => {
            plain(row, lines, label)
        }
        [Variant { row: Some(row), lines, keys }] => {
            let head = paint(DIM, format!("(the lines around it are those of {})", keys[0]));
            plain(row, &Lines { head, block: lines.block.clone() }, label)
        }
        many if many.iter().all(|v| v.row.is_some_and(is_new_text)) => texts_by_node(many, label),
        // What differs is shown whole: the difference may be where the line would be cut.
        _ => by_node(&variants_of(block, path, Room { full: true, ..room }), label),
    }
}

/// Do these lines show the attribute of every member as it is?
fn shows_all(block: &Block, path: &str, lines: &Lines, room: Room) -> bool {
    let mut rows = block.members.iter().flat_map(|m| &m.rows).filter(|row| row.path == path);
    rows.all(|row| row.lines(room) == *lines)
}

/// What an attribute does on some of the members.
struct Variant<'a> {
    /// None where it does not change there.
    row: Option<&'a Row>,
    /// The lines that show it.
    lines: Lines,
    /// The keys of those members.
    keys: Vec<&'a str>,
}

fn variants_of<'a>(block: &'a Block, path: &str, room: Room) -> Vec<Variant<'a>> {
    let mut found: Vec<Variant> = Vec::new();
    for member in &block.members {
        let row = member.rows.iter().find(|row| row.path == path);
        let lines = row.map(|row| row.lines(room)).unwrap_or_default();
        let key = member.change.address.key.as_deref().unwrap_or_default();
        match found.iter_mut().find(|known| is_same(known, row, &lines)) {
            Some(known) => known.keys.push(key),
            None => found.push(Variant { row, lines, keys: vec![key] }),
        }
    }
    found
}

/// Lines of new strings may be cut, so that equal lines do not say that the values are equal.
fn is_same(known: &Variant, row: Option<&Row>, lines: &Lines) -> bool {
    let may_be_cut = |row: &Row| row.before.is_none() && row.after.as_ref().is_some_and(serde_json::Value::is_string);
    match (known.row, row) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b || (!may_be_cut(b) && known.lines == *lines) || is_same_edit(a, b),
        _ => false,
    }
}

/// Do the same lines of a text come and go, whatever stands around them?
fn is_same_edit(a: &Row, b: &Row) -> bool {
    let lines = |row: &Row| {
        let (before, after) = (row.before.as_ref()?, row.after.as_ref()?);
        let is_text = is_multi_line(before) || is_multi_line(after);
        Some(changed_lines(before.as_str()?, after.as_str()?)).filter(|_| is_text)
    };
    lines(a).is_some_and(|a| Some(a) == lines(b))
}

fn is_new_text(row: &Row) -> bool {
    row.before.is_none() && row.after.as_ref().is_some_and(is_multi_line)
}

fn plain(row: &Row, lines: &Lines, label: usize) -> Vec<String> {
    let indent = " ".repeat(INDENT);
    let name =
        if lines.head.is_empty() { format!("{}:", row.path) } else { format!("{:label$} = {}", row.path, lines.head) };
    let mut all = vec![format!("{indent}{} {name}", row.symbol())];
    all.extend(indented(&lines.block, INDENT + 4));
    all
}

/// Every node's own lines.
fn by_node(variants: &[Variant], label: usize) -> Vec<String> {
    let Some(row) = variants.iter().find_map(|v| v.row) else { return Vec::new() };
    let indent = " ".repeat(INDENT + 4);
    let widest = variants.iter().map(|v| v.keys.join(", ").chars().count()).max().unwrap_or(0);
    let mut all =
        vec![format!("{}{} {:label$}   {}", " ".repeat(INDENT), row.symbol(), row.path, paint(DIM, "(differs)"))];
    for variant in variants {
        let names = variant.keys.join(", ");
        match variant.row {
            None => all.push(format!("{indent}{names:widest$}   {}", paint(DIM, "no change"))),
            Some(_) if variant.lines.block.is_empty() => {
                all.push(format!("{indent}{names:widest$} = {}", variant.lines.head));
            }
            Some(_) => {
                all.push(format!("{indent}{names}: {}", variant.lines.head).trim_end().to_owned());
                all.extend(indented(&variant.lines.block, INDENT + 6));
            }
        }
    }
    all
}

/// A new text that differs from node to node: the first as it is, the others as they differ from it.
fn texts_by_node(variants: &[Variant], label: usize) -> Vec<String> {
    let text = |v: &Variant| v.row.and_then(|r| r.after.as_ref()?.as_str().map(str::to_owned)).unwrap_or_default();
    let Some((first, others)) = variants.split_first() else { return Vec::new() };
    let Some(row) = first.row else { return Vec::new() };
    let mut lines = first.lines.clone();
    lines.head = format!("{} {}", lines.head, paint(DIM, format!("on {}", first.keys.join(", "))));
    let mut all = plain(row, &lines, label);
    for other in others {
        let heading = format!("on {} the same, but", other.keys.join(", "));
        all.push(format!("{}{}", " ".repeat(INDENT + 4), paint(DIM, heading)));
        all.extend(indented(&text_diff(&text(first), &text(other)), INDENT + 6));
    }
    all
}

fn indented(lines: &[String], by: usize) -> Vec<String> {
    lines.iter().map(|line| format!("{}{line}", " ".repeat(by))).collect()
}
