//! The resource types and data sources as the engine holds them.

use std::sync::{Arc, LazyLock};

use moorfast_engine::model::{AttributePath, Attributes};
use moorfast_engine::provider::{Class, Declaration, Invalid, Object, Observed, ProviderError, ResourceType};
use moorfast_engine::state::Record;

use crate::data::{DATA, Data};
use crate::resource::{RESOURCES, Resource};

/// All resource types. Their schemas are built once.
static RESOURCE_TYPES: LazyLock<Vec<Arc<dyn ResourceType>>> = LazyLock::new(|| {
    let held = |resource: &'static dyn Resource| -> Arc<dyn ResourceType> {
        Arc::new(KubernetesType { declaration: resource.declaration(), resource })
    };
    RESOURCES.into_iter().map(held).collect()
});

/// All data sources.
static DATA_SOURCES: LazyLock<Vec<Arc<dyn ResourceType>>> = LazyLock::new(|| {
    let held = |data: &'static dyn Data| -> Arc<dyn ResourceType> {
        Arc::new(KubernetesData { declaration: data.declaration(), data })
    };
    DATA.into_iter().map(held).collect()
});

/// Returns all resource types.
pub(crate) fn resource_types() -> Vec<Arc<dyn ResourceType>> {
    RESOURCE_TYPES.clone()
}

/// Returns all data sources.
pub(crate) fn data_sources() -> Vec<Arc<dyn ResourceType>> {
    DATA_SOURCES.clone()
}

/// A [`Resource`] with its declaration.
struct KubernetesType {
    declaration: Declaration,
    resource: &'static dyn Resource,
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
    let held = resource_type.downcast_ref::<KubernetesType>();
    held.map(|held| held.resource).ok_or_else(|| foreign(resource_type))
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

impl ResourceType for KubernetesType {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        self.resource.identity(attributes)
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        self.resource.validate(attributes)
    }

    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        self.resource.is_same_object(record, attributes)
    }

    fn objects(&self, attributes: &Attributes) -> Vec<Object> {
        self.resource.objects(attributes)
    }

    fn reading_needs_desired(&self) -> bool {
        self.resource.reading_needs_desired()
    }

    fn planning_needs_dependencies(&self) -> bool {
        self.resource.planning_needs_dependencies()
    }

    fn resolve_ignored_path(
        &self,
        path: AttributePath,
        desired: &Attributes,
        observed: &Attributes,
    ) -> Vec<AttributePath> {
        self.resource.resolve_ignored_path(path, desired, observed)
    }

    fn is_bound_to_machine(&self) -> bool {
        self.resource.is_bound_to_machine()
    }

    fn initial_private_data(&self, desired: &Attributes, _observed: Option<&Observed>) -> Option<serde_json::Value> {
        self.resource.initial_private_data(desired)
    }

    fn has_health(&self) -> bool {
        self.resource.has_health()
    }
}

impl ResourceType for KubernetesData {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, _attributes: &Attributes) -> Option<String> {
        None
    }
}
