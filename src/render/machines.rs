//! The nodes whose machine changed since the last apply, with the changes that a replaced machine causes.

use std::collections::BTreeMap;

use moorfast_engine::model::NodeChange;
use moorfast_engine::plan::{Change, Plan, PlanMode};
use moorfast_engine::provider::Action;

use super::text::{Line, Style, Text, styled};

/// Returns the section of the changed nodes. Unless `full`, the changes on a replaced machine are summarized below its node.
pub fn section(plan: &Plan, full: bool) -> Text {
    let Some(worst) = plan.nodes.iter().map(|node| node.kind).min() else { return Text::default() };
    let heading = match worst.is_mismatch() {
        true => styled(Style::Danger, "Replaced nodes (other machines answer):"),
        false => styled(Style::Bold, "Changed nodes since the last apply:"),
    };
    let mut text = Text::from(heading);
    for change in &plan.nodes {
        let recreated = if full { Vec::new() } else { recreated(plan, change) };
        let below = advised(change).chain(recreated.into_iter().map(Line::from)).map(|line| line.indented(6));
        text = text + headline(change).indented(2) + below.collect::<Text>();
    }
    text
}

/// Returns the line about a changed node.
pub fn headline(change: &NodeChange) -> Line {
    let mark = if change.kind.is_mismatch() { styled(Style::Removed, "!") } else { styled(Style::Dim, "-") };
    mark + " " + change.to_string()
}

/// Returns the lines about the approval of a replaced machine, as warnings.
pub fn advised(change: &NodeChange) -> impl Iterator<Item = Line> {
    advice(change).into_iter().map(|line| styled(Style::Warning, line))
}

/// Returns the lines about the approval of a replaced machine.
pub fn advice(change: &NodeChange) -> Vec<String> {
    match (change.kind.is_another_machine(), change.approved) {
        (false, _) => Vec::new(),
        (true, true) => vec!["approved: all resources on it are created again".to_owned()],
        (true, false) => vec![
            "not approved: an apply changes nothing on it. Compare the fingerprint with the one on its console, and approve the machine with".to_owned(),
            change.approval(),
        ],
    }
}

/// Returns the changes on a replaced machine: a line for each action, with the resources.
pub fn recreated(plan: &Plan, node: &NodeChange) -> Vec<String> {
    let mut actions: BTreeMap<&str, (usize, Vec<String>)> = BTreeMap::new();
    for change in plan.changes.iter().filter(|change| of(plan, change) == Some(node)) {
        let (count, resources) = actions.entry(verb(change.action)).or_default();
        *count += 1;
        let resource = change.address.resource.to_string();
        if !resources.contains(&resource) {
            resources.push(resource);
        }
    }
    actions.iter().map(|(verb, (count, resources))| format!("{count} to {verb}: {}", resources.join(", "))).collect()
}

fn verb(action: Action) -> &'static str {
    match action {
        Action::Create => "create",
        Action::Replace | Action::ReplaceCreateFirst => "replace",
        Action::Update => "change",
        Action::Delete => "destroy",
        Action::Read => "read",
        Action::Adopt => "adopt",
        Action::Forget => "remove from the state",
        Action::NoOp => "keep",
    }
}

/// Returns the replaced node that a change is summarized under.
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
    fn only_changes_on_a_replaced_machine_are_summarized_under_it() {
        let changed = |address| samples::change(address, Action::Update, json!({"a": 1}), json!({"a": 2}));
        let file = changed("ssh_file.motd[\"gpu02\"]");
        let on_it =
            Change { node: Some(NodeName("gpu02".to_owned())), ..changed("kubernetes_object.role[\"gpu02/x\"]") };
        let not_on_it = changed("kubernetes_object.quota[\"gpu02\"]");
        let changes = [&file, &on_it, &not_on_it].map(Clone::clone);
        let plan = Plan { nodes: vec![samples::replaced("gpu02")], ..samples::plan(changes.into()) };
        let is_summarized = [&file, &on_it, &not_on_it].map(|change| of(&plan, change).is_some());
        assert_eq!(is_summarized, [true, true, false]);
        assert_eq!(recreated(&plan, &plan.nodes[0]), ["2 to change: ssh_file.motd, kubernetes_object.role"]);
        // Plan files of older versions have no nodes, so all changes are shown in full.
        let mut saved = serde_json::to_value(&on_it).unwrap();
        saved.as_object_mut().unwrap().remove("node");
        assert_eq!(of(&plan, &serde_json::from_value(saved).unwrap()), None);
    }
}
