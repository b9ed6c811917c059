//! YAML as kubectl reads it: YAML 1.1 as `sigs.k8s.io/yaml` understands it, in one place for everything that reads YAML.
//!
//! Two things that kubectl accepts are errors here, because they lose what was written: a key that is written twice, and a number that
//! would have to be rounded.

mod builder;
mod scalar;

use std::fmt;

use crate::model::Value;

pub(crate) use scalar::is_text;

/// A document of a YAML text.
#[derive(Clone, Debug, PartialEq)]
pub struct YamlDocument {
    /// What it holds; null if it is empty.
    pub value: Value,
    /// The line in which it starts, from 1 on.
    pub line: usize,
}

/// Why a text is not YAML that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct YamlError {
    /// The line, from 1 on.
    pub line: usize,
    /// The column, from 1 on.
    pub column: usize,
    /// What is wrong there. It may name a key, but it quotes no value.
    pub message: String,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.message)
    }
}

impl YamlError {
    /// The place alone, for a text that is sensitive.
    pub fn place(&self) -> String {
        format!("line {}, column {}", self.line, self.column)
    }
}

/// Reads all documents of a text.
///
/// # Errors
/// The first thing that is wrong.
pub fn yaml_documents(text: &str) -> Result<Vec<YamlDocument>, YamlError> {
    builder::Builder::new(text).documents()
}

/// Reads a text of one document; empty documents beside it do not count.
///
/// # Errors
/// If it is not YAML, or has several documents.
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
