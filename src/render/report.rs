//! The report of an apply: failures, skipped operations, and how to continue.

use std::collections::BTreeMap;
use std::time::Duration;

use moorfast_engine::apply::{ChangeOutcome, ChangeResult, Report};
use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Address, NodeName, Value};
use moorfast_engine::plan::{PlanMode, Summary};
use moorfast_engine::provider::{Class, ProviderError};

use super::diagnostic::provider_errors;
use super::plan::checks;
use super::rollout::{failed_gates, left};
use super::section::Section;
use super::text::{Line, Style, Text, styled};

/// The numbers of successful changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Created objects, including replacements.
    pub added: usize,
    /// Objects updated in place.
    pub changed: usize,
    /// Destroyed objects, including replacements.
    pub destroyed: usize,
    /// Adopted objects.
    pub adopted: usize,
    /// Objects removed from the state.
    pub forgotten: usize,
}

impl Done {
    /// Counts the successful changes of a report.
    pub fn of(report: &Report) -> Self {
        let done = report.outcomes.iter().filter(|o| matches!(o.result, ChangeResult::Done));
        let Summary { add, change, destroy, adopt, forget } = done.map(|outcome| outcome.counts).sum();
        Self { added: add, changed: change, destroyed: destroy, adopted: adopt, forgotten: forget }
    }
}

/// Returns whether all planned changes succeeded.
pub fn is_complete(report: &Report) -> bool {
    report.outcomes.iter().all(|o| matches!(o.result, ChangeResult::Done))
        && report.state_error.is_none()
        && report.errors.is_empty()
        && report.gates.is_empty()
        && !report.interrupted
}

/// Renders the report for standard output: checks, outputs, summary line and statistics.
pub fn closing(report: &Report, mode: PlanMode, took: Duration) -> Text {
    let mut sections = vec![checks(&report.checks).text()];
    if mode != PlanMode::Destroy {
        sections.push(outputs(report).text());
    }
    sections.push(vec![headline(report, mode), run_statistics(&report.statistics, took)].into());
    Text::separated(sections)
}

/// Returns the summary line, for example `Apply complete! Resources: 4 added, 1 changed, 0 destroyed.`
fn headline(report: &Report, mode: PlanMode) -> Line {
    let done = Done::of(report);
    let word = if mode == PlanMode::Destroy { "Destroy" } else { "Apply" };
    let mut counts = match mode {
        PlanMode::Destroy => format!("{} destroyed", done.destroyed),
        _ => format!("{} added, {} changed, {} destroyed", done.added, done.changed, done.destroyed),
    };
    for (count, what) in [(done.adopted, "adopted"), (done.forgotten, "removed from the state")] {
        if count > 0 {
            counts.push_str(&format!(", {count} {what}"));
        }
    }
    if is_complete(report) {
        return styled(Style::Success, format!("{word} complete! Resources: {counts}."));
    }
    let end = if report.interrupted { "interrupted" } else { "incomplete" };
    styled(Style::Danger, format!("{word} {end}. Resources: {counts}."))
}

/// Returns the statistics of a run, for example `in 7.4s, 37 api requests, 9 ssh execs`.
pub fn run_statistics(statistics: &[(String, u64)], took: Duration) -> Line {
    let mut parts = vec![format!("in {}", duration(took))];
    let counted = |(what, count): &(String, u64)| match count {
        0 => None,
        1 => Some(format!("1 {}", what.strip_suffix('s').unwrap_or(what))),
        _ => Some(format!("{count} {what}")),
    };
    parts.extend(statistics.iter().filter_map(counted));
    styled(Style::Dim, parts.join(", "))
}

/// Returns a duration as text, for example `0.4s`, `12s` or `3m 5s`.
pub fn duration(took: Duration) -> String {
    match took.as_secs() {
        0..=9 => format!("{:.1}s", took.as_secs_f64()),
        seconds @ 10..=59 => format!("{seconds}s"),
        seconds => format!("{}m {}s", seconds / 60, seconds % 60),
    }
}

fn outputs(report: &Report) -> Section {
    let label = report.outputs.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value)| Line::from(format!("  {name:label$} = {}", shown(value)));
    Section { heading: "Outputs", lines: report.outputs.iter().map(line).collect() }
}

/// Returns a value as text, without sensitive values.
pub fn shown(value: &Value) -> String {
    match value {
        Value::Sensitive(_) => "(sensitive value)".to_owned(),
        Value::Unknown => "(known after apply)".to_owned(),
        Value::Retained => "(as applied before)".to_owned(),
        Value::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let member = |(key, value): (&String, &Value)| format!("{key} = {}", shown(value));
            format!("{{ {} }}", map.iter().map(member).collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_json().map(|json| super::inline(&json)).unwrap_or_default(),
    }
}

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
        left(report),
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

fn unrecorded(report: &Report) -> Text {
    let unrecorded = report.outcomes.iter().filter(|outcome| matches!(outcome.result, ChangeResult::Unrecorded));
    let addresses: Vec<_> = unrecorded.map(|outcome| &outcome.address).collect();
    listed("Not recorded (the next run determines their result):", &addresses)
}

/// Returns the addresses under a heading, or nothing if there are none.
pub fn listed(heading: impl Into<Line>, addresses: &[&Address]) -> Text {
    under(heading.into(), addresses.iter().map(|address| Line::from(format!("  {address}"))))
}

fn under(heading: Line, lines: impl Iterator<Item = Line>) -> Text {
    let lines: Text = lines.collect();
    if lines.is_empty() { lines } else { Text::from(heading) + lines }
}
