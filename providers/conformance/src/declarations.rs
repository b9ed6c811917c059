//! The laws that need no object: what a provider declares, and how it treats unknown values.

use moorfast_engine::model::{Attribute, Attributes, Kind, Value};
use moorfast_engine::provider::{Provider, ResourceType};

use crate::{Law, Violation};

/// Checks the declarations of a provider.
pub fn check(provider: &dyn Provider) -> Result<(), Violation> {
    let undocumented = |attributes: &[Attribute], place: &str| match undocumented(attributes) {
        Some(name) => Err(declaration(format!("{place}: the attribute `{name}` has no documentation"))),
        None => Ok(()),
    };
    undocumented(&provider.config().attributes, provider.name())?;
    for declared in provider.resource_types().iter().chain(&provider.data_sources()) {
        let name = declared.name;
        if name.split_once('_').is_none_or(|(prefix, _)| prefix != provider.name()) {
            return Err(declaration(format!(
                "the name of the type `{name}` does not begin with `{}_`",
                provider.name()
            )));
        }
        if declared.schema.doc.trim().is_empty() {
            return Err(declaration(format!("the type `{name}` has no documentation")));
        }
        undocumented(&declared.schema.attributes, name)?;
    }
    provider.resource_types().iter().try_for_each(|declared| unknown_values(provider, declared))
}

fn declaration(detail: String) -> Violation {
    Violation::new(Law::Declarations, detail)
}

/// Returns the name of an attribute without documentation, at any depth.
fn undocumented(attributes: &[Attribute]) -> Option<&'static str> {
    attributes.iter().find_map(|attribute| match (&attribute.kind, attribute.doc.trim()) {
        (_, "") => Some(attribute.name),
        (Kind::Object(inner), _) => undocumented(inner),
        _ => None,
    })
}

/// Checks that attributes that are all unknown are accepted.
fn unknown_values(provider: &dyn Provider, declared: &ResourceType) -> Result<(), Violation> {
    let written = declared.schema.attributes.iter().filter(|attribute| attribute.optional);
    let unknown: Attributes = written.map(|attribute| (attribute.name.to_owned(), Value::Unknown)).collect();
    let name = declared.name;
    if let Some(invalid) = provider.validate(name, &unknown).first() {
        let detail = format!("{name} with unknown attributes is rejected: {}", invalid.message);
        return Err(Violation::new(Law::UnknownValues, detail));
    }
    // Types with one object per target have a constant identity, so only that this does not panic is a law.
    _ = provider.identity(name, &unknown);
    Ok(())
}
