//! The resource types and data sources as the engine holds them.

use std::any::Any;
use std::sync::{Arc, LazyLock};

use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{Class, Declaration, Invalid, LocalAccess, ProviderError, ResourceType};

use crate::data::{DATA, Data};
use crate::resource::{RESOURCES, Resource};

/// All data sources.
static DATA_SOURCES: LazyLock<Vec<Arc<dyn ResourceType>>> = LazyLock::new(|| {
    let held = |data: &'static dyn Data| -> Arc<dyn ResourceType> {
        Arc::new(KubernetesData { declaration: data.declaration(), data })
    };
    DATA.into_iter().map(held).collect()
});

/// Returns all resource types.
pub(crate) fn resource_types() -> Vec<Arc<dyn ResourceType>> {
    RESOURCES.iter().cloned().map(|resource| resource as Arc<dyn ResourceType>).collect()
}

/// Returns all data sources.
pub(crate) fn data_sources() -> Vec<Arc<dyn ResourceType>> {
    DATA_SOURCES.clone()
}

/// A data source with its declaration.
struct KubernetesData {
    declaration: Declaration,
    data: &'static dyn Data,
}

/// Returns the resource type of a request.
///
/// # Errors
/// If the type is one of another provider.
pub(crate) fn resource_of(resource_type: &Arc<dyn ResourceType>) -> Result<&'static dyn Resource, ProviderError> {
    let type_id = |value: &dyn Any| value.type_id();
    let wanted = type_id(resource_type.as_ref());
    let found = RESOURCES.iter().find(|resource| type_id(resource.as_ref()) == wanted);
    found.map(AsRef::as_ref).ok_or_else(|| foreign(resource_type))
}

/// Returns the data source of a request.
///
/// # Errors
/// If the data source is one of another provider.
pub(crate) fn data_of(data_source: &Arc<dyn ResourceType>) -> Result<&'static dyn Data, ProviderError> {
    let held = data_source.downcast_ref::<KubernetesData>();
    held.map(|held| held.data).ok_or_else(|| foreign(data_source))
}

fn foreign(resource_type: &Arc<dyn ResourceType>) -> ProviderError {
    ProviderError::new(Class::Invalid, format!("the provider `kubernetes` has no type `{}`", resource_type.name()))
}

impl ResourceType for KubernetesData {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, _attributes: &Attributes) -> Option<String> {
        None
    }

    fn local_access(&self) -> Option<LocalAccess> {
        self.data.local_access()
    }

    fn accesses_target(&self) -> bool {
        self.data.needs_cluster()
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        self.data.validate(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_resource_type_is_found_by_its_own_type() {
        for resource_type in resource_types() {
            let found = resource_of(&resource_type).unwrap();
            assert_eq!(found.declaration().name, resource_type.name());
        }
    }

    #[test]
    fn a_type_that_is_not_a_resource_is_an_error() {
        let error = resource_of(&data_sources()[0]).err().unwrap();
        assert_eq!(error.summary, "the provider `kubernetes` has no type `kubernetes_kubelet_config`");
    }
}
