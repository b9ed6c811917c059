//! Conversions between primitive values, as HCL makes them where a type is asked for.

use serde_json::Number;

use crate::Value;

/// The text of a string, number or bool.
pub(crate) fn to_text(value: &Value) -> Option<String> {
    match value.reveal() {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The number that a number or a string is.
pub(crate) fn to_number(value: &Value) -> Option<Number> {
    match value.reveal() {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => parse_number(text),
        _ => None,
    }
}

/// The truth that a bool or one of the strings `true` and `false` is.
pub(crate) fn to_bool(value: &Value) -> Option<bool> {
    match value.reveal() {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// A number as people write it: without exponent, and without a fraction where it is whole.
pub(crate) fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() => float.to_string(),
        _ => number.to_string(),
    }
}

/// The number that `text` writes in decimal.
pub(crate) fn parse_number(text: &str) -> Option<Number> {
    let text = text.trim();
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.')) {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    text.parse::<f64>().ok().and_then(float)
}

/// The number of a float; a whole one becomes an integer. None for what is not finite.
pub(crate) fn float(float: f64) -> Option<Number> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if float.fract() == 0.0 && float.abs() < EXACT {
        return Some(Number::from(float as i64));
    }
    Number::from_f64(float)
}
