//! The arguments of a probe.

use std::time::Duration;

use crate::model::{Attributes, Value, parse_duration};

/// Returns the text of an argument.
pub(super) fn text<'a>(arguments: &'a Attributes, name: &str) -> Option<&'a str> {
    arguments.get(name).and_then(Value::as_str)
}

/// Returns a duration, or zero if it is not set.
pub(super) fn period(arguments: &Attributes, name: &str) -> Duration {
    text(arguments, name).and_then(parse_duration).unwrap_or_default()
}

/// Whether an argument is sensitive.
pub(super) fn is_sensitive(arguments: &Attributes, name: &str) -> bool {
    arguments.get(name).is_some_and(Value::is_sensitive)
}

/// Returns an argument as messages may show it.
pub(super) fn shown<'a>(arguments: &'a Attributes, name: &str) -> &'a str {
    match is_sensitive(arguments, name) {
        true => "(sensitive)",
        false => text(arguments, name).unwrap_or_default(),
    }
}
