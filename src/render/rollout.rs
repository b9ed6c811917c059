//! Rollouts in a plan, in the progress and in the report of an apply.

use moorfast_engine::apply::{ChangeResult, FailedGate, Report};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Address, NodeName};
use moorfast_engine::plan::{Plan, PlannedRollout};
use moorfast_engine::session::RolloutStep;

use super::diagnostic::provider_error;
use super::report::{duration, listed};
use super::section::Section;
use super::text::{Line, Style, Text, styled};
use super::wording::counted;

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

/// Renders the failed health gates as errors.
pub fn failed_gates(report: &Report, manifest: Option<&Manifest>) -> Text {
    let error = |failed: &FailedGate| {
        let FailedGate { rollout, node, gate, address, error } = failed;
        let mut error = error.clone();
        error.summary = match address {
            Some(_) => format!("rollout.{rollout} stopped at {node}: {}", error.summary),
            None => format!("rollout.{rollout} stopped at {node}: {gate}: {}", error.summary),
        };
        let addresses: Vec<_> = address.iter().collect();
        provider_error(manifest, &error, &addresses)
    };
    Text::separated(report.gates.iter().map(error))
}

/// Returns the operations that stopped rollouts did not start, under their reasons.
pub fn left(report: &Report) -> Text {
    let mut reasons: Vec<((&String, &String), Vec<&Address>)> = Vec::new();
    for outcome in &report.outcomes {
        let ChangeResult::RolloutStopped { rollout, because } = &outcome.result else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == (rollout, because)) {
            Some((_, addresses)) => addresses.push(&outcome.address),
            None => reasons.push(((rollout, because), vec![&outcome.address])),
        }
    }
    reasons.iter().fold(Text::default(), |text, ((rollout, because), addresses)| {
        let rollout = styled(Style::Bold, format!("rollout.{rollout}"));
        text + listed(Line::from("Not started, because ") + rollout + format!(" stopped: {because}"), addresses)
    })
}
