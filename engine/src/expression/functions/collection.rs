//! Functions on lists and maps.

use std::collections::BTreeMap;

use hcl::edit::expr::BinaryOperator;
use serde_json::Number;

use super::{Arguments, Body, CallError, Family, Function, plain_error, quoting_error};
use crate::expression::arithmetic::{arithmetic, compare, equal};
use crate::expression::evaluate::pending;
use crate::model::convert::{to_bool, to_text};
use crate::model::value::Secrecy;
use crate::model::{Value, ValueMap};

pub(super) fn functions() -> Vec<Function> {
    let plain = |name, parameters, doc, body| Function {
        name,
        family: Family::Collection,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    let outer = |name, parameters, doc, body| Function {
        name,
        family: Family::Collection,
        parameters,
        doc,
        body: Body::Outer(body),
    };
    let raw = |name, parameters, doc, body| Function {
        name,
        family: Family::Collection,
        parameters,
        doc,
        body: Body::Raw(body),
    };
    vec![
        plain("alltrue", &["list"], "Whether all items of the list are true. True for an empty list.", |a| {
            Ok(Value::from(a.list(0)?.iter().all(|item| to_bool(item) == Some(true))))
        }),
        plain("anytrue", &["list"], "Whether any item of the list is true.", |a| {
            Ok(Value::from(a.list(0)?.iter().any(|item| to_bool(item) == Some(true))))
        }),
        outer("chunklist", &["list", "size"], "The list split into lists of at most `size` items.", |a| {
            let size = a.size(1)?;
            Ok(match size {
                0 => Value::List(vec![Value::List(a.list(0)?.to_vec())]),
                size => Value::List(a.list(0)?.chunks(size).map(|chunk| Value::List(chunk.to_vec())).collect()),
            })
        }),
        raw("coalesce", &["values..."], "The first value that is neither null nor an empty string.", coalesce),
        outer("coalescelist", &["lists..."], "The first list that is not empty.", |a| {
            let lists = a.lists(0)?;
            let first = lists.into_iter().find(|list| !list.is_empty());
            first
                .map(|list| Value::List(list.to_vec()))
                .ok_or_else(|| plain_error("all lists of `coalescelist` are empty"))
        }),
        plain("compact", &["list"], "The list without nulls and empty strings.", |a| {
            let kept = |item: &&Value| !item.is_null() && item.as_str() != Some("");
            Ok(Value::List(a.list(0)?.iter().filter(kept).cloned().collect()))
        }),
        outer("concat", &["lists..."], "All lists concatenated to one list.", |a| {
            Ok(Value::List(a.lists(0)?.concat()))
        }),
        plain("contains", &["list", "value"], "Whether the list contains the value.", |a| {
            Ok(Value::from(a.list(0)?.iter().any(|item| equal(item, a.value(1)))))
        }),
        plain("distinct", &["list"], "The list without duplicates, in the order of first occurrence.", |a| {
            Ok(Value::List(distinct(a.list(0)?)))
        }),
        outer(
            "element",
            &["list", "index"],
            "The item at the index. An index beyond the end wraps around to the start.",
            |a| {
                let (list, index) = (a.list(0)?, a.integer(1)?);
                let at = index.checked_rem_euclid(list.len() as i128).and_then(|at| usize::try_from(at).ok());
                at.and_then(|at| list.get(at))
                    .cloned()
                    .ok_or_else(|| plain_error("`element` cannot select from an empty list"))
            },
        ),
        plain("flatten", &["list"], "The list with nested lists replaced by their items, at any depth.", |a| {
            let mut flat = Vec::new();
            flatten(a.list(0)?, &mut flat);
            Ok(Value::List(flat))
        }),
        plain(
            "index",
            &["list", "value"],
            "The index of the first item that equals the value. It is an error if there is none.",
            |a| {
                let at = a.list(0)?.iter().position(|item| equal(item, a.value(1)));
                at.map(|at| Value::Number(at.into())).ok_or_else(|| plain_error("the value is not in the list"))
            },
        ),
        outer("keys", &["map"], "The sorted keys of the map.", |a| {
            Ok(Value::List(a.map(0)?.keys().map(|key| Value::from(key.as_str())).collect()))
        }),
        outer("length", &["value"], "The number of items of a list or map, or of characters of a string.", |a| {
            let length = match a.value(0) {
                Value::List(items) => items.len(),
                Value::Map(map) => map.len(),
                Value::String(text) => text.chars().count(),
                _ => return Err(a.mismatch(0, "a list, a map or a string")),
            };
            Ok(Value::Number(length.into()))
        }),
        raw("list", &["values..."], "The values as a list, as `[…]`.", |a| Ok(Value::List(a.rest(0).to_vec()))),
        outer(
            "lookup",
            &["map", "key", "default?"],
            "The value of the key in the map, or the default if the key does not exist.",
            |a| {
                let key = a.text(1)?;
                let found = a.map(0)?.get(&key).or(a.get(2)).cloned();
                found.ok_or_else(|| quoting_error(format!("the map has no key `{key}`, and no default is given")))
            },
        ),
        plain(
            "matchkeys",
            &["values", "keys", "wanted"],
            "The values whose key at the same index is in `wanted`.",
            |a| {
                let (values, keys, wanted) = (a.list(0)?, a.list(1)?, a.list(2)?);
                if values.len() != keys.len() {
                    return Err(plain_error("`matchkeys` needs as many keys as values"));
                }
                let matching =
                    values.iter().zip(keys).filter(|(_, key)| wanted.iter().any(|wanted| equal(key, wanted)));
                Ok(Value::List(matching.map(|(value, _)| value.clone()).collect()))
            },
        ),
        outer("merge", &["maps..."], "All maps merged to one map. Later maps take precedence.", |a| {
            let mut merged = ValueMap::new();
            for at in 0..a.len() {
                if !a.value(at).is_null() {
                    merged.extend(a.map(at)?.clone());
                }
            }
            Ok(Value::Map(merged))
        }),
        outer(
            "one",
            &["list"],
            "The only item of the list, or null if the list is empty. More items are an error.",
            |a| match a.list(0)? {
                [] => Ok(Value::Null),
                [only] => Ok(only.clone()),
                more => {
                    Err(quoting_error(format!("`one` needs a list of at most one item, not of {} items", more.len())))
                }
            },
        ),
        plain(
            "range",
            &["start", "limit?", "step?"],
            "The numbers from `start` (default 0) up to but excluding `limit`, in steps of `step` (default 1).",
            range,
        ),
        outer("reverse", &["list"], "The list in reverse order.", |a| {
            Ok(Value::List(a.list(0)?.iter().rev().cloned().collect()))
        }),
        outer(
            "slice",
            &["list", "start", "end"],
            "The items from index `start` up to but excluding index `end`.",
            |a| {
                let (list, start, end) = (a.list(0)?, a.size(1)?, a.size(2)?);
                let part = list.get(start..end);
                part.map(|part| Value::List(part.to_vec()))
                    .ok_or_else(|| quoting_error(format!("`slice` exceeds the {} items of the list", list.len())))
            },
        ),
        plain("sort", &["list"], "The strings of the list in alphabetical order.", |a| {
            let mut texts = a.texts(0)?;
            texts.sort();
            Ok(Value::from(texts))
        }),
        plain("transpose", &["map"], "The map of lists of strings with its keys and values swapped.", |a| {
            let mut swapped: BTreeMap<String, Vec<Value>> = BTreeMap::new();
            for (key, values) in a.map(0)? {
                for value in values.as_list().ok_or_else(|| a.mismatch(0, "a map of lists"))? {
                    let value = to_text(value).ok_or_else(|| a.mismatch(0, "a map of lists of strings"))?;
                    swapped.entry(value).or_default().push(Value::from(key.as_str()));
                }
            }
            Ok(Value::Map(swapped.into_iter().map(|(key, values)| (key, Value::List(values))).collect()))
        }),
        outer("values", &["map"], "The values of the map, in the order of its keys.", |a| {
            Ok(Value::List(a.map(0)?.values().cloned().collect()))
        }),
        outer("zipmap", &["keys", "values"], "The map of the keys to the values at the same index.", zipmap),
    ]
}

/// Builds a map. The keys must be known, and a sensitive key makes the map sensitive. The values are not inspected.
fn zipmap(a: &Arguments) -> Result<Value, CallError> {
    let values = a.list(1)?;
    let secrecy = Secrecy::of([a.value(0)]);
    if let Some(pending) = pending(a.list(0)?) {
        return Ok(pending.with(&secrecy));
    }
    let keys = a.texts(0)?;
    if keys.len() != values.len() {
        return Err(plain_error("`zipmap` needs as many keys as values"));
    }
    let map = Value::Map(keys.into_iter().zip(values.iter().cloned()).collect());
    Ok(map.with(&secrecy))
}

fn coalesce(a: &Arguments) -> Result<Value, CallError> {
    let present =
        |value: &&Value| !value.is_null() && !matches!(value.reveal(), Value::String(text) if text.is_empty());
    let secrecy = Secrecy::of(a.rest(0).iter().take_while(|value| !present(value)));
    let first = a.rest(0).iter().find(present).cloned();
    let first = first.ok_or_else(|| plain_error("all values of `coalesce` are null or empty"))?;
    Ok(first.with(&secrecy))
}

/// Returns the values without duplicates.
pub(super) fn distinct(values: &[Value]) -> Vec<Value> {
    let mut unique: Vec<Value> = Vec::new();
    for value in values {
        if !unique.iter().any(|known| equal(known, value)) {
            unique.push(value.clone());
        }
    }
    unique
}

fn flatten(items: &[Value], flat: &mut Vec<Value>) {
    for item in items {
        match item {
            Value::List(inner) => flatten(inner, flat),
            other => flat.push(other.clone()),
        }
    }
}

fn range(a: &Arguments) -> Result<Value, CallError> {
    const MAX: usize = 1024;
    let zero = Number::from(0);
    let (start, limit) = if a.len() == 1 { (zero.clone(), a.number(0)?) } else { (a.number(0)?, a.number(1)?) };
    let direction = compare(&limit, &start);
    let step = match a.get(2) {
        Some(_) => a.number(2)?,
        None => Number::from(if direction.is_lt() { -1 } else { 1 }),
    };
    let toward = compare(&step, &zero);
    if toward.is_eq() || (direction.is_ne() && direction != toward) {
        return Err(plain_error("`range` never reaches its limit with this step"));
    }
    let mut numbers = Vec::new();
    while let Value::Number(next) = nth(&start, &step, numbers.len()).map_err(plain_error)?
        && compare(&limit, &next) == toward
    {
        if numbers.len() == MAX {
            return Err(plain_error(format!("`range` produces at most {MAX} numbers")));
        }
        numbers.push(Value::Number(next));
    }
    Ok(Value::List(numbers))
}

/// Calculates `start + step * n`, because repeated additions would accumulate rounding errors.
fn nth(start: &Number, step: &Number, n: usize) -> Result<Value, String> {
    match arithmetic(BinaryOperator::Mul, step, &Number::from(n))? {
        Value::Number(offset) => arithmetic(BinaryOperator::Plus, start, &offset),
        other => Ok(other),
    }
}

/// Compares values as a set orders them: by type, then by value.
pub(super) fn order(left: &Value, right: &Value) -> std::cmp::Ordering {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare(left, right),
        (Value::String(left), Value::String(right)) => left.cmp(right),
        _ => left.type_name().cmp(right.type_name()).then_with(|| format!("{left:?}").cmp(&format!("{right:?}"))),
    }
}
