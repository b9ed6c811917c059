//! Owner, group and mode of an object with a path.

use moorfast_engine::model::{Attribute, Attributes, Kind, Value};

use super::{account, text};
use crate::script::{Section, quote};
use crate::subject::Subject;

/// Returns the attributes `owner` and `group`.
pub(crate) fn owner_and_group() -> [Attribute; 2] {
    [
        Attribute::optional(
            "owner",
            Kind::String,
            "The owner, by name or number. If unset, an existing object keeps its owner, and a new one belongs to the user that moorfast runs as on the node (root with sudo).",
        )
        .or_computed(),
        Attribute::optional("group", Kind::String, "The group, by name or number. If unset, as for `owner`.").or_computed(),
    ]
}

/// Returns the attribute `kind`: another kind of object may be at the path.
pub(crate) fn kind_attribute() -> Attribute {
    Attribute::computed(
        "kind",
        Kind::String,
        "The kind of the object at the path: `file`, `directory`, `symbolic link`, or another kind that `stat` prints.",
    )
}

/// Returns the value of the attribute for the kind that the script found.
pub(crate) fn kind(found: &str) -> Value {
    // stat has its own name for an empty file.
    Value::from(if found.starts_with("regular") { "file" } else { found })
}

/// Returns `mode` with four octal digits: `0644`.
pub(crate) fn canonical(mode: &str) -> String {
    format!("{:0>4}", mode.trim_start_matches("0o").trim_start_matches('0'))
}

/// Shell that reports owner, group and mode of `$P` as the field `stat`. A name may contain a space, but no colon.
pub(crate) const READ: &str = "X=$(stat -c '%a %s %u %g %U:%G' -- \"$P\"); field stat \"$X\"";

/// Adds owner, group and mode from the answer of [`READ`].
pub(crate) fn observe(subject: &Subject, answer: &Section, into: &mut Attributes) -> Option<()> {
    let words: Vec<&str> = answer.field("stat")?.splitn(5, ' ').collect();
    let [mode, _, uid, gid, names] = words[..] else { return None };
    let (user, group) = names.split_once(':')?;
    into.insert("mode".to_owned(), Value::from(canonical(mode)));
    into.insert("owner".to_owned(), Value::from(account::spelled(subject.text("owner"), user, uid)));
    into.insert("group".to_owned(), Value::from(account::spelled(subject.text("group"), group, gid)));
    Some(())
}

/// Writes the mode in `planned` in its canonical form, for comparison.
pub(crate) fn plan(planned: &mut Attributes) {
    if let Some(mode) = text(planned, "mode").map(canonical) {
        planned.insert("mode".to_owned(), Value::from(mode));
    }
}

/// Returns shell that sets owner, group and mode of the file that is open as descriptor 6. chown runs first, because it may clear the setuid bit.
pub(crate) fn set(attributes: &Attributes) -> String {
    let owner = text(attributes, "owner").unwrap_or_default();
    let group = text(attributes, "group").unwrap_or_default();
    let mut body = String::new();
    match (owner, group) {
        ("", "") => {}
        (owner, "") => body.push_str(&format!("chown -- {} /proc/self/fd/6\n", quote(owner))),
        (owner, group) => body.push_str(&format!("chown -- {} /proc/self/fd/6\n", quote(&format!("{owner}:{group}")))),
    }
    if let Some(mode) = text(attributes, "mode") {
        // Without a fifth digit, GNU chmod keeps the setuid and setgid bits of a directory.
        body.push_str(&format!("chmod -- {} /proc/self/fd/6\n", quote(&format!("0{}", canonical(mode)))));
    }
    body
}
