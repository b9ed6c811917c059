//! What the readers of all blocks fill: the manifest, and the places of its definitions.

use std::collections::BTreeMap;

use super::Manifest;
use super::reader::Reader;
use crate::model::{Diagnostic, NodeName, Span, error_codes, is_identifier};
use crate::state::{EnvironmentName, InvalidEnvironmentName};

/// Fills a manifest, one file after the other.
pub(super) struct Loader<'m> {
    pub(super) manifest: &'m mut Manifest,
    /// Whether the manifest is a module.
    pub(super) is_module: bool,
    /// The place of each definition, by its kind and name.
    places: BTreeMap<String, Span>,
}

impl<'m> Loader<'m> {
    pub(super) fn new(manifest: &'m mut Manifest, is_module: bool) -> Self {
        Self { manifest, is_module, places: BTreeMap::new() }
    }

    /// Records that `name` is defined at `span`. Returns false, with an error, if the name is not valid or is already defined.
    pub(super) fn define(&mut self, reader: &mut Reader, kind: &str, name: &str, span: Span) -> bool {
        let is_name = match kind {
            "node" => NodeName::is_valid(name),
            "module" => is_identifier(name),
            "environment" => name.parse::<EnvironmentName>().is_ok(),
            _ => name.split('.').all(is_identifier),
        };
        if !is_name {
            let (article, help) = match kind {
                "environment" => ("an", InvalidEnvironmentName.to_string()),
                _ => {
                    ("a", "a name consists of letters, digits, `_` and `-`, and does not start with a digit".to_owned())
                }
            };
            reader.error_with(span, format!("`{name}` is not a valid name of {article} {kind}"), Some(help));
            return false;
        }
        match self.places.insert(format!("{kind} {name}"), span) {
            None => true,
            Some(first) => {
                let duplicate =
                    Diagnostic::error(format!("the {kind} `{name}` is defined twice")).code(error_codes::DUPLICATE);
                reader.diagnostics.push(duplicate.at(span, "second definition").related(first, "first definition"));
                false
            }
        }
    }
}
