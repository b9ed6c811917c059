//! What the world did since the last apply.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Drift, Plan};

use super::plan::{checks, nodes};
use super::row::{Room, rows_between, table};
use super::style::{ADD, BOLD, DESTROY, paint};

/// What `moorfast drift` tells, where `unread` objects could not be looked at.
pub fn drift(plan: &Plan, unread: usize, room: Room) -> String {
    let sections = [nodes(plan), section(&plan.drift, room), checks(&plan.checks), vec![closing(plan, unread)]];
    let texts: Vec<_> = sections.into_iter().filter(|s| !s.is_empty()).map(|s| s.join("\n")).collect();
    texts.join("\n\n") + "\n"
}

fn closing(plan: &Plan, unread: usize) -> String {
    match (plan.drift.len(), plan.nodes.len()) {
        (0, 0) if unread > 0 => format!("No drift in what could be looked at; {unread} objects could not be."),
        (0, 0) => paint(ADD.bold(), "In sync.") + " The world is as the last apply left it.",
        (0, _) => paint(DESTROY.bold(), "Drift:") + " the nodes above are not what they were.",
        (1, _) => {
            paint(DESTROY.bold(), "Drift: 1 object")
                + " is not as the last apply left it. `moorfast plan` shows what would mend it."
        }
        (n, _) => {
            let count = paint(DESTROY.bold(), format!("Drift: {n} objects"));
            count + " are not as the last apply left them. `moorfast plan` shows what would mend them."
        }
    }
}

/// The section of a plan that tells of drift.
pub fn section(drift: &[Drift], room: Room) -> Vec<String> {
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

/// The same drift on several instances is told once.
fn equal_drift(drift: &[Drift]) -> Vec<(&Drift, Vec<&Drift>)> {
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
    lines.extend(table(&rows_between(Some(&drift.before), Some(after), &BTreeSet::new()), room));
    lines
}
