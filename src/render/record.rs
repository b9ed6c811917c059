//! The state as text.

use std::collections::BTreeMap;

use moorfast_engine::state::{LockInfo, Output, Record, Run, RunResult, Snapshot};

use super::text::{Line, Style, Text, styled};
use super::text_options::TextOptions;
use super::value::{inline, is_multi_line};

/// Renders the whole state.
pub fn snapshot(snapshot: &Snapshot, options: TextOptions) -> Text {
    let mut sections: Vec<_> = snapshot.records.values().map(|r| record(r, options)).collect();
    if !snapshot.outputs.is_empty() {
        sections.push(Text::from(styled(Style::Bold, "Outputs:")) + outputs(&snapshot.outputs));
    }
    if !snapshot.intents.is_empty() {
        let heading = styled(Style::Warning, "Unfinished operations of an interrupted run:");
        let lines = snapshot.intents.iter().map(|i| Line::from(format!("  {} of {}", i.action, i.address)));
        sections.push(Text::from(heading) + lines.collect::<Text>());
    }
    match sections.is_empty() {
        true => "The state is empty.".into(),
        false => Text::separated(sections),
    }
}

/// Renders a record.
pub fn record(record: &Record, options: TextOptions) -> Text {
    let mut heading = Line::from("# ") + styled(Style::Bold, &record.address) + format!(" on {}", record.target);
    if record.incomplete {
        heading = heading + styled(Style::Warning, " (incomplete: an operation on it failed or was interrupted)");
    }
    let mut lines = vec![heading, Line::from(format!("{} {}", record.resource_type, record.identity))];
    lines.extend(record.pending.iter().map(|pending| {
        let note = styled(Style::Warning, "(left behind by an unfinished operation)");
        Line::from(format!("{} {} ", pending.resource_type, pending.identity)) + note
    }));
    let label = record.attributes.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &record.attributes {
        if is_multi_line(value) {
            lines.push(Line::from(format!("    {name}:")));
            let text = value.as_str().unwrap_or_default().lines();
            lines.extend(text.map(|line| (styled(Style::Dim, "| ") + line).indented(8)));
        } else {
            lines.push(Line::from(format!("    {name:label$} = ")) + cut(&inline(value), options));
        }
    }
    lines.into()
}

fn cut(text: &str, options: TextOptions) -> Line {
    let length = text.chars().count();
    if options.full || length <= options.width {
        return text.into();
    }
    let kept = options.width.saturating_sub(30).max(40);
    Line::from(text.chars().take(kept).collect::<String>())
        + styled(Style::Dim, format!("… ({} more characters)", length - kept))
}

/// Renders the outputs, one per line.
pub fn outputs(outputs: &BTreeMap<String, Output>) -> Text {
    let label = outputs.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let shown = |o: &Output| if o.sensitive { "(sensitive value)".to_owned() } else { inline(&o.value) };
    outputs.iter().map(|(name, output)| Line::from(format!("{name:label$} = {}", shown(output)))).collect()
}

/// Renders the runs, one per line. `holder` is the current holder of the lock.
pub fn history(runs: &[Run], holder: Option<&LockInfo>) -> Text {
    runs.iter().map(|run| run_line(run, holder)).collect()
}

fn run_line(run: &Run, holder: Option<&LockInfo>) -> Line {
    let is_running =
        || holder.is_some_and(|lock| lock.since <= run.started_at && (&lock.who, &lock.host) == (&run.who, &run.host));
    let result = match run.end.as_ref().map(|end| end.result) {
        Some(RunResult::Succeeded) => "succeeded",
        Some(RunResult::Failed) => "failed",
        Some(RunResult::Interrupted) => "interrupted",
        None if is_running() => "running",
        None => {
            "aborted: the process was killed, or lost its machine or the lock; the next run resolves unfinished operations"
        }
    };
    let counts = run.end.iter().flat_map(|end| &end.counts).filter(|(_, n)| **n > 0);
    let counts: Vec<_> = counts.map(|(what, n)| format!("{n} {what}")).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let by = format!("{:.0}  {}@{}  ", run.started_at, run.who, run.host);
    let environment = run.environment.as_ref().map(|name| format!(" in {name}")).unwrap_or_default();
    Line::from(by) + styled(Style::Bold, &run.command) + format!("{environment}  {result}{counts}")
}
