//! The results of checks.

use moorfast_engine::model::{CheckResult, CheckStatus};

use super::section::Section;
use super::text::{Line, Style, styled};

/// Returns the section of the checks, failed ones first.
pub fn checks(checks: &[CheckResult]) -> Section {
    let word = |status| match status {
        CheckStatus::Fail => styled(Style::Danger, "FAIL"),
        CheckStatus::Error => styled(Style::Danger, "ERROR"),
        CheckStatus::Unknown => styled(Style::Dim, "pending"),
        CheckStatus::Pass => styled(Style::Added, "pass"),
    };
    let mut sorted: Vec<_> = checks.iter().collect();
    sorted.sort_by_key(|check| match check.status {
        CheckStatus::Fail | CheckStatus::Error => 0,
        CheckStatus::Unknown => 1,
        CheckStatus::Pass => 2,
    });
    let mut lines = Vec::new();
    for check in sorted {
        let later = if check.status == CheckStatus::Unknown { " (known after apply)" } else { "" };
        lines.push((word(check.status) + format!(" {}{later}", check.name)).indented(2));
        lines.extend(check.messages.iter().flat_map(|m| m.lines()).map(|line| Line::from(line).indented(7)));
    }
    Section { heading: "Checks", lines }
}
