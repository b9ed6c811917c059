//! Comparison of two texts as JSON, TOML or YAML. It shows the paths of changed values, and detects changes of formatting only.

use moorfast_engine::plan::{PathSegment, differences};
use serde_json::{Map, Value as Json};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use super::row::{Row, rows_between};

/// Maximum length of a text in bytes. Longer texts are compared only by lines.
const LONGEST: usize = 256 << 10;

/// Parses a document of one format.
type Parse = fn(&str) -> Option<Json>;

/// The differences between two texts in the same format.
#[derive(Debug, PartialEq)]
pub struct Comparison {
    /// The name of the format.
    pub format: &'static str,
    /// The changed values. There are none if only the formatting changed.
    pub rows: Vec<Row>,
}

/// Compares two texts. Returns `None` if a comparison adds nothing to their diff, because the texts have no structure or only top-level values differ.
pub fn compare(before: &str, after: &str) -> Option<Comparison> {
    if before.len().max(after.len()) > LONGEST {
        return None;
    }
    let formats: [(&str, Parse); 3] = [("JSON", json), ("TOML", toml), ("YAML", yaml)];
    let (format, before, after) =
        formats.into_iter().find_map(|(format, parse)| Some((format, parse(before)?, parse(after)?)))?;
    if before == after {
        return Some(Comparison { format, rows: Vec::new() });
    }
    let [before, after] = [before, after].map(|document| Map::from_iter([(DOCUMENT.to_owned(), document)]));
    let found = differences(Some(&before), &after);
    // A path of two names is the document and a top-level key. An added or removed null is not a difference.
    if found.iter().all(|d| d.path.len() <= 2 && d.path.iter().all(|step| matches!(step, PathSegment::Name(_)))) {
        return None;
    }
    let mut rows = rows_between(Some(&before), Some(&after), &Default::default());
    for row in &mut rows {
        let inner = row.path.strip_prefix(DOCUMENT).map(|path| path.trim_start_matches('.').to_owned());
        row.path = inner.unwrap_or_default();
    }
    Some(Comparison { format, rows })
}

/// The key of the document in the compared objects.
const DOCUMENT: &str = "document";

fn json(text: &str) -> Option<Json> {
    structured(serde_json::from_str(text).ok()?)
}

fn toml(text: &str) -> Option<Json> {
    structured(serde_json::to_value(toml::from_str::<toml::Table>(text).ok()?).ok()?)
}

fn yaml(text: &str) -> Option<Json> {
    let read = structured(serde_saphyr::from_str(text).ok()?)?;
    Parser::new_from_str(text).all(|event| event.is_ok_and(|(event, _)| is_unambiguous(&event))).then_some(read)
}

/// Returns whether all YAML parsers agree on the value. They disagree on tags, and on numbers and booleans in unusual notation: `0644`, `yes`, `1_000`.
fn is_unambiguous(event: &Event) -> bool {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, None) => match serde_saphyr::from_str::<Json>(text) {
            Ok(read @ (Json::Number(_) | Json::Bool(_))) => {
                serde_json::to_string(&read).is_ok_and(|written| written == **text)
            }
            _ => true,
        },
        Event::Scalar(.., tag) | Event::SequenceStart(.., tag) | Event::MappingStart(.., tag) => tag.is_none(),
        _ => true,
    }
}

/// Returns the document if it has structure. A single value is a plain text.
fn structured(document: Json) -> Option<Json> {
    let has_parts = document.as_object().is_some_and(|map| !map.is_empty()) || document.is_array();
    has_parts.then_some(document)
}

#[cfg(test)]
mod tests {
    use super::super::row_lines::structure;
    use super::super::text::Line;
    use super::*;

    fn lines(before: &str, after: &str) -> Vec<String> {
        let comparison = compare(before, after);
        let lines = comparison.map(|found| structure(&found, crate::render::samples::width(100)));
        lines.iter().flatten().map(Line::to_string).collect()
    }

    #[test]
    fn nested_values_are_shown_with_their_paths() {
        let before = "kind: Config\nauthentication:\n  anonymous:\n    enabled: false\n  webhook: {}\n";
        let after = "authentication:\n  anonymous:\n    enabled: true\n  # comment\n  webhook: {}\nkind: Config\n";
        assert_eq!(lines(before, after), ["as YAML:", "  ~ authentication.anonymous.enabled = false -> true"]);
        let toml = ["[a.b]\nc = 1\nd = 2\n", "[a.b]\nc = 1\ne = [1, 2]\n"];
        assert_eq!(lines(toml[0], toml[1]), ["as TOML:", "  + a.b.e = [1, 2]", "  - a.b.d = 2"]);
        assert_eq!(lines("[{\"name\": \"x\"}]", "[{\"name\": \"y\"}]"), ["as JSON:", "  ~ [0].name = \"x\" -> \"y\""]);
    }

    #[test]
    fn a_change_of_formatting_is_detected() {
        let same = "as JSON: no change of values, only of order, comments or spacing";
        assert_eq!(lines("{\"a\": 1, \"b\": 2}", "{\n  \"b\": 2,\n  \"a\": 1\n}\n"), [same]);
        let same = "as YAML: no change of values, only of order, comments or spacing";
        assert_eq!(lines("a: 1\nb: two\n", "# why\nb: \"two\"\na: 1\n"), [same]);
    }

    #[test]
    fn an_added_null_is_not_a_change_of_formatting() {
        let cases = [
            ("a: {b: 1, port: null}\n", "a: {b: 1}\n"),
            ("{\"a\": {\"b\": 1, \"port\": null}}", "{\"a\": {\"b\": 1}}"),
        ];
        for (before, after) in cases {
            assert_eq!(lines(before, after), Vec::<String>::new(), "{before}");
        }
        // Other changes are shown.
        let shown = lines("a: {b: 1, port: null}\n", "a: {b: 2}\n");
        assert_eq!(shown, ["as YAML:", "  ~ a.b = 1 -> 2"]);
    }

    #[test]
    fn ambiguous_yaml_has_no_structure() {
        let cases = [
            ("0644", "644"),
            ("0644", "\"0644\""),
            ("-01", "1"),
            ("!vault x", "x"),
            ("!!str 5", "\"5\""),
            ("!x {c: 1}", "{c: 1}"),
            ("!x [1]", "[1]"),
            ("yes", "\"yes\""),
            ("yes", "true"),
            ("1_000", "1000"),
            ("0x1F", "31"),
            ("1.10", "1.1"),
            ("18446744073709551616", "18446744073709551617"),
        ];
        for (before, after) in cases.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]) {
            let [before, after] = [before, after].map(|value| format!("a:\n  b: {value}\n  c: 0\n"));
            assert_eq!(lines(&before, &after), Vec::<String>::new(), "{before}");
        }
        let before = "a:\n  b: \"0644\"\n  c: 0\n  d: 0.5\n  e: 00:16:3e\n  f: 0s\n  g: true\n  h: ~\n";
        assert_eq!(lines(before, &before.replace("0s", "0m")), ["as YAML:", "  ~ a.f = \"0s\" -> \"0m\""]);
    }

    #[test]
    fn top_level_changes_are_shown_only_in_the_diff() {
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
