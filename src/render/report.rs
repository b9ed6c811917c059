//! How an apply ended: what failed, what was skipped because of it, and how to go on.

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
use super::style::{ADD, BOLD, DESTROY, DIM, WARNING, paint};
use super::value::printable;

/// How many of each sort were done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Made, replacements included.
    pub added: usize,
    /// Changed in place.
    pub changed: usize,
    /// Deleted, replacements included.
    pub destroyed: usize,
    /// Taken over as they are.
    pub adopted: usize,
    /// Records that went.
    pub forgotten: usize,
}

impl Done {
    /// Counts what succeeded.
    pub fn of(report: &Report) -> Self {
        let done = report.outcomes.iter().filter(|o| matches!(o.result, ChangeResult::Done));
        let Summary { add, change, destroy, adopt, forget } = done.map(|outcome| outcome.counts).sum();
        Self { added: add, changed: change, destroyed: destroy, adopted: adopt, forgotten: forget }
    }
}

/// Was everything done that was to be done?
pub fn is_complete(report: &Report) -> bool {
    report.outcomes.iter().all(|o| matches!(o.result, ChangeResult::Done))
        && report.state_error.is_none()
        && report.errors.is_empty()
        && report.gates.is_empty()
        && !report.interrupted
}

/// What is told on standard output: checks, outputs, the closing line, statistics.
pub fn closing(report: &Report, mode: PlanMode, took: Duration) -> String {
    let mut sections = vec![checks(&report.checks)];
    if mode != PlanMode::Destroy {
        sections.push(outputs(report));
    }
    sections.push(vec![headline(report, mode), effort(&report.statistics, took)]);
    let texts: Vec<_> = sections.into_iter().filter(|s| !s.is_empty()).map(|s| s.join("\n")).collect();
    texts.join("\n\n") + "\n"
}

/// `Apply complete! Resources: 4 added, 1 changed, 0 destroyed.`
fn headline(report: &Report, mode: PlanMode) -> String {
    let done = Done::of(report);
    let word = if mode == PlanMode::Destroy { "Destroy" } else { "Apply" };
    let mut counts = match mode {
        PlanMode::Destroy => format!("{} destroyed", done.destroyed),
        _ => format!("{} added, {} changed, {} destroyed", done.added, done.changed, done.destroyed),
    };
    for (count, what) in [(done.adopted, "adopted"), (done.forgotten, "forgotten")] {
        if count > 0 {
            counts.push_str(&format!(", {count} {what}"));
        }
    }
    if is_complete(report) {
        return paint(ADD.bold(), format!("{word} complete! Resources: {counts}."));
    }
    let end = if report.interrupted { "interrupted" } else { "incomplete" };
    paint(DESTROY.bold(), format!("{word} {end}. Resources: {counts}."))
}

/// `in 7.4s, 37 api requests, 9 ssh execs`
pub fn effort(statistics: &[(String, u64)], took: Duration) -> String {
    let mut parts = vec![format!("in {}", duration(took))];
    parts.extend(statistics.iter().map(|(what, count)| format!("{count} {what}")));
    paint(DIM, parts.join(", "))
}

/// A duration as a person reads it: `0.4s`, `12s`, `3m 5s`.
pub fn duration(took: Duration) -> String {
    match took.as_secs() {
        0..=9 => format!("{:.1}s", took.as_secs_f64()),
        seconds @ 10..=59 => format!("{seconds}s"),
        seconds => format!("{}m {}s", seconds / 60, seconds % 60),
    }
}

fn outputs(report: &Report) -> Vec<String> {
    if report.outputs.is_empty() {
        return Vec::new();
    }
    let label = report.outputs.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![paint(BOLD, "Outputs:")];
    lines.extend(report.outputs.iter().map(|(name, value)| format!("  {name:label$} = {}", shown(value))));
    lines
}

/// A value for people; never what is sensitive.
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

/// The changes that were not done, by how they ended.
#[derive(Debug, Default)]
pub struct Ended<'r> {
    /// Those that failed.
    pub failed: Vec<(&'r Address, &'r ProviderError)>,
    /// Those that were cut off because the person ended the run.
    pub cancelled: Vec<&'r Address>,
    /// Those that were skipped, each with the failed one that it depends on.
    pub skipped: Vec<(&'r Address, &'r Address)>,
    /// Those that were not started because the person ended the run.
    pub not_started: Vec<&'r Address>,
}

impl<'r> Ended<'r> {
    /// Sorts the outcomes of `report`.
    pub fn of(report: &'r Report) -> Self {
        let mut ended = Self::default();
        let is_cancelled = |error: &ProviderError| report.interrupted && error.class == Class::Cancelled;
        for ChangeOutcome { address, result, .. } in &report.outcomes {
            match result {
                ChangeResult::Failed(error) if is_cancelled(error) => ended.cancelled.push(address),
                ChangeResult::Failed(error) => ended.failed.push((address, error)),
                ChangeResult::Skipped(cause) => ended.skipped.push((address, cause)),
                ChangeResult::NotStarted => ended.not_started.push(address),
                _ => {}
            }
        }
        // What depends on a cancelled change was not started for the same reason.
        let (stopped, skipped) = ended.skipped.into_iter().partition(|(_, cause)| ended.cancelled.contains(cause));
        ended.skipped = skipped;
        ended.not_started.extend(stopped.into_iter().map(|(address, _): (_, &Address)| address));
        ended
    }
}

/// What is told on standard error where not everything was done; empty where it was.
pub fn failures(report: &Report, manifest: Option<&Manifest>, width: usize) -> String {
    let ended = Ended::of(report);
    let failed: Vec<_> = ended.failed.iter().map(|(address, error)| ((*address).clone(), (*error).clone())).collect();
    let mut sections = Vec::new();
    if !failed.is_empty() {
        sections.push(provider_errors(manifest, &failed, width));
    }
    let further = [
        failed_gates(report, manifest, width),
        withheld(report),
        stale(report),
        skipped(&ended),
        left(report),
        unrecorded(report),
        listed("Cancelled while they ran; the next run finds out how far they came:", &ended.cancelled),
        listed("Not begun, because the run was ended:", &ended.not_started),
    ];
    sections.extend(further.into_iter().flatten());
    if sections.is_empty() {
        return String::new();
    }
    let is_failure = !failed.is_empty() || !report.gates.is_empty() || !report.errors.is_empty();
    let first = if is_failure { "fix what failed, then " } else { "" };
    let resume = format!("{first}plan and apply again; what was done is recorded and stays.");
    sections.push(format!("{} {resume}\n", paint(BOLD, "To go on:")));
    sections.join("\n")
}

/// How much is left on nodes whose machines nobody approved; the plan tells how that is done.
fn withheld(report: &Report) -> Option<String> {
    let mut left: BTreeMap<&NodeName, usize> = BTreeMap::new();
    for outcome in &report.outcomes {
        if let ChangeResult::Unapproved(node) = &outcome.result {
            *left.entry(node).or_default() += 1;
        }
    }
    let line = |(node, count): (&NodeName, usize)| {
        let what = paint(WARNING, format!("Left alone on {node}, which is another machine now:"));
        format!(
            "{what} {count} operations. Approve the machine with --replace-node {node}, or by host_key in the manifest.\n"
        )
    };
    let lines: String = left.into_iter().map(line).collect();
    (!lines.is_empty()).then_some(lines)
}

fn stale(report: &Report) -> Option<String> {
    let mut text = String::new();
    for outcome in &report.outcomes {
        if let ChangeResult::Stale(differences) = &outcome.result {
            text.push_str(&format!("  {}\n", outcome.address));
            differences.iter().for_each(|line| text.push_str(&format!("    {}\n", printable(line))));
        }
    }
    let heading = "Left alone, because they no longer look as they were reviewed:";
    (!text.is_empty()).then(|| format!("{}\n{text}", paint(WARNING, heading)))
}

/// What was skipped, under the one that failed.
fn skipped(ended: &Ended) -> Option<String> {
    let mut causes: Vec<(&Address, Vec<&Address>)> = Vec::new();
    for (address, cause) in &ended.skipped {
        match causes.iter_mut().find(|(known, _)| known == cause) {
            Some((_, addresses)) => addresses.push(address),
            None => causes.push((cause, vec![address])),
        }
    }
    let mut text = String::new();
    for (cause, addresses) in &causes {
        text.push_str(&format!("Skipped, because {} did not succeed:\n", paint(BOLD, cause)));
        addresses.iter().for_each(|address| text.push_str(&format!("  {address}\n")));
    }
    (!text.is_empty()).then_some(text)
}

fn unrecorded(report: &Report) -> Option<String> {
    let unrecorded = report.outcomes.iter().filter(|outcome| matches!(outcome.result, ChangeResult::Unrecorded));
    let addresses: Vec<_> = unrecorded.map(|outcome| &outcome.address).collect();
    listed("How these ended is not recorded; the next run looks at them again:", &addresses)
}

fn listed(heading: &str, addresses: &[&Address]) -> Option<String> {
    let lines: String = addresses.iter().map(|address| format!("  {address}\n")).collect();
    (!lines.is_empty()).then(|| format!("{heading}\n{lines}"))
}
