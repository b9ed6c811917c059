//! What a node says when something fails there, as errors that say what to do.

use moorfast_engine::{Class, Node, ProviderError};

use crate::script::Section;

/// How many lines of what a node said are shown.
pub(crate) const LINES: usize = 25;

/// Failures that many commands share: what they say, what sort they are, and what to do.
const KNOWN: &[(&str, Class, &str)] = &[
    ("Permission denied", Class::Denied, "become root there: sudo = true on the node, or another user"),
    ("Operation not permitted", Class::Denied, "become root there: sudo = true on the node, or another user"),
    (
        "Interactive authentication required",
        Class::Denied,
        "become root there: sudo = true on the node, or another user",
    ),
    ("No space left on device", Class::Failed, "make room on that file system, then apply again"),
    ("Disk quota exceeded", Class::Failed, "make room on that file system, then apply again"),
    (
        "Read-only file system",
        Class::Failed,
        "the file system is mounted read-only: choose another path, or remount it",
    ),
    ("invalid user", Class::Invalid, "create the user first (ssh_user), or correct the name"),
    ("invalid group", Class::Invalid, "create the group first (ssh_group), or correct the name"),
];

/// `section`, where it went well; else why it could not do `what` (`write /etc/motd`).
pub(crate) fn checked(node: &Node, what: &str, mut section: Section) -> Result<Section, ProviderError> {
    match (section.status, section.cut_off.take()) {
        (_, Some(error)) => Err(error),
        (Some(0), None) => Ok(section),
        (_, None) => Err(failed(node, what, &section)),
    }
}

fn failed(node: &Node, what: &str, section: &Section) -> ProviderError {
    let said = section.said.last().map(String::as_str).unwrap_or_default();
    let (class, why) = match section.failure() {
        Some((class, summary)) => (class, summary),
        None if said.is_empty() => (Class::Failed, format!("exit status {}", section.status.unwrap_or_default())),
        None => (Class::Failed, said.to_owned()),
    };
    let known = KNOWN.iter().find(|(text, ..)| why.contains(text) || said.contains(text));
    let class = known.map_or(class, |(_, known, _)| if class == Class::Failed { *known } else { class });
    let error = ProviderError::new(class, format!("cannot {what} on {}: {}", node.name, reason(&why)));
    let from = section.said.len().saturating_sub(LINES);
    let error = error.detail(section.said[from..].iter().filter(|line| **line != why).cloned());
    let error = error.detail(section.texts("detail").iter().flat_map(|t| t.lines()));
    match (section.text("help"), known) {
        (Some(help), _) => error.help(help),
        (None, Some((.., help))) => error.help(*help),
        (None, None) => error,
    }
}

/// The heart of `tool: 'file': Reason`: `reason`.
fn reason(line: &str) -> String {
    let line = line.trim();
    let tail = line.rsplit(": ").next().unwrap_or(line);
    let known = KNOWN.iter().any(|(text, ..)| tail.starts_with(text));
    let text = if known { tail } else { line };
    let mut chars = text.chars();
    match (chars.next(), known) {
        (Some(first), true) => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
