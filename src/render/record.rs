//! The state as text.

use std::collections::BTreeMap;

use moorfast_engine::state::{LockInfo, Output, Record, Run, RunResult, Snapshot};

use super::row::TextOptions;
use super::style::{BOLD, DIM, WARNING, paint};
use super::value::{inline, is_multi_line, printable};

/// Renders the whole state.
pub fn snapshot(snapshot: &Snapshot, options: TextOptions) -> String {
    let mut sections: Vec<String> = snapshot.records.values().map(|r| record(r, options)).collect();
    if !snapshot.outputs.is_empty() {
        sections.push(format!("{}\n{}", paint(BOLD, "Outputs:"), outputs(&snapshot.outputs)));
    }
    if !snapshot.intents.is_empty() {
        let lines: String = snapshot
            .intents
            .iter()
            .map(|i| format!("  {} of {}\n", printable(&i.action), printable(&i.address)))
            .collect();
        sections.push(format!("{}\n{lines}", paint(WARNING, "Unfinished operations of an interrupted run:")));
    }
    if sections.is_empty() {
        return "The state is empty.\n".to_owned();
    }
    sections.join("\n")
}

/// Renders a record.
pub fn record(record: &Record, options: TextOptions) -> String {
    let mut text = format!("# {} on {}", paint(BOLD, printable(&record.address)), printable(&record.target));
    if record.incomplete {
        text.push_str(&paint(WARNING, " (incomplete: an operation on it failed or was interrupted)"));
    }
    text.push_str(&format!("\n{} {}\n", printable(&record.resource_type), printable(&record.identity)));
    for pending in &record.pending {
        let note = paint(WARNING, "(left behind by an unfinished operation)");
        text.push_str(&format!("{} {} {note}\n", printable(&pending.resource_type), printable(&pending.identity)));
    }
    let label = record.attributes.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    for (name, value) in &record.attributes {
        match value {
            text_value if is_multi_line(text_value) => {
                text.push_str(&format!("    {}:\n", printable(name)));
                for line in text_value.as_str().unwrap_or_default().lines() {
                    text.push_str(&format!("        {}{}\n", paint(DIM, "| "), printable(line)));
                }
            }
            other => text.push_str(&format!("    {:label$} = {}\n", printable(name), cut(&inline(other), options))),
        }
    }
    text
}

fn cut(text: &str, options: TextOptions) -> String {
    let length = text.chars().count();
    if options.full || length <= options.width {
        return text.to_owned();
    }
    let kept = options.width.saturating_sub(30).max(40);
    format!(
        "{}{}",
        text.chars().take(kept).collect::<String>(),
        paint(DIM, format!("… ({} more characters)", length - kept))
    )
}

/// Renders the outputs, one per line.
pub fn outputs(outputs: &BTreeMap<String, Output>) -> String {
    let label = outputs.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let shown = |o: &Output| if o.sensitive { "(sensitive value)".to_owned() } else { inline(&o.value) };
    outputs.iter().map(|(name, output)| format!("{:label$} = {}\n", printable(name), shown(output))).collect()
}

/// Renders the runs, one per line. `holder` is the current holder of the lock.
pub fn history(runs: &[Run], holder: Option<&LockInfo>) -> String {
    runs.iter().map(|run| run_line(run, holder)).collect()
}

fn run_line(run: &Run, holder: Option<&LockInfo>) -> String {
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
    let counts: Vec<_> = counts.map(|(what, n)| format!("{n} {}", printable(what))).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let by = printable(&format!("{}@{}", run.who, run.host));
    format!("{:.0}  {by}  {}  {result}{counts}\n", run.started_at, paint(BOLD, printable(&run.command)))
}
