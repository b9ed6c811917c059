//! The changes that an apply did not make: failures, skipped operations, and how to continue.

use std::collections::BTreeMap;

use moorfast_engine::apply::{ChangeOutcome, ChangeResult, FailedGate, Report};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Address, NodeName};
use moorfast_engine::provider::{Class, ProviderError};

use super::diagnostic::{provider_error, provider_errors};
use super::rollout;
use super::text::{Line, Style, Text, styled};

/// The changes that did not succeed.
#[derive(Debug, Default)]
pub struct Unsuccessful<'r> {
    /// The failed changes with their errors.
    pub failed: Vec<(&'r Address, &'r ProviderError)>,
    /// The changes that were cancelled by an interrupt.
    pub cancelled: Vec<&'r Address>,
    /// The skipped changes, each with the failed change that it depends on.
    pub skipped: Vec<(&'r Address, &'r Address)>,
    /// The changes that were not started because of an interrupt.
    pub not_started: Vec<&'r Address>,
}

impl<'r> Unsuccessful<'r> {
    /// Sorts the outcomes of `report`.
    pub fn of(report: &'r Report) -> Self {
        let mut found = Self::default();
        let is_cancelled = |error: &ProviderError| report.interrupted && error.class == Class::Cancelled;
        for ChangeOutcome { address, result, .. } in &report.outcomes {
            match result {
                ChangeResult::Failed(error) if is_cancelled(error) => found.cancelled.push(address),
                ChangeResult::Failed(error) => found.failed.push((address, error)),
                ChangeResult::Skipped(cause) => found.skipped.push((address, cause)),
                ChangeResult::NotStarted => found.not_started.push(address),
                _ => {}
            }
        }
        // Dependants of a cancelled change were not started because of the interrupt, too.
        let (stopped, skipped) = found.skipped.into_iter().partition(|(_, cause)| found.cancelled.contains(cause));
        found.skipped = skipped;
        found.not_started.extend(stopped.into_iter().map(|(address, _): (_, &Address)| address));
        found
    }
}

/// Renders the failures for standard error. Returns an empty text if everything succeeded.
pub fn failures(report: &Report, manifest: Option<&Manifest>) -> Text {
    let unsuccessful = Unsuccessful::of(report);
    let failed: Vec<_> =
        unsuccessful.failed.iter().map(|(address, error)| ((*address).clone(), (*error).clone())).collect();
    let mut sections = Vec::new();
    if !failed.is_empty() {
        sections.push(provider_errors(manifest, &failed));
    }
    sections.extend([
        failed_gates(report, manifest),
        unapproved(report),
        stale(report),
        skipped(&unsuccessful),
        rollout_stopped(report),
        out_of_service(report),
        unrecorded(report),
        listed("Cancelled while running (the next run determines their result):", &unsuccessful.cancelled),
        listed("Not started, because the run was interrupted:", &unsuccessful.not_started),
    ]);
    let text = Text::separated(sections);
    if text.is_empty() {
        return text;
    }
    let is_failure = !failed.is_empty() || !report.gates.is_empty() || !report.errors.is_empty();
    let first = if is_failure { "fix the errors, then " } else { "" };
    let resume = format!(" {first}plan and apply again. Finished changes are recorded.");
    Text::separated([text, (styled(Style::Bold, "To continue:") + resume).into()])
}

/// Returns the number of skipped operations on each node whose machine is not approved.
fn unapproved(report: &Report) -> Text {
    let mut skipped: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for outcome in &report.outcomes {
        if let ChangeResult::Unapproved(node) = &outcome.result {
            *skipped.entry(node).or_default() += 1;
        }
    }
    let line = |(node, count): (&NodeName, usize)| {
        let what = styled(Style::Warning, format!("Skipped on {node}, because another machine answers:"));
        let approval = format!("Approve the machine with --replace-node {node}, or set its host_key in the manifest.");
        what + format!(" {count} operations. {approval}")
    };
    skipped.into_iter().map(line).collect()
}

fn stale(report: &Report) -> Text {
    let lines = report.outcomes.iter().filter_map(|outcome| {
        let ChangeResult::Stale(differences) = &outcome.result else { return None };
        let address = Line::from(format!("  {}", outcome.address));
        Some(std::iter::once(address).chain(differences.iter().map(|line| Line::from(format!("    {line}")))))
    });
    let heading = "Skipped, because these objects changed since the plan:";
    under(styled(Style::Warning, heading), lines.flatten())
}

/// Returns the skipped changes, under the failed change that they depend on.
fn skipped(unsuccessful: &Unsuccessful) -> Text {
    let mut causes: Vec<(&Address, Vec<&Address>)> = Vec::new();
    for (address, cause) in &unsuccessful.skipped {
        match causes.iter_mut().find(|(known, _)| known == cause) {
            Some((_, addresses)) => addresses.push(address),
            None => causes.push((cause, vec![address])),
        }
    }
    causes.iter().fold(Text::default(), |text, (cause, addresses)| {
        let heading = Line::from("Skipped, because ") + styled(Style::Bold, cause) + " did not succeed:";
        text + listed(heading, addresses)
    })
}

/// Renders the failed health gates as errors.
fn failed_gates(report: &Report, manifest: Option<&Manifest>) -> Text {
    let error = |failed: &FailedGate| {
        let FailedGate { rollout, node, gate, address, error } = failed;
        let (mut error, rollout) = (error.clone(), rollout::address(rollout));
        error.summary = match address {
            Some(_) => format!("{rollout} stopped at {node}: {}", error.summary),
            None => format!("{rollout} stopped at {node}: {gate}: {}", error.summary),
        };
        let addresses: Vec<_> = address.iter().collect();
        provider_error(manifest, &error, &addresses)
    };
    Text::separated(report.gates.iter().map(error))
}

/// Returns the operations that stopped rollouts did not start, under their reasons.
fn rollout_stopped(report: &Report) -> Text {
    let mut reasons: Vec<((&String, &String), Vec<&Address>)> = Vec::new();
    for outcome in &report.outcomes {
        let ChangeResult::RolloutStopped { rollout, because } = &outcome.result else { continue };
        match reasons.iter_mut().find(|(known, _)| *known == (rollout, because)) {
            Some((_, addresses)) => addresses.push(&outcome.address),
            None => reasons.push(((rollout, because), vec![&outcome.address])),
        }
    }
    reasons.iter().fold(Text::default(), |text, ((rollout, because), addresses)| {
        let rollout = styled(Style::Bold, rollout::address(rollout));
        text + listed(Line::from("Not started, because ") + rollout + format!(" stopped: {because}"), addresses)
    })
}

/// Returns the nodes that stay cordoned.
fn out_of_service(report: &Report) -> Text {
    let heading = "Still cordoned (the next apply uncordons them when they are healthy):";
    let lines = report.out_of_service.iter().map(|node| Line::from(format!("  {node}")));
    under(styled(Style::Warning, heading), lines)
}

fn unrecorded(report: &Report) -> Text {
    let unrecorded = report.outcomes.iter().filter(|outcome| matches!(outcome.result, ChangeResult::Unrecorded));
    let addresses: Vec<_> = unrecorded.map(|outcome| &outcome.address).collect();
    listed("Not recorded (the next run determines their result):", &addresses)
}

/// Returns the addresses under a heading, or nothing if there are none.
fn listed(heading: impl Into<Line>, addresses: &[&Address]) -> Text {
    under(heading.into(), addresses.iter().map(|address| Line::from(format!("  {address}"))))
}

fn under(heading: Line, lines: impl Iterator<Item = Line>) -> Text {
    let lines: Text = lines.collect();
    if lines.is_empty() { lines } else { Text::from(heading) + lines }
}
