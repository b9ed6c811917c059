//! Functions of numbers.

use std::cmp::Ordering;

use serde_json::Number;

use super::{Arguments, Body, Family, Fault, Function, open, quoting};
use crate::Value;
use crate::expression::arithmetic::compare;
use crate::expression::convert::{float, to_number};

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Number,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function("abs", &["number"], "The number without its sign.", |a| rounded(a.float(0)?.abs())),
        function("ceil", &["number"], "The next whole number that is not less.", |a| rounded(a.float(0)?.ceil())),
        function("floor", &["number"], "The next whole number that is not greater.", |a| rounded(a.float(0)?.floor())),
        function("log", &["number", "base"], "The logarithm of the number to the base.", |a| {
            rounded(a.float(0)?.ln() / a.float(1)?.ln())
        }),
        function("max", &["numbers..."], "The greatest of the numbers.", |a| extreme(a, Ordering::Greater)),
        function("min", &["numbers..."], "The least of the numbers.", |a| extreme(a, Ordering::Less)),
        function(
            "parseint",
            &["text", "base"],
            "The whole number that the text writes in the base, which is 2 to 36.",
            parseint,
        ),
        function("pow", &["base", "exponent"], "The base raised to the exponent.", |a| {
            rounded(a.float(0)?.powf(a.float(1)?))
        }),
        function("signum", &["number"], "-1, 0 or 1: the sign of the number.", |a| {
            let number = a.float(0)?;
            Ok(Value::from(if number > 0.0 {
                1_i64
            } else if number < 0.0 {
                -1
            } else {
                0
            }))
        }),
        function("sum", &["list"], "The sum of the numbers of the list.", sum),
    ]
}

fn rounded(result: f64) -> Result<Value, Fault> {
    float(result).map(Value::Number).ok_or_else(|| open("the result is not a number"))
}

fn extreme(a: &Arguments, wanted: Ordering) -> Result<Value, Fault> {
    let numbers: Vec<Number> = (0..a.len()).map(|at| a.number(at)).collect::<Result<_, _>>()?;
    let best = numbers.into_iter().reduce(|best, next| if compare(&next, &best) == wanted { next } else { best });
    best.map(Value::Number).ok_or_else(|| open(format!("`{}` takes at least one number", a.function.name)))
}

fn parseint(a: &Arguments) -> Result<Value, Fault> {
    let (text, base) = (a.text(0)?, a.integer(1)?);
    let base =
        u32::try_from(base).ok().filter(|base| (2..=36).contains(base)).ok_or_else(|| a.mismatch(1, "2 to 36"))?;
    let number =
        i64::from_str_radix(&text, base).map_err(|_| quoting(format!("`{text}` is no whole number in base {base}")))?;
    Ok(Value::from(number))
}

fn sum(a: &Arguments) -> Result<Value, Fault> {
    let numbers: Option<Vec<Number>> = a.list(0)?.iter().map(to_number).collect();
    let numbers = numbers.ok_or_else(|| a.mismatch(0, "a list of numbers"))?;
    let whole = numbers.iter().try_fold(0_i64, |sum, number| sum.checked_add(number.as_i64()?));
    match whole {
        Some(sum) => Ok(Value::from(sum)),
        None => rounded(numbers.iter().filter_map(Number::as_f64).sum()),
    }
}
