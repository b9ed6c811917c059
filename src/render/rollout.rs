//! Rollouts in a plan and in the progress of an apply.

use moorfast_engine::model::NodeName;
use moorfast_engine::plan::{Plan, PlannedRollout};
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
    format!("rollout.{name}: {count}, {max_unavailable} at a time: {}", names(&taken))
}

/// Returns the gates of a rollout, and the nodes without changes that they are evaluated for.
pub fn details(PlannedRollout { gates, timeout, pause, settled, .. }: &PlannedRollout) -> Vec<String> {
    let mut lines = Vec::new();
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

fn names(nodes: &[&NodeName]) -> String {
    let shown: Vec<_> = nodes.iter().take(NAMED).map(ToString::to_string).collect();
    match nodes.len().saturating_sub(NAMED) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Returns a step of a rollout as a line of the progress.
pub fn step(rollout: &str, node: &NodeName, step: &RolloutStep) -> Line {
    let head = styled(Style::Bold, format!("rollout.{rollout}: {node}"));
    let status = match step {
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
