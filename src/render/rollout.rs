//! Rollouts: what a plan says of them, and where they stopped.

use moorfast_engine::apply::{ChangeResult, FailedGate, Report};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::NodeName;
use moorfast_engine::plan::{Plan, PlannedRollout};
use moorfast_engine::session::RolloutStep;

use super::diagnostic::provider_error;
use super::report::duration;
use super::style::{BOLD, DESTROY, WARNING, paint};
use super::value::printable;

/// How many nodes are named.
const NAMED: usize = 20;

/// The section of the rollouts of a plan: which nodes in which order, how many at once, and what they wait for.
pub fn rollouts(plan: &Plan) -> Vec<String> {
    if plan.rollouts.is_empty() {
        return Vec::new();
    }
    let heading = paint(BOLD, "One after the other:");
    std::iter::once(heading).chain(plan.rollouts.iter().flat_map(rollout)).collect()
}

fn rollout(rollout: &PlannedRollout) -> Vec<String> {
    let PlannedRollout { name, max_unavailable, gates, timeout, pause, nodes, settled } = rollout;
    let taken: Vec<&NodeName> = nodes.iter().map(|node| &node.name).collect();
    let count = if taken.len() == 1 { "1 node".to_owned() } else { format!("{} nodes", taken.len()) };
    let mut lines = vec![format!("  rollout.{name}: {count}, {max_unavailable} at a time: {}", names(&taken))];
    let waits =
        (!gates.is_empty()).then(|| format!("{} healthy, each within {}", gates.join(" and "), duration(*timeout)));
    let pauses = (!pause.is_zero()).then(|| format!("a pause of {}", duration(*pause)));
    let between: Vec<_> = waits.into_iter().chain(pauses).collect();
    if !between.is_empty() {
        lines.push(format!("    before the next begins: {}", between.join(", then ")));
    }
    if !gates.is_empty() && !settled.is_empty() {
        let unchanged: Vec<&NodeName> = settled.iter().collect();
        lines.push(format!("    unavailable too, unless it is healthy: {}", names(&unchanged)));
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

/// What a rollout does with a node, as a line of the progress.
pub fn step(rollout: &str, node: &NodeName, step: &RolloutStep) -> String {
    let head = paint(BOLD, format!("rollout.{rollout}: {node}"));
    let says = match step {
        RolloutStep::Started => "Its turn".to_owned(),
        RolloutStep::Waiting { gates } => format!("Waiting for {}...", gates.join(" and ")),
        RolloutStep::Pausing { pause } => format!("Healthy; pausing for {}", duration(*pause)),
        RolloutStep::Passed => "Healthy".to_owned(),
        RolloutStep::Unhealthy { gate, error } => {
            let what = paint(DESTROY.bold(), "Not healthy");
            format!("{what}: {gate}: {}", printable(&error.summary))
        }
        RolloutStep::Skipped { because } => format!("{}, because {because}", paint(WARNING, "Left")),
    };
    format!("{head}: {says}")
}

/// The gates at which rollouts stopped, as errors; empty where there are none.
pub fn failed_gates(report: &Report, manifest: Option<&Manifest>, width: usize) -> Option<String> {
    let error = |failed: &FailedGate| {
        let FailedGate { rollout, node, gate, address, error } = failed;
        let mut told = error.clone();
        told.summary = match address {
            Some(_) => format!("rollout.{rollout} stopped at {node}: {}", error.summary),
            None => format!("rollout.{rollout} stopped at {node}: {gate}: {}", error.summary),
        };
        let addresses: Vec<_> = address.iter().collect();
        provider_error(manifest, &told, &addresses, width)
    };
    let texts: Vec<_> = report.gates.iter().map(error).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n") + "\n")
}

/// What was left untouched, under the reason.
pub fn left(report: &Report) -> Option<String> {
    let mut reasons: Vec<((&String, &String), Vec<String>)> = Vec::new();
    for outcome in &report.outcomes {
        let ChangeResult::RolloutStopped { rollout, because } = &outcome.result else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == (rollout, because)) {
            Some((_, addresses)) => addresses.push(outcome.address.to_string()),
            None => reasons.push(((rollout, because), vec![outcome.address.to_string()])),
        }
    }
    let mut text = String::new();
    for ((rollout, because), addresses) in &reasons {
        text.push_str(&format!(
            "Left untouched, because {} stopped: {because}\n",
            paint(BOLD, format!("rollout.{rollout}"))
        ));
        addresses.iter().for_each(|address| text.push_str(&format!("  {address}\n")));
    }
    (!text.is_empty()).then_some(text)
}
