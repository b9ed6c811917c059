//! A plan as a self-contained HTML page: the dangerous changes first, a list to search, and the graph.

mod lines;

use std::collections::{BTreeMap, BTreeSet};

use lines::{block_of, inline};
use maud::{Markup, PreEscaped, html};
use moorfast_engine::plan::{Change, Plan};
use moorfast_engine::provider::{Action, Consequence};

use super::block::{body, title};
use super::checks::checks;
use super::derived_attributes::DerivedAttributes;
use super::drift;
use super::escaped::Escaped;
use super::fold::Block;
use super::leaving::leaving;
use super::machines;
use super::picture::{self, Picture};
use super::plan::{closing, groups, outputs, warnings};
use super::policy::violated;
use super::rollout::rollouts;
use super::section::Section;
use super::text::{Style, styled};
use super::text_options::TextOptions;
use super::wording::{Danger, danger, symbol, warning};

/// Maximum number of changes that are shown unfolded.
const OPEN: usize = 40;

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";

/// Renders the page.
pub fn plan(plan: &Plan, derived: &DerivedAttributes) -> String {
    let options = TextOptions { width: 130, full: true, derived };
    let groups = groups(plan, true);
    let headline = closing(plan).to_string();
    let environment = plan.environment.as_ref().map(|name| format!(" · {name}")).unwrap_or_default();
    let title = format!("{}{environment} · {headline}", plan.site);
    let page = html! {
        (PreEscaped("<!doctype html>\n"))
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(CONTENT_SECURITY_POLICY);
                title { (Escaped(&title)) }
                style { (PreEscaped(include_str!("html/page.css"))) }
            }
            body {
                main {
                    h1 { (Escaped(&headline)) }
                    (meta(plan))
                    (notices(plan))
                    (dangers(&groups))
                    (tools(&groups))
                    @for (i, (heading, blocks)) in groups.iter().enumerate() { (group(i, heading, blocks, groups.len(), options)) }
                    @for drifted in drift::of_plan(plan, options) { (section(&drifted)) }
                    (section(&leaving(plan)))
                    (section(&rollouts(plan)))
                    (section(&outputs(&plan.outputs, options)))
                    (section(&checks(&plan.checks)))
                    (graph(plan, &groups))
                }
                script { (PreEscaped(include_str!("html/page.js"))) }
            }
        }
    };
    page.into_string()
}

fn meta(plan: &Plan) -> Markup {
    let made = format!(", created at {:.0} by moorfast {}", plan.created_at, plan.moorfast_version);
    let state = format!(", for serial {} of the state {}", plan.serial, super::state_name(plan));
    html! {
        p class="meta" {
            "site " b { (Escaped(&plan.site)) }
            @if let Some(name) = &plan.environment { ", environment " b { (Escaped(name.as_str())) } }
            (Escaped(&made)) (Escaped(&state))
        }
    }
}

fn notices(plan: &Plan) -> Markup {
    let policies = violated(plan).map(|(policy, message)| {
        let verb = if policy.denies() { "denies this plan" } else { "warns" };
        let line = styled(Style::Bold, &policy.name) + format!(" {verb}: {message} ({})", policy.place);
        (policy.denies(), line)
    });
    let about = |node| std::iter::once(machines::headline(node)).chain(machines::advised(node));
    let nodes = plan.nodes.iter().flat_map(about).map(|line| (true, line));
    let warnings = warnings(plan).map(|text| (false, warning(text)));
    html! {
        @for (is_danger, line) in policies.chain(nodes).chain(warnings) {
            div.notice.destroy[is_danger] { (inline(&line)) }
        }
    }
}

/// Returns links to the dangerous changes.
fn dangers(groups: &[(String, Vec<Block>)]) -> Markup {
    let mut dangerous = with_ids(groups).filter(|(_, block)| block.danger() >= Danger::Restart).peekable();
    if dangerous.peek().is_none() {
        return Markup::default();
    }
    html! {
        div.notice.destroy {
            b { "Review these changes first" }
            ul.danger {
                @for (id, block) in dangerous {
                    li { (sign(block)) a.title href={ "#" (id) } { (inline(&title(block))) } }
                }
            }
        }
    }
}

/// Returns every block with its id on the page.
fn with_ids<'a, 'b>(groups: &'a [(String, Vec<Block<'b>>)]) -> impl Iterator<Item = (String, &'a Block<'b>)> {
    let of_group = |(i, (_, blocks)): (usize, &'a (String, Vec<Block<'b>>))| {
        blocks.iter().enumerate().map(move |(k, block)| (id(i, k), block))
    };
    groups.iter().enumerate().flat_map(of_group)
}

fn id(group: usize, block: usize) -> String {
    format!("change-{}-{}", group + 1, block + 1)
}

/// Returns the search field and a button for each kind of change, in the order of the title, with the dangerous kinds last.
fn tools(groups: &[(String, Vec<Block>)]) -> Markup {
    let mut counts: BTreeMap<Pill, usize> = BTreeMap::new();
    for member in groups.iter().flat_map(|(_, blocks)| blocks).flat_map(|block| &block.members) {
        pills(member.change).for_each(|pill| *counts.entry(pill).or_default() += 1);
    }
    if counts.is_empty() {
        return Markup::default();
    }
    html! {
        div.tools role="search" {
            input #search type="search" placeholder="Search (press /)" aria-label="Search the changes";
            @for (kind, count) in counts.iter().map(|(pill, count)| (pill.name(), count)) {
                button type="button" data-kind=(kind) aria-pressed="false" { b { (count) } " " (kind) }
            }
            span.found aria-live="polite" {}
        }
    }
}

/// The kind of change that a button filters by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Pill {
    Add,
    Change,
    Destroy,
    Adopt,
    Forget,
    Moved,
    Read,
    Overwrite,
    Replace,
    Restart,
}

impl Pill {
    /// Returns the name on the button. It uses the words of the title.
    fn name(self) -> &'static str {
        match self {
            Pill::Add => "add",
            Pill::Change => "change",
            Pill::Destroy => "destroy",
            Pill::Adopt => "adopt",
            Pill::Forget => "forget",
            Pill::Moved => "moved",
            Pill::Read => "read",
            Pill::Overwrite => "overwrite",
            Pill::Replace => "replace",
            Pill::Restart => "restart",
        }
    }
}

/// Returns the kinds of a change, once for each of its objects, as counted in the title.
fn pills(change: &Change) -> impl Iterator<Item = Pill> {
    let actions = match change.objects.as_slice() {
        [] => vec![change.action],
        objects => objects.iter().map(|object| object.action).collect(),
    };
    let moved = change.moved_from.is_some().then_some(Pill::Moved);
    let overwrites = change.consequences.contains(&Consequence::Overwrite).then_some(Pill::Overwrite);
    let restarts = change.restarts().then_some(Pill::Restart);
    actions.into_iter().flat_map(counted).copied().chain(moved).chain(overwrites).chain(restarts)
}

/// Returns the kinds of an action. As in the title, a replacement counts as added and destroyed.
fn counted(action: Action) -> &'static [Pill] {
    match action {
        Action::Create => &[Pill::Add],
        Action::Update => &[Pill::Change],
        Action::Replace | Action::ReplaceCreateFirst => &[Pill::Add, Pill::Destroy, Pill::Replace],
        Action::Delete => &[Pill::Destroy],
        Action::Adopt => &[Pill::Adopt],
        Action::Forget => &[Pill::Forget],
        Action::Read => &[Pill::Read],
        Action::NoOp => &[],
    }
}

/// Returns the CSS class of a kind of change.
fn kind(danger: Danger) -> &'static str {
    match danger {
        Danger::Destroy => "destroy",
        Danger::Replace => "replace",
        Danger::Overwrite => "overwrite",
        Danger::Restart => "restart",
        Danger::Update => "update",
        Danger::Create => "add",
        Danger::Bookkeeping => "record",
    }
}

fn group(i: usize, heading: &str, blocks: &[Block], groups: usize, options: TextOptions) -> Markup {
    let open = groups + blocks.len() <= OPEN;
    html! {
        section.group {
            h2 { (Escaped(heading.trim_end_matches(':'))) }
            @for (k, block) in blocks.iter().enumerate() { (change(&id(i, k), block, open, options)) }
        }
    }
}

fn change(id: &str, block: &Block, open: bool, options: TextOptions) -> Markup {
    let filters: BTreeSet<Pill> = block.members.iter().flat_map(|member| pills(member.change)).collect();
    let filters: Vec<_> = filters.into_iter().map(Pill::name).collect();
    let lines = body(block, options);
    let bare = if lines.is_empty() { " bare" } else { "" };
    html! {
        details class={ "item " (kind(block.danger())) (bare) } id=(id) data-kind=(filters.join(" ")) data-changes=(block.members.len()) open[open && !lines.is_empty()] {
            summary { (sign(block)) span.title { (inline(&title(block))) } }
            (block_of(&lines))
        }
    }
}

fn sign(block: &Block) -> Markup {
    let (mark, style) = symbol(block.first().change.action);
    html! { span.symbol { (inline(&styled(style, mark))) } }
}

fn section(Section { heading, lines }: &Section) -> Markup {
    html! {
        @if !lines.is_empty() {
            h2 { (heading) }
            section.box { (block_of(lines)) }
        }
    }
}

/// Returns the dependency graph, with a link from each box to its change.
fn graph(plan: &Plan, groups: &[(String, Vec<Block>)]) -> Markup {
    let mut drawn = Picture::default();
    let mut places = BTreeMap::new();
    let names: Vec<_> = plan.changes.iter().map(|c| (c, c.address.to_string())).collect();
    let mut worst: BTreeMap<usize, Danger> = BTreeMap::new();
    let mut boxes = BTreeMap::new();
    for (change, name) in &names {
        let place = drawn.put(&mut places, name);
        boxes.insert(&change.address, place);
        let known = worst.entry(place).or_insert(Danger::Bookkeeping);
        *known = (*known).max(danger(change));
    }
    if drawn.boxes.len() < 2 || drawn.boxes.len() > picture::LIMIT {
        return Markup::default();
    }
    for (change, _) in &names {
        for before in change.dependencies.iter().filter_map(|address| boxes.get(address)) {
            drawn.arrow(*before, boxes[&change.address]);
        }
    }
    for (id, block) in with_ids(groups) {
        let link = &mut drawn.boxes[boxes[&block.first().change.address]].link;
        link.get_or_insert_with(|| format!("#{id}"));
    }
    for (place, danger) in worst {
        drawn.boxes[place].class = box_class(danger);
    }
    let classes: BTreeSet<_> = drawn.boxes.iter().map(|drawn| drawn.class).collect();
    html! {
        h2 { "Dependency graph" }
        div.graph { (drawn.svg()) }
        (legend(&classes))
    }
}

/// Returns the CSS class of a box whose most dangerous change is this one.
fn box_class(danger: Danger) -> &'static str {
    match danger {
        Danger::Overwrite | Danger::Destroy | Danger::Replace => "destroy",
        Danger::Restart | Danger::Update => "change",
        Danger::Create => "add",
        Danger::Bookkeeping => "",
    }
}

/// Returns the meaning of the colours and arrows of the graph, as far as it has them.
fn legend(classes: &BTreeSet<&str>) -> Markup {
    let meanings = [
        ("destroy", "destroyed, replaced or overwritten"),
        ("change", "changed in place"),
        ("add", "created"),
        ("", "no change of the object"),
    ];
    html! {
        ul.legend {
            @for (class, meaning) in meanings.into_iter().filter(|(class, _)| classes.contains(class)) {
                li class=(class) { (meaning) }
            }
            li.arrow { "from a dependency to its dependant" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, DERIVED};
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escapes_text() {
        let mut sample = samples::dangers();
        sample.warnings.push("</div><script>alert(1)</script>".to_owned());
        let page = plan(&sample, &DERIVED);
        assert!(!page.contains("<script>alert") && page.contains("&lt;script&gt;alert"));
        // The only URL is the namespace of SVG, which is never fetched.
        let rest = page.replace("http://www.w3.org/2000/svg", "").replace("https://10.0.0.11:10250/", "");
        assert!(!rest.contains("http://") && !rest.contains("https://") && !rest.contains("url(http"));
        assert_eq!(page.matches("<details").count(), page.matches("</details>").count());
    }

    #[test]
    fn the_buttons_count_what_the_title_counts() {
        for sample in [
            samples::dangers(),
            samples::updates(),
            samples::fleet(),
            samples::moved_fleet(),
            samples::objects(),
            samples::destroy(),
            samples::creates(),
            samples::rolled(),
            samples::refresh(),
            samples::nothing(),
        ] {
            let page = plan(&sample, &DERIVED);
            let count = |name: &str| {
                let end = format!("</b> {name}</button>");
                let before = page.split(&end).next().filter(|before| before.len() < page.len());
                before.map_or(0, |before| before.rsplit("<b>").next().unwrap().parse::<usize>().unwrap())
            };
            let summary = sample.summary();
            let moved = sample.changes.iter().filter(|change| change.moved_from.is_some()).count();
            assert_eq!(
                ["add", "change", "destroy", "adopt", "forget", "moved"].map(count),
                [summary.add, summary.change, summary.destroy, summary.adopt, summary.forget, moved]
            );
            assert!(page.contains("<title>sites/berlin · ") && page.contains("site <b>sites/berlin</b>"), "{page}");
        }
    }

    #[test]
    fn the_title_and_the_header_name_the_environment() {
        let page = plan(&Plan { environment: "prod".parse().ok(), ..samples::updates() }, &DERIVED);
        assert!(page.contains("<title>sites/berlin · prod · Plan:"), "{page}");
        assert!(page.contains("site <b>sites/berlin</b>, environment <b>prod</b>, created at"), "{page}");
    }

    #[test]
    fn changed_words_are_marked() {
        let page = plan(&samples::updates(), &DERIVED);
        assert!(page.contains("<mark>110</mark>") && page.contains("<mark>220</mark>"), "{page}");
    }

    #[test]
    fn the_graph_has_a_legend_of_its_colours() {
        let page = plan(&samples::dangers(), &DERIVED);
        assert!(page.contains("<li class=\"destroy\">destroyed, replaced or overwritten</li>"), "{page}");
        assert!(page.contains("<li class=\"arrow\">from a dependency to its dependant</li>"));
        assert!(!legend(&BTreeSet::from([""])).into_string().contains("destroyed"));
    }

    #[test]
    fn an_entry_counts_the_changes_that_the_buttons_count() {
        let page = plan(&samples::fleet(), &DERIVED);
        let counts = page.split("data-changes=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        let total: usize = counts.map(|count| count.parse::<usize>().unwrap()).sum();
        let moved_or_changed = samples::fleet().changes.iter().filter(|change| change.action != Action::NoOp).count();
        assert_eq!(total, moved_or_changed);
    }

    #[test]
    fn a_plan_without_changes_has_a_page() {
        assert!(plan(&samples::nothing(), &DERIVED).contains("<h1>No changes."));
    }
}
