//! Decoding of JSON, YAML and TOML texts to values, with the place of an error.

use std::fmt;

use toml::de::{DeTable, DeValue};

use super::toml_value::plain_toml;
use crate::model::number::{NumberError, exact_json};
use crate::model::{Value, yaml_document};

/// A format of structured text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TextFormat {
    /// JSON.
    Json,
    /// YAML as kubectl reads it.
    Yaml,
    /// TOML.
    Toml,
}

/// An error in a structured text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// The line and the column, which count from 1. `None` if the place is not known.
    pub place: Option<(usize, usize)>,
    /// The message. It may contain a part of the text.
    pub message: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{} at line {line} column {column}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl TextFormat {
    /// Decodes a text, as the functions `jsondecode`, `yamldecode` and `tomldecode` do.
    ///
    /// # Errors
    /// Returns the first error in the text.
    pub fn decode(self, text: &str) -> Result<Value, DecodeError> {
        match self {
            Self::Json => json(text),
            Self::Yaml => yaml_document(text).map_err(|error| DecodeError {
                place: Some((error.line, error.column)),
                message: format!("this YAML cannot be used: {}", error.message),
            }),
            Self::Toml => toml(text),
        }
    }
}

fn json(text: &str) -> Result<Value, DecodeError> {
    let read = |text: &str| {
        serde_json::from_str::<serde_json::Value>(text).map_err(|error| {
            let message = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let message = message.strip_suffix(&place).unwrap_or(&message);
            DecodeError {
                place: Some((error.line(), error.column())),
                message: format!("this is not valid JSON: {message}"),
            }
        })
    };
    // The original text is parsed first, so that a syntax error has its place in that text.
    read(text)?;
    let exact = exact_json(text).map_err(|number| DecodeError {
        place: None,
        message: format!("this JSON cannot be used: `{number}` {}", NumberError::Inexact),
    })?;
    read(&exact).map(Value::from)
}

fn toml(text: &str) -> Result<Value, DecodeError> {
    let table = DeTable::parse(text).map_err(|error| DecodeError {
        place: error.span().map(|span| place(text, span.start)),
        message: format!("this is not valid TOML: {}", error.message()),
    })?;
    plain_toml(&DeValue::Table(table.into_inner()))
        .map_err(|problem| DecodeError { place: None, message: format!("this TOML cannot be used: {problem}") })
}

/// Returns the line and the column of a byte.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.rsplit('\n').next().unwrap_or_default();
    (before.matches('\n').count() + 1, line.chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_place() {
        for (format, text, place) in [
            (TextFormat::Json, "{\n  \"a\": tru}", Some((2, 11))),
            (TextFormat::Json, "", Some((1, 0))),
            (TextFormat::Json, "[18446744073709551616]", None),
            (TextFormat::Yaml, "a: 1\na: 2\n", Some((2, 1))),
            (TextFormat::Toml, "a = 1\nb = ?\n", Some((2, 5))),
            (TextFormat::Toml, "a = inf", None),
        ] {
            assert_eq!(format.decode(text).map_err(|error| error.place), Err(place), "{text}");
        }
        assert_eq!(TextFormat::Json.decode("1.0"), Ok(Value::from(1)));
    }
}
