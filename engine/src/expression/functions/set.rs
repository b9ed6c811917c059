//! Functions on lists as sets: without duplicates and sorted.

use super::collection::{distinct, order};
use super::{Arguments, Body, CallError, Family, Function, plain_error};
use crate::expression::arithmetic::equal;
use crate::model::Value;

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Collection,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function("setintersection", &["sets..."], "The values that are in all sets.", |a| {
            let sets = a.lists(0)?;
            let Some((first, others)) = sets.split_first() else { return Ok(Value::List(Vec::new())) };
            let common = first.iter().filter(|value| others.iter().all(|other| holds(other, value)));
            Ok(set(common.cloned().collect()))
        }),
        function(
            "setproduct",
            &["sets..."],
            "All combinations of one value from each set, each as a list.",
            setproduct,
        ),
        function("setsubtract", &["set", "other"], "The values of the set that are not in `other`.", |a| {
            let other = a.list(1)?;
            Ok(set(a.list(0)?.iter().filter(|value| !holds(other, value)).cloned().collect()))
        }),
        function("setunion", &["sets..."], "The values that are in any set.", |a| Ok(set(a.lists(0)?.concat()))),
        function("toset", &["value"], "The values of the list or map, sorted and without duplicates.", |a| {
            match a.value(0) {
                Value::List(items) => Ok(set(items.clone())),
                Value::Map(map) => Ok(set(map.values().cloned().collect())),
                _ => Err(a.mismatch(0, "a list")),
            }
        }),
    ]
}

/// Returns the values sorted and without duplicates.
pub(crate) fn set(values: Vec<Value>) -> Value {
    let mut values = distinct(&values);
    values.sort_by(order);
    Value::List(values)
}

fn holds(set: &[Value], value: &Value) -> bool {
    set.iter().any(|member| equal(member, value))
}

fn setproduct(a: &Arguments) -> Result<Value, CallError> {
    const MAX: usize = 100_000;
    let mut product: Vec<Vec<Value>> = vec![Vec::new()];
    for list in a.lists(0)? {
        if product.len().saturating_mul(list.len()) > MAX {
            return Err(plain_error(format!("`setproduct` produces at most {MAX} combinations")));
        }
        product = product
            .iter()
            .flat_map(|start| list.iter().map(move |item| [start.as_slice(), std::slice::from_ref(item)].concat()))
            .collect();
    }
    Ok(Value::List(product.into_iter().map(Value::List).collect()))
}
