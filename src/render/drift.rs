//! What the world did since the last apply.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Change, Drift, Plan, Reason};

use super::machines;
use super::plan::checks;
use super::restated::is_restated;
use super::row::{Room, Row, rows_between, table};
use super::style::{ADD, BOLD, CHANGE, DESTROY, paint};

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
        short.extend(mended.into_iter().map(in_short));
    }
    [short, section(&left, room)]
}

/// The address of what drifted, and what of it.
fn in_short(drift: &Drift) -> String {
    match &drift.after {
        None => format!("  {} {}: gone", paint(DESTROY, "-"), drift.address),
        Some(_) => format!("  {} {}: {}", paint(CHANGE, "~"), drift.address, changed_attributes(drift).join(", ")),
    }
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
    for (drift, also) in equal_drift(drift) {
        lines.push(String::new());
        lines.extend(drifted(drift, &also, room));
    }
    lines
}

/// The lines of each object that drifted, equal ones together.
pub fn objects(plan: &Plan, room: Room) -> Vec<Vec<String>> {
    let all: Vec<_> = plan.drift.iter().collect();
    equal_drift(&all).iter().map(|(drift, also)| drifted(drift, also, room)).collect()
}

/// The same drift on several instances is told once.
fn equal_drift<'a>(drift: &[&'a Drift]) -> Vec<(&'a Drift, Vec<&'a Drift>)> {
    let mut groups: Vec<(&Drift, Vec<&Drift>)> = Vec::new();
    for one in drift {
        let same = |first: &Drift| {
            first.address.resource == one.address.resource && first.before == one.before && first.after == one.after
        };
        match groups.iter_mut().find(|(first, _)| same(first)) {
            Some((_, also)) => also.push(one),
            None => groups.push((one, Vec::new())),
        }
    }
    groups
}

/// The lines for one drifted object.
fn drifted(drift: &Drift, also: &[&Drift], room: Room) -> Vec<String> {
    let name = paint(BOLD, &drift.address);
    let others = match also {
        [] => String::new(),
        also => format!(", and so {}", also.iter().map(|d| d.address.to_string()).collect::<Vec<_>>().join(", ")),
    };
    let Some(after) = &drift.after else {
        return vec![format!("  # {name} {}{others}", paint(DESTROY.bold(), "is gone"))];
    };
    let mut lines = vec![format!("  # {name} has changed{others}")];
    let rows = rows_between(Some(&drift.before), Some(after), &BTreeSet::new());
    let is_news = |row: &&Row| room.full || !is_restated(&drift.address.resource.resource_type, row, rows.iter());
    let news: Vec<_> = rows.iter().filter(is_news).cloned().collect();
    lines.extend(table(&news, room));
    lines
}
