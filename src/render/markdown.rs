//! A plan for the comment of a pull request: what is dangerous first, details folded, cut to what a forge takes.

use moorfast_engine::model::NodeChange;
use moorfast_engine::plan::Plan;

use super::block::{body, title};
use super::drift::{self, Unsaid};
use super::fold::Block;
use super::machines;
use super::plan::{checks, closing, groups, outputs, warnings};
use super::policy::violated;
use super::rollout::rollouts;
use super::row::Room;
use super::spans::{mark, plain, spans};
use super::wording::{Danger, symbol};

/// The characters that a comment on GitHub may have.
pub const GITHUB: usize = 65_536;
/// The fewest characters in which something can be said.
pub const FEWEST: usize = 1_000;

/// Kept for saying what was left out.
const CLOSING: usize = 300;
const ROOM: Room = Room { width: 110, full: false };

/// The plan in at most `limit` characters.
pub fn plan(plan: &Plan, limit: usize) -> String {
    let mut page = Page::new(&marker("plan", plan), limit);
    page.add(&format!("### {}\n\n{}", text(&closing(plan)), place(plan)));
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
    for line in warnings(plan) {
        page.add(&format!("- :information_source: {}\n", text(plain(&line).trim_start_matches("warning: "))));
    }
    for line in rollouts(plan).iter().skip(1) {
        page.add(&rolled(line));
    }
    for block in dangers {
        page.add(&format!("- {}\n", headline(block)));
    }
    let [short, left] = drift::of_plan(plan, ROOM);
    page.add(&details("Changed outside of moorfast; this plan mends it", &short[short.len().min(1)..]));
    page.add(&details("Changed outside of moorfast; this plan leaves it", &left[left.len().min(1)..]));
    for (heading, blocks) in &groups {
        page.section(&format!("\n#### {}\n\n", text(heading.trim_end_matches(':'))));
        for block in blocks {
            page.change(&headline(block), &body(block, ROOM));
        }
    }
    let changed = outputs(&plan.outputs, ROOM);
    page.add(&details("Changes to outputs", &changed[changed.len().min(1)..]));
    let checked = checks(&plan.checks);
    page.add(&details("Checks", &checked[checked.len().min(1)..]));
    let made = format!(
        "\n<sub>Made {:.0} by moorfast {} for serial {} of the state.</sub>\n",
        plan.created_at,
        text(&plan.moorfast_version),
        plan.serial
    );
    page.end("`moorfast show FILE`", &made)
}

/// The line by which a script finds the comment that it must update: each site and each state has its own.
fn marker(kind: &str, plan: &Plan) -> String {
    format!("<!-- moorfast:{kind} site={} state={} -->\n", site_word(&plan.site), super::state_name(plan))
}

/// A name as one word that cannot end an HTML comment.
fn site_word(site: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "/._".contains(c) { c } else { '-' };
    let word: String = site.chars().map(plain).collect();
    let parts: Vec<_> = word.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-")
}

/// The line that names the site and its state.
fn place(plan: &Plan) -> String {
    format!("<sub>Site <b>{}</b>, state {}</sub>\n\n", text(&plan.site), super::state_name(plan))
}

/// A line of a rollout; what is said of it is indented.
fn rolled(line: &str) -> String {
    let line = plain(line);
    let deep = line.starts_with("    ");
    format!("{}- {}{}\n", if deep { "  " } else { "" }, if deep { "" } else { ":hourglass: " }, text(line.trim()))
}

/// What drifted, in at most `limit` characters.
pub fn drift(plan: &Plan, unsaid: Unsaid, limit: usize) -> String {
    let mut page = Page::new(&marker("drift", plan), limit);
    let closing = plain(&drift::closing(plan, unsaid));
    let headline = closing.split_inclusive(". ").next().unwrap_or_default().trim_end();
    page.add(&format!("### {}\n\n{}", text(headline), place(plan)));
    for change in &plan.nodes {
        page.add(&node(plan, change));
    }
    for lines in drift::objects(plan, ROOM) {
        let Some((first, rest)) = lines.split_first() else { continue };
        page.change(&summary(first.trim_start_matches([' ', '#'])), rest);
    }
    if unsaid.unread > 0 {
        page.add(&format!("- :warning: {} objects could not be looked at\n", unsaid.unread));
    }
    if unsaid.known > 0 && !plan.drift.is_empty() {
        page.add(&format!("- {} more drifted before and still do\n", unsaid.known));
    }
    let checked = checks(&plan.checks);
    page.add(&details("Checks", &checked[checked.len().min(1)..]));
    page.end(
        "`moorfast drift`",
        &format!("\n<sub>Seen {:.0} by moorfast {}.</sub>\n", plan.created_at, text(&plan.moorfast_version)),
    )
}

/// The line of a node whose machine is not as it was seen last; what is made anew there is under it.
fn node(plan: &Plan, change: &NodeChange) -> String {
    let sign = if change.kind.is_mismatch() { ":warning:" } else { ":information_source:" };
    let advice = machines::advice(change).join(" ");
    let dash = if advice.is_empty() { "" } else { " — " };
    let headline = format!("{sign} <b>{}</b>{dash}{}", text(&change.to_string()), text(&advice));
    folded(&headline, &machines::anew(plan, change))
}

/// A text that grows up to its limit, and remembers what had no place.
struct Page {
    text: String,
    length: usize,
    limit: usize,
    heading: String,
    folded: usize,
    left_out: usize,
}

impl Page {
    fn new(mark: &str, limit: usize) -> Self {
        let limit = limit.saturating_sub(CLOSING);
        let length = mark.chars().count();
        Self { text: mark.to_owned(), length, limit, heading: String::new(), folded: 0, left_out: 0 }
    }

    /// Adds `piece` if there is room.
    fn fits(&mut self, piece: &str) -> bool {
        let length = piece.chars().count();
        let fits = self.length + length <= self.limit;
        if fits {
            self.text.push_str(piece);
            self.length += length;
        }
        fits
    }

    fn add(&mut self, piece: &str) {
        self.left_out += usize::from(!self.fits(piece));
    }

    /// Headed so is what comes next.
    fn section(&mut self, heading: &str) {
        self.heading = heading.to_owned();
    }

    /// Adds a change with its details, or without them where there is not enough room.
    fn change(&mut self, headline: &str, lines: &[String]) {
        let heading = std::mem::take(&mut self.heading);
        if self.fits(&format!("{heading}{}", folded(headline, lines))) {
            return;
        }
        if self.fits(&format!("{heading}- {headline}\n")) {
            self.folded += 1;
        } else {
            self.left_out += 1;
            self.heading = heading;
        }
    }

    fn end(mut self, whole: &str, closing: &str) -> String {
        if self.folded + self.left_out > 0 {
            let (folded, left_out, limit) = (self.folded, self.left_out, self.limit + CLOSING);
            self.text.push_str(&format!(
                "\n**Cut to {limit} characters:** {folded} changes are shown without their details, {left_out} parts not at all. {whole} shows all.\n"
            ));
        }
        self.text + closing
    }
}

/// `-` **`ssh_file.old` will be destroyed** on 3 nodes
fn headline(block: &Block) -> String {
    let (mark, _) = symbol(block.first().change.action);
    format!("<code>{}</code> {}", text(mark), summary(&title(block)))
}

/// A line with its bold words in bold.
fn summary(line: &str) -> String {
    let spans = spans(line.trim());
    spans.iter().map(|s| if s.bold { format!("<b>{}</b>", text(&s.text)) } else { text(&s.text) }).collect()
}

fn details(summary: &str, lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { folded(summary, lines) }
}

fn folded(summary: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return format!("- {summary}\n");
    }
    let body: String = lines.iter().map(|line| diff_line(line) + "\n").collect();
    let fence = "`".repeat(longest_run(&body, '`').max(2) + 1);
    format!("<details><summary>{summary}</summary>\n\n{fence}diff\n{body}{fence}\n\n</details>\n\n")
}

/// Forges colour a diff by the first character of a line.
fn diff_line(line: &str) -> String {
    let spans = spans(line);
    let text = plain(line);
    let Some(symbol) = mark(&spans) else { return format!(" {text}").trim_end().to_owned() };
    let rest = text.trim_start();
    let indent = " ".repeat(text.len() - rest.len());
    let rest = rest.strip_prefix(symbol).filter(|rest| rest.starts_with(' ')).unwrap_or(rest);
    let first = if symbol == '~' { '!' } else { symbol };
    format!("{first}{indent}{}", rest.trim_end())
}

fn longest_run(text: &str, of: char) -> usize {
    text.split(|c| c != of).map(str::len).max().unwrap_or(0)
}

/// The line without colours, with nothing in it that Markdown or HTML would take for more than text.
fn text(line: &str) -> String {
    let line = plain(line);
    let mut before = ' ';
    let mut escaped = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        // An underscore within a word is one.
        let in_word = before.is_alphanumeric() && characters.peek().is_some_and(|c| c.is_alphanumeric());
        match c {
            '_' if in_word => escaped.push(c),
            '&' | '<' | '>' | '\\' | '*' | '_' | '[' | ']' | '`' | '~' | '|' | '@' | '#' | '$' => {
                escaped.push_str(&format!("&#{};", u32::from(c)));
            }
            c => escaped.push(c),
        }
        before = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn plans_and_drift() {
        insta::assert_snapshot!("markdown_dangers", plan(&samples::dangers(), GITHUB));
        insta::assert_snapshot!("markdown_updates", plan(&samples::updates(), GITHUB));
        insta::assert_snapshot!("markdown_objects", plan(&samples::objects(), GITHUB));
        insta::assert_snapshot!("markdown_rolled", plan(&samples::rolled(), GITHUB));
        insta::assert_snapshot!("markdown_nothing", plan(&samples::nothing(), GITHUB));
        insta::assert_snapshot!("markdown_drift", drift(&samples::refresh(), Unsaid::default(), GITHUB));
    }

    #[test]
    fn no_limit_is_exceeded_and_what_is_left_out_is_said() {
        for sample in [samples::dangers(), samples::updates(), samples::creates()] {
            let whole = plan(&sample, GITHUB).chars().count();
            for limit in (FEWEST..whole).step_by(97) {
                let cut = plan(&sample, limit);
                assert!(cut.chars().count() <= limit, "{limit}: {cut}");
                assert!(cut.contains(&format!("**Cut to {limit} characters:**")), "{cut}");
                assert_eq!(cut.matches("<details>").count(), cut.matches("</details>").count());
            }
            assert!(!plan(&sample, GITHUB).contains("**Cut to"));
        }
        insta::assert_snapshot!("markdown_cut", plan(&samples::dangers(), 2_000));
    }

    #[test]
    fn each_site_and_each_state_has_a_comment_of_its_own() {
        let of = |site: &str, lineage: &str| {
            let lineage = serde_json::from_value(serde_json::json!(lineage)).unwrap();
            let sample = Plan { site: site.to_owned(), lineage, ..samples::nothing() };
            plan(&sample, GITHUB).lines().next().unwrap().to_owned()
        };
        assert_eq!(of("sites/berlin", "6f1e8c6e-0000"), "<!-- moorfast:plan site=sites/berlin state=6f1e8c6e -->");
        let all = [of("a", "11111111"), of("b", "11111111"), of("a", "22222222")];
        assert!(all[0] != all[1] && all[0] != all[2]);
        assert_eq!(of("x --> <b>", "1"), "<!-- moorfast:plan site=x-b state=1 -->");
    }

    #[test]
    fn a_text_can_not_leave_its_fence() {
        let lines = ["a".to_owned(), "````".to_owned(), "</details>".to_owned()];
        assert_eq!(folded("x", &lines).matches("`````").count(), 2);
        assert_eq!(text("ssh_file _x_"), "ssh_file &#95;x&#95;");
        assert_eq!(text("<b>[x](y) @all"), "&#60;b&#62;&#91;x&#93;(y) &#64;all");
    }
}
