//! A plan as text for a reviewer, with the dangerous changes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use moorfast_engine::model::{CheckResult, CheckStatus};
use moorfast_engine::plan::{Change, OutputChange, Plan, PlanMode, Summary};
use moorfast_engine::provider::Action;

use super::block::block;
use super::drift;
use super::fold::{Block, fold};
use super::machines;
use super::policy::policies;
use super::rollout::rollouts;
use super::row::{Row, TextOptions, table};
use super::section::Section;
use super::style::{ADD, BOLD, DESTROY, DIM, WARNING, paint};
use super::value::printable;
use super::wording::{Danger, counted, listed, meaning, symbol};

/// Renders a plan as text with colours.
pub fn plan(plan: &Plan, options: TextOptions) -> String {
    let mut sections = vec![policies(plan), warnings(plan), machines::section(plan, options.full)];
    sections.extend(drift::of_plan(plan, options).map(Section::text));
    let groups = groups(plan, options.full);
    if !groups.is_empty() {
        let changes = groups.iter().flat_map(|(_, blocks)| blocks).map(|block| block.first().change);
        let actions = |change: &Change| {
            let own = listed(change).into_iter().map(|object| object.action).collect::<Vec<_>>();
            std::iter::once(change.action).chain(own)
        };
        sections.push(legend(changes.flat_map(actions)));
    }
    for (heading, blocks) in groups {
        sections.push(vec![paint(BOLD, heading)]);
        sections.extend(blocks.iter().map(|b| block(b, options)));
    }
    sections.push(rollouts(plan).text());
    sections.push(outputs(&plan.outputs, options).text());
    sections.push(checks(&plan.checks).text());
    sections.push(vec![closing(plan)]);
    let texts: Vec<_> = sections.into_iter().filter(|s| !s.is_empty()).map(|s| s.join("\n")).collect();
    texts.join("\n\n") + "\n"
}

/// Returns the changes to show.
fn shown(plan: &Plan) -> impl Iterator<Item = &Change> {
    plan.changes.iter().filter(|c| c.action != Action::NoOp || c.moved_from.is_some())
}

/// Returns the blocks under a heading for each set of targets, the most dangerous first. Unless `full`, changes on a replaced machine are summarized
/// under its node instead.
pub fn groups(plan: &Plan, full: bool) -> Vec<(String, Vec<Block<'_>>)> {
    let mut groups = by_target(fold(shown(plan).filter(|change| full || machines::of(plan, change).is_none())));
    // Changes of equal danger keep the order of the plan, which respects dependencies.
    groups.sort_by_key(|(_, blocks)| Reverse(blocks.iter().map(Block::danger).max().unwrap_or(Danger::Bookkeeping)));
    groups.iter_mut().for_each(|(_, blocks)| blocks.sort_by_key(|b| Reverse(b.danger())));
    groups
}

/// Returns the summary line.
pub fn closing(plan: &Plan) -> String {
    let summary = plan.summary();
    let outputs = plan.outputs.values().any(|o| o.before != o.after);
    let moved = plan.changes.iter().filter(|c| c.moved_from.is_some()).count();
    if !plan.has_changes() {
        let drifted = if plan.drift.is_empty() { "" } else { " The drift shown above is not corrected." };
        return match plan.options.mode {
            PlanMode::Destroy => paint(ADD.bold(), "No changes.") + " The state has no objects to destroy.",
            PlanMode::RefreshOnly => paint(ADD.bold(), "No changes.") + " The state matches the real objects.",
            PlanMode::Normal => paint(ADD.bold(), "No changes.") + " The real objects match the manifest." + drifted,
        };
    }
    if plan.options.mode == PlanMode::RefreshOnly {
        let count = counted(plan.drift.len(), "object");
        let line = format!("Plan: {count} to update in the state. The objects themselves do not change.");
        return paint(BOLD, line);
    }
    if summary == Summary::default() && moved == 0 && outputs {
        return paint(BOLD, "Plan: only outputs change. The objects do not change.");
    }
    paint(BOLD, summary_line(summary, moved))
}

/// `Plan: 4 to add, 1 to change, 0 to destroy.`
fn summary_line(summary: Summary, moved: usize) -> String {
    let Summary { add, change, destroy, adopt, forget } = summary;
    let mut line = format!("Plan: {add} to add, {change} to change, {destroy} to destroy");
    for (count, what) in [(adopt, "to adopt"), (forget, "to remove from the state"), (moved, "moved")] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line + "."
}

/// Returns the warnings of a plan.
pub fn warnings(plan: &Plan) -> Vec<String> {
    let is_part = !plan.options.targets.is_empty() || !plan.options.exclude.is_empty();
    let part =
        "this plan is partial (--target, --exclude); run a plan without these options to apply the whole manifest";
    let own = is_part.then(|| part.to_owned());
    let all = plan.warnings.iter().cloned().chain(own);
    all.map(|w| format!("{} {}", paint(WARNING, "warning:"), printable(&w))).collect()
}

fn legend(actions: impl Iterator<Item = Action>) -> Vec<String> {
    let order = [
        Action::Delete,
        Action::Replace,
        Action::ReplaceCreateFirst,
        Action::Update,
        Action::Create,
        Action::Read,
        Action::Adopt,
        Action::Forget,
    ];
    let used: Vec<_> = actions.filter(|action| *action != Action::NoOp).collect();
    if used.is_empty() {
        return Vec::new();
    }
    let mut lines = vec!["moorfast will perform the following actions:".to_owned()];
    for action in order.into_iter().filter(|a| used.contains(a)) {
        let (mark, style) = symbol(action);
        lines.push(format!("  {}{} {}", " ".repeat(3 - mark.len()), paint(style, mark), meaning(action)));
    }
    lines
}

/// Returns the blocks under a heading for each set of targets, in the order of the plan.
fn by_target(blocks: Vec<Block>) -> Vec<(String, Vec<Block>)> {
    let mut groups: Vec<(BTreeSet<&str>, String, Vec<Block>)> = Vec::new();
    for block in blocks {
        let targets = block.targets();
        match groups.iter_mut().find(|(known, ..)| *known == targets) {
            Some((.., members)) => members.push(block),
            None => groups.push((targets, heading(&block), vec![block])),
        }
    }
    groups.into_iter().map(|(_, heading, blocks)| (heading, blocks)).collect()
}

fn heading(block: &Block) -> String {
    let change = block.first().change;
    let targets: Vec<_> = block.targets().into_iter().collect();
    match targets.as_slice() {
        [target] if *target == change.provider => format!("In {target}:"),
        [target] => format!("On {target}:"),
        many => format!("On {} nodes, {}:", many.len(), many.join(", ")),
    }
}

/// Returns the section of the changed outputs.
pub fn outputs(outputs: &BTreeMap<String, OutputChange>, options: TextOptions) -> Section {
    let rows: Vec<_> = outputs
        .iter()
        .filter(|(_, change)| change.before != change.after)
        .map(|(name, change)| Row {
            path: name.clone(),
            before: change.before.clone().filter(|v| !v.is_null()),
            after: change.after.clone().filter(|v| !v.is_null()),
            forces_replacement: false,
        })
        .collect();
    Section { heading: "Changes to outputs", lines: table(&rows, options) }
}

/// Returns the section of the checks, failed ones first.
pub fn checks(checks: &[CheckResult]) -> Section {
    let word = |status| match status {
        CheckStatus::Fail => paint(DESTROY.bold(), "FAIL"),
        CheckStatus::Error => paint(DESTROY.bold(), "ERROR"),
        CheckStatus::Unknown => paint(DIM, "pending"),
        CheckStatus::Pass => paint(ADD, "pass"),
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
        lines.push(format!("  {} {}{later}", word(check.status), check.name));
        lines.extend(check.messages.iter().flat_map(|m| m.lines()).map(|line| format!("       {}", printable(line))));
    }
    Section { heading: "Checks", lines }
}
