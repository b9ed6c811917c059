//! The drift history, as text and JSON.

use jiff::SignedDuration;
use moorfast_engine::state::{DriftEntry, DriftHistory};
use serde_json::{Value as Json, json};

use super::json::FORMAT_VERSION;
use super::text::{Line, Style, Text, styled};

/// Renders the history as text, newest first.
pub fn text(history: &DriftHistory) -> Text {
    let Some(looked_at) = history.looked_at else { return "`moorfast drift` has not run yet.".into() };
    let mut lines = vec![Line::from(format!("Last run at {looked_at:.0}."))];
    for entry in history.entries.iter().rev() {
        lines.extend([Line::default(), styled(Style::Bold, &entry.subject) + changes(entry)]);
        let (until, how_long) = match entry.gone {
            Some(gone) => (styled(Style::Dim, format!("ended at {gone:.0}")), gone.duration_since(entry.first_seen)),
            None => (styled(Style::Changed, "ongoing"), looked_at.duration_since(entry.first_seen)),
        };
        let since = format!("  first seen at {:.0}, ", entry.first_seen);
        lines.push(Line::from(since) + until + format!(" ({})", period(how_long)));
    }
    if history.entries.is_empty() {
        lines.push("No drift was found.".into());
    }
    lines.into()
}

/// Returns the history as JSON.
pub fn json(history: &DriftHistory) -> Json {
    let entry = |entry: &DriftEntry| {
        json!({
            "subject": entry.subject,
            "attributes": entry.attributes,
            "first_seen": entry.first_seen,
            "last_seen": entry.last_seen,
            "gone": entry.gone,
            "told": entry.reported_at,
        })
    };
    json!({
        "format_version": FORMAT_VERSION,
        "looked_at": history.looked_at,
        "drift_history": history.entries.iter().map(entry).collect::<Vec<_>>(),
    })
}

fn changes(entry: &DriftEntry) -> String {
    match entry.attributes.as_slice() {
        [] => " is gone".to_owned(),
        attributes => format!(": {}", attributes.join(", ")),
    }
}

/// Returns a duration in days, hours or minutes.
fn period(duration: SignedDuration) -> String {
    let (minutes, hours) = (duration.as_mins(), duration.as_hours());
    let count = |n: i64, unit: &str| format!("{n} {unit}{}", if n == 1 { "" } else { "s" });
    match () {
        () if hours >= 48 => count(hours / 24, "day"),
        () if minutes >= 120 => count(hours, "hour"),
        () => count(minutes, "minute"),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use moorfast_engine::state::Digest;

    use super::super::terminal::plain;
    use super::*;

    #[test]
    fn history_as_text() {
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let entry = |subject: &str, attributes: &[&str], first, last, gone: Option<i64>| DriftEntry {
            subject: subject.to_owned(),
            attributes: attributes.iter().map(|a| (*a).to_owned()).collect(),
            how: Digest::of(b""),
            first_seen: at(first),
            last_seen: at(last),
            gone: gone.map(at),
            reported_at: None,
            posted: None,
        };
        let entries = vec![
            entry("ssh_file.motd[\"gpu01\"]", &["mode", "content"], 1, 2, Some(3)),
            entry("kubernetes_object.role", &[], 5, 100, None),
            entry("target gpu02", &["unreachable"], 99, 100, None),
        ];
        let history = DriftHistory { looked_at: Some(at(100)), entries };
        insta::assert_snapshot!("drift_history", plain(text(&history)));
        insta::assert_snapshot!("no_history", plain(text(&DriftHistory::default())));
    }
}
