//! Errors for failures on a node, with advice.

use moorfast_engine::model::Node;
use moorfast_engine::provider::{Class, ProviderError};

use crate::script::Section;

/// The number of lines of a node's output that an error shows.
pub(crate) const LINES: usize = 25;

/// The number of bytes of a node's output that an error shows, and the number of bytes of one line.
const BYTES: usize = 16 << 10;
const LINE_BYTES: usize = 2 << 10;

const BECOME_ROOT: &str = "run as root: set sudo = true on the node, or log in as another user";

/// Failures that many commands share: the text in their output, their class, and the advice.
const PATTERNS: &[(&str, Class, &str)] = &[
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

/// Returns `section` if it succeeded, otherwise the error "cannot `what` on NODE: …". `what` is a verb with its object: `write /etc/motd`.
pub(crate) fn require_success(node: &Node, what: &str, mut section: Section) -> Result<Section, ProviderError> {
    match (section.status, section.interrupted.take()) {
        (_, Some(error)) => Err(error),
        (Some(0), None) => Ok(section),
        (_, None) => Err(failed(node, what, &section)),
    }
}

/// Returns `error` with its texts cut to a readable length.
pub(crate) fn shortened(mut error: ProviderError) -> ProviderError {
    error.summary = shortened_line(error.summary);
    let lines = std::mem::take(&mut error.detail);
    let from = lines.len().saturating_sub(2 * LINES);
    let mut room = BYTES;
    let kept = lines.into_iter().skip(from).rev().map(shortened_line).take_while(|line| {
        let fits = line.len() <= room;
        room = room.saturating_sub(line.len());
        fits
    });
    let mut kept: Vec<String> = kept.collect();
    kept.reverse();
    ProviderError { detail: kept, ..error }
}

/// Returns `line`, cut to a readable length.
fn shortened_line(mut line: String) -> String {
    if line.len() > LINE_BYTES {
        let end = (0..=LINE_BYTES).rev().find(|end| line.is_char_boundary(*end)).unwrap_or_default();
        line.truncate(end);
        line.push('…');
    }
    line
}

fn failed(node: &Node, what: &str, section: &Section) -> ProviderError {
    let last_line = section.stderr.last().map(String::as_str).unwrap_or_default();
    let (class, why) = match section.failure() {
        Some((class, summary)) => (class, summary),
        None if last_line.is_empty() => (Class::Failed, format!("exit status {}", section.status.unwrap_or_default())),
        None => (Class::Failed, last_line.to_owned()),
    };
    let known = PATTERNS.iter().find(|(text, ..)| why.contains(text) || last_line.contains(text));
    let class = known.map_or(class, |(_, known, _)| if class == Class::Failed { *known } else { class });
    let error = ProviderError::new(class, format!("cannot {what} on {}: {}", node.name, reason(&why)));
    let from = section.stderr.len().saturating_sub(LINES);
    let error = error.detail(section.stderr[from..].iter().filter(|line| **line != why).cloned());
    let error = error.detail(section.texts("detail").iter().flat_map(|t| t.lines()));
    match (section.text("help"), known) {
        (Some(help), _) => error.help(help),
        (None, Some((text, _, BECOME_ROOT))) if section.failed_as_root() => error.help(for_root(text)),
        (None, Some((.., help))) => error.help(*help),
        (None, None) => error,
    }
}

/// Returns the advice for a refusal that root got too.
fn for_root(text: &str) -> &'static str {
    match text {
        "Operation not permitted" => {
            "root is refused too: check for the attributes immutable and append-only (`lsattr`, `chattr -i -a`), and whether the node is a container"
        }
        _ => "root is refused too: check the mount options, and the security module of the node (SELinux, AppArmor)",
    }
}

/// Returns a message of the shell without the shell's name and without the line of moorfast's own script: `sh: 85: eval: `.
fn without_shell(line: &str) -> &str {
    let Some((number, rest)) = line.strip_prefix("sh: ").and_then(|rest| rest.split_once(": ")) else { return line };
    let number = number.strip_prefix("line ").unwrap_or(number);
    match number.parse::<u32>() {
        Ok(_) => rest.strip_prefix("eval: ").unwrap_or(rest),
        Err(_) => line,
    }
}

/// Returns the reason at the end of a message such as `tool: 'file': Reason`.
fn reason(line: &str) -> String {
    let line = without_shell(line.trim());
    let tail = line.rsplit(": ").next().unwrap_or(line);
    let known = PATTERNS.iter().any(|(text, ..)| tail.starts_with(text));
    let text = if known { tail } else { line };
    let mut chars = text.chars();
    match (chars.next(), known) {
        (Some(first), true) => first.to_lowercase().chain(chars).collect(),
        _ => text.to_owned(),
    }
}
