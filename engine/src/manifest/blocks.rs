//! Readers of the smaller blocks: nodes, providers, the backend, checks, outputs, `moved`, `import` and `removed`.

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Fields, Reader};
use super::resource::conditions;
use super::schema_check;
use super::{Block, Check, Import, Moved, NodeBlock, Output, Probe, ProbeKind, ProviderBlock, Removed, RemovedNode};
use crate::model::{Diagnostic, NodeName, suggest};

type Table<'a> = &'a Spanned<DeValue<'a>>;

/// The attributes of a node.
const NODE: [&str; 10] =
    ["address", "user", "port", "identity_file", "jump", "host_key", "transport", "sudo", "roles", "vars"];

pub(super) fn node<'a>(loader: &mut Loader, reader: &mut Reader<'a>, block: &str, table: Table<'a>) {
    let span = reader.span(table.span());
    let Some(mut fields) = reader.fields(table, &format!("the node `{block}`")) else { return };
    let for_each = reader.optional_expr(fields.take("for_each"));
    // The block names a node without `for_each`, so `name` is an unknown attribute there.
    let name = for_each.as_ref().and_then(|_| reader.optional_expr(fields.take("name")));
    let (known, unknown): (Vec<_>, Vec<_>) =
        fields.rest().into_iter().partition(|entry| NODE.contains(&entry.name.as_str()));
    for entry in unknown {
        let help = match entry.name.as_str() {
            "name" => "the name of a node is that of its block; `name` is for a block with `for_each`".to_owned(),
            name => suggest(name, NODE.into_iter().chain(["for_each"]))
                .unwrap_or_else(|| "put custom values into `vars`, as in vars = { rack = \"r1\" }".to_owned()),
        };
        reader.unknown_attribute(
            entry.span,
            format!("unknown attribute `{}` in the node `{block}`", entry.name),
            Some(help),
        );
    }
    let attributes = reader.attributes(known);
    loader.manifest.nodes.insert(block.to_owned(), NodeBlock { span, for_each, name, attributes });
}

/// Reads `[providers.NAME]` and its instances `[providers.NAME.ALIAS]`. A table with its own header is an instance, an inline table is the value
/// of an attribute.
pub(super) fn providers<'a>(loader: &mut Loader, reader: &mut Reader<'a>, entry: &Entry<'a>) {
    for provider in reader.table(entry.value, "`providers`").unwrap_or_default() {
        let mut own = Vec::new();
        for inner in reader.table(provider.value, &format!("the provider `{}`", provider.name)).unwrap_or_default() {
            if inner.value.get_ref().is_table() && reader.has_header(inner.value) {
                let name = format!("{}.{}", provider.name, inner.name);
                let attributes = reader.table(inner.value, "a provider").unwrap_or_default();
                insert_provider(loader, reader, &name, &inner, attributes);
            } else {
                own.push(inner);
            }
        }
        if !own.is_empty() || reader.has_header(provider.value) {
            let name = provider.name.clone();
            insert_provider(loader, reader, &name, &provider, own);
        }
    }
}

fn insert_provider<'a>(
    loader: &mut Loader,
    reader: &mut Reader<'a>,
    name: &str,
    entry: &Entry<'a>,
    attributes: Vec<Entry<'a>>,
) {
    if loader.define(reader, "provider", name, entry.span) {
        let (order, attributes): (Vec<_>, Vec<_>) =
            attributes.into_iter().partition(|entry| entry.name == "depends_on");
        let block = ProviderBlock {
            span: reader.span(entry.value.span()),
            depends_on: reader.addresses(order.into_iter().next()),
            attributes: reader.attributes(attributes),
        };
        loader.manifest.providers.insert(name.to_owned(), block);
    }
}

pub(super) fn backend<'a>(loader: &mut Loader, reader: &mut Reader<'a>, entry: &Entry<'a>) {
    for inner in reader.table(entry.value, "`backend`").unwrap_or_default() {
        if let Some((_, first)) = &loader.manifest.backend {
            let second = Diagnostic::error("a manifest has only one backend").at(inner.span, "second backend");
            reader.diagnostics.push(second.related(first.span, "first backend"));
            continue;
        }
        let span = reader.span(inner.value.span());
        let attributes = reader.table(inner.value, "a backend").unwrap_or_default();
        let block = Block { span, attributes: reader.attributes(attributes) };
        loader.manifest.backend = Some((inner.name, block));
    }
}

pub(super) fn check<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: Table<'a>) {
    let block = format!("the check `{name}`");
    let Some(mut fields) = reader.fields(table, &block) else { return };
    let check = Check {
        span: reader.span(table.span()),
        on: reader.optional_expr(fields.take("on")),
        for_each: reader.optional_expr(fields.take("for_each")),
        depends_on: reader.addresses(fields.take("depends_on")),
        from: reader.optional_expr(fields.take("from")),
        probe: probe(reader, &mut fields, &block),
        assertions: conditions(reader, fields.take("assert")),
    };
    reader.finish(fields, &block);
    match (&check.probe, &check.from) {
        (None, Some(from)) => {
            reader.error(from.span, format!("{block} has `from` but no probe"), "add `http`, `tcp`, `dns` or `ping`");
        }
        (Some(probe), None) if probe.kind.needs_node() => {
            let summary = format!("`{}` of {block} needs `from`", probe.kind.name());
            reader.error(probe.arguments.span, summary, "add `from`: the nodes that send the probe");
        }
        (None, None) if check.assertions.is_empty() => {
            reader.error(check.span, format!("{block} checks nothing"), "add a probe such as `http`, `assert` or both");
        }
        _ => {}
    }
    loader.manifest.checks.insert(name.to_owned(), check);
}

/// Reads the probe of a check, which has at most one.
fn probe<'a>(reader: &mut Reader<'a>, fields: &mut Fields<'a>, block: &str) -> Option<Probe> {
    let mut found: Option<Probe> = None;
    for kind in ProbeKind::ALL {
        let Some(arguments) = reader.optional_expr(fields.take(kind.name())) else { continue };
        let name = format!("`{}`", kind.name());
        reader.diagnostics.extend(schema_check::check_expr(kind.schema(), &name, &arguments));
        match &found {
            Some(first) => {
                let summary = format!("{block} has two probes: `{}` and {name}", first.kind.name());
                reader.error(arguments.span, summary, "write a check for each");
            }
            None => found = Some(Probe { kind, arguments }),
        }
    }
    found
}

pub(super) fn output<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: Table<'a>) {
    let block = format!("the output `{name}`");
    let Some(mut fields) = reader.fields(table, &block) else { return };
    let span = reader.span(table.span());
    let value = reader.optional_expr(fields.take("value"));
    let description = reader.text(fields.take("description"));
    let sensitive = reader.flag(fields.take("sensitive")).unwrap_or(false);
    reader.finish(fields, &block);
    match value {
        Some(value) => {
            loader.manifest.outputs.insert(name.to_owned(), Output { span, value, description, sensitive });
        }
        None => reader.missing(span, &block, &["value"]),
    }
}

/// Reads each table of an array of tables.
pub(super) fn for_each_table<'a>(
    reader: &mut Reader<'a>,
    entry: &Entry<'a>,
    mut read: impl FnMut(&mut Reader<'a>, Table<'a>),
) {
    match entry.value.get_ref() {
        DeValue::Array(tables) => tables.iter().for_each(|table| read(reader, table)),
        _ => {
            let help = format!("write [[{}]]", entry.name);
            reader.error_with(entry.span, format!("`{}` must be an array of tables", entry.name), Some(help));
        }
    }
}

pub(super) fn moved<'a>(loader: &mut Loader, reader: &mut Reader<'a>, table: Table<'a>) {
    let Some(mut fields) = reader.fields(table, "`moved`") else { return };
    let span = reader.span(table.span());
    let complete = require(reader, &mut fields, span, "`moved`", ["from", "to"]);
    if let [Some(from), Some(to)] = complete {
        loader.manifest.moved.push(Moved { span, from, to });
    }
    reader.finish(fields, "`moved`");
}

pub(super) fn import<'a>(loader: &mut Loader, reader: &mut Reader<'a>, table: Table<'a>) {
    let Some(mut fields) = reader.fields(table, "`import`") else { return };
    let span = reader.span(table.span());
    if let [Some(to)] = require(reader, &mut fields, span, "`import`", ["to"]) {
        loader.manifest.imports.push(Import { span, to });
    }
    reader.finish(fields, "`import`");
}

pub(super) fn removed<'a>(loader: &mut Loader, reader: &mut Reader<'a>, table: Table<'a>) {
    let Some(mut fields) = reader.fields(table, "`removed`") else { return };
    let span = reader.span(table.span());
    let destroy = reader.flag(fields.take("destroy")).unwrap_or(true);
    if let Some(node) = fields.peek("from").and_then(removed_node) {
        fields.take("from");
        if loader.is_module {
            let help = "the inventory belongs to the root; move this block there";
            reader.error(span, "a module has no nodes that could leave", help);
        }
        loader.manifest.removed_nodes.push(RemovedNode { span, node, destroy });
        return reader.finish(fields, "`removed`");
    }
    if let [Some(from)] = require(reader, &mut fields, span, "`removed`", ["from"]) {
        loader.manifest.removed.push(Removed { span, from, destroy });
    }
    reader.finish(fields, "`removed`");
}

/// Returns the node of `from = "nodes.NAME"`.
fn removed_node(from: &Entry<'_>) -> Option<NodeName> {
    let DeValue::String(text) = from.value.get_ref() else { return None };
    text.strip_prefix("nodes.").filter(|name| NodeName::is_valid(name)).map(|name| NodeName(name.to_owned()))
}

/// Returns the addresses of these keys. A missing key is an error.
fn require<'a, const N: usize>(
    reader: &mut Reader<'a>,
    fields: &mut super::reader::Fields<'a>,
    span: crate::model::Span,
    block: &str,
    names: [&'static str; N],
) -> [Option<crate::model::Pattern>; N] {
    names.map(|name| {
        let entry = fields.take(name);
        if entry.is_none() {
            reader.missing(span, block, &[name]);
        }
        reader.address(entry)
    })
}
