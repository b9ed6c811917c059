//! Resolves plain scalars to strings, numbers, bools or null as go-yaml v2 does.

use serde_json::Number;

use crate::model::Value;
use crate::model::number::{parse_number, whole_number};

/// Returns the value of a plain scalar.
///
/// # Errors
/// Returns a message for a number that cannot be represented.
pub(super) fn resolve(text: &str) -> Result<Value, String> {
    let value = match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Value::Bool(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Value::Bool(false),
        _ => match number(text)? {
            Some(number) => Value::Number(number),
            None => Value::from(text),
        },
    };
    Ok(value)
}

/// Whether a plain scalar with this text is a string.
pub(crate) fn is_text(text: &str) -> bool {
    matches!(resolve(text), Ok(Value::String(_)))
}

fn number(text: &str) -> Result<Option<Number>, String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("infinity and NaN cannot be stored".to_owned());
    }
    let may_be_number = match text.chars().next() {
        Some('.') => separates_digits(text),
        Some(first) => first.is_ascii_digit() || matches!(first, '-' | '+'),
        None => false,
    };
    if !may_be_number {
        return Ok(None);
    }
    let digits = text.replace('_', "");
    if let Some(whole) = integer(&digits) {
        return Ok(Some(whole));
    }
    // A number beyond the range of floats is a string.
    match is_decimal(&digits) && digits.parse::<f64>().is_ok_and(f64::is_finite) {
        true => parse_number(&digits).map(Some).map_err(|unfit| format!("this number {unfit}")),
        false => Ok(None),
    }
}

/// Whether every underscore is between two digits. This is required only for a number that starts with a point.
fn separates_digits(text: &str) -> bool {
    let parts: Vec<&str> = text.split('_').collect();
    parts.windows(2).all(|pair| {
        pair[0].ends_with(|c: char| c.is_ascii_digit()) && pair[1].starts_with(|c: char| c.is_ascii_digit())
    })
}

/// Parses an integer with Go's base prefixes: `0400`, `0o400`, `0x1F`, `0b101`, `12`.
fn integer(text: &str) -> Option<Number> {
    let (is_negative, unsigned) = match text.strip_prefix('-') {
        Some(unsigned) => (true, unsigned),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (base, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some(octal) if octal.starts_with('0') => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = i128::from(u64::from_str_radix(digits, base).ok()?);
    let whole = if is_negative { -magnitude } else { magnitude };
    (whole >= i128::from(i64::MIN)).then(|| whole_number(whole)).flatten()
}

/// Whether the text is a decimal number, with or without fraction and exponent.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits(whole)
        && are_digits(fraction)
        && are_digits(exponent)
        && !exponent.is_empty()
        && (!whole.is_empty() || !fraction.is_empty())
}
