//! The nodes whose machines are not as they were seen last, each with what is made anew there.

use std::collections::BTreeMap;

use moorfast_engine::model::NodeChange;
use moorfast_engine::plan::{Change, Plan, PlanMode};
use moorfast_engine::provider::Action;

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
        lines.extend(advice(change).into_iter().map(|line| format!("      {}", paint(WARNING, line))));
        if !full {
            lines.extend(anew(plan, change).into_iter().map(|line| format!("      {line}")));
        }
    }
    lines
}

/// What a person must know, or do, about it.
pub fn advice(change: &NodeChange) -> Vec<String> {
    match (change.kind.is_another_machine(), change.approved) {
        (false, _) => Vec::new(),
        (true, true) => vec!["approved: everything on it is made anew".to_owned()],
        (true, false) => vec![
            "not approved, so nothing is done there; compare the fingerprint with what its console shows, and approve it by".to_owned(),
            change.approval(),
        ],
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
    plan.nodes.iter().find(|node| node.kind.is_another_machine() && change.node.as_ref() == Some(&node.node))
}

#[cfg(test)]
mod tests {
    use moorfast_engine::model::NodeName;
    use serde_json::json;

    use super::super::samples;
    use super::*;

    #[test]
    fn only_what_is_bound_to_another_machine_is_told_with_it() {
        let changed = |address| samples::change(address, Action::Update, json!({"a": 1}), json!({"a": 2}));
        let file = changed("ssh_file.motd[\"gpu02\"]");
        let on_it =
            Change { node: Some(NodeName("gpu02".to_owned())), ..changed("kubernetes_object.role[\"gpu02/x\"]") };
        let not_on_it = changed("kubernetes_object.quota[\"gpu02\"]");
        let told = [&file, &on_it, &not_on_it].map(Clone::clone);
        let plan = Plan { nodes: vec![samples::replaced("gpu02")], ..samples::plan(told.into()) };
        let told_elsewhere = [&file, &on_it, &not_on_it].map(|change| of(&plan, change).is_some());
        assert_eq!(told_elsewhere, [true, true, false]);
        assert_eq!(anew(&plan, &plan.nodes[0]), ["2 to change: ssh_file.motd, kubernetes_object.role"]);
        // A plan file of before has no nodes: then all is told in full.
        let mut saved = serde_json::to_value(&on_it).unwrap();
        saved.as_object_mut().unwrap().remove("node");
        assert_eq!(of(&plan, &serde_json::from_value(saved).unwrap()), None);
    }
}
