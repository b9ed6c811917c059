//! The differences between two sealed values, attribute by attribute.

use serde_json::{Map, Value as Json};

use crate::model::Mark;

/// A difference of one attribute.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The path of the attribute: names of attributes and indexes of lists.
    pub path: Vec<PathSegment>,
    /// The value before. `None` if it did not exist.
    pub before: Option<Json>,
    /// The value after. `None` if it is removed.
    pub after: Option<Json>,
}

/// A segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathSegment {
    /// The name of an attribute.
    Name(String),
    /// The index of a list item.
    Index(usize),
}

/// Returns a path as text: `manifest.subjects[0].name`.
pub fn path_text(path: &[PathSegment]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            PathSegment::Name(name) if text.is_empty() => text.push_str(name),
            PathSegment::Name(name) if crate::model::is_identifier(name) => {
                text.push('.');
                text.push_str(name);
            }
            PathSegment::Name(name) => text.push_str(&format!("[{}]", Json::String(name.clone()))),
            PathSegment::Index(i) => text.push_str(&format!("[{i}]")),
        }
    }
    text
}

/// Parses a path as [`path_text`] writes it, and as API servers do: `spec.ports[0]`, `metadata.labels[example.org/a]`.
pub fn parse_path(text: &str) -> Vec<PathSegment> {
    let mut steps = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let mut quoted = serde_json::Deserializer::from_str(inside).into_iter::<String>();
            let (step, end) = match quoted.next() {
                Some(Ok(name)) => (PathSegment::Name(name), quoted.byte_offset()),
                _ => {
                    let end = inside.find(']').unwrap_or(inside.len());
                    let key = &inside[..end];
                    (key.parse().map_or_else(|_| PathSegment::Name(key.to_owned()), PathSegment::Index), end)
                }
            };
            steps.push(step);
            rest = inside[end..].strip_prefix(']').unwrap_or(&inside[end..]);
        } else {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            if end > 0 {
                steps.push(PathSegment::Name(rest[..end].to_owned()));
            }
            rest = rest[end..].strip_prefix('.').unwrap_or(&rest[end..]);
        }
    }
    steps
}

/// Returns the value at a path, if it exists.
pub(crate) fn value_at<'a>(attributes: &'a Map<String, Json>, path: &[PathSegment]) -> Option<&'a Json> {
    let [PathSegment::Name(first), rest @ ..] = path else { return None };
    rest.iter().try_fold(attributes.get(first)?, |value, step| match step {
        PathSegment::Name(name) => value.get(name),
        PathSegment::Index(i) => value.get(i),
    })
}

/// Returns the differences between `before` and `after`, in the order of `after`.
///
/// A top-level attribute that only `before` has is not managed, so it is not a difference. A nested member that only `before` has is removed, so it is one.
/// Null counts as a missing value.
pub fn differences(before: Option<&Map<String, Json>>, after: &Map<String, Json>) -> Vec<Difference> {
    let mut differences = Vec::new();
    for (name, value) in after {
        let old = before.and_then(|b| b.get(name));
        // Most attributes are equal, and a path is allocated for each that is compared.
        if old == Some(value) {
            continue;
        }
        compare(&mut vec![PathSegment::Name(name.clone())], old, Some(value), &mut differences);
    }
    differences
}

fn compare(
    path: &mut Vec<PathSegment>,
    before: Option<&Json>,
    after: Option<&Json>,
    differences: &mut Vec<Difference>,
) {
    let before = before.filter(|v| !v.is_null());
    let after = after.filter(|v| !v.is_null());
    if before == after {
        return;
    }
    let marks = [before, after].map(|value| value.and_then(Mark::of));
    // A retained value stands for the previous value, whatever that was.
    if marks.into_iter().flatten().any(Mark::is_retained) {
        return;
    }
    match (before, after) {
        (Some(Json::Object(old)), Some(Json::Object(new))) if marks == [None, None] => {
            for (name, value) in new {
                compare_at(path, PathSegment::Name(name.clone()), old.get(name), Some(value), differences);
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                compare_at(path, PathSegment::Name(name.clone()), Some(value), None, differences);
            }
        }
        (Some(Json::Array(old)), Some(Json::Array(new))) => {
            for i in 0..old.len().max(new.len()) {
                compare_at(path, PathSegment::Index(i), old.get(i), new.get(i), differences);
            }
        }
        _ => differences.push(Difference { path: path.clone(), before: before.cloned(), after: after.cloned() }),
    }
}

fn compare_at(
    path: &mut Vec<PathSegment>,
    step: PathSegment,
    before: Option<&Json>,
    after: Option<&Json>,
    differences: &mut Vec<Difference>,
) {
    path.push(step);
    compare(path, before, after, differences);
    path.pop();
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn changed(before: Json, after: Json) -> Vec<String> {
        let path = |d: &Difference| d.path.iter().map(|s| format!("{s:?}")).collect::<String>();
        differences(before.as_object(), after.as_object().unwrap()).iter().map(path).collect()
    }

    #[test]
    fn a_path_is_parsed_as_it_is_written() {
        let name = |name: &str| PathSegment::Name(name.to_owned());
        let cases = [
            (vec![name("manifest"), name("spec"), name("ports"), PathSegment::Index(0)], "manifest.spec.ports[0]"),
            (vec![name("objects"), name("Pod/a.b/[\"c\"]"), name("spec")], "objects[\"Pod/a.b/[\\\"c\\\"]\"].spec"),
            (vec![name("mode")], "mode"),
        ];
        for (steps, text) in cases {
            assert_eq!((path_text(&steps).as_str(), parse_path(text)), (text, steps));
        }
        let label = vec![name("metadata"), name("labels"), name("example.org/a"), name("x")];
        assert_eq!(parse_path("metadata.labels[example.org/a].x"), label);
    }

    #[test]
    fn a_value_is_found_at_its_path() {
        let attributes = json!({"spec": {"ports": [{"port": 80}, {"port": 443}]}});
        let at = |path: &str| value_at(attributes.as_object().unwrap(), &parse_path(path)).cloned();
        assert_eq!(at("spec.ports[1].port"), Some(json!(443)));
        assert_eq!(at("spec.ports[2].port"), None);
        assert_eq!(at("spec.ports.port"), None);
        assert_eq!(at("status"), None);
        assert_eq!(at(""), None);
    }

    #[test]
    fn lists_are_compared_item_by_item() {
        let paths = |before: Json, after: Json| {
            let differences = differences(before.as_object(), after.as_object().unwrap());
            differences.iter().map(|d| path_text(&d.path)).collect::<Vec<_>>()
        };
        assert_eq!(paths(json!({"a": [1, 2, 3]}), json!({"a": [1, 4, 3]})), ["a[1]"]);
        assert_eq!(paths(json!({"a": [1]}), json!({"a": [1, 2]})), ["a[1]"]);
        assert_eq!(paths(json!({"a": [{"b": 1}, 2]}), json!({"a": [{"b": 2}]})), ["a[0].b", "a[1]"]);
    }

    #[test]
    fn equal_values_do_not_differ() {
        assert!(changed(json!({"a": {"b": [1, 2]}}), json!({"a": {"b": [1, 2]}})).is_empty());
    }

    #[test]
    fn a_retained_value_differs_from_no_value() {
        assert!(
            changed(json!({"a": {"$sensitive": "x"}}), json!({"a": {"$retained": true, "$sensitive": true}}))
                .is_empty()
        );
    }

    #[test]
    fn null_counts_as_a_missing_value() {
        assert!(changed(json!({}), json!({"a": null})).is_empty());
    }

    #[test]
    fn a_missing_attribute_is_not_a_difference_but_a_missing_member_is() {
        assert!(changed(json!({"size": 3, "a": 1}), json!({"a": 1})).is_empty());
        assert_eq!(changed(json!({"a": {"x": 1, "y": 2}}), json!({"a": {"x": 1}})).len(), 1);
    }

    #[test]
    fn sealed_values_are_compared_as_a_whole() {
        let differences = differences(
            json!({"t": {"$sensitive": "a"}}).as_object(),
            json!({"t": {"$sensitive": "b"}}).as_object().unwrap(),
        );
        assert_eq!(differences.len(), 1);
        assert_eq!(differences[0].path.len(), 1);
    }
}
