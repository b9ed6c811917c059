//! `[rollout.NAME]`: rules that change nodes one after the other.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Reader};
use crate::model::{Address, ModulePath, Pattern, Span};

/// The default of `timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);

/// `[rollout.NAME]`: a rule that changes nodes one after the other.
#[derive(Clone, Debug)]
pub struct Rollout {
    /// The place of the header.
    pub span: Span,
    /// Selects the nodes with any of these roles.
    pub roles: Vec<(String, Span)>,
    /// Selects the nodes with these names.
    pub nodes: Vec<(String, Span)>,
    /// Selects only the instances of these resources. If empty, selects all instances that `on` binds to the nodes.
    pub resources: Vec<(Pattern, Span)>,
    /// The maximum number of nodes that are changed at the same time.
    pub max_unavailable: MaxUnavailable,
    /// The pause after each node.
    pub pause: Duration,
    /// The health gates: what must be healthy before the next node starts.
    pub gates: Vec<(GateName, Span)>,
    /// The timeout of each health gate.
    pub timeout: Duration,
}

/// The maximum number of nodes that a rollout changes at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxUnavailable {
    /// An absolute number.
    Count(usize),
    /// A percentage of all nodes.
    Percent(usize),
}

/// A health gate: a resource or a check for which a rollout waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateName {
    /// The health of a node's instance of this resource.
    Resource(Address),
    /// A node's instance of `check.NAME` of this module.
    Check(ModulePath, String),
}

impl MaxUnavailable {
    /// Returns the number for `nodes` nodes: rounded down, and at least 1.
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
            GateName::Check(module, name) if module.is_root() => write!(f, "check.{name}"),
            GateName::Check(module, name) => write!(f, "{module}.check.{name}"),
        }
    }
}

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let block = format!("the rollout `{name}`");
    let Some(mut fields) = reader.fields(table, &block) else { return };
    let rollout = Rollout {
        span: reader.span(table.span()),
        roles: reader.texts(fields.take("roles")),
        nodes: reader.texts(fields.take("nodes")),
        resources: reader.addresses(fields.take("resources")),
        max_unavailable: max_unavailable(reader, fields.take("max_unavailable")),
        pause: fields.take("pause").and_then(|entry| reader.duration(entry)).unwrap_or_default(),
        gates: gates(reader, fields.take("gates")),
        timeout: fields.take("timeout").and_then(|entry| reader.duration(entry)).unwrap_or(DEFAULT_TIMEOUT),
    };
    reader.finish(fields, &block);
    if rollout.roles.is_empty() && rollout.nodes.is_empty() && rollout.resources.is_empty() {
        reader.error(rollout.span, format!("{block} selects nothing"), "add `roles`, `nodes` or `resources`");
    }
    for (pattern, span) in rollout.resources.iter().filter(|(pattern, _)| pattern.key().is_some()) {
        let help = format!("write `{}`, and select the nodes with `nodes`", pattern.block());
        reader.error_with(*span, "a rollout selects whole resources, not instances".to_owned(), Some(help));
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
        let expected = "must be a whole number of at least 1, or a percentage such as \"25%\"";
        reader.error(span, "`max_unavailable` is not valid", expected);
        ONE
    })
}

fn gates<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Vec<(GateName, Span)> {
    let texts = reader.texts(entry);
    let gate = |(text, span): (String, Span)| match text.strip_prefix("check.") {
        Some(name) => Some((GateName::Check(ModulePath::root(), name.to_owned()), span)),
        None => match reader.parse_address(&text, span)? {
            // `module.web.check.NAME`
            Pattern::Resource(Address { resource, key: None }) if resource.resource_type == "check" => {
                Some((GateName::Check(resource.module, resource.name), span))
            }
            Pattern::Resource(address) => Some((GateName::Resource(address), span)),
            Pattern::Module(path) => {
                reader.error(span, format!("`{path}` cannot be a health gate"), "a gate is a resource or a check");
                None
            }
        },
    };
    texts.into_iter().filter_map(gate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentage_is_rounded_down_and_is_at_least_one() {
        let cases = [("25%", 8, 2), ("25%", 7, 1), ("25%", 1, 1), ("100%", 3, 3), ("1%", 0, 1)];
        for (text, nodes, expected) in cases {
            assert_eq!(MaxUnavailable::parse(text).map(|share| share.of(nodes)), Some(expected), "{text} of {nodes}");
        }
        for text in ["0%", "101%", "25", "%", "-1%", "2.5%"] {
            assert_eq!(MaxUnavailable::parse(text), None, "{text}");
        }
    }
}
