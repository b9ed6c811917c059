//! Conversions between primitive values, as in HCL.

use serde_json::Number;

use super::number::{number_text, parse_number};
use crate::model::Value;

/// Returns a string, number or bool as text.
pub(crate) fn to_text(value: &Value) -> Option<String> {
    match value.reveal() {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number_text(number)),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Returns a number, or a string that contains one, as a number that can be represented exactly.
pub(crate) fn to_number(value: &Value) -> Option<Number> {
    match value.reveal() {
        Value::Number(number) => Some(number.clone()),
        Value::String(text) => parse_number(text).ok(),
        _ => None,
    }
}

/// Returns a bool, or one of the strings `true` and `false`, as a bool.
pub(crate) fn to_bool(value: &Value) -> Option<bool> {
    match value.reveal() {
        Value::Bool(truth) => Some(*truth),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}
