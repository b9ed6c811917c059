//! The names and numbers of accounts, for `ssh_user` and `ssh_group`.

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::provider::Invalid;

/// Checks that the attribute `name` is a valid name of an account or a group.
///
/// Accounts of a directory service have names that useradd refuses to create: `john.doe`, `CORP\\ann`. Such accounts can be managed.
pub(crate) fn name_rule(attributes: &Attributes, name: &'static str) -> Option<Invalid> {
    let given = attributes.text(name)?;
    let fits = !given.is_empty()
        && given.len() <= 256
        && !given.starts_with(['-', '+', '~'])
        && !matches!(given, "." | "..")
        && !given.chars().all(|c| c.is_ascii_digit())
        && !given.chars().any(|c| c.is_whitespace() || c.is_control() || ":,/".contains(c));
    (!fits).then(|| Invalid {
        attribute: Some(name),
        message: format!("`{given}` is not a valid account name"),
        help: Some(
            "a name contains no space, `:`, `,` or `/`, does not start with `-`, `+` or `~`, and is not only a number"
                .to_owned(),
        ),
    })
}

/// Checks that the attribute `name` is a valid user ID or group ID.
///
/// Linux reserves the largest number of 32 bits, which is -1, for "no account": see chown(2).
pub(crate) fn number_rule(attributes: &Attributes, name: &'static str) -> Option<Invalid> {
    const LARGEST: i64 = 4_294_967_294;
    let given = attributes.get(name)?;
    let is_number = matches!(given, Value::Number(_));
    let fits = given.as_i64().is_some_and(|number| (0..=LARGEST).contains(&number));
    (is_number && !fits).then(|| Invalid {
        attribute: Some(name),
        message: format!("{name} must be between 0 and {LARGEST}"),
        help: None,
    })
}

/// Whether every useradd creates an account with this name.
pub(crate) fn is_portable(name: &str) -> bool {
    name.len() <= 32
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
}

/// Whether `desired` means the user or group with this name and number.
pub(crate) fn is_same(desired: &str, name: &str, number: &str) -> bool {
    match desired.parse::<u32>() {
        Ok(desired) => number.parse() == Ok(desired),
        Err(_) => desired == name,
    }
}

/// Returns a user or group in the notation of `desired`: by name, or by number if `desired` is a number.
pub(crate) fn spelled(desired: Option<&str>, name: &str, number: &str) -> String {
    match desired {
        Some(desired) if is_same(desired, name, number) => desired.to_owned(),
        Some(desired) if desired.parse::<u32>().is_ok() => number.to_owned(),
        _ if name == "UNKNOWN" => number.to_owned(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_a_number_mean_the_same_account() {
        let cases = [
            (Some("4000"), "4000"),
            (Some("04000"), "04000"),
            (Some("4001"), "4000"),
            (Some("ops"), "ops"),
            (Some("dev"), "ops"),
            (None, "ops"),
        ];
        for (desired, shown) in cases {
            assert_eq!(spelled(desired, "ops", "4000"), shown, "{desired:?}");
        }
        assert_eq!(spelled(Some("gone"), "UNKNOWN", "4000"), "4000");
    }

    #[test]
    fn names_that_useradd_refuses_can_be_managed() {
        let rule = |name: &str| name_rule(&[("name".to_owned(), name.into())].into(), "name").is_none();
        for name in ["ops", "john.doe", "John", "CORP\\ann", "ann@corp.example", "svc$", "_apt", "2fast"] {
            assert!(rule(name), "{name}");
        }
        for name in ["", "Bad Name", "a:b", "a/b", "a,b", "-r", "+x", "~x", "..", "1000", "a\nb"] {
            assert!(!rule(name), "{name:?}");
        }
        assert!(is_portable("ops") && !is_portable("john.doe") && !is_portable("John"));
    }
}
