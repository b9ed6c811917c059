//! Conversion of TOML values without expressions: strings are not templates.

use serde_json::Number;
use toml::de::DeValue;

use crate::model::Value;
use crate::model::number::{NumberError, parse_number, whole_number};

/// Converts a TOML value.
///
/// # Errors
/// Returns a message if a number cannot be represented exactly, or is infinite or NaN.
pub(crate) fn plain_toml(value: &DeValue) -> Result<Value, String> {
    Ok(match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Boolean(truth) => Value::Bool(*truth),
        DeValue::Datetime(datetime) => Value::String(datetime.to_string()),
        DeValue::Array(items) => {
            Value::List(items.iter().map(|item| plain_toml(item.get_ref())).collect::<Result<_, _>>()?)
        }
        DeValue::Table(table) => Value::Map(
            table
                .iter()
                .map(|(key, value)| Ok((key.get_ref().to_string(), plain_toml(value.get_ref())?)))
                .collect::<Result<_, String>>()?,
        ),
        DeValue::Integer(_) | DeValue::Float(_) => Value::Number(toml_number(value)?),
    })
}

/// Converts a TOML number.
///
/// # Errors
/// Returns a message if the number cannot be represented exactly, or is infinite or NaN.
pub(crate) fn toml_number(value: &DeValue) -> Result<Number, String> {
    let (written, number) = match value {
        DeValue::Integer(integer) => {
            let digits = integer.as_str().replace('_', "");
            let whole = i128::from_str_radix(&digits, integer.radix()).ok();
            (integer.as_str(), whole.and_then(whole_number).ok_or(NumberError::Inexact))
        }
        DeValue::Float(float) => (float.as_str(), parse_number(&float.as_str().replace('_', ""))),
        _ => return Err(NumberError::NotANumber.to_string()),
    };
    number.map_err(|unfit| match unfit {
        NumberError::NotANumber => format!("`{written}` cannot be used: infinity and NaN cannot be stored"),
        NumberError::Inexact => format!("`{written}` {unfit}"),
    })
}
