//! What the state remembers, for people and for programs.

use std::collections::BTreeMap;

use moorfast_engine::state::{LockInfo, Output, Record, Run, RunResult, Snapshot};

use super::row::Room;
use super::style::{BOLD, DIM, WARNING, paint};
use super::value::{inline, is_multi_line, printable};

/// The whole state.
pub fn snapshot(snapshot: &Snapshot, room: Room) -> String {
    let mut sections: Vec<String> = snapshot.records.values().map(|r| record(r, room)).collect();
    if !snapshot.outputs.is_empty() {
        sections.push(format!("{}\n{}", paint(BOLD, "Outputs:"), outputs(&snapshot.outputs)));
    }
    if !snapshot.intents.is_empty() {
        let lines: String = snapshot
            .intents
            .iter()
            .map(|i| format!("  {} of {}\n", printable(&i.action), printable(&i.address)))
            .collect();
        sections.push(format!("{}\n{lines}", paint(WARNING, "Begun and not known to have ended:")));
    }
    if sections.is_empty() {
        return "The state is empty.\n".to_owned();
    }
    sections.join("\n")
}

/// One record.
pub fn record(record: &Record, room: Room) -> String {
    let mut text = format!("# {} on {}", paint(BOLD, printable(&record.address)), printable(&record.target));
    if record.incomplete {
        text.push_str(&paint(WARNING, " (an operation on it did not finish)"));
    }
    text.push_str(&format!("\n{} {}\n", printable(&record.resource_type), printable(&record.identity)));
    for pending in &record.pending {
        let left = paint(WARNING, "(left by an operation that did not finish)");
        text.push_str(&format!("{} {} {left}\n", printable(&pending.resource_type), printable(&pending.identity)));
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
            other => text.push_str(&format!("    {:label$} = {}\n", printable(name), cut(&inline(other), room))),
        }
    }
    text
}

fn cut(text: &str, room: Room) -> String {
    let length = text.chars().count();
    if room.full || length <= room.width {
        return text.to_owned();
    }
    let kept = room.width.saturating_sub(30).max(40);
    format!(
        "{}{}",
        text.chars().take(kept).collect::<String>(),
        paint(DIM, format!("… ({} more characters)", length - kept))
    )
}

/// The outputs, one a line.
pub fn outputs(outputs: &BTreeMap<String, Output>) -> String {
    let label = outputs.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    let shown = |o: &Output| if o.sensitive { "(sensitive value)".to_owned() } else { inline(&o.value) };
    outputs.iter().map(|(name, output)| format!("{:label$} = {}\n", printable(name), shown(output))).collect()
}

/// The runs, one a line, as they are given; `holder` is who holds the lock now.
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
        None => "aborted: it was killed, or lost its machine or the lock; the next run finds out what was left open",
    };
    let counts = run.end.iter().flat_map(|end| &end.counts).filter(|(_, n)| **n > 0);
    let counts: Vec<_> = counts.map(|(what, n)| format!("{n} {}", printable(what))).collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let by = printable(&format!("{}@{}", run.who, run.host));
    format!("{:.0}  {by}  {}  {result}{counts}\n", run.started_at, paint(BOLD, printable(&run.command)))
}
