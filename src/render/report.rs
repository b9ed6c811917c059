//! The report of an apply: its checks, its outputs and what it did.

use std::time::Duration;

use moorfast_engine::apply::{ChangeResult, Report};
use moorfast_engine::model::Value;
use moorfast_engine::plan::{PlanMode, Summary};

use super::checks::checks_after;
use super::section::Section;
use super::text::{Line, Style, Text, styled};
use super::wording::duration;

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
    let mut sections = vec![checks_after(&report.checks).text()];
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
