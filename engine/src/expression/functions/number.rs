//! Functions on numbers.

use std::cmp::Ordering;
use std::num::IntErrorKind;

use hcl::edit::expr::BinaryOperator;
use serde_json::Number;

use super::{Arguments, Body, CallError, Family, Function, plain_error, quoting_error};
use crate::expression::arithmetic::{arithmetic, compare};
use crate::model::Value;
use crate::model::convert::to_number;
use crate::model::number::{LIMITS, float_number, integer, whole_number};

pub(super) fn functions() -> Vec<Function> {
    let function = |name, parameters, doc, body| Function {
        name,
        family: Family::Number,
        parameters,
        doc,
        body: Body::Plain(body),
    };
    vec![
        function("abs", &["number"], "The absolute value of the number.", |a| match integer(&a.number(0)?) {
            Some(whole) => exact(whole.checked_abs()),
            None => computed(a.float(0)?.abs()),
        }),
        function("ceil", &["number"], "The number rounded up to a whole number.", |a| round(a, f64::ceil)),
        function("floor", &["number"], "The number rounded down to a whole number.", |a| round(a, f64::floor)),
        function("log", &["number", "base"], "The logarithm of the number to the base.", log),
        function("max", &["numbers..."], "The greatest of the numbers.", |a| extreme(a, Ordering::Greater)),
        function("min", &["numbers..."], "The least of the numbers.", |a| extreme(a, Ordering::Less)),
        function("parseint", &["text", "base"], "The whole number in the text, in a base from 2 to 36.", parseint),
        function("pow", &["base", "exponent"], "The base raised to the exponent.", pow),
        function("signum", &["number"], "The sign of the number: -1, 0 or 1.", |a| {
            Ok(Value::from(match compare(&a.number(0)?, &Number::from(0)) {
                Ordering::Less => -1_i64,
                Ordering::Equal => 0,
                Ordering::Greater => 1,
            }))
        }),
        function("sum", &["list"], "The sum of the numbers of the list.", sum),
    ]
}

/// Returns the whole number, or an error if it cannot be represented.
fn exact(whole: Option<i128>) -> Result<Value, CallError> {
    let number = whole.and_then(whole_number);
    number.map(Value::Number).ok_or_else(|| plain_error(format!("the result cannot be represented exactly: {LIMITS}")))
}

/// Returns the result of a calculation with floats.
fn computed(result: f64) -> Result<Value, CallError> {
    match float_number(result) {
        Some(number) => Ok(Value::Number(number)),
        None if result.is_finite() => exact(None),
        None => Err(plain_error("the result is not a finite number")),
    }
}

fn round(a: &Arguments, rounded: fn(f64) -> f64) -> Result<Value, CallError> {
    match integer(&a.number(0)?) {
        Some(whole) => exact(Some(whole)),
        None => computed(rounded(a.float(0)?)),
    }
}

/// Calculates a power. Non-negative powers of whole numbers are exact, small powers of fractions are multiplied in decimal.
fn pow(a: &Arguments) -> Result<Value, CallError> {
    match (integer(&a.number(0)?), integer(&a.number(1)?)) {
        (Some(base), Some(exponent @ 0..)) => {
            // For -1, 0 and 1 only the parity of a large exponent matters.
            let exponent = if base.unsigned_abs() <= 1 { exponent.min(2 + exponent % 2) } else { exponent };
            exact(u32::try_from(exponent).ok().and_then(|exponent| base.checked_pow(exponent)))
        }
        (None, Some(exponent @ 0..=64)) => {
            let base = a.number(0)?;
            let times = |power: Value, _| match power {
                Value::Number(power) => arithmetic(BinaryOperator::Mul, &power, &base),
                other => Ok(other),
            };
            (0..exponent).try_fold(Value::from(1_i64), times).map_err(plain_error)
        }
        _ => computed(a.float(0)?.powf(a.float(1)?)),
    }
}

/// Calculates a logarithm. A whole result is exact.
fn log(a: &Arguments) -> Result<Value, CallError> {
    let (number, base) = (a.float(0)?, a.float(1)?);
    let logarithm = number.ln() / base.ln();
    let whole = logarithm.round();
    computed(if base.powf(whole) == number { whole } else { logarithm })
}

fn extreme(a: &Arguments, wanted: Ordering) -> Result<Value, CallError> {
    let numbers: Vec<Number> = (0..a.len()).map(|at| a.number(at)).collect::<Result<_, _>>()?;
    let best = numbers.into_iter().reduce(|best, next| if compare(&next, &best) == wanted { next } else { best });
    best.map(Value::Number).ok_or_else(|| plain_error(format!("`{}` needs at least one number", a.function.name)))
}

fn parseint(a: &Arguments) -> Result<Value, CallError> {
    let (text, base) = (a.text(0)?, a.integer(1)?);
    let base = u32::try_from(base)
        .ok()
        .filter(|base| (2..=36).contains(base))
        .ok_or_else(|| a.expected(1, "a whole number from 2 to 36"))?;
    match i128::from_str_radix(&text, base) {
        Ok(number) => exact(Some(number)),
        Err(error) => match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => exact(None),
            _ => Err(quoting_error(format!("`{text}` is not a whole number in base {base}"))),
        },
    }
}

fn sum(a: &Arguments) -> Result<Value, CallError> {
    let numbers: Option<Vec<Number>> = a.list(0)?.iter().map(to_number).collect();
    let numbers = numbers.ok_or_else(|| a.mismatch(0, "a list of numbers"))?;
    let mut sum = Number::from(0);
    for number in &numbers {
        match arithmetic(BinaryOperator::Plus, &sum, number).map_err(plain_error)? {
            Value::Number(next) => sum = next,
            other => return Ok(other),
        }
    }
    Ok(Value::Number(sum))
}
