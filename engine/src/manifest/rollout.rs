//! `[rollout.NAME]`: rules that change nodes one after the other.

use std::fmt;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Reader};
use crate::model::{Address, DrainOptions, ModulePath, Pattern, Span};

/// The default of `timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(300);
/// The default of `drain.timeout`.
const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(600);

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
    /// The rollouts that must be complete before the first node of this one starts.
    pub after: Vec<(RolloutName, Span)>,
    /// How nodes are drained before they are changed.
    pub drain: Option<Drain>,
}

/// `drain` of a rollout: the workloads of a node are moved away before the node is changed.
#[derive(Clone, Debug)]
pub struct Drain {
    /// The resource whose instances represent the nodes in their cluster.
    pub resource: (Address, Span),
    /// The resources whose changes need a drained node. If empty, those of all resources on the node.
    pub resources: Vec<(Pattern, Span)>,
    /// The options.
    pub options: DrainOptions,
}

/// The name of a rollout, with the path of its module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolloutName {
    /// The module.
    pub module: ModulePath,
    /// The name in the module.
    pub name: String,
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

/// Writes `workers`, or `module.site.workers` for a rollout of a module.
impl fmt::Display for RolloutName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module.is_root() {
            true => f.write_str(&self.name),
            false => write!(f, "{}.{}", self.module, self.name),
        }
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
        after: after(reader, fields.take("after")),
        drain: fields.take("drain").and_then(|entry| drain(reader, entry, &block)),
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
                Some((GateName::Check(resource.module.clone(), resource.name.clone()), span))
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

/// Reads `after`: `rollout.NAME`, or `module.NAME.rollout.NAME`.
fn after<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Vec<(RolloutName, Span)> {
    let texts = reader.texts(entry);
    let name = |(text, span): (String, Span)| match text.parse() {
        Ok(Pattern::Resource(Address { resource, key: None })) if resource.resource_type == "rollout" => {
            Some((RolloutName { module: resource.module.clone(), name: resource.name.clone() }, span))
        }
        _ => {
            reader.error(span, format!("`{text}` is not a rollout"), "a rollout is written as in `rollout.NAME`");
            None
        }
    };
    texts.into_iter().filter_map(name).collect()
}

fn drain<'a>(reader: &mut Reader<'a>, entry: Entry<'a>, block: &str) -> Option<Drain> {
    let span = reader.span(entry.value.span());
    let block = format!("`drain` of {block}");
    let mut fields = reader.fields(entry.value, &block)?;
    let named = fields.take("resource");
    if named.is_none() {
        reader.error(
            span,
            format!("{block} has no `resource`"),
            "name the resource that represents the nodes in their cluster: resource = \"kubernetes_node.worker\"",
        );
    }
    let place = named.as_ref().map(|entry| reader.span(entry.value.span()));
    let resource = reader.address(named);
    let resources = reader.addresses(fields.take("resources"));
    let options = DrainOptions {
        timeout: fields.take("timeout").and_then(|entry| reader.duration(entry)).unwrap_or(DEFAULT_DRAIN_TIMEOUT),
        grace_period: fields.take("grace_period").and_then(|entry| reader.duration(entry)),
        force: reader.flag(fields.take("force")).unwrap_or(false),
        delete_emptydir_data: reader.flag(fields.take("delete_emptydir_data")).unwrap_or(false),
    };
    reader.finish(fields, &block);
    match (resource, place) {
        (Some(Pattern::Resource(address @ Address { key: None, .. })), Some(place)) => {
            Some(Drain { resource: (address, place), resources, options })
        }
        (Some(other), Some(place)) => {
            reader.error(place, format!("`{other}` cannot be drained"), "name a whole resource");
            None
        }
        _ => None,
    }
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
