//! Owner, group and mode of an object with a path.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Value};

use super::account;
use crate::findings::Status;
use crate::script::quote;
use crate::subject::Subject;
use crate::writes::Owner;

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

/// Adds owner, group and mode of the object with this status.
pub(crate) fn observe(subject: &Subject, status: &Status, into: &mut Attributes) {
    let [user, group] = &status.names;
    let [uid, gid] = &status.ids;
    into.insert("mode".to_owned(), Value::from(canonical(&status.mode)));
    into.insert("owner".to_owned(), Value::from(account::spelled(subject.text("owner"), user, uid)));
    into.insert("group".to_owned(), Value::from(account::spelled(subject.text("group"), group, gid)));
}

/// Writes the mode in `planned` in its canonical form, for comparison.
pub(crate) fn plan(planned: &mut Attributes) {
    if let Some(mode) = planned.text("mode").map(canonical) {
        planned.insert("mode".to_owned(), Value::from(mode));
    }
}

/// Returns `mode` as an argument of chmod. Without a fifth digit, GNU chmod keeps the setuid and setgid bits of a directory.
pub(crate) fn argument(mode: &str) -> String {
    format!("0{}", canonical(mode))
}

/// Returns the owner of a new object. Without one in the manifest, the object keeps the owner of the one that it replaces.
pub(crate) fn owner(attributes: &Attributes, replaced: Option<&Attributes>) -> Owner {
    match (owner_argument(attributes), replaced.and_then(owner_argument)) {
        (Some(set), _) => Owner::Set(set),
        (None, Some(kept)) => Owner::Kept(kept),
        (None, None) => Owner::Writer,
    }
}

/// Returns owner and group as an argument of chown.
fn owner_argument(attributes: &Attributes) -> Option<String> {
    match (attributes.text("owner").unwrap_or_default(), attributes.text("group").unwrap_or_default()) {
        ("", "") => None,
        (owner, "") => Some(owner.to_owned()),
        (owner, group) => Some(format!("{owner}:{group}")),
    }
}

/// Returns shell that sets owner, group and mode of the file that is open as descriptor 6. chown runs first, because it may clear the setuid bit.
pub(crate) fn set(attributes: &Attributes) -> String {
    let owner = owner_argument(attributes).map(|owner| format!("chown -- {} /proc/self/fd/6\n", quote(&owner)));
    let mode = attributes.text("mode").map(|mode| format!("chmod -- {} /proc/self/fd/6\n", quote(&argument(mode))));
    [owner, mode].into_iter().flatten().collect()
}
