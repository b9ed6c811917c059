//! The operators of HCL on values that are known and in the open.

use std::cmp::Ordering;

use hcl::edit::expr::{BinaryOperator, UnaryOperator};
use serde_json::Number;

use super::convert::{float, to_bool, to_number};
use crate::Value;

/// `operator operand`; the error is what was expected.
pub(super) fn unary(operator: UnaryOperator, operand: &Value) -> Result<Value, String> {
    match operator {
        UnaryOperator::Not => Ok(Value::Bool(!truth("!", operand)?)),
        UnaryOperator::Neg => arithmetic("-", &Number::from(0), &number("-", operand)?, BinaryOperator::Minus),
    }
}

/// `left operator right`; the error is what was expected.
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
        _ => arithmetic(symbol, &number(symbol, left)?, &number(symbol, right)?, operator),
    }
}

/// Are two values equal? Numbers are by their value, whatever their representation.
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

/// The order of two numbers.
pub(super) fn compare(left: &Number, right: &Number) -> Ordering {
    match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().partial_cmp(&right.as_f64()).unwrap_or(Ordering::Equal),
    }
}

fn truth(symbol: &str, value: &Value) -> Result<bool, String> {
    to_bool(value).ok_or_else(|| format!("`{symbol}` takes bools, not a {}", value.type_name()))
}

fn number(symbol: &str, value: &Value) -> Result<Number, String> {
    to_number(value).ok_or_else(|| format!("`{symbol}` takes numbers, not a {}", value.type_name()))
}

fn arithmetic(symbol: &str, left: &Number, right: &Number, operator: BinaryOperator) -> Result<Value, String> {
    let whole = match (left.as_i128(), right.as_i128()) {
        (Some(left), Some(right)) => match operator {
            BinaryOperator::Plus => left.checked_add(right),
            BinaryOperator::Minus => left.checked_sub(right),
            BinaryOperator::Mul => left.checked_mul(right),
            BinaryOperator::Div if right != 0 && left % right == 0 => Some(left / right),
            BinaryOperator::Mod if right != 0 => Some(left % right),
            _ => None,
        },
        _ => None,
    };
    if let Some(number) = whole.and_then(|whole| i64::try_from(whole).ok()) {
        return Ok(Value::Number(number.into()));
    }
    let (left, right) = (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
    let result = match operator {
        BinaryOperator::Plus => left + right,
        BinaryOperator::Minus => left - right,
        BinaryOperator::Mul => left * right,
        BinaryOperator::Div => left / right,
        _ => left % right,
    };
    match float(result) {
        Some(number) => Ok(Value::Number(number)),
        None if right == 0.0 => Err(format!("`{symbol}` by zero")),
        None => Err(format!("the result of `{symbol}` is too large")),
    }
}
