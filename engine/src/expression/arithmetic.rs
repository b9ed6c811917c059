//! The operators of HCL on values that are known and not sensitive.

use std::cmp::Ordering;

use hcl::edit::expr::{BinaryOperator, UnaryOperator};
use serde_json::Number;

use crate::model::Value;
use crate::model::convert::{to_bool, to_number};
use crate::model::number::{LIMITS, Scaled, exact_f64, float_number, integer};

/// Evaluates `operator operand`.
///
/// # Errors
/// Returns a message if the operand has the wrong type.
pub(super) fn unary(operator: UnaryOperator, operand: &Value) -> Result<Value, String> {
    match operator {
        UnaryOperator::Not => Ok(Value::Bool(!truth("!", operand)?)),
        UnaryOperator::Neg => arithmetic(BinaryOperator::Minus, &Number::from(0), &number("-", operand)?),
    }
}

/// Evaluates `left operator right`.
///
/// # Errors
/// Returns a message if an operand has the wrong type or the result cannot be represented.
pub(super) fn binary(operator: BinaryOperator, left: &Value, right: &Value) -> Result<Value, String> {
    let symbol = operator.as_str();
    match operator {
        BinaryOperator::Eq => Ok(Value::Bool(equal(left, right))),
        BinaryOperator::NotEq => Ok(Value::Bool(!equal(left, right))),
        BinaryOperator::And => Ok(Value::Bool(truth(symbol, left)? && truth(symbol, right)?)),
        BinaryOperator::Or => Ok(Value::Bool(truth(symbol, left)? || truth(symbol, right)?)),
        BinaryOperator::Less | BinaryOperator::LessEq | BinaryOperator::Greater | BinaryOperator::GreaterEq => {
            let order = compare(&number(symbol, left)?, &number(symbol, right)?);
            Ok(Value::Bool(match operator {
                BinaryOperator::Less => order.is_lt(),
                BinaryOperator::LessEq => order.is_le(),
                BinaryOperator::Greater => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        _ => arithmetic(operator, &number(symbol, left)?, &number(symbol, right)?),
    }
}

/// Whether two values are equal. Numbers are compared by value, not by representation.
pub(super) fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare(left, right).is_eq(),
        (Value::List(left), Value::List(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| equal(left, right))
        }
        (Value::Map(left), Value::Map(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|((lk, left), (rk, right))| lk == rk && equal(left, right))
        }
        _ => left == right,
    }
}

/// Compares two numbers.
pub(super) fn compare(left: &Number, right: &Number) -> Ordering {
    match (integer(left), integer(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal),
    }
}

fn truth(symbol: &str, value: &Value) -> Result<bool, String> {
    to_bool(value).ok_or_else(|| format!("`{symbol}` needs bools, not a {}", value.type_name()))
}

fn number(symbol: &str, value: &Value) -> Result<Number, String> {
    to_number(value).ok_or_else(|| format!("`{symbol}` needs numbers, not a {}", value.type_name()))
}

/// Calculates `left operator right` in decimal. Whole numbers are exact, fractions are rounded to a float.
///
/// # Errors
/// Returns a message for a division by zero, or if the result is a whole number that cannot be represented exactly.
pub(super) fn arithmetic(operator: BinaryOperator, left: &Number, right: &Number) -> Result<Value, String> {
    let symbol = operator.as_str();
    if matches!(operator, BinaryOperator::Div | BinaryOperator::Mod) && right.as_f64() == Some(0.0) {
        return Err(format!("division by zero in `{symbol}`"));
    }
    let exact = Scaled::of(left).zip(Scaled::of(right)).and_then(|(left, right)| match operator {
        BinaryOperator::Plus => left.aligned(right, i128::checked_add),
        BinaryOperator::Minus => left.aligned(right, i128::checked_sub),
        BinaryOperator::Mod => left.aligned(right, i128::checked_rem),
        BinaryOperator::Mul => left.times(right),
        _ => left.divided_by(right),
    });
    let number = match exact {
        Some(exact) => exact.number(),
        None => exact_f64(left)
            .zip(exact_f64(right))
            .and_then(|(left, right)| float_number(floating(operator, left, right))),
    };
    let inexact = || format!("the result of `{symbol}` cannot be represented exactly: {LIMITS}");
    number.map(Value::Number).ok_or_else(inexact)
}

fn floating(operator: BinaryOperator, left: f64, right: f64) -> f64 {
    match operator {
        BinaryOperator::Plus => left + right,
        BinaryOperator::Minus => left - right,
        BinaryOperator::Mul => left * right,
        BinaryOperator::Div => left / right,
        _ => left % right,
    }
}
