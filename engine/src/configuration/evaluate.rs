//! Evaluation of a block's expressions to the attributes of its schema.

use crate::configuration::expand::{Binding, Expanded, Instance};
use crate::configuration::scope::{InstanceScope, Values};
use crate::expression::{Expr, Scope};
use crate::manifest::Condition;
use crate::model::{Attributes, Diagnostic, ResourceAddress, Schema, Span, Value, conform};
use crate::provider::Redaction;

/// Evaluates the attributes `written`, checks them against `schema` and adds its defaults.
pub(crate) fn conformed(
    schema: &Schema,
    written: &[(String, Span, Expr)],
    scope: &dyn Scope,
) -> Result<Attributes, Vec<Diagnostic>> {
    let mut attributes = Attributes::new();
    let mut errors = Vec::new();
    for (name, _, expr) in written {
        match expr.evaluate(scope) {
            Ok(value) => _ = attributes.insert(name.clone(), value),
            Err(found) => errors.extend(found),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    conform(schema, attributes).map_err(|found| {
        let place = |path: &str| {
            let name = path.split(['.', '[']).next().unwrap_or(path);
            written.iter().find(|(n, _, _)| n == name).map(|(_, _, expr)| expr.span)
        };
        let error = |(path, message): (String, String)| {
            let error = Diagnostic::error(format!("{path}: {message}"));
            match place(&path) {
                Some(span) => error.at(span, message),
                None => error,
            }
        };
        found.into_iter().map(error).collect()
    })
}

/// Returns the desired attributes of `instance`, with the known `values` of other instances. Checks the rules of the provider too.
pub(crate) fn desired(
    expanded: &Expanded,
    instance: &Instance,
    values: &Values,
) -> Result<Attributes, Vec<Diagnostic>> {
    let resource = &instance.resource;
    let scope = InstanceScope::new(expanded, values, instance.binding.clone());
    let about = |error: Diagnostic| match error.at {
        None => error.at(resource.span, format!("in {}", instance.address)),
        Some(_) => error,
    };
    let attributes = conformed(instance.resource_type.schema(), &resource.attributes, &scope)
        .map_err(|errors| errors.into_iter().map(about).collect::<Vec<_>>())?;

    let place = |name: Option<&str>| {
        let written = name.and_then(|name| resource.attributes.iter().find(|(n, _, _)| n == name));
        written.map_or(resource.span, |(_, _, expr)| expr.span)
    };
    let violated = instance.resource_type.validate(&attributes).into_iter().map(|invalid| {
        let redaction = Redaction::of(attributes.values());
        let error = Diagnostic::error(redaction.text(&invalid.message)).at(place(invalid.attribute), "");
        match invalid.help {
            Some(help) => error.help(redaction.text(&help)),
            None => error,
        }
    });
    let mut errors: Vec<_> = violated.collect();
    errors.extend(sensitive_in_identity(instance, &attributes).into_iter().map(|name| {
        Diagnostic::error(format!(
            "`{name}` of {} is sensitive, but it is part of the identity, which plans and the state show",
            instance.address
        ))
        .at(place(Some(name)), "")
        .help("use a value that is not sensitive, or nonsensitive() if it is not secret")
    }));
    if errors.is_empty() { Ok(attributes) } else { Err(errors) }
}

/// Checks the attributes of a resource that is not expanded. Its node and its element are unknown.
pub(crate) fn check_unexpanded(expanded: &Expanded, address: &ResourceAddress) -> Vec<Diagnostic> {
    let module = expanded.modules.iter().position(|module| module.path == address.module);
    let (Some(module), Some(resource), Some(entry)) =
        (module, expanded.manifest.resource(address), expanded.catalog.find(address))
    else {
        return Vec::new();
    };
    let scope = InstanceScope::new(expanded, Values::none(), Binding { is_open: true, ..Binding::of_module(module) });
    conformed(entry.resource_type.schema(), &resource.attributes, &scope).err().unwrap_or_default()
}

/// Returns the sensitive attributes whose values would be visible in the identity of the object.
fn sensitive_in_identity<'a>(instance: &Instance, attributes: &'a Attributes) -> Vec<&'a str> {
    let secret = |(name, value): (&'a String, &'a Value)| {
        let text = value.as_str().filter(|text| value.is_sensitive() && !text.is_empty())?;
        Some((name.as_str(), text))
    };
    let secrets: Vec<_> = attributes.iter().filter_map(secret).collect();
    // Computing the identities of thousands of instances is slow, and few have sensitive attributes.
    if secrets.is_empty() {
        return Vec::new();
    }
    let Some(identity) = instance.identity(attributes) else { return Vec::new() };
    let determines_identity = |name: &str| {
        let mut without = attributes.clone();
        without.insert(name.to_owned(), Value::Unknown);
        instance.identity(&without).as_ref() != Some(&identity)
    };
    let visible = secrets.into_iter().filter(|(name, text)| identity.contains(text) && determines_identity(name));
    visible.map(|(name, _)| name).collect()
}

/// Returns the errors of the conditions that are false. A condition with an unknown value is not an error.
pub(crate) fn violated(conditions: &[Condition], subject: &str, scope: &dyn Scope) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    for condition in conditions {
        match condition.condition.evaluate(scope) {
            Err(found) => errors.extend(found),
            Ok(value) if value.is_unknown() || value.is_retained() => {}
            Ok(value) if value.as_bool() == Some(true) => {}
            Ok(value) if value.as_bool() == Some(false) => {
                let message = condition.error_message.evaluate(scope);
                let message = message.ok().filter(|m| !m.is_sensitive());
                let message = message.as_ref().and_then(Value::as_str).unwrap_or("the condition is false");
                errors
                    .push(Diagnostic::error(format!("{subject}: {message}")).at(condition.condition.span, "is false"));
            }
            Ok(value) => {
                let message = format!("a condition must be true or false, not a {}", value.type_name());
                errors.push(Diagnostic::error(message).at(condition.condition.span, ""));
            }
        }
    }
    errors
}

impl Condition {
    /// Returns the condition and its message.
    pub(crate) fn expressions(&self) -> [&Expr; 2] {
        [&self.condition, &self.error_message]
    }
}
