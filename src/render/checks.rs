//! The results of checks.

use moorfast_engine::model::{CheckResult, CheckStatus};

use super::section::Section;
use super::text::{Line, Style, styled};

const HEADING: &str = "Checks";

/// Maximum number of checks of one status that are named.
const NAMED: usize = 8;

/// Returns the section of the checks in a plan: a line for each that failed, and one line for all of each other status.
pub fn checks(checks: &[CheckResult]) -> Section {
    let pending = styled(Style::Dim, "pending");
    section(checks, together(checks, CheckStatus::Unknown, pending, " (known after apply)"))
}

/// Returns the section of the checks after an apply, as [`checks`] does.
pub fn checks_after(checks: &[CheckResult]) -> Section {
    let unknown = styled(Style::Danger, "unknown");
    section(
        checks,
        together(checks, CheckStatus::Unknown, unknown, " (a resource that they depend on was not applied)"),
    )
}

/// Returns the section of the checks that failed.
pub fn failed_checks(checks: &[CheckResult]) -> Section {
    Section { heading: HEADING, lines: failures(checks) }
}

fn section(checks: &[CheckResult], unknown: Option<Line>) -> Section {
    let skipped = styled(Style::Dim, "skipped");
    let skipped = together(checks, CheckStatus::Skipped, skipped, " (not selected by --target, --exclude)");
    let passed = together(checks, CheckStatus::Pass, styled(Style::Added, "pass"), "");
    let lines = failures(checks).into_iter().chain(unknown).chain(skipped).chain(passed);
    Section { heading: HEADING, lines: lines.collect() }
}

/// Returns a line for each check that failed, and its messages below it.
fn failures(checks: &[CheckResult]) -> Vec<Line> {
    let mut lines = Vec::new();
    for check in checks {
        let word = match check.status {
            CheckStatus::Fail => "FAIL",
            CheckStatus::Error => "ERROR",
            CheckStatus::Unknown | CheckStatus::Skipped | CheckStatus::Pass => continue,
        };
        lines.push((styled(Style::Danger, word) + format!(" {}", check.name)).indented(2));
        lines.extend(check.messages.iter().flat_map(|m| m.lines()).map(|line| Line::from(line).indented(7)));
    }
    lines
}

/// Returns the line of all checks with this status, if there are any.
fn together(checks: &[CheckResult], status: CheckStatus, word: Line, reason: &str) -> Option<Line> {
    let names: Vec<_> = checks.iter().filter(|c| c.status == status).map(|c| c.name.as_str()).collect();
    (!names.is_empty()).then(|| (word + format!(" {}{reason}", some(&names))).indented(2))
}

/// Returns the first names, and how many more there are.
fn some(names: &[&str]) -> String {
    match names.get(NAMED..) {
        None | Some([]) => names.join(", "),
        Some(more) => format!("{} and {} more", names[..NAMED].join(", "), more.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::terminal::plain;
    use super::*;

    #[test]
    fn each_status_but_failure_has_one_line() {
        let check = |name: &str, status| CheckResult { name: name.to_owned(), status, messages: Vec::new() };
        let mut all: Vec<_> = (0..9).map(|i| check(&format!("check.c{i}"), CheckStatus::Pass)).collect();
        all.extend(["check.a", "check.b"].map(|name| check(name, CheckStatus::Skipped)));
        all.extend(["check.d", "check.e"].map(|name| check(name, CheckStatus::Unknown)));
        all.push(check("check.api", CheckStatus::Fail));
        let shown = plain(checks(&all).text());
        let names: Vec<_> = (0..8).map(|i| format!("check.c{i}")).collect();
        let skipped = "skipped check.a, check.b (not selected by --target, --exclude)";
        let passed = format!("pass {} and 1 more", names.join(", "));
        let pending = "pending check.d, check.e (known after apply)";
        assert_eq!(shown, format!("Checks:\n  FAIL check.api\n  {pending}\n  {skipped}\n  {passed}\n"));
        assert_eq!(plain(failed_checks(&all).text()), "Checks:\n  FAIL check.api\n");
        let after = plain(checks_after(&all).text());
        assert!(after.contains("  unknown check.d, check.e (a resource that they depend on was not applied)\n"));
    }
}
