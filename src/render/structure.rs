//! Two texts compared by what they say as JSON, TOML or YAML: it tells where in the document a line is, and when only the form differs.

use moorfast_engine::plan::{PathSegment, differences};
use serde_json::{Map, Value as Json};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

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
    let is_same = before == after;
    let [before, after] = [before, after].map(|document| Map::from_iter([(DOCUMENT.to_owned(), document)]));
    let found = differences(Some(&before), &after);
    if is_same {
        return vec![paint(DIM, format!("as {format} it says the same: only order, comments or spacing differ"))];
    }
    // Two names: the document's own, and one at its top. Nothing at all is found where a null came or went.
    if found.iter().all(|d| d.path.len() <= 2 && d.path.iter().all(|step| matches!(step, PathSegment::Name(_)))) {
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
    let read = structured(serde_saphyr::from_str(text).ok()?)?;
    Parser::new_from_str(text).all(|event| event.is_ok_and(|(event, _)| is_clear(&event))).then_some(read)
}

/// Do all readers of YAML understand it alike? Not what has a tag, nor a number or truth that is not written as it is told: `0644`, `yes`, `1_000`.
fn is_clear(event: &Event) -> bool {
    match event {
        Event::Scalar(text, ScalarStyle::Plain, _, None) => match serde_saphyr::from_str::<Json>(text) {
            Ok(read @ (Json::Number(_) | Json::Bool(_))) => {
                serde_json::to_string(&read).is_ok_and(|told| told == **text)
            }
            _ => true,
        },
        Event::Scalar(.., tag) | Event::SequenceStart(.., tag) | Event::MappingStart(.., tag) => tag.is_none(),
        _ => true,
    }
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
    fn what_is_not_the_same_is_not_called_the_same() {
        let cases = [
            ("a: {b: 1, port: null}\n", "a: {b: 1}\n"),
            ("{\"a\": {\"b\": 1, \"port\": null}}", "{\"a\": {\"b\": 1}}"),
        ];
        for (before, after) in cases {
            assert_eq!(lines(before, after), Vec::<String>::new(), "{before}");
        }
        // Where something else changed too, that is told.
        let told = lines("a: {b: 1, port: null}\n", "a: {b: 2}\n");
        assert_eq!(told, ["as YAML:", "  ~ a.b = 1 -> 2"]);
    }

    #[test]
    fn what_readers_of_yaml_understand_differently_has_no_structure() {
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
