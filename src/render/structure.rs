//! Two texts compared by what they say as JSON, TOML or YAML: it tells where in the document a line is, and when only the form differs.

use moorfast_engine::plan::{Step, differences};
use serde_json::{Map, Value as Json};

use super::row::{Room, rows_between, table};
use super::style::{DIM, paint};

/// Longer texts are compared by their lines alone.
const LONGEST: usize = 256 << 10;

/// Reads a document of one format, if it is one.
type Parse = fn(&str) -> Option<Json>;

/// The lines that go before the diff of the texts. None where the lines alone say it as well: there is no structure, or what differs is at its top.
pub fn structure(before: &str, after: &str, room: Room) -> Vec<String> {
    if before.len().max(after.len()) > LONGEST {
        return Vec::new();
    }
    let formats: [(&str, Parse); 3] = [("JSON", json), ("TOML", toml), ("YAML", yaml)];
    let found = formats.into_iter().find_map(|(format, parse)| Some((format, parse(before)?, parse(after)?)));
    let Some((format, before, after)) = found else { return Vec::new() };
    let [before, after] = [before, after].map(|document| Map::from_iter([(DOCUMENT.to_owned(), document)]));
    let found = differences(Some(&before), &after);
    if found.is_empty() {
        return vec![paint(DIM, format!("as {format} it says the same: only order, comments or spacing differ"))];
    }
    // Two names: the document's own, and one at its top.
    if found.iter().all(|d| d.path.len() <= 2 && d.path.iter().all(|step| matches!(step, Step::Name(_)))) {
        return Vec::new();
    }
    let mut rows = rows_between(Some(&before), Some(&after), &Default::default());
    for row in &mut rows {
        let inner = row.path.strip_prefix(DOCUMENT).map(|path| path.trim_start_matches('.').to_owned());
        row.path = inner.unwrap_or_default();
    }
    std::iter::once(paint(DIM, format!("as {format}:"))).chain(table(&rows, room)).collect()
}

/// The name under which a document is compared.
const DOCUMENT: &str = "document";

fn json(text: &str) -> Option<Json> {
    structured(serde_json::from_str(text).ok()?)
}

fn toml(text: &str) -> Option<Json> {
    structured(serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok()?)
}

fn yaml(text: &str) -> Option<Json> {
    structured(serde_saphyr::from_str(text).ok()?)
}

/// A document of one value is a text like any other.
fn structured(document: Json) -> Option<Json> {
    let has_parts = document.as_object().is_some_and(|map| !map.is_empty()) || document.is_array();
    has_parts.then_some(document)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(before: &str, after: &str) -> Vec<String> {
        let lines = structure(before, after, Room { width: 100, full: false });
        lines.iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect()
    }

    #[test]
    fn what_is_nested_is_told_with_the_way_to_it() {
        let before = "kind: Config\nauthentication:\n  anonymous:\n    enabled: false\n  webhook: {}\n";
        let after = "authentication:\n  anonymous:\n    enabled: true\n  # comment\n  webhook: {}\nkind: Config\n";
        assert_eq!(lines(before, after), ["as YAML:", "  ~ authentication.anonymous.enabled = false -> true"]);
        let toml = ["[a.b]\nc = 1\nd = 2\n", "[a.b]\nc = 1\ne = [1, 2]\n"];
        assert_eq!(lines(toml[0], toml[1]), ["as TOML:", "  + a.b.e = [1, 2]", "  - a.b.d = 2"]);
        assert_eq!(lines("[{\"name\": \"x\"}]", "[{\"name\": \"y\"}]"), ["as JSON:", "  ~ [0].name = \"x\" -> \"y\""]);
    }

    #[test]
    fn a_change_of_form_says_so() {
        let same = "as JSON it says the same: only order, comments or spacing differ";
        assert_eq!(lines("{\"a\": 1, \"b\": 2}", "{\n  \"b\": 2,\n  \"a\": 1\n}\n"), [same]);
        let same = "as YAML it says the same: only order, comments or spacing differ";
        assert_eq!(lines("a: 1\nb: two\n", "# why\nb: \"two\"\na: 1\n"), [same]);
    }

    #[test]
    fn what_the_lines_say_as_well_is_not_said_twice() {
        let cases = [
            ("a: 1\nb: 2\n", "a: 1\nb: 3\n"),
            ("one line\nanother\n", "one line\na third\n"),
            ("[Unit]\nDescription=a\n", "[Unit]\nDescription=b\n"),
            ("key = value\n", "key = other\n"),
            ("a: {b: 1}\n", "no: more: yaml\n"),
        ];
        for (before, after) in cases {
            assert_eq!(lines(before, after), Vec::<String>::new(), "{before}");
        }
    }
}
