//! The results of checks.

use moorfast_engine::model::{CheckResult, CheckStatus};

use super::section::Section;
use super::text::{Line, Style, styled};

/// Maximum number of passed checks that are named.
const NAMED: usize = 8;

/// Returns the section of the checks: a line for each that failed or is pending, and one line for all that passed.
pub fn checks(checks: &[CheckResult]) -> Section {
    let word = |status| match status {
        CheckStatus::Fail => styled(Style::Danger, "FAIL"),
        CheckStatus::Error => styled(Style::Danger, "ERROR"),
        CheckStatus::Unknown => styled(Style::Dim, "pending"),
        CheckStatus::Pass => styled(Style::Added, "pass"),
    };
    let (passed, others): (Vec<_>, Vec<_>) = checks.iter().partition(|check| check.status == CheckStatus::Pass);
    let mut sorted = others;
    sorted.sort_by_key(|check| match check.status {
        CheckStatus::Fail | CheckStatus::Error => 0,
        CheckStatus::Unknown | CheckStatus::Pass => 1,
    });
    let mut lines = Vec::new();
    for check in sorted {
        let later = if check.status == CheckStatus::Unknown { " (known after apply)" } else { "" };
        lines.push((word(check.status) + format!(" {}{later}", check.name)).indented(2));
        lines.extend(check.messages.iter().flat_map(|m| m.lines()).map(|line| Line::from(line).indented(7)));
    }
    let names: Vec<_> = passed.iter().map(|check| check.name.as_str()).collect();
    let summary = match names.as_slice() {
        [] => return Section { heading: "Checks", lines },
        [name] => (*name).to_owned(),
        many if many.len() <= NAMED => many.join(", "),
        many => format!("{} and {} more", many[..NAMED].join(", "), many.len() - NAMED),
    };
    lines.push((word(CheckStatus::Pass) + format!(" {summary}")).indented(2));
    Section { heading: "Checks", lines }
}

#[cfg(test)]
mod tests {
    use super::super::terminal::plain;
    use super::*;

    #[test]
    fn passed_checks_have_one_line() {
        let check = |name: String, status| CheckResult { name, status, messages: Vec::new() };
        let mut all: Vec<_> = (0..9).map(|i| check(format!("check.c{i}"), CheckStatus::Pass)).collect();
        all.push(check("check.api".to_owned(), CheckStatus::Fail));
        let shown = plain(checks(&all).text());
        let names: Vec<_> = (0..8).map(|i| format!("check.c{i}")).collect();
        assert_eq!(shown, format!("Checks:\n  FAIL check.api\n  pass {} and 1 more\n", names.join(", ")));
    }
}
