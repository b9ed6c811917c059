//! Rollouts in a plan and in the progress of an apply.

use moorfast_engine::model::NodeName;
use moorfast_engine::plan::{NodeDrain, Plan, PlannedRollout, RolledNode};
use moorfast_engine::session::RolloutStep;

use super::section::Section;
use super::text::{Line, Style, styled};
use super::wording::{counted, duration};

/// Maximum number of node names in a line.
const NAMED: usize = 20;

/// Returns the section of the rollouts of a plan.
pub fn rollouts(plan: &Plan) -> Section {
    let lines = plan.rollouts.iter().flat_map(|rollout| {
        let details = details(rollout).into_iter().map(|detail| Line::from(detail).indented(4));
        std::iter::once(Line::from(headline(rollout)).indented(2)).chain(details)
    });
    Section { heading: "Rollouts", lines: lines.collect() }
}

/// Returns the nodes of a rollout in their order, and how many change at once.
pub fn headline(PlannedRollout { name, max_unavailable, nodes, .. }: &PlannedRollout) -> String {
    let taken: Vec<&NodeName> = nodes.iter().map(|node| &node.name).collect();
    let count = counted(taken.len(), "node");
    let rollout = address(name);
    format!("{rollout}: {count}, {max_unavailable} at a time: {}", names(&taken))
}

/// Returns the drains and the gates of a rollout, and the nodes without changes that the gates are evaluated for.
pub fn details(rollout: &PlannedRollout) -> Vec<String> {
    let PlannedRollout { gates, timeout, pause, settled, .. } = rollout;
    let mut lines: Vec<String> = order(rollout).into_iter().collect();
    lines.extend(drains(rollout));
    let waits =
        (!gates.is_empty()).then(|| format!("{} healthy, each within {}", gates.join(" and "), duration(*timeout)));
    let pauses = (!pause.is_zero()).then(|| format!("a pause of {}", duration(*pause)));
    let between: Vec<_> = waits.into_iter().chain(pauses).collect();
    if !between.is_empty() {
        lines.push(format!("before the next node starts: {}", between.join(", then ")));
    }
    if !gates.is_empty() && !settled.is_empty() {
        let unchanged: Vec<&NodeName> = settled.iter().collect();
        lines.push(format!("nodes without changes, which count as unavailable unless healthy: {}", names(&unchanged)));
    }
    lines
}

/// Returns the rollouts that are complete before this one starts.
fn order(PlannedRollout { after, .. }: &PlannedRollout) -> Option<String> {
    let names: Vec<String> = after.iter().map(|name| address(name)).collect();
    (!names.is_empty()).then(|| format!("starts after {}", names.join(" and ")))
}

/// Returns the nodes that are drained, those that cannot be, and those that only return into service.
fn drains(PlannedRollout { drain, nodes, .. }: &PlannedRollout) -> Vec<String> {
    let Some(options) = drain else { return Vec::new() };
    let of = |is_one: &dyn Fn(&RolledNode) -> bool| -> Option<String> {
        let chosen: Vec<&NodeName> = nodes.iter().filter(|node| is_one(node)).map(|node| &node.name).collect();
        (!chosen.is_empty()).then(|| names(&chosen))
    };
    let drained = of(&|node| node.drain == NodeDrain::Planned).map(|nodes| {
        let limit = duration(options.timeout);
        format!("drain {nodes}: cordon, evict the pods (within {limit}), make the changes, uncordon when healthy")
    });
    let absent = of(&|node| node.drain == NodeDrain::Absent)
        .map(|nodes| format!("not drained, because the cluster does not have the node or does not answer: {nodes}"));
    let returning = of(&|node| node.was_drained && node.drain != NodeDrain::Planned)
        .map(|nodes| format!("uncordon {nodes} when healthy: an earlier run cordoned the node and did not complete"));
    [drained, absent, returning].into_iter().flatten().collect()
}

/// Returns the address of a rollout: `rollout.workers`, or `module.site.rollout.workers` for `module.site.workers`.
pub fn address(name: &str) -> String {
    match name.rsplit_once('.') {
        Some((module, own)) => format!("{module}.rollout.{own}"),
        None => format!("rollout.{name}"),
    }
}

fn names(nodes: &[&NodeName]) -> String {
    let shown: Vec<_> = nodes.iter().take(NAMED).map(ToString::to_string).collect();
    match nodes.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns a step of a rollout as a line of the progress.
pub fn step(rollout: &str, node: &NodeName, step: &RolloutStep) -> Line {
    let head = styled(Style::Bold, format!("{}: {node}", address(rollout)));
    let status = match step {
        RolloutStep::Draining => "Draining...".into(),
        RolloutStep::Drained { notes } if notes.is_empty() => "Drained".into(),
        RolloutStep::Drained { notes } => format!("Drained; {}", notes.join("; ")).into(),
        RolloutStep::NotDrained { error } => styled(Style::Danger, "Not drained") + format!(": {}", error.summary),
        RolloutStep::Uncordoned => "Uncordoned".into(),
        RolloutStep::Started => "Started".into(),
        RolloutStep::Waiting { gates } => format!("Waiting for {}...", gates.join(" and ")).into(),
        RolloutStep::Pausing { pause } => format!("Healthy; pausing for {}", duration(*pause)).into(),
        RolloutStep::Passed => "Healthy".into(),
        RolloutStep::Unhealthy { gate, error } => {
            styled(Style::Danger, "Not healthy") + format!(": {gate}: {}", error.summary)
        }
        RolloutStep::Skipped { because } => styled(Style::Warning, "Not started") + format!(", because {because}"),
    };
    head + ": " + status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_of_a_module_has_the_address_that_the_manifest_uses() {
        assert_eq!(address("workers"), "rollout.workers");
        assert_eq!(address("module.site[\"a.b\"].workers"), "module.site[\"a.b\"].rollout.workers");
    }
}
