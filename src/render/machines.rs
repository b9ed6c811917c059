//! The nodes whose machines are not as they were seen last, each with what is made anew there.

use std::collections::BTreeMap;

use moorfast_engine::NodeChange;
use moorfast_engine::plan::{Action, Change, Plan, PlanMode};

use super::style::{BOLD, DESTROY, DIM, WARNING, paint};
use super::value::printable;

/// The section of these nodes: a line each, and under that of another machine what is made anew there, unless that is told elsewhere (`full`).
pub fn section(plan: &Plan, full: bool) -> Vec<String> {
    let Some(worst) = plan.nodes.iter().map(|node| node.kind).min() else { return Vec::new() };
    let heading = match worst.is_mismatch() {
        true => paint(DESTROY.bold(), "Nodes that are not the machines they were:"),
        false => paint(BOLD, "Since the last apply:"),
    };
    let mut lines = vec![heading];
    for change in &plan.nodes {
        let mark = if change.kind.is_mismatch() { paint(DESTROY, "!") } else { paint(DIM, "-") };
        lines.push(format!("  {mark} {}", printable(&change.to_string())));
        lines.extend(advice(change).map(|advice| format!("      {}", paint(WARNING, advice))));
        if !full {
            lines.extend(anew(plan, change).into_iter().map(|line| format!("      {line}")));
        }
    }
    lines
}

/// What a person must know, or do, about it.
pub fn advice(change: &NodeChange) -> Option<String> {
    match (change.kind.is_another_machine(), change.approved) {
        (false, _) => None,
        (true, true) => Some("approved: everything on it is made anew".to_owned()),
        (true, false) => Some(format!("not approved, so nothing is done there: {}", change.approval())),
    }
}

/// What is made anew on another machine: a line for each sort of change, with the resources.
pub fn anew(plan: &Plan, node: &NodeChange) -> Vec<String> {
    let mut sorts: BTreeMap<&str, (usize, Vec<String>)> = BTreeMap::new();
    for change in plan.changes.iter().filter(|change| of(plan, change) == Some(node)) {
        let (count, resources) = sorts.entry(verb(change.action)).or_default();
        *count += 1;
        let resource = change.address.resource.to_string();
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    sorts.iter().map(|(what, (count, resources))| format!("{count} to {what}: {}", resources.join(", "))).collect()
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Replace | Action::ReplaceCreateFirst => "replace",
        Action::Update => "change",
        Action::Delete => "destroy",
        Action::Read => "read",
        Action::Adopt => "adopt",
        Action::Forget => "forget",
        Action::NoOp => "leave",
    }
}

/// The node whose line tells of a change: one where everything is made anew.
pub fn of<'a>(plan: &'a Plan, change: &Change) -> Option<&'a NodeChange> {
    if plan.options.mode == PlanMode::RefreshOnly || change.action == Action::NoOp {
        return None;
    }
    let is_of = |name: &str| {
        let key = change.address.key.as_deref().unwrap_or_default();
        change.target == name || key == name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('/'))
    };
    plan.nodes.iter().find(|node| node.kind.is_another_machine() && is_of(&node.node.0))
}
