//! Plans and drift as Markdown for comments and issues: the dangerous changes first, details folded, cut to the limit of the forge.

mod lines;

use lines::{folded, inline, text};
use moorfast_engine::model::NodeChange;
use moorfast_engine::plan::Plan;

use super::block::{body, title};
use super::checks::checks;
use super::derived_attributes::DerivedAttributes;
use super::drift::{self, Omitted};
use super::fold::Block;
use super::machines;
use super::plan::{closing, groups, outputs, warnings};
use super::policy::violated;
use super::section::Section;
use super::text::Line;
use super::text_options::TextOptions;
use super::wording::{Danger, counted, symbol};
use super::{leaving, rollout};

/// Maximum length of a comment on GitHub in characters.
pub const GITHUB: usize = 65_536;
/// Minimum limit in characters.
pub const FEWEST: usize = 1_000;

/// Characters reserved for the note about omitted parts.
const CLOSING: usize = 300;

fn options(derived: &DerivedAttributes) -> TextOptions<'_> {
    TextOptions { width: 110, full: false, derived }
}

/// Renders a plan in at most `limit` characters.
pub fn plan(plan: &Plan, limit: usize, derived: &DerivedAttributes) -> String {
    let options = options(derived);
    let mut page = Page::new(&marker("plan", plan), limit);
    page.add(&format!("### {}\n\n{}", text(&closing(plan).to_string()), place(plan)));
    let groups = groups(plan, false);
    let dangers: Vec<_> =
        groups.iter().flat_map(|(_, blocks)| blocks).filter(|b| b.danger() >= Danger::Restart).collect();
    for change in &plan.nodes {
        page.add(&node(plan, change));
    }
    for (policy, message) in violated(plan) {
        let sign = if policy.denies() { ":no_entry: **denied**" } else { ":warning:" };
        let place = text(&policy.place);
        page.add(&format!("- {sign} <code>{}</code>: {} <sub>{place}</sub>\n", text(&policy.name), text(message)));
    }
    for warning in warnings(plan) {
        page.add(&format!("- :information_source: {}\n", text(&warning)));
    }
    for node in &plan.leaving {
        page.add(&format!("- :wave: {}\n", text(&leaving::headline(plan, node))));
    }
    for rollout in &plan.rollouts {
        page.add(&format!("- :hourglass: {}\n", text(&rollout::headline(rollout))));
        rollout::details(rollout).iter().for_each(|detail| page.add(&format!("  - {}\n", text(detail))));
    }
    for block in dangers {
        page.add(&format!("- {}\n", headline(block)));
    }
    for section in drift::of_plan(plan, options) {
        page.add(&details(&section));
    }
    for (heading, blocks) in &groups {
        page.section(&format!("\n#### {}\n\n", text(heading.trim_end_matches(':'))));
        for block in blocks {
            page.change(&headline(block), &body(block, options));
        }
    }
    page.add(&details(&outputs(&plan.outputs, options)));
    page.add(&details(&checks(&plan.checks)));
    let footer = format!(
        "\n<sub>Created at {:.0} by moorfast {} for serial {} of the state.</sub>\n",
        plan.created_at,
        text(&plan.moorfast_version),
        plan.serial
    );
    page.end("`moorfast show FILE`", &footer)
}

/// Returns the marker line for scripts that update an existing comment. Each site, each environment and each state has its own comment.
fn marker(kind: &str, plan: &Plan) -> String {
    let environment = plan.environment.as_ref().map(|name| format!(" environment={name}")).unwrap_or_default();
    format!("<!-- moorfast:{kind} site={}{environment} state={} -->\n", site_word(&plan.site), super::state_name(plan))
}

/// Returns a name as one word that cannot end an HTML comment.
fn site_word(site: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "/._".contains(c) { c } else { '-' };
    let word: String = site.chars().map(plain).collect();
    let parts: Vec<_> = word.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// Returns the line with the site, the environment and the state.
fn place(plan: &Plan) -> String {
    let environment = plan.environment.as_ref().map(|name| format!(", environment <b>{name}</b>")).unwrap_or_default();
    format!("<sub>Site <b>{}</b>{environment}, state {}</sub>\n\n", text(&plan.site), super::state_name(plan))
}

/// Renders drift in at most `limit` characters.
pub fn drift(plan: &Plan, omitted: Omitted, limit: usize, derived: &DerivedAttributes) -> String {
    let mut page = Page::new(&marker("drift", plan), limit);
    page.add(&format!("### {}\n\n{}", text(&drift::headline(plan, omitted).to_string()), place(plan)));
    for change in &plan.nodes {
        page.add(&node(plan, change));
    }
    for object in drift::objects(plan, options(derived)) {
        page.change(&inline(&object.title), &object.body);
    }
    if omitted.unread > 0 {
        page.add(&format!("- :warning: {} could not be read\n", counted(omitted.unread, "object")));
    }
    if omitted.known > 0 && !plan.drift.is_empty() {
        page.add(&format!("- Drift of {} more was reported before\n", counted(omitted.known, "object")));
    }
    page.add(&details(&checks(&plan.checks)));
    page.end(
        "`moorfast drift`",
        &format!("\n<sub>Found at {:.0} by moorfast {}.</sub>\n", plan.created_at, text(&plan.moorfast_version)),
    )
}

/// Returns the line of a changed node, with the changes on it folded.
fn node(plan: &Plan, change: &NodeChange) -> String {
    let sign = if change.kind.is_mismatch() { ":warning:" } else { ":information_source:" };
    let advice = machines::advice(change).join(" ");
    let dash = if advice.is_empty() { "" } else { " — " };
    let headline = format!("{sign} <b>{}</b>{dash}{}", text(&change.to_string()), text(&advice));
    let recreated: Vec<_> = machines::recreated(plan, change).into_iter().map(Line::from).collect();
    folded(&headline, &recreated)
}

/// A text with a limit, which counts the parts that do not fit.
struct Page {
    text: String,
    length: usize,
    limit: usize,
    heading: String,
    folded: usize,
    omitted: usize,
}

impl Page {
    fn new(mark: &str, limit: usize) -> Self {
        let limit = limit.saturating_sub(CLOSING);
        let length = mark.chars().count();
        Self { text: mark.to_owned(), length, limit, heading: String::new(), folded: 0, omitted: 0 }
    }

    /// Adds `piece` if it fits. Returns whether it did.
    fn try_add(&mut self, piece: &str) -> bool {
        let length = piece.chars().count();
        let fits = self.length + length <= self.limit;
        if fits {
            self.text.push_str(piece);
            self.length += length;
        }
        fits
    }

    fn add(&mut self, piece: &str) {
        self.omitted += usize::from(!self.try_add(piece));
    }

    /// Sets the heading of the next change.
    fn section(&mut self, heading: &str) {
        self.heading = heading.to_owned();
    }

    /// Adds a change with its details, or without them if they do not fit.
    fn change(&mut self, headline: &str, lines: &[Line]) {
        let heading = std::mem::take(&mut self.heading);
        if self.try_add(&format!("{heading}{}", folded(headline, lines))) {
            return;
        }
        if self.try_add(&format!("{heading}- {headline}\n")) {
            self.folded += 1;
        } else {
            self.omitted += 1;
            self.heading = heading;
        }
    }

    fn end(mut self, whole: &str, closing: &str) -> String {
        if self.folded + self.omitted > 0 {
            let (folded, omitted, limit) = (self.folded, self.omitted, self.limit + CLOSING);
            self.text.push_str(&format!(
                "\n**Cut to {limit} characters:** {folded} changes are shown without details, and {omitted} parts are omitted. Run {whole} to see everything.\n"
            ));
        }
        self.text + closing
    }
}

/// `-` **`ssh_file.old` will be destroyed** on 3 nodes
fn headline(block: &Block) -> String {
    let (mark, _) = symbol(block.first().change.action);
    format!("<code>{}</code> {}", text(mark), inline(&title(block)))
}

fn details(Section { heading, lines }: &Section) -> String {
    if lines.is_empty() { String::new() } else { folded(heading, lines) }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{self, DERIVED};
    use super::*;

    #[test]
    fn plans_and_drift() {
        insta::assert_snapshot!("markdown_dangers", plan(&samples::dangers(), GITHUB, &DERIVED));
        insta::assert_snapshot!("markdown_updates", plan(&samples::updates(), GITHUB, &DERIVED));
        insta::assert_snapshot!("markdown_objects", plan(&samples::objects(), GITHUB, &DERIVED));
        insta::assert_snapshot!("markdown_rolled", plan(&samples::rolled(), GITHUB, &DERIVED));
        insta::assert_snapshot!("markdown_nothing", plan(&samples::nothing(), GITHUB, &DERIVED));
        insta::assert_snapshot!("markdown_drift", drift(&samples::refresh(), Omitted::default(), GITHUB, &DERIVED));
    }

    #[test]
    fn the_limit_is_kept_and_omitted_parts_are_counted() {
        for sample in [samples::dangers(), samples::updates(), samples::creates()] {
            let whole = plan(&sample, GITHUB, &DERIVED).chars().count();
            for limit in (FEWEST..whole).step_by(97) {
                let cut = plan(&sample, limit, &DERIVED);
                assert!(cut.chars().count() <= limit, "{limit}: {cut}");
                assert!(cut.contains(&format!("**Cut to {limit} characters:**")), "{cut}");
                assert_eq!(cut.matches("<details>").count(), cut.matches("</details>").count());
            }
            assert!(!plan(&sample, GITHUB, &DERIVED).contains("**Cut to"));
        }
        insta::assert_snapshot!("markdown_cut", plan(&samples::dangers(), 2_000, &DERIVED));
    }

    #[test]
    fn each_site_and_each_state_has_its_own_comment() {
        let of = |site: &str, lineage: &str| {
            let lineage = serde_json::from_value(serde_json::json!(lineage)).unwrap();
            let sample = Plan { site: site.to_owned(), lineage, ..samples::nothing() };
            plan(&sample, GITHUB, &DERIVED).lines().next().unwrap().to_owned()
        };
        assert_eq!(of("sites/berlin", "6f1e8c6e-0000"), "<!-- moorfast:plan site=sites/berlin state=6f1e8c6e -->");
        let all = [of("a", "11111111"), of("b", "11111111"), of("a", "22222222")];
        assert!(all[0] != all[1] && all[0] != all[2]);
        let prod = Plan { environment: "prod".parse().ok(), ..samples::nothing() };
        assert_eq!(
            plan(&prod, GITHUB, &DERIVED).lines().next().unwrap(),
            "<!-- moorfast:plan site=sites/berlin environment=prod state=6f1e8c6e -->"
        );
        assert_eq!(of("x --> <b>", "1"), "<!-- moorfast:plan site=x-b state=1 -->");
    }
}
