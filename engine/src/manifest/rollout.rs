//! `[rollout.NAME]`: nodes that are changed one after the other.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::load::Loader;
use super::reader::{Entry, Reader};
use crate::model::{Address, Span};

/// How long a gate may take where the manifest does not say.
const PATIENCE: Duration = Duration::from_secs(300);

/// `[rollout.NAME]`: which nodes, or which resources of theirs, are changed a few at a time, and when the next may begin.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// Its header.
    pub span: Span,
    /// The nodes with any of these roles.
    pub roles: Vec<(String, Span)>,
    /// The nodes of these names.
    pub nodes: Vec<(String, Span)>,
    /// Only the instances of these resources; of all that `on` binds to the nodes where none is written.
    pub resources: Vec<(Address, Span)>,
    /// How many nodes may be in work at once.
    pub max_unavailable: MaxUnavailable,
    /// How long to wait after a node before the next begins.
    pub pause: Duration,
    /// What must be healthy before a node is through.
    pub gates: Vec<(GateName, Span)>,
    /// How long each gate may take.
    pub timeout: Duration,
}

/// How many nodes may be in work at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxUnavailable {
    /// So many.
    Count(usize),
    /// So many of a hundred.
    Percent(usize),
}

/// What a rollout waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateName {
    /// The health of a node's instance of this resource.
    Resource(Address),
    /// A node's instance of `check.NAME`.
    Check(String),
}

impl MaxUnavailable {
    /// How many of `nodes` that is: rounded down, and never less than one.
    pub fn of(self, nodes: usize) -> usize {
        match self {
            MaxUnavailable::Count(count) => count,
            MaxUnavailable::Percent(percent) => nodes.saturating_mul(percent) / 100,
        }
        .max(1)
    }

    fn parse(text: &str) -> Option<Self> {
        let percent = text.strip_suffix('%')?.parse().ok()?;
        (1..=100).contains(&percent).then_some(MaxUnavailable::Percent(percent))
    }
}

impl fmt::Display for GateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GateName::Resource(address) => write!(f, "{address}"),
            GateName::Check(name) => write!(f, "check.{name}"),
        }
    }
}

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let what = format!("the rollout `{name}`");
    let Some(mut fields) = reader.fields(table, &what) else { return };
    let rollout = Rollout {
        span: reader.span(table.span()),
        roles: reader.texts(fields.take("roles")),
        nodes: reader.texts(fields.take("nodes")),
        resources: reader.addresses(fields.take("resources")),
        max_unavailable: max_unavailable(reader, fields.take("max_unavailable")),
        pause: fields.take("pause").and_then(|entry| reader.duration(entry)).unwrap_or_default(),
        gates: gates(reader, fields.take("gates")),
        timeout: fields.take("timeout").and_then(|entry| reader.duration(entry)).unwrap_or(PATIENCE),
    };
    reader.finish(fields, &what);
    if rollout.roles.is_empty() && rollout.nodes.is_empty() && rollout.resources.is_empty() {
        reader.error(rollout.span, format!("{what} selects nothing"), "it needs `roles`, `nodes` or `resources`");
    }
    for (address, span) in rollout.resources.iter().filter(|(address, _)| address.key.is_some()) {
        let help = format!("write `{}`; `nodes` says which nodes", address.resource);
        reader.error_with(*span, "a rollout takes whole resources".to_owned(), Some(help));
    }
    loader.manifest.rollouts.insert(name.to_owned(), rollout);
}

fn max_unavailable<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> MaxUnavailable {
    const ONE: MaxUnavailable = MaxUnavailable::Count(1);
    let Some(entry) = entry else { return ONE };
    let written = match entry.value.get_ref() {
        DeValue::Integer(_) => reader.integer(entry.value).filter(|n| *n > 0).map(MaxUnavailable::Count),
        DeValue::String(text) => MaxUnavailable::parse(text),
        _ => None,
    };
    written.unwrap_or_else(|| {
        let span = reader.span(entry.value.span());
        let expected = "a number from 1, or a share such as \"25%\"";
        reader.error(span, "`max_unavailable` says how many nodes may be in work at once", expected);
        ONE
    })
}

fn gates<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Vec<(GateName, Span)> {
    let texts = reader.texts(entry);
    let gate = |(text, span): (String, Span)| match text.strip_prefix("check.") {
        Some(name) => Some((GateName::Check(name.to_owned()), span)),
        None => Some((GateName::Resource(reader.parse_address(&text, span)?), span)),
    };
    texts.into_iter().filter_map(gate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_down_and_is_at_least_one() {
        let cases = [("25%", 8, 2), ("25%", 7, 1), ("25%", 1, 1), ("100%", 3, 3), ("1%", 0, 1)];
        for (text, nodes, expected) in cases {
            assert_eq!(MaxUnavailable::parse(text).map(|share| share.of(nodes)), Some(expected), "{text} of {nodes}");
        }
        for text in ["0%", "101%", "25", "%", "-1%", "2.5%"] {
            assert_eq!(MaxUnavailable::parse(text), None, "{text}");
        }
    }
}
