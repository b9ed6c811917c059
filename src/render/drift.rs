//! What the world did since the last apply.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Change, Drift, Plan, Reason};

use super::fold::Look;
use super::machines;
use super::own_name::{OnNode, on_every_node, on_node};
use super::plan::checks;
use super::restated::is_restated;
use super::row::{Room, Row, rows_between, table};
use super::style::{ADD, BOLD, CHANGE, DESTROY, DIM, paint};

/// How many other instances with the same drift are named by their whole addresses.
const NAMED: usize = 8;

/// What a look at the world left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unsaid {
    /// How many objects could not be looked at.
    pub unread: usize,
    /// How much drift was told before.
    pub known: usize,
}

/// What `moorfast drift` tells.
pub fn drift(plan: &Plan, unsaid: Unsaid, room: Room) -> String {
    let all: Vec<_> = plan.drift.iter().collect();
    let sections =
        [machines::section(plan, true), section(&all, room), checks(&plan.checks), vec![closing(plan, unsaid)]];
    let texts: Vec<_> = sections.into_iter().filter(|s| !s.is_empty()).map(|s| s.join("\n")).collect();
    texts.join("\n\n") + "\n"
}

/// The last line: what it comes to.
pub fn closing(plan: &Plan, unsaid: Unsaid) -> String {
    let Unsaid { unread, known } = unsaid;
    match (plan.drift.len(), plan.mismatches()) {
        (0, 0) if known > 0 => paint(ADD.bold(), "No new drift.") + &format!(" {known} drifted before and still do."),
        (0, 0) if unread > 0 => format!("No drift in what could be looked at; {unread} objects could not be."),
        (0, 0) => paint(ADD.bold(), "In sync.") + " The world is as the last apply left it.",
        (0, _) => paint(DESTROY.bold(), "Drift:") + " the nodes above are not what they were.",
        (1, _) => {
            paint(DESTROY.bold(), "Drift: 1 object")
                + " is not as the last apply left it. `moorfast plan` shows what an apply would do, or what prevents it."
        }
        (n, _) => {
            let count = paint(DESTROY.bold(), format!("Drift: {n} objects"));
            count
                + " are not as the last apply left them. `moorfast plan` shows what an apply would do, or what prevents it."
        }
    }
}

/// The sections of a plan that tell of drift: what the plan mends in short, for its changes show it; what it leaves, in full.
pub fn of_plan(plan: &Plan, room: Room) -> [Vec<String>; 2] {
    let mends = |change: &&Change| change.reasons.iter().any(|r| matches!(r, Reason::Drift | Reason::Gone));
    let mended: BTreeSet<_> = plan.changes.iter().filter(mends).map(|change| &change.address).collect();
    let (mended, left): (Vec<_>, Vec<_>) = plan.drift.iter().partition(|drift| mended.contains(&drift.address));
    let mut short = Vec::new();
    if !mended.is_empty() {
        short.push(paint(BOLD, "Changed outside of moorfast since the last apply; this plan mends it:"));
        short.extend(in_short(&mended));
    }
    [short, section(&left, room)]
}

/// One line for each address that drifted and what of it changed. The same element on several nodes has one line.
fn in_short(drift: &[&Drift]) -> Vec<String> {
    let line = |group: Vec<&Drift>| {
        let (first, count) = (group[0], group.len());
        let name = match (instance_on_node(first), count) {
            (_, 1) => first.address.to_string(),
            (Some(on), _) => format!("{} on {count} nodes", on_every_node(&first.address.resource, on.element)),
            (None, _) => format!("{}, {count} instances", first.address.resource),
        };
        match &first.after {
            None => format!("  {} {name}: gone", paint(DESTROY, "-")),
            Some(_) => format!("  {} {name}: {}", paint(CHANGE, "~"), changed_attributes(first).join(", ")),
        }
    };
    let alike = |a: &Drift, b: &Drift| {
        is_same_element(a, b)
            && a.after.is_some() == b.after.is_some()
            && changed_attributes(a) == changed_attributes(b)
    };
    grouped(drift, alike).into_iter().map(line).collect()
}

/// Whether both are instances of one resource, and of one element of `for_each` if they are on nodes.
fn is_same_element(a: &Drift, b: &Drift) -> bool {
    let element = |drift| instance_on_node(drift).map(|on| on.element);
    a.address.resource == b.address.resource && element(a) == element(b)
}

fn instance_on_node(drift: &Drift) -> Option<OnNode<'_>> {
    on_node(&drift.address, &drift.target)
}

/// Returns the groups of drift that is alike, in the order of their first members.
fn grouped<'a>(drift: &[&'a Drift], alike: impl Fn(&Drift, &Drift) -> bool) -> Vec<Vec<&'a Drift>> {
    let mut groups: Vec<Vec<&Drift>> = Vec::new();
    for one in drift {
        match groups.iter_mut().find(|group| alike(group[0], one)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// The paths of what changed, as the text names them; none where the object is gone.
pub fn changed_attributes(drift: &Drift) -> Vec<String> {
    let Some(after) = &drift.after else { return Vec::new() };
    let rows = rows_between(Some(&drift.before), Some(after), &BTreeSet::new());
    rows.into_iter().map(|row| row.path).collect()
}

/// Drift in full.
fn section(drift: &[&Drift], room: Room) -> Vec<String> {
    if drift.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![paint(BOLD, "Changed outside of moorfast since the last apply:")];
    for group in grouped(drift, is_same_drift) {
        lines.push(String::new());
        lines.extend(drifted(&group, room));
    }
    lines
}

/// The lines of each object that drifted, equal ones together.
pub fn objects(plan: &Plan, room: Room) -> Vec<Vec<String>> {
    let all: Vec<_> = plan.drift.iter().collect();
    grouped(&all, is_same_drift).iter().map(|group| drifted(group, room)).collect()
}

/// Whether both drifted in the same way, own names and the lines around a changed line aside.
fn is_same_drift(a: &Drift, b: &Drift) -> bool {
    is_same_element(a, b) && a.after.is_some() == b.after.is_some() && looks(a) == looks(b)
}

/// What changed of an object, without the instance's own name.
fn looks(drift: &Drift) -> Vec<(String, Look)> {
    let key = drift.address.key.as_deref().unwrap_or_default();
    let own = instance_on_node(drift).map_or(key, |on| on.node);
    news(drift, false).into_iter().map(|row| (row.path.clone(), Look::of(&row, own))).collect()
}

/// The rows of an object that drifted; what another row says already only where all is asked for.
fn news(drift: &Drift, full: bool) -> Vec<Row> {
    let Some(after) = &drift.after else { return Vec::new() };
    let rows = rows_between(Some(&drift.before), Some(after), &BTreeSet::new());
    let is_news = |row: &&Row| full || !is_restated(&drift.address.resource.resource_type, row, rows.iter());
    rows.iter().filter(is_news).cloned().collect()
}

/// The lines for objects that drifted in the same way.
fn drifted(group: &[&Drift], room: Room) -> Vec<String> {
    let (drift, also) = (group[0], &group[1..]);
    let name = paint(BOLD, &drift.address);
    let others = match also {
        [] => String::new(),
        few if few.len() <= NAMED => {
            format!(", and so {}", few.iter().map(|d| d.address.to_string()).collect::<Vec<_>>().join(", "))
        }
        many => {
            let keys: Vec<_> = many.iter().map(|d| d.address.key.as_deref().unwrap_or_default()).collect();
            format!(", and so {} others: {}", many.len(), keys.join(", "))
        }
    };
    if drift.after.is_none() {
        return vec![format!("  # {name} {}{others}", paint(DESTROY.bold(), "is gone"))];
    }
    let mut lines = vec![format!("  # {name} has changed{others}")];
    let shown = news(drift, room.full);
    if also.iter().any(|other| news(other, false) != news(drift, false)) {
        let note = "(the others differ by their own names or in the lines around the change only)";
        lines.push(format!("  {}", paint(DIM, format!("#   {note}"))));
    }
    lines.extend(table(&shown, room));
    lines
}
