//! What a node says when something fails there, as errors that say what to do.

use moorfast_engine::{Class, Node, ProviderError};

use crate::script::Section;

/// How many lines of what a node said are shown.
pub(crate) const LINES: usize = 25;

/// How many bytes of what a node said are shown, and how many of one line.
const BYTES: usize = 16 << 10;
const LINE_BYTES: usize = 2 << 10;

const BECOME_ROOT: &str = "run as root: set sudo = true on the node, or log in as another user";

/// Failures that many commands share: what they say, what sort they are, and what to do.
const KNOWN: &[(&str, Class, &str)] = &[
    ("Permission denied", Class::Denied, BECOME_ROOT),
    ("Operation not permitted", Class::Denied, BECOME_ROOT),
    ("Interactive authentication required", Class::Denied, BECOME_ROOT),
    ("No space left on device", Class::Failed, "free space on that file system, then apply again"),
    ("Disk quota exceeded", Class::Failed, "free space on that file system, then apply again"),
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

/// `error`, as much of it as a person can read, whatever a node said.
pub(crate) fn bounded(mut error: ProviderError) -> ProviderError {
    error.summary = shortened(error.summary);
    let lines = std::mem::take(&mut error.detail);
    let from = lines.len().saturating_sub(2 * LINES);
    let mut room = BYTES;
    let kept = lines.into_iter().skip(from).rev().map(shortened).take_while(|line| {
        let fits = line.len() <= room;
        room = room.saturating_sub(line.len());
        fits
    });
    let mut kept: Vec<String> = kept.collect();
    kept.reverse();
    ProviderError { detail: kept, ..error }
}

/// `line`, cut where it is longer than a person reads.
fn shortened(mut line: String) -> String {
    if line.len() > LINE_BYTES {
        let end = (0..=LINE_BYTES).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
        line.truncate(end);
        line.push('…');
    }
    line
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
        (None, Some((text, _, BECOME_ROOT))) if section.failed_as_root() => error.help(for_root(text)),
        (None, Some((.., help))) => error.help(*help),
        (None, None) => error,
    }
}

/// What to do where root is refused too.
fn for_root(text: &str) -> &'static str {
    match text {
        "Operation not permitted" => {
            "root is refused too: check for the attributes immutable and append-only (`lsattr`, `chattr -i -a`), and whether the node is a container"
        }
        _ => "root is refused too: check the mount options, and the security module of the node (SELinux, AppArmor)",
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
