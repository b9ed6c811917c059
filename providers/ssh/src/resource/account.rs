//! What `ssh_user` and `ssh_group` have in common.

use moorfast_engine::{Attributes, Invalid};

use super::text;

/// The rule that the attribute `name` is a name that useradd and groupadd take.
pub(crate) fn name_rule(attributes: &Attributes, name: &'static str) -> Option<Invalid> {
    let given = text(attributes, name)?;
    let fits = !given.is_empty()
        && given.len() <= 32
        && given.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && given.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-');
    (!fits).then(|| Invalid {
        attribute: Some(name),
        message: format!("`{given}` is no name of an account"),
        help: Some("small letters, digits, `_` and `-`, at most 32, starting with a letter or `_`".to_owned()),
    })
}
