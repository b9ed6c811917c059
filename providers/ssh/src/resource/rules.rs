//! Rules for attributes of several types, beyond the schema.

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::provider::Invalid;

/// Checks that the attribute `name` is an absolute path without `.` and `..`.
pub(crate) fn absolute_path(attributes: &Attributes, name: &'static str) -> Option<Invalid> {
    let path = attributes.text(name)?;
    let plain =
        path.starts_with('/') && path.split('/').skip(1).all(|part| !part.is_empty() && part != "." && part != "..");
    let fits = plain && !path.contains('\0');
    (!fits).then(|| Invalid {
        attribute: Some(name),
        message: format!("`{path}` is not a plain absolute path"),
        help: Some("write the path from / on, without `.`, `..`, doubled or trailing slashes".to_owned()),
    })
}

/// Checks that the attribute `name`, which other users of the node can see, is not sensitive. `help` says how to pass a secret.
pub(crate) fn not_sensitive(attributes: &Attributes, name: &'static str, help: &str) -> Option<Invalid> {
    attributes.get(name).is_some_and(Value::is_sensitive).then(|| Invalid {
        attribute: Some(name),
        message: format!("{name} must not be sensitive"),
        help: Some(help.to_owned()),
    })
}

/// Checks that a line for sh has no `#!` line, which would have no effect.
pub(crate) fn no_interpreter_line(value: &Value, name: &'static str) -> Option<Invalid> {
    value.as_str()?.starts_with("#!").then(|| Invalid {
        attribute: Some(name),
        message: format!("sh runs {name}: the `#!` line would have no effect"),
        help: Some("write a list that names the interpreter: [\"bash\", \"-c\", \"…\"]".to_owned()),
    })
}
