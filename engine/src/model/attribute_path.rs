//! Paths to attributes: `content`, `manifest.spec.replicas`, `labels["example.org/a"]`, `containers[0].image`.

use std::str::FromStr;

use crate::model::{Kind, Schema, Value, ValueMap, suggest};

/// The path to a value in the attributes of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributePath(pub Vec<PathStep>);

/// A step of an [`AttributePath`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathStep {
    /// A member of a table or map. In a list of tables, the table with this `name`.
    Name(String),
    /// An item of a list, by its index.
    Index(usize),
}

impl FromStr for AttributePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("`{text}` is not a path such as `spec.replicas`, `labels[\"a.b/c\"]` or `ports[0]`");
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(bracket) = rest.strip_prefix('[') {
                let mut stream = serde_json::Deserializer::from_str(bracket).into_iter::<serde_json::Value>();
                let step = match stream.next() {
                    Some(Ok(serde_json::Value::String(name))) => PathStep::Name(name),
                    Some(Ok(serde_json::Value::Number(n))) => {
                        PathStep::Index(n.as_u64().and_then(|n| usize::try_from(n).ok()).ok_or_else(invalid)?)
                    }
                    _ => return Err(invalid()),
                };
                steps.push(step);
                rest = bracket[stream.byte_offset()..].trim_start().strip_prefix(']').ok_or_else(invalid)?;
                continue;
            }
            let name = match (steps.is_empty(), rest.strip_prefix('.')) {
                (true, None) => rest,
                (false, Some(name)) => name,
                _ => return Err(invalid()),
            };
            let end = name.find(['.', '[']).unwrap_or(name.len());
            if end == 0 || name[..end].contains([']', '"', ' ']) {
                return Err(invalid());
            }
            steps.push(PathStep::Name(name[..end].to_owned()));
            rest = &name[end..];
        }
        if steps.is_empty() { Err(invalid()) } else { Ok(Self(steps)) }
    }
}

impl AttributePath {
    /// Checks that the schema has an attribute at the path.
    ///
    /// # Errors
    /// Returns the message and the remedy if the attribute does not exist.
    pub(crate) fn check(&self, schema: &Schema) -> Result<(), (String, Option<String>)> {
        let attributes = Kind::Object(schema.attributes.clone());
        let mut kind = &attributes;
        let mut place = String::new();
        for step in &self.0 {
            let outer = if place.is_empty() { String::new() } else { format!(" in `{place}`") };
            kind = match (kind, step) {
                (Kind::Any, _) => return Ok(()),
                (Kind::Object(attributes), PathStep::Name(name)) => {
                    let names = || attributes.iter().map(|attribute| attribute.name);
                    let found = attributes.iter().find(|attribute| attribute.name == name);
                    &found.ok_or_else(|| (format!("unknown attribute `{name}`{outer}"), suggest(name, names())))?.kind
                }
                (Kind::Map(inner), PathStep::Name(_)) | (Kind::List(inner), _) => inner,
                (kind, _) => {
                    return Err((format!("`{place}` is {}, which has no members", kind.describe()), None));
                }
            };
            match step {
                PathStep::Name(name) if place.is_empty() => place.push_str(name),
                PathStep::Name(name) => place.push_str(&format!(".{name}")),
                PathStep::Index(i) => place.push_str(&format!("[{i}]")),
            }
        }
        Ok(())
    }

    /// Copies the value at the path from `from` to `to`. If `from` has no value there, it is removed from `to`. With `create_missing`, missing tables are
    /// created in `to`, and a missing value is copied as null.
    pub(crate) fn copy(&self, from: &ValueMap, to: &mut ValueMap, create_missing: bool) {
        let Some((PathStep::Name(first), rest)) = self.0.split_first() else { return };
        copy_member(first, rest, from, to, create_missing);
    }

    /// Removes the value at the path from `attributes`.
    pub fn remove(&self, attributes: &mut ValueMap) {
        let Some((PathStep::Name(first), rest)) = self.0.split_first() else { return };
        if rest.is_empty() {
            attributes.remove(first);
        } else if let Some(inside) = attributes.get_mut(first) {
            remove_inside(rest, inside);
        }
    }
}

fn remove_inside(steps: &[PathStep], value: &mut Value) {
    let Some((first, rest)) = steps.split_first() else { return };
    match (first, value) {
        (PathStep::Name(name), Value::Map(map)) if rest.is_empty() => _ = map.remove(name),
        (PathStep::Name(name), Value::Map(map)) => {
            if let Some(inside) = map.get_mut(name) {
                remove_inside(rest, inside);
            }
        }
        (step, Value::List(items)) => match index_of(step, items) {
            Some(i) if rest.is_empty() => _ = items.remove(i),
            Some(i) => remove_inside(rest, &mut items[i]),
            None => {}
        },
        _ => {}
    }
}

fn copy_member(name: &str, rest: &[PathStep], from: &ValueMap, to: &mut ValueMap, create_missing: bool) {
    match (rest.is_empty(), from.get(name)) {
        (true, Some(value)) => _ = to.insert(name.to_owned(), value.clone()),
        (true, None) if create_missing => _ = to.insert(name.to_owned(), Value::Null),
        (true, None) => _ = to.remove(name),
        (false, found) => {
            if create_missing && !to.contains_key(name) {
                to.insert(name.to_owned(), Value::Map(ValueMap::new()));
            }
            if let Some(inside) = to.get_mut(name) {
                copy_inside(rest, found.unwrap_or(&Value::Null), inside, create_missing);
            }
        }
    }
}

fn copy_inside(steps: &[PathStep], from: &Value, to: &mut Value, create_missing: bool) {
    let Some((first, rest)) = steps.split_first() else {
        *to = from.clone();
        return;
    };
    let empty = ValueMap::new();
    match (first, to) {
        (step, to) if create_missing && from.as_list().is_some() => {
            fill_list(step, rest, from.as_list().unwrap_or_default(), to)
        }
        (PathStep::Name(name), Value::Map(to)) => {
            copy_member(name, rest, from.as_map().unwrap_or(&empty), to, create_missing);
        }
        (step, Value::List(items)) => {
            let list = from.as_list().unwrap_or_default();
            if let (Some(source), Some(target)) = (index_of(step, list), index_of(step, items)) {
                copy_inside(rest, &list[source], &mut items[target], create_missing);
            }
        }
        _ => {}
    }
}

/// Returns the index of the item that `step` selects in `list`.
fn index_of(step: &PathStep, list: &[Value]) -> Option<usize> {
    match step {
        PathStep::Index(i) => Some(*i).filter(|i| *i < list.len()),
        PathStep::Name(name) => list.iter().position(|item| {
            item.as_map().and_then(|map| map.get("name")?.as_str()).is_some_and(|found| found == name)
        }),
    }
}

/// Creates a list in which only one item is copied. An item with a name is appended, an item with an index has nulls before it.
fn fill_list(step: &PathStep, rest: &[PathStep], from: &[Value], to: &mut Value) {
    let Some(source) = index_of(step, from) else { return };
    if to.as_list().is_none() {
        *to = Value::List(Vec::new());
    }
    let Value::List(items) = to else { return };
    let target = match step {
        PathStep::Index(i) => *i,
        PathStep::Name(_) => index_of(step, items).unwrap_or(items.len()),
    };
    while items.len() <= target {
        items.push(Value::Null);
    }
    if items[target].is_null() {
        let name = match step {
            PathStep::Name(name) => ValueMap::from([("name".to_owned(), Value::from(name.as_str()))]),
            PathStep::Index(_) => ValueMap::new(),
        };
        items[target] = Value::Map(name);
    }
    copy_inside(rest, &from[source], &mut items[target], true);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Attribute;
    use serde_json::json;

    fn map(json: serde_json::Value) -> ValueMap {
        Value::from(json).as_map().cloned().unwrap()
    }

    #[test]
    fn a_path_consists_of_names_and_indexes() {
        let name = |name: &str| PathStep::Name(name.to_owned());
        let cases = [
            ("content", vec![name("content")]),
            ("manifest.spec.replicas", vec![name("manifest"), name("spec"), name("replicas")]),
            ("m.labels[\"a.b/c\"]", vec![name("m"), name("labels"), name("a.b/c")]),
            ("m.c[0].image", vec![name("m"), name("c"), PathStep::Index(0), name("image")]),
        ];
        for (text, steps) in cases {
            assert_eq!(text.parse(), Ok(AttributePath(steps)), "{text}");
        }
        for text in ["", ".", "a.", "a..b", ".a", "a[", "a[]", "a[-1]", "a[1.5]", "a[b]", "a[\"b\"", "a]b", "a b"] {
            assert!(text.parse::<AttributePath>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_value_at_a_path_is_removed() {
        let whole =
            json!({"m": {"a": 1, "c": [{"name": "x", "image": 1, "port": 2}, {"name": "y", "image": 3}]}, "n": 4});
        let cases = [
            ("n", json!({"m": whole["m"]})),
            ("m.a", json!({"m": {"c": whole["m"]["c"]}, "n": 4})),
            ("m.c.x.image", json!({"m": {"a": 1, "c": [{"name": "x", "port": 2}, whole["m"]["c"][1]]}, "n": 4})),
            ("m.c[1]", json!({"m": {"a": 1, "c": [whole["m"]["c"][0]]}, "n": 4})),
            ("m.none.x", whole.clone()),
            ("m.c[2].image", whole.clone()),
        ];
        for (path, expected) in cases {
            let mut attributes = map(whole.clone());
            path.parse::<AttributePath>().unwrap().remove(&mut attributes);
            assert_eq!(attributes, map(expected), "{path}");
        }
    }

    #[test]
    fn a_path_that_is_not_in_the_schema_is_an_error() {
        let inner = vec![Attribute::optional("port", Kind::Integer, "A port.")];
        let schema = Schema::new(
            "A thing.",
            [
                Attribute::optional("content", Kind::String, "Text."),
                Attribute::optional("labels", Kind::map(Kind::String), "Labels."),
                Attribute::optional("targets", Kind::list(Kind::Object(inner)), "Targets."),
                Attribute::optional("manifest", Kind::Any, "Anything."),
            ],
        );
        let checked = |text: &str| {
            let found = text.parse::<AttributePath>().unwrap().check(&schema);
            found.map_or_else(
                |(message, help)| format!("{message}; {}", help.unwrap_or_default()),
                |()| "valid".to_owned(),
            )
        };
        for path in ["content", "labels.a", "labels[\"a.b\"]", "targets[0].port", "targets", "manifest.spec.x[3]"] {
            assert_eq!(checked(path), "valid", "{path}");
        }
        assert_eq!(checked("contnet"), "unknown attribute `contnet`; did you mean `content`?");
        assert_eq!(checked("targets[0].prot"), "unknown attribute `prot` in `targets[0]`; did you mean `port`?");
        assert_eq!(checked("content.a"), "`content` is a string, which has no members; ");
        assert_eq!(checked("labels[0]"), "`labels` is a map of strings, which has no members; ");
    }

    #[test]
    fn ignored_paths_take_the_observed_values() {
        let from = map(
            json!({"m": {"spec": {"replicas": 3, "c": [{"name": "b", "image": "2"}, {"name": "a", "image": "1"}]}}}),
        );
        let wanted = json!({"m": {"spec": {"replicas": 1, "extra": true, "c": [{"name": "a", "image": "9"}]}}});
        let copied = |path: &str| {
            let mut to = map(wanted.clone());
            path.parse::<AttributePath>().unwrap().copy(&from, &mut to, false);
            Value::Map(to).to_json().unwrap()["m"]["spec"].clone()
        };
        assert_eq!(copied("m.spec.replicas")["replicas"], 3);
        assert_eq!(copied("m.spec.extra").get("extra"), None);
        assert_eq!(copied("m.spec.c[\"a\"].image")["c"][0]["image"], "1");
        assert_eq!(copied("m.spec.c[0].image")["c"][0]["image"], "2");
        assert_eq!(copied("m.other.deep")["replicas"], 1);

        let mut filled = ValueMap::new();
        "m.spec.replicas".parse::<AttributePath>().unwrap().copy(&from, &mut filled, true);
        "m.spec.gone".parse::<AttributePath>().unwrap().copy(&from, &mut filled, true);
        assert_eq!(Value::Map(filled).to_json().unwrap(), json!({"m": {"spec": {"replicas": 3, "gone": null}}}));
        let mut filled = ValueMap::new();
        "m.spec.c[\"a\"].image".parse::<AttributePath>().unwrap().copy(&from, &mut filled, true);
        let items = Value::Map(filled).to_json().unwrap()["m"]["spec"]["c"].clone();
        assert_eq!(items, json!([{"name": "a", "image": "1"}]));
        let mut filled = ValueMap::new();
        "m.spec.c[1].image".parse::<AttributePath>().unwrap().copy(&from, &mut filled, true);
        assert_eq!(Value::Map(filled).to_json().unwrap()["m"]["spec"]["c"], json!([null, {"image": "1"}]));
    }
}
