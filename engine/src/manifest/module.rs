//! `[module.NAME]`.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeValue;

use super::loader::Loader;
use super::reader::{Entry, Reader};
use super::{Manifest, ModuleCall};
use crate::expression::Expr;
use crate::model::{Span, nearest};

/// The keys of `[module.NAME]`.
const KEYS: [&str; 5] = ["source", "inputs", "for_each", "depends_on", "providers"];

pub(super) fn read<'a>(loader: &mut Loader, reader: &mut Reader<'a>, name: &str, table: &'a Spanned<DeValue<'a>>) {
    let block = format!("the module `{name}`");
    let Some(mut fields) = reader.fields(table, &block) else { return };
    let span = reader.span(table.span());
    let source = fields.take("source");
    let source_span = source.as_ref().map_or(span, |entry| reader.span(entry.value.span()));
    if source.is_none() {
        reader.missing(span, &block, &["source"]);
    }
    let source = reader.text(source);
    let call = ModuleCall {
        span,
        source: (source.unwrap_or_default(), source_span),
        inputs: inputs(reader, fields.take("inputs")),
        for_each: reader.optional_expr(fields.take("for_each")),
        depends_on: reader.addresses(fields.take("depends_on")),
        providers: providers(reader, fields.take("providers")),
        manifest: Arc::new(Manifest::default()),
        is_loaded: false,
    };
    for entry in fields.rest() {
        let help = match nearest(&entry.name, KEYS) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("write a value for the module into `inputs`: inputs = {{ {} = … }}", entry.name),
        };
        reader.unknown_attribute(entry.span, format!("unknown attribute `{}` in {block}", entry.name), Some(help));
    }
    // A call without a source is in the manifest too, so that references to it are not reported as well.
    loader.manifest.modules.insert(name.to_owned(), call);
}

fn inputs<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> Vec<(String, Span, Expr)> {
    let entries = entry.and_then(|entry| reader.table(entry.value, "`inputs`"));
    reader.attributes(entries.unwrap_or_default())
}

/// Reads `providers = { ssh = "ssh.alias" }`.
fn providers<'a>(reader: &mut Reader<'a>, entry: Option<Entry<'a>>) -> BTreeMap<String, (String, Span)> {
    let mut providers = BTreeMap::new();
    for entry in entry.and_then(|entry| reader.table(entry.value, "`providers`")).unwrap_or_default() {
        let (name, span) = (entry.name.clone(), reader.span(entry.value.span()));
        providers.extend(reader.text(Some(entry)).map(|value| (name, (value, span))));
    }
    providers
}
