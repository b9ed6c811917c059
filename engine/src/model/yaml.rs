//! A YAML 1.1 reader that is compatible with kubectl (`sigs.k8s.io/yaml`).
//!
//! Two things that kubectl accepts are errors here, because they lose data: a duplicate key, and a number that would have to be rounded.

mod builder;
mod scalar;

use std::fmt;

use crate::model::Value;

pub(crate) use scalar::is_text;

/// A YAML document.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlDocument {
    /// The value. Null for an empty document.
    pub value: Value,
    /// The first line. Lines count from 1.
    pub line: usize,
}

/// An error in a YAML text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The line. Lines count from 1.
    pub line: usize,
    /// The column. Columns count from 1.
    pub column: usize,
    /// The message. It may name a key, but contains no value.
    pub message: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl YamlError {
    /// Returns only the place, for a sensitive text.
    pub fn place(&self) -> String {
        format!("line {}, column {}", self.line, self.column)
    }
}

/// Parses all documents of a text.
///
/// # Errors
/// Returns the first error.
pub fn yaml_documents(text: &str) -> Result<Vec<YamlDocument>, YamlError> {
    builder::Builder::new(text).documents()
}

/// Parses a text with one document. Empty documents are ignored.
///
/// # Errors
/// Returns an error if the text is not valid YAML or has several documents.
pub fn yaml_document(text: &str) -> Result<Value, YamlError> {
    let mut documents = yaml_documents(text)?.into_iter().filter(|document| !document.value.is_null());
    let first = documents.next().map_or(Value::Null, |document| document.value);
    match documents.next() {
        None => Ok(first),
        Some(second) => Err(YamlError {
            line: second.line,
            column: 1,
            message: format!(
                "a second document starts here, and one is expected; this text has {} documents",
                documents.count() + 2
            ),
        }),
    }
}

#[cfg(test)]
mod tests;
