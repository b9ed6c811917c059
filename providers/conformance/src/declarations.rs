//! The laws that need no object: what a provider declares, and how it treats unknown values.

use moorfast_engine::manifest::Manifest;
use moorfast_engine::model::{Attribute, Attributes, Kind, Mode, Value};
use moorfast_engine::provider::{Declaration, Provider};

use crate::{Law, Violation};

/// Checks the declarations of a provider.
pub fn check(provider: &dyn Provider) -> Result<(), Violation> {
    let undocumented = |attributes: &[Attribute], place: &str| match undocumented(attributes) {
        Some(name) => Err(declaration(format!("{place}: the attribute `{name}` has no documentation"))),
        None => Ok(()),
    };
    undocumented(&provider.config_schema().attributes, provider.name())?;
    for resource_type in provider.resource_types().iter().chain(&provider.data_sources()) {
        let Declaration { name, schema, .. } = resource_type.declaration();
        if name.split_once('_').is_none_or(|(prefix, _)| prefix != provider.name()) {
            return Err(declaration(format!(
                "the name of the type `{name}` does not begin with `{}_`",
                provider.name()
            )));
        }
        if schema.doc.trim().is_empty() {
            return Err(declaration(format!("the type `{name}` has no documentation")));
        }
        undocumented(&schema.attributes, name)?;
    }
    Ok(())
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

/// Checks that every resource of the manifest is valid if all attributes that it writes are unknown.
pub fn unknown_values(provider: &dyn Provider, manifest: &Manifest) -> Result<(), Violation> {
    let types = provider.resource_types();
    for (address, resource) in &manifest.resources {
        let resource_type = types.iter().find(|resource_type| resource_type.name() == address.resource_type);
        let Some(resource_type) = resource_type.filter(|_| address.mode == Mode::Managed) else { continue };
        let default = |attribute: &Attribute| Some((attribute.name.to_owned(), attribute.default.clone()?));
        let mut attributes: Attributes = resource_type.schema().attributes.iter().filter_map(default).collect();
        attributes.extend(resource.attributes.iter().map(|(name, _, _)| (name.clone(), Value::Unknown)));
        if let Some(invalid) = resource_type.validate(&attributes).first() {
            let detail = format!("{address} with unknown attributes is rejected: {}", invalid.message);
            return Err(Violation::new(Law::UnknownValues, detail));
        }
        // Types with one object per target have a constant identity, so only that this does not panic is a law.
        _ = resource_type.identity(&attributes);
    }
    Ok(())
}
