//! Rows: the changed attributes of a change.

use std::collections::BTreeSet;

use moorfast_engine::plan::{Change, Difference, PathSegment, differences, parse_path};
use moorfast_engine::provider::Action;
use serde_json::{Map, Value as Json};

use super::value::{is_flat_list, is_hidden, path};

/// An attribute that a change adds, changes or removes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// The path of the attribute, in the syntax of expressions.
    pub path: String,
    /// The value before.
    pub before: Option<Json>,
    /// The value after.
    pub after: Option<Json>,
    /// Whether the change of this attribute forces the replacement of the object.
    pub forces_replacement: bool,
}

/// Returns the rows of a change. Changes of `immutable` attributes force its replacement.
pub fn rows(change: &Change, immutable: &BTreeSet<&str>) -> Vec<Row> {
    rows_between(without_moved_objects(change).as_ref(), change.after.as_ref(), immutable)
}

/// Returns the attributes before the change, without the objects that move to another instance.
fn without_moved_objects(change: &Change) -> Option<Map<String, Json>> {
    let mut before = change.before.clone()?;
    for object in change.objects.iter().filter(|object| object.action == Action::Forget) {
        for held in before.values_mut().filter_map(Json::as_object_mut) {
            held.remove(&object.name);
        }
    }
    Some(before)
}

/// Returns the rows of the differences between two sealed objects.
pub fn rows_between(
    before: Option<&Map<String, Json>>,
    after: Option<&Map<String, Json>>,
    immutable: &BTreeSet<&str>,
) -> Vec<Row> {
    let found = match (before, after) {
        (Some(before), Some(after)) => lists_whole(differences(Some(before), after), before, after),
        (None, Some(after)) => leaves(after, |value| Difference { path: vec![], before: None, after: Some(value) }),
        (Some(before), None) => leaves(before, |value| Difference { path: vec![], before: Some(value), after: None }),
        (None, None) => Vec::new(),
    };
    let immutable: Vec<_> = immutable.iter().map(|path| parse_path(path)).collect();
    let forces =
        |steps: &[PathSegment]| immutable.iter().any(|path| steps.starts_with(path) || path.starts_with(steps));
    found
        .into_iter()
        .map(|d| Row { forces_replacement: forces(&d.path), path: path(&d.path), before: d.before, after: d.after })
        .collect()
}

/// Returns every leaf of an object with its path. Lists of plain values are leaves.
fn leaves(object: &Map<String, Json>, make: impl Fn(Json) -> Difference) -> Vec<Difference> {
    let mut found = Vec::new();
    for (name, value) in object {
        collect_leaves(vec![PathSegment::Name(name.clone())], value, &mut |path, value| {
            found.push(Difference { path, ..make(value) });
        });
    }
    found
}

fn collect_leaves(path: Vec<PathSegment>, value: &Json, found: &mut impl FnMut(Vec<PathSegment>, Json)) {
    let extend = |step| path.iter().cloned().chain([step]).collect();
    match value {
        Json::Null => {}
        Json::Object(map) if !is_hidden(value) && !map.is_empty() => {
            map.iter().for_each(|(name, value)| collect_leaves(extend(PathSegment::Name(name.clone())), value, found));
        }
        Json::Array(items) if !is_flat_list(value) => {
            items.iter().enumerate().for_each(|(i, value)| collect_leaves(extend(PathSegment::Index(i)), value, found));
        }
        leaf => found(path, leaf.clone()),
    }
}

/// Joins the differences inside a list of plain values to one difference of the whole list, so that an inserted item is not a change of all others.
fn lists_whole(found: Vec<Difference>, before: &Map<String, Json>, after: &Map<String, Json>) -> Vec<Difference> {
    let mut whole: Vec<Difference> = Vec::new();
    for difference in found {
        let list = difference.path.iter().position(|step| matches!(step, PathSegment::Index(_)));
        let Some((old, new, path)) = list.and_then(|i| {
            let path = &difference.path[..i];
            let (old, new) = (at(before, path)?, at(after, path)?);
            (is_flat_list(old) && is_flat_list(new)).then(|| (old.clone(), new.clone(), path.to_vec()))
        }) else {
            whole.extend(expanded(difference));
            continue;
        };
        if whole.last().is_none_or(|last| last.path != path) {
            whole.push(Difference { path, before: Some(old), after: Some(new) });
        }
    }
    whole
}

/// Splits the difference of an added or removed object into its leaves.
fn expanded(difference: Difference) -> Vec<Difference> {
    let mut found = Vec::new();
    match (&difference.before, &difference.after) {
        (None, Some(value)) => collect_leaves(difference.path.clone(), value, &mut |path, value| {
            found.push(Difference { path, before: None, after: Some(value) });
        }),
        (Some(value), None) => collect_leaves(difference.path.clone(), value, &mut |path, value| {
            found.push(Difference { path, before: Some(value), after: None });
        }),
        _ => found.push(difference),
    }
    found
}

fn at<'a>(object: &'a Map<String, Json>, path: &[PathSegment]) -> Option<&'a Json> {
    let (PathSegment::Name(first), rest) = path.split_first()? else { return None };
    rest.iter().try_fold(object.get(first)?, |value, step| match step {
        PathSegment::Name(name) => value.get(name),
        PathSegment::Index(index) => value.get(index),
    })
}
