//! The resource types as the engine holds them.

use std::sync::{Arc, LazyLock};

use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{Class, Declaration, Invalid, Observed, ProviderError, Redaction, ResourceType};
use moorfast_engine::state::Record;

use crate::resource::{RESOURCES, Resource};
use crate::subject::Subject;

/// All resource types. Their schemas are built once.
static RESOURCE_TYPES: LazyLock<Vec<Arc<dyn ResourceType>>> = LazyLock::new(|| {
    let held = |resource: &&'static dyn Resource| -> Arc<dyn ResourceType> {
        Arc::new(SshType { declaration: resource.declaration(), resource: *resource })
    };
    RESOURCES.iter().map(held).collect()
});

/// Returns all resource types.
pub(crate) fn all() -> Vec<Arc<dyn ResourceType>> {
    RESOURCE_TYPES.clone()
}

/// A [`Resource`] with its declaration.
struct SshType {
    declaration: Declaration,
    resource: &'static dyn Resource,
}

/// Returns the resource type of a request.
///
/// # Errors
/// If the type is one of another provider.
pub(crate) fn resource_of(resource_type: &Arc<dyn ResourceType>) -> Result<&'static dyn Resource, ProviderError> {
    match resource_type.downcast_ref::<SshType>() {
        Some(held) => Ok(held.resource),
        None => {
            let summary = format!("the provider `ssh` has no resource type `{}`", resource_type.name());
            Err(ProviderError::new(Class::Invalid, summary))
        }
    }
}

impl ResourceType for SshType {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        self.resource.identity(attributes)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let redacted = |invalid: Invalid| {
            let redaction = Redaction::of(invalid.attribute.and_then(|name| attributes.get(name)));
            Invalid { message: redaction.text(&invalid.message), ..invalid }
        };
        self.resource.validate(attributes).into_iter().map(redacted).collect()
    }

    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.resource.is_same_object(record, attributes)
    }

    fn initial_private_data(&self, desired: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        self.resource.initial_private_data(desired, observed)
    }

    fn has_health(&self) -> bool {
        self.resource.health(&Subject::default()).is_some()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the resource type with this name.
    pub(crate) fn named(name: &str) -> Arc<dyn ResourceType> {
        all().into_iter().find(|resource_type| resource_type.name() == name).unwrap()
    }
}
