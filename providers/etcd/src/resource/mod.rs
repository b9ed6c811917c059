//! One file for each resource type.

pub(crate) mod member;
pub(crate) mod snapshot;
pub(crate) mod voter;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{
    Applied, Class, Declaration, Observed, Operation, PlanRequest, Proposal, ProviderError, ReadRequest, ResourceType,
};
use tokio::time::Instant;

use crate::cluster::{Cluster, View};

/// The types of the provider.
const RESOURCES: [&dyn Resource; 3] = [&member::MemberType, &voter::VoterType, &snapshot::SnapshotType];

/// The result of reading an object.
pub(crate) type Reading = Result<Option<Observed>, ProviderError>;

/// A resource type of this provider.
#[async_trait]
pub(crate) trait Resource: Send + Sync {
    fn declaration(&self) -> Declaration;

    /// Returns the identity, as [`ResourceType::identity`] does.
    fn identity(&self, attributes: &Attributes) -> Option<String>;

    /// Whether the object is lost with the machine of its node, as [`ResourceType::is_bound_to_machine`].
    fn is_bound_to_machine(&self) -> bool {
        false
    }

    /// Whether the cluster is asked when the object is read or planned.
    fn needs_view(&self) -> bool {
        true
    }

    /// Returns the object in the cluster as it answers, or the reasons why it does not.
    fn read(&self, cluster: &Cluster, view: &Result<View, String>, request: &ReadRequest) -> Reading;

    fn plan(
        &self,
        cluster: &Cluster,
        view: &Result<View, String>,
        request: &PlanRequest,
    ) -> Result<Proposal, ProviderError>;

    /// Carries out an operation, which should be complete before `deadline`.
    async fn apply(
        &self,
        cluster: &Cluster,
        operation: &Operation,
        deadline: Instant,
    ) -> Result<Applied, ProviderError>;

    /// Whether the objects have a health, as [`ResourceType::has_health`].
    fn has_health(&self) -> bool {
        false
    }
}

/// A [`Resource`] as the engine holds it.
pub(crate) struct Held {
    declaration: Declaration,
    pub(crate) resource: &'static dyn Resource,
}

impl ResourceType for Held {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        self.resource.identity(attributes)
    }

    fn is_bound_to_machine(&self) -> bool {
        self.resource.is_bound_to_machine()
    }

    fn has_health(&self) -> bool {
        self.resource.has_health()
    }
}

/// Returns the types as the engine holds them.
pub(crate) fn types() -> Vec<Arc<dyn ResourceType>> {
    let held = |resource: &&'static dyn Resource| {
        Arc::new(Held { declaration: resource.declaration(), resource: *resource }) as Arc<dyn ResourceType>
    };
    RESOURCES.iter().map(held).collect()
}

/// Returns the type of a request.
///
/// # Errors
/// If it is of another provider.
pub(crate) fn resource_of(resource_type: &dyn ResourceType) -> Result<&'static dyn Resource, ProviderError> {
    let held = resource_type.downcast_ref::<Held>().map(|held| held.resource);
    let other = || ProviderError::new(Class::Invalid, format!("{} is of another provider", resource_type.name()));
    held.ok_or_else(other)
}
