//! `[resource.TYPE.NAME]` and `[data.TYPE.NAME]`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Fields, Reader};
use super::{Condition, Lifecycle, Resource};
use crate::expression::{Expr, ExprNode};
use crate::model::{Diagnostic, Mode, ResourceAddress, Value, suggest};

/// The keys of `timeouts`.
const OPERATIONS: [&str; 4] = ["create", "read", "update", "delete"];

/// Reads all blocks of `resource` or `data`.
pub(super) fn read_all<'a>(loader: &mut Loader, reader: &mut Reader<'a>, entry: &Entry<'a>) {
    let (mode, block) = match entry.name.as_str() {
        "data" => (Mode::Data, "data source"),
        _ => (Mode::Managed, "resource"),
    };
    for kind in reader.table(entry.value, &format!("`{}`", entry.name)).unwrap_or_default() {
        for inner in reader.table(kind.value, &format!("`{}.{}`", entry.name, kind.name)).unwrap_or_default() {
            let address = ResourceAddress::new(mode, &kind.name, &inner.name);
            if loader.define(reader, block, &address.to_string(), inner.span) {
                read(loader, reader, address, inner.value);
            }
        }
    }
}

fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, address: ResourceAddress, table: &'a Spanned<DeValue<'a>>) {
    let Some(mut fields) = reader.fields(table, &format!("`{address}`")) else { return };
    let address = Arc::new(address);
    let mut resource = Resource {
        span: reader.span(table.span()),
        address: address.clone(),
        on: reader.optional_expr(fields.take("on")),
        for_each: reader.optional_expr(fields.take("for_each")),
        depends_on: reader.addresses(fields.take("depends_on")),
        restart_on: Vec::new(),
        provider: provider(reader, fields.take("provider")),
        lifecycle: Lifecycle::default(),
        preconditions: conditions(reader, fields.take("precondition")),
        postconditions: conditions(reader, fields.take("postcondition")),
        timeouts: timeouts(reader, fields.take("timeouts")),
        attributes: Vec::new(),
    };
    match address.mode {
        Mode::Managed => {
            resource.restart_on = reader.addresses(fields.take("restart_on"));
            resource.lifecycle = lifecycle(reader, fields.take("lifecycle"));
        }
        Mode::Data => refuse(reader, &mut fields, &["restart_on", "lifecycle"]),
    }
    resource.attributes = reader.attributes(fields.rest());
    loader.manifest.resources.insert(address, Arc::new(resource));
}

fn refuse<'a>(reader: &mut Reader<'a>, fields: &mut Fields<'a>, names: &[&'static str]) {
    for name in names {
        if let Some(entry) = fields.take(name) {
            reader.error(entry.span, format!("a data source cannot have `{name}`"), "a data source is only read");
        }
    }
}

fn provider<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Option<(String, crate::model::Span)> {
    let span = reader.span(entry.as_ref()?.value.span());
    reader.text(entry).map(|name| (name, span))
}

fn lifecycle<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Lifecycle {
    let Some(mut fields) = entry.and_then(|entry| reader.fields(entry.value, "`lifecycle`")) else {
        return Lifecycle::default();
    };
    let lifecycle = Lifecycle {
        prevent_destroy: reader.flag(fields.take("prevent_destroy")).unwrap_or(false),
        ignore_changes: reader.texts(fields.take("ignore_changes")),
        create_before_destroy: reader.flag(fields.take("create_before_destroy")).unwrap_or(false),
        replace_triggered_by: reader.addresses(fields.take("replace_triggered_by")),
    };
    reader.finish(fields, "`lifecycle`");
    lifecycle
}

fn timeouts<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> BTreeMap<String, Duration> {
    let mut timeouts = BTreeMap::new();
    for entry in entry.and_then(|entry| reader.table(entry.value, "`timeouts`")).unwrap_or_default() {
        if !OPERATIONS.contains(&entry.name.as_str()) {
            let help = suggest(&entry.name, OPERATIONS);
            reader.unknown_attribute(entry.span, format!("unknown attribute `{}` in `timeouts`", entry.name), help);
            continue;
        }
        let name = entry.name.clone();
        timeouts.extend(reader.duration(entry).map(|duration| (name, duration)));
    }
    timeouts
}

/// Reads one condition or a list of conditions.
pub(super) fn conditions<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Vec<Condition> {
    let Some(entry) = entry else { return Vec::new() };
    let block = format!("`{}`", entry.name);
    let tables: Vec<&Spanned<DeValue>> = match entry.value.get_ref() {
        DeValue::Array(tables) => tables.iter().collect(),
        _ => vec![entry.value],
    };
    tables.into_iter().filter_map(|table| condition(reader, table, &block)).collect()
}

fn condition<'a>(reader: &mut Reader<'a>, table: &'a Spanned<DeValue<'a>>, block: &str) -> Option<Condition> {
    let mut fields = reader.fields(table, block)?;
    let span = reader.span(table.span());
    let condition = reader.optional_expr(fields.take("condition"));
    let error_message = reader.optional_expr(fields.take("error_message"));
    reader.finish(fields, block);
    let missing: Vec<&str> = [("condition", condition.is_none()), ("error_message", error_message.is_none())]
        .into_iter()
        .filter_map(|(name, is_missing)| is_missing.then_some(name))
        .collect();
    if !missing.is_empty() {
        reader.missing(span, block, &missing);
    }
    let condition = condition?;
    reader.diagnostics.extend(text_condition(&condition));
    Some(Condition { condition, error_message: error_message? })
}

/// Returns the error for a condition that is a string without an expression.
pub(super) fn text_condition(condition: &Expr) -> Option<Diagnostic> {
    let ExprNode::Literal(Value::String(text)) = &condition.node else { return None };
    let help = format!("write an expression in `${{…}}`: condition = '${{{text}}}'");
    let error =
        || Diagnostic::error("a condition must be true or false, not a string").at(condition.span, "").help(help);
    text.parse::<bool>().is_err().then(error)
}
