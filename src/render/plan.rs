//! A plan as text for a reviewer, with the dangerous changes first.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use moorfast_engine::plan::{Change, OutputChange, Plan, PlanMode, Summary};
use moorfast_engine::provider::Action;

use super::block::block;
use super::checks::{checks, failed_checks};
use super::drift;
use super::fold::{Block, fold};
use super::leaving::leaving;
use super::machines;
use super::policy::policies;
use super::rollout::rollouts;
use super::row::Row;
use super::row_lines::table;
use super::section::Section;
use super::site;
use super::text::{Line, Style, Text, styled};
use super::text_options::TextOptions;
use super::wording::{Danger, counted, listed, meaning, symbol, warning};

/// Renders a plan as text.
pub fn plan(plan: &Plan, options: TextOptions) -> Text {
    with_checks(plan, checks(&plan.checks), options)
}

/// Renders a plan that is applied next. Of the checks it has only those that fail, because the report of the apply has all.
pub fn before_apply(plan: &Plan, options: TextOptions) -> Text {
    with_checks(plan, failed_checks(&plan.checks), options)
}

fn with_checks(plan: &Plan, checks: Section, options: TextOptions) -> Text {
    let warnings = warnings(plan).map(warning).collect();
    let mut sections = vec![policies(plan), site::heading(plan), warnings, machines::section(plan, options.full)];
    sections.push(leaving(plan).text());
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
        sections.push(styled(Style::Bold, heading).into());
        sections.extend(blocks.iter().map(|b| block(b, options).into()));
    }
    sections.push(rollouts(plan).text());
    sections.push(outputs(&plan.outputs, options).text());
    sections.push(checks.text());
    sections.push(closing(plan).into());
    Text::separated(sections)
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
pub fn closing(plan: &Plan) -> Line {
    let summary = plan.summary();
    let outputs = plan.outputs.values().any(|o| o.before != o.after);
    let moved = plan.changes.iter().filter(|c| c.moved_from.is_some()).count();
    if !plan.has_changes() {
        let drifted = if plan.drift.is_empty() { "" } else { " The drift shown above is not corrected." };
        let none = styled(Style::Success, "No changes.");
        return match plan.options.mode {
            PlanMode::Destroy => none + " The state has no objects to destroy.",
            PlanMode::RefreshOnly => none + " The state matches the real objects.",
            PlanMode::Normal => none + " The real objects match the manifest." + drifted,
        };
    }
    if plan.options.mode == PlanMode::RefreshOnly {
        let count = counted(plan.drift.len(), "object");
        let line = format!("Plan: {count} to update in the state. The objects themselves do not change.");
        return styled(Style::Bold, line);
    }
    if summary == Summary::default() && moved == 0 && plan.returning().next().is_none() {
        if plan.maintains {
            let line = "Plan: the objects do not change. An apply makes the change that a warning above announces.";
            return styled(Style::Bold, line);
        }
        if outputs {
            return styled(Style::Bold, "Plan: only outputs change. The objects do not change.");
        }
    }
    styled(Style::Bold, summary_line(summary, moved, plan.returning().count()))
}

/// `Plan: 4 to add, 1 to change, 0 to destroy.`
fn summary_line(summary: Summary, moved: usize, returning: usize) -> String {
    let Summary { add, change, destroy, adopt, forget } = summary;
    let mut line = format!("Plan: {add} to add, {change} to change, {destroy} to destroy");
    for (count, what) in
        [(adopt, "to adopt"), (forget, "to remove from the state"), (moved, "moved"), (returning, "to uncordon")]
    {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line + "."
}

/// Returns the warnings of a plan.
pub fn warnings(plan: &Plan) -> impl Iterator<Item = String> {
    let part =
        "this plan is partial (--target, --exclude); run a plan without these options to apply the whole manifest";
    let own = plan.options.is_partial().then(|| part.to_owned());
    plan.warnings.iter().cloned().chain(own)
}

fn legend(actions: impl Iterator<Item = Action>) -> Text {
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
        return Text::default();
    }
    let line = |action| {
        let (mark, style) = symbol(action);
        (styled(style, mark) + " " + meaning(action)).indented(5 - mark.len())
    };
    let lines = order.into_iter().filter(|action| used.contains(action)).map(line);
    Text::from("moorfast will perform the following actions:") + lines.collect::<Text>()
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
