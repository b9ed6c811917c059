//! Drift: the changes made outside moorfast since the last apply.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Change, Drift, Plan, Reason};

use super::checks::checks;
use super::derived_attributes::DerivedAttributes;
use super::fold::Difference;
use super::instance_name::{OnNode, on_every_node, on_node};
use super::machines;
use super::row::{Row, rows_between};
use super::row_lines::table;
use super::section::Section;
use super::site;
use super::text::{Line, Style, Text, styled};
use super::text_options::TextOptions;
use super::wording::counted;

/// Maximum number of other instances with the same drift that are listed by address.
const NAMED: usize = 8;

/// The heading of the drift that `moorfast drift` found.
const CHANGED: &str = "Changed outside moorfast since the last apply";

/// The numbers of objects that a drift report does not show.
#[derive(Clone, Copy, Debug, Default)]
pub struct Omitted {
    /// The number of objects that could not be read.
    pub unread: usize,
    /// The number of drifted objects that were reported before.
    pub known: usize,
}

/// Renders the output of `moorfast drift`.
pub fn drift(plan: &Plan, omitted: Omitted, options: TextOptions) -> Text {
    let all: Vec<_> = plan.drift.iter().collect();
    Text::separated([
        site::heading(plan),
        machines::section(plan, true),
        section(CHANGED, &all, options).text(),
        checks(&plan.checks).text(),
        closing(plan, omitted).into(),
    ])
}

/// Returns the summary line.
fn closing(plan: &Plan, omitted: Omitted) -> Line {
    let known = format!(" Drift of {} was reported before.", counted(omitted.known, "object"));
    let explanation = match (plan.drift.len(), plan.mismatches()) {
        (0, 0) if omitted.known > 0 => known.as_str(),
        (0, 0) if omitted.unread == 0 => " Nothing changed since the last apply.",
        (0, _) => "",
        _ => " Run `moorfast plan` to see what an apply would do about it.",
    };
    headline(plan, omitted) + explanation
}

/// Returns the summary in one sentence.
pub fn headline(plan: &Plan, Omitted { unread, known }: Omitted) -> Line {
    match (plan.drift.len(), plan.mismatches()) {
        (0, 0) if known > 0 => styled(Style::Success, "No new drift."),
        (0, 0) if unread > 0 => {
            let unread = counted(unread, "object");
            format!("No drift in the objects that could be read; {unread} could not be read.").into()
        }
        (0, 0) => styled(Style::Success, "In sync."),
        (0, _) => styled(Style::Danger, "Drift:") + " other machines answer for the nodes above.",
        (n, _) => styled(Style::Danger, format!("Drift: {}", counted(n, "object"))) + " changed since the last apply.",
    }
}

/// Returns two sections about the drift of a plan: in short the drift that the plan corrects, because its changes show the details, and in full
/// the drift that it does not correct.
pub fn of_plan(plan: &Plan, options: TextOptions) -> [Section; 2] {
    let corrects = |change: &&Change| change.reasons.iter().any(|r| matches!(r, Reason::Drift | Reason::Gone));
    let corrected: BTreeSet<_> = plan.changes.iter().filter(corrects).map(|change| &change.address).collect();
    let (corrected, kept): (Vec<_>, Vec<_>) = plan.drift.iter().partition(|drift| corrected.contains(&drift.address));
    let corrected = Section {
        heading: "Changed outside moorfast since the last apply, corrected by this plan",
        lines: summary(&corrected),
    };
    [corrected, section("Changed outside moorfast since the last apply, not corrected by this plan", &kept, options)]
}

/// Returns one line per drifted address with its changed attributes. The same element on several nodes has one line.
fn summary(drift: &[&Drift]) -> Vec<Line> {
    let line = |group: Vec<&Drift>| {
        let (first, count) = (group[0], group.len());
        let name = match (instance_on_node(first), count) {
            (_, 1) => first.address.to_string(),
            (Some(on), _) => format!("{} on {count} nodes", on_every_node(&first.address.resource, on.element)),
            (None, _) => format!("{}, {count} instances", first.address.resource),
        };
        let line = match &first.after {
            None => styled(Style::Removed, "-") + format!(" {name}: gone"),
            Some(_) => styled(Style::Changed, "~") + format!(" {name}: {}", changed_attributes(first).join(", ")),
        };
        line.indented(2)
    };
    let alike = |a: &Drift, b: &Drift| {
        is_same_element(a, b)
            && a.after.is_some() == b.after.is_some()
            && changed_attributes(a) == changed_attributes(b)
    };
    grouped(drift, alike).into_iter().map(line).collect()
}

/// Returns whether both are instances of one resource, and of one element of `for_each` if they are on nodes.
fn is_same_element(a: &Drift, b: &Drift) -> bool {
    let element = |drift| instance_on_node(drift).map(|on| on.element);
    a.address.resource == b.address.resource && element(a) == element(b)
}

fn instance_on_node(drift: &Drift) -> Option<OnNode<'_>> {
    on_node(&drift.address, &drift.target)
}

/// Returns the groups of similar drift, in the order of their first members.
fn grouped<'a>(drift: &[&'a Drift], alike: impl Fn(&Drift, &Drift) -> bool) -> Vec<Vec<&'a Drift>> {
    let mut groups: Vec<Vec<&Drift>> = Vec::new();
    for one in drift {
        match groups.iter_mut().find(|group| alike(group[0], one)) {
            Some(group) => group.push(one),
            None => groups.push(vec![one]),
        }
    }
    groups
}

/// Returns the paths of the changed attributes. Returns none if the object is gone.
pub fn changed_attributes(drift: &Drift) -> Vec<String> {
    let Some(after) = &drift.after else { return Vec::new() };
    let rows = rows_between(Some(&drift.before), Some(after), &BTreeSet::new());
    rows.into_iter().map(|row| row.path).collect()
}

/// Renders drift in full.
fn section(heading: &'static str, drift: &[&Drift], options: TextOptions) -> Section {
    let groups = grouped(drift, |a, b| is_same_drift(a, b, options.derived));
    let lines = groups.iter().flat_map(|group| {
        let Object { title, body } = drifted(group, options);
        [Line::default(), Line::from("  # ") + title].into_iter().chain(body)
    });
    Section { heading, lines: lines.collect() }
}

/// An object that drifted, or several with the same drift.
pub struct Object {
    /// The addresses.
    pub title: Line,
    /// The lines of the changed attributes.
    pub body: Vec<Line>,
}

/// Returns the drifted objects. Equal drift is grouped.
pub fn objects(plan: &Plan, options: TextOptions) -> Vec<Object> {
    let all: Vec<_> = plan.drift.iter().collect();
    grouped(&all, |a, b| is_same_drift(a, b, options.derived)).iter().map(|group| drifted(group, options)).collect()
}

/// Returns whether both drifted in the same way, apart from their instance names and the context of changed lines.
fn is_same_drift(a: &Drift, b: &Drift, derived: &DerivedAttributes) -> bool {
    is_same_element(a, b)
        && a.after.is_some() == b.after.is_some()
        && differences(a, derived) == differences(b, derived)
}

/// Returns the differences of an object, with its instance name replaced by a placeholder.
fn differences(drift: &Drift, derived: &DerivedAttributes) -> Vec<(String, Difference)> {
    let key = drift.address.key.as_deref().unwrap_or_default();
    let name = instance_on_node(drift).map_or(key, |on| on.node);
    drift_rows(drift, Some(derived)).into_iter().map(|row| (row.path.clone(), Difference::of(&row, name))).collect()
}

/// Returns the rows of a drifted object without the `derived` attributes.
fn drift_rows(drift: &Drift, derived: Option<&DerivedAttributes>) -> Vec<Row> {
    let Some(after) = &drift.after else { return Vec::new() };
    let rows = rows_between(Some(&drift.before), Some(after), &BTreeSet::new());
    let resource_type = &drift.address.resource.resource_type;
    let is_shown = |row: &&Row| {
        derived
            .is_none_or(|derived| !derived.contain(resource_type, &row.path, rows.iter().map(|row| row.path.as_str())))
    };
    rows.iter().filter(is_shown).cloned().collect()
}

/// Returns the objects that drifted in the same way.
fn drifted(group: &[&Drift], options: TextOptions) -> Object {
    let (drift, also) = (group[0], &group[1..]);
    let name = styled(Style::Bold, &drift.address) + " ";
    let others = match also {
        [] => String::new(),
        few if few.len() <= NAMED => {
            format!("; also {}", few.iter().map(|d| d.address.to_string()).collect::<Vec<_>>().join(", "))
        }
        many => {
            let keys: Vec<_> = many.iter().map(|d| d.address.key.as_deref().unwrap_or_default()).collect();
            format!("; also {} others: {}", many.len(), keys.join(", "))
        }
    };
    if drift.after.is_none() {
        return Object { title: name + styled(Style::Danger, "is gone") + others, body: Vec::new() };
    }
    let mut body = Vec::new();
    let shown = drift_rows(drift, Some(options.derived).filter(|_| !options.full));
    if also.iter().any(|other| drift_rows(other, Some(options.derived)) != drift_rows(drift, Some(options.derived))) {
        let note = "(the others differ only in their names or in the lines around the change)";
        body.push(styled(Style::Dim, format!("#   {note}")).indented(2));
    }
    body.extend(table(&shown, options));
    Object { title: name + format!("has changed{others}"), body }
}
