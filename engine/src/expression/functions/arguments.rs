//! Typed access to the arguments of a call.

use serde_json::Number;

use super::{CallError, Function, plain_error, quoting_error};
use crate::expression::Files;
use crate::model::convert::{to_number, to_text};
use crate::model::number::{NumberError, exact_f64, integer, parse_number};
use crate::model::{Value, ValueMap};

/// The arguments of a call.
pub(in crate::expression) struct Arguments<'a> {
    pub(super) function: &'static Function,
    pub(super) values: &'a [Value],
    pub(super) files: &'a Files,
}

impl Arguments<'_> {
    /// Returns the number of arguments.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Returns the argument, if it is given.
    pub(super) fn get(&self, at: usize) -> Option<&Value> {
        self.values.get(at)
    }

    /// Returns the argument, or null if it is not given.
    pub(super) fn value(&self, at: usize) -> &Value {
        self.values.get(at).unwrap_or(&Value::Null)
    }

    /// Returns the arguments from `at` on.
    pub(super) fn rest(&self, at: usize) -> &[Value] {
        self.values.get(at..).unwrap_or_default()
    }

    pub(super) fn text(&self, at: usize) -> Result<String, CallError> {
        to_text(self.value(at)).ok_or_else(|| self.mismatch(at, "a string"))
    }

    pub(super) fn number(&self, at: usize) -> Result<Number, CallError> {
        match self.value(at) {
            Value::String(text) if parse_number(text) == Err(NumberError::Inexact) => {
                Err(quoting_error(format!("{}: `{text}` {}", self.place(at), NumberError::Inexact)))
            }
            value => to_number(value).ok_or_else(|| self.mismatch(at, "a number")),
        }
    }

    /// Returns a number for a calculation with floats.
    pub(super) fn float(&self, at: usize) -> Result<f64, CallError> {
        let number = self.number(at)?;
        exact_f64(&number).ok_or_else(|| {
            quoting_error(format!("{}: `{number}` is too large for a calculation with fractions", self.place(at)))
        })
    }

    /// Returns a whole number.
    pub(super) fn integer(&self, at: usize) -> Result<i128, CallError> {
        let number = self.number(at)?;
        integer(&number).ok_or_else(|| self.expected(at, "a whole number"))
    }

    /// Returns a whole number of at least 0.
    pub(super) fn size(&self, at: usize) -> Result<usize, CallError> {
        usize::try_from(self.integer(at)?).map_err(|_| self.expected(at, "a whole number of at least 0"))
    }

    pub(super) fn list(&self, at: usize) -> Result<&[Value], CallError> {
        self.value(at).as_list().ok_or_else(|| self.mismatch(at, "a list"))
    }

    pub(super) fn map(&self, at: usize) -> Result<&ValueMap, CallError> {
        self.value(at).as_map().ok_or_else(|| self.mismatch(at, "a map"))
    }

    /// Returns a list of strings.
    pub(super) fn texts(&self, at: usize) -> Result<Vec<String>, CallError> {
        self.list(at)?
            .iter()
            .map(|item| to_text(item).ok_or_else(|| self.mismatch_inside(at, "strings", item)))
            .collect()
    }

    /// Returns the items of all lists from `at` on.
    pub(super) fn lists(&self, at: usize) -> Result<Vec<&[Value]>, CallError> {
        (at..self.len()).map(|at| self.list(at)).collect()
    }

    /// Returns the error for an argument that is not `expected`, without its value.
    pub(super) fn mismatch(&self, at: usize, expected: &str) -> CallError {
        plain_error(format!("{} must be {expected}, not {}", self.place(at), article(self.value(at))))
    }

    /// Returns the error for a number that is not `expected`, with its value.
    pub(super) fn expected(&self, at: usize, expected: &str) -> CallError {
        let found = to_text(self.value(at)).unwrap_or_default();
        quoting_error(format!("{} must be {expected}, not {found}", self.place(at)))
    }

    fn mismatch_inside(&self, at: usize, expected: &str, item: &Value) -> CallError {
        plain_error(format!("{} must be a list of {expected}, but holds {}", self.place(at), article(item)))
    }

    /// Returns the name of the argument for messages: `` `separator` of `join` ``.
    fn place(&self, at: usize) -> String {
        let parameters = self.function.parameters;
        let name = parameters.get(at).or(parameters.last()).map_or("", |name| name.trim_end_matches(['?', '.']));
        format!("`{name}` of `{}`", self.function.name)
    }
}

fn article(value: &Value) -> String {
    match value.type_name() {
        "null" => "null".to_owned(),
        name => format!("a {name}"),
    }
}
