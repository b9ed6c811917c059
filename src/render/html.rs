//! A plan as a self-contained HTML page: the dangerous changes first, a list to search, and the graph.

use std::collections::{BTreeMap, BTreeSet};

use moorfast_engine::plan::{Change, Plan};
use moorfast_engine::provider::{Action, Consequence};

use super::block::{body, title};
use super::drift;
use super::escape::html;
use super::fold::Block;
use super::machines;
use super::picture::{self, Picture};
use super::plan::{checks, closing, groups, outputs, warnings};
use super::policy::violated;
use super::rollout::rollouts;
use super::row::TextOptions;
use super::section::Section;
use super::spans::{Span, mark, plain, spans};
use super::wording::{Danger, danger, symbol};

const OPTIONS: TextOptions = TextOptions { width: 130, full: true };
/// Maximum number of changes that are shown unfolded.
const OPEN: usize = 40;

/// Renders the page.
pub fn plan(plan: &Plan) -> String {
    let groups = groups(plan, true);
    let headline = html(&plain(&closing(plan)));
    let parts = [
        format!("<h1>{headline}</h1>\n{}", meta(plan)),
        notices(plan),
        dangers(&groups),
        tools(&groups),
        groups.iter().enumerate().map(|(i, (heading, blocks))| group(i, heading, blocks, groups.len())).collect(),
        drifted(plan),
        section(&rollouts(plan)),
        section(&outputs(&plan.outputs, OPTIONS)),
        section(&checks(&plan.checks)),
        graph(plan, &groups),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{} · {headline}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n{}</main>\n<script>\n{}</script>\n</body>\n</html>\n",
        html(&plan.site),
        include_str!("html/page.css"),
        parts.concat(),
        include_str!("html/page.js"),
    )
}

fn meta(plan: &Plan) -> String {
    let made = format!("created at {:.0} by moorfast {}", plan.created_at, plan.moorfast_version);
    format!(
        "<p class=\"meta\">site <b>{}</b>, {}, for serial {} of the state {}</p>\n",
        html(&plan.site),
        html(&made),
        plan.serial,
        html(&super::state_name(plan))
    )
}

fn notices(plan: &Plan) -> String {
    let nodes = machines::section(plan, true).into_iter().skip(1).map(|line| ("notice destroy", line));
    let policies = violated(plan).map(|(policy, message)| {
        let (class, verb) = if policy.denies() { ("notice destroy", "denies this plan") } else { ("notice", "warns") };
        (
            class,
            format!("{} {verb}: {message} ({})", super::style::paint(super::style::BOLD, &policy.name), policy.place),
        )
    });
    let all = policies.chain(nodes).chain(warnings(plan).into_iter().map(|line| ("notice", line)));
    all.map(|(class, line)| format!("<div class=\"{class}\">{}</div>\n", inline(&line))).collect()
}

/// Returns links to the dangerous changes.
fn dangers(groups: &[(String, Vec<Block>)]) -> String {
    let item = |(id, block): (String, &Block)| {
        (block.danger() >= Danger::Restart).then(|| {
            format!("<li>{}<a class=\"title\" href=\"#{id}\">{}</a></li>\n", sign(block), inline(&title(block)))
        })
    };
    let items: String = with_ids(groups).filter_map(item).collect();
    if items.is_empty() {
        return String::new();
    }
    format!(
        "<div class=\"notice destroy\"><b>Review these changes first</b>\n<ul class=\"danger\">\n{items}</ul></div>\n"
    )
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
fn tools(groups: &[(String, Vec<Block>)]) -> String {
    let mut counts: BTreeMap<Pill, usize> = BTreeMap::new();
    for member in groups.iter().flat_map(|(_, blocks)| blocks).flat_map(|block| &block.members) {
        pills(member.change).for_each(|pill| *counts.entry(pill).or_default() += 1);
    }
    if counts.is_empty() {
        return String::new();
    }
    let button = |(pill, count): (&Pill, &usize)| {
        let kind = pill.name();
        format!("<button type=\"button\" data-kind=\"{kind}\" aria-pressed=\"false\"><b>{count}</b> {kind}</button>\n")
    };
    let buttons: String = counts.iter().map(button).collect();
    format!(
        "<div class=\"tools\" role=\"search\">\n<input id=\"search\" type=\"search\" placeholder=\"Search addresses, nodes and text (press /)\" \
         aria-label=\"Search the changes\">\n{buttons}<span class=\"found\" aria-live=\"polite\"></span>\n</div>\n"
    )
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

fn group(i: usize, heading: &str, blocks: &[Block], groups: usize) -> String {
    let open = groups + blocks.len() <= OPEN;
    let shown: String = blocks.iter().enumerate().map(|(k, block)| change(&id(i, k), block, open)).collect();
    format!("<section class=\"group\">\n<h2>{}</h2>\n{shown}</section>\n", html(heading.trim_end_matches(':')))
}

fn change(id: &str, block: &Block, open: bool) -> String {
    let kind = kind(block.danger());
    let filters: BTreeSet<Pill> = block.members.iter().flat_map(|member| pills(member.change)).collect();
    let filters: Vec<_> = filters.into_iter().map(Pill::name).collect();
    let filters = filters.join(" ");
    let lines = body(block, OPTIONS);
    let (class, open) = match (lines.is_empty(), open) {
        (true, _) => (" bare", ""),
        (_, true) => ("", " open"),
        _ => ("", ""),
    };
    format!(
        "<details class=\"item {kind}{class}\" id=\"{id}\" data-kind=\"{filters}\"{open}><summary>{}<span class=\"title\">{}</span></summary>\n{}</details>\n",
        sign(block),
        inline(&title(block)),
        block_of(&lines),
    )
}

fn sign(block: &Block) -> String {
    let (mark, style) = symbol(block.first().change.action);
    format!("<span class=\"symbol\">{}</span>", inline(&super::style::paint(style, mark)))
}

fn drifted(plan: &Plan) -> String {
    drift::of_plan(plan, OPTIONS).iter().map(section).collect()
}

fn section(Section { heading, lines }: &Section) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("<h2>{heading}</h2>\n<section class=\"box\">{}</section>\n", block_of(lines))
}

/// Returns the dependency graph, with a link from each box to its change.
fn graph(plan: &Plan, groups: &[(String, Vec<Block>)]) -> String {
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
        return String::new();
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
        drawn.boxes[place].class = match danger {
            Danger::Overwrite | Danger::Destroy | Danger::Replace => "destroy",
            Danger::Restart | Danger::Update => "change",
            Danger::Create => "add",
            Danger::Bookkeeping => "",
        };
    }
    format!("<h2>Dependency graph</h2>\n<div class=\"graph\">\n{}</div>\n", drawn.svg())
}

/// Returns lines of the terminal as a block of text.
fn block_of(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let line = |line: &String| {
        let spans = spans(line);
        let class = match mark(&spans) {
            Some('+') => "l add",
            Some('-') => "l del",
            Some('~') => "l chg",
            _ => "l",
        };
        // The line break is inside the element, so that copied text has line breaks.
        format!("<span class=\"{class}\">{}\n</span>", spans.iter().map(span).collect::<String>())
    };
    format!("<pre>{}</pre>\n", lines.iter().map(line).collect::<String>())
}

fn inline(line: &str) -> String {
    spans(line.trim()).iter().map(span).collect()
}

fn span(span: &Span) -> String {
    let mut text = html(&span.text);
    if span.marked {
        text = format!("<mark>{text}</mark>");
    } else if span.bold {
        text = format!("<b>{text}</b>");
    }
    match (span.color, span.dim) {
        ("", false) => text,
        ("", true) => format!("<span class=\"dim\">{text}</span>"),
        (color, _) => format!("<span class=\"{color}-ink\">{text}</span>"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn the_page_is_self_contained_and_escapes_text() {
        let mut sample = samples::dangers();
        sample.warnings.push("</div><script>alert(1)</script>".to_owned());
        let page = plan(&sample);
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
        ] {
            let page = plan(&sample);
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
            assert!(
                page.contains("<title>sites/berlin · Plan:") && page.contains("site <b>sites/berlin</b>"),
                "{page}"
            );
        }
    }

    #[test]
    fn changed_words_are_marked() {
        let page = plan(&samples::updates());
        assert!(page.contains("<mark>110</mark>") && page.contains("<mark>220</mark>"), "{page}");
    }

    #[test]
    fn a_plan_without_changes_has_a_page() {
        assert!(plan(&samples::nothing()).contains("<h1>No changes."));
    }
}
