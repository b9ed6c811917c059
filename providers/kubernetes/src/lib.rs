//! The Kubernetes provider: objects, bootstrap tokens, nodes and certificates of a cluster.
//!
//! `KubernetesProvider` hands each call to the module of the resource type (`resource/`) or data source (`data/`). These read and change a cluster
//! through `cluster::Cluster`, whose client limits, checks and retries every request (`request_guard`, `response`, `retry`).
//!
//! Before it is configured, the provider declares its types, validates attributes and computes identities, all without a connection:
//!
//! ```
//! use moorfast_engine::model::{Attributes, Value};
//! use moorfast_engine::provider::Provider;
//! use moorfast_kubernetes::KubernetesProvider;
//!
//! let yaml = "{apiVersion: v1, kind: ConfigMap, metadata: {name: settings, namespace: shop}, data: {level: info}}";
//! let settings = Attributes::from([("yaml".to_owned(), Value::from(yaml))]);
//! assert!(KubernetesProvider.validate("kubernetes_object", &settings).is_empty());
//! let objects = KubernetesProvider.objects("kubernetes_object", &settings);
//! assert_eq!(objects[0].name, "ConfigMap/shop/settings");
//! ```

mod attributes;
mod cluster;
mod config;
mod configuration;
mod connection;
mod csr;
mod data;
mod error;
mod object_reader;
mod order;
mod readiness;
mod request_guard;
mod resource;
mod response;
mod retry;
mod waiting;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Address, AttributePath, Attributes, Schema};
use moorfast_engine::provider::{
    Connection, Context, Invalid, Object, Observed, Provider, ProviderError, ResourceType, Target,
};
use moorfast_engine::state::Record;

use attributes::Read;
use cluster::Cluster;
use config::Source;
use connection::KubernetesConnection;

/// The provider `kubernetes`.
#[derive(Clone, Copy, Debug, Default)]
pub struct KubernetesProvider;

#[async_trait]
impl Provider for KubernetesProvider {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    fn config_schema(&self) -> Schema {
        config::schema()
    }

    fn resource_types(&self) -> Vec<ResourceType> {
        resource::RESOURCES.iter().map(|r| r.declaration()).collect()
    }

    fn data_sources(&self) -> Vec<ResourceType> {
        data::DATA.iter().map(|d| d.declaration()).collect()
    }

    fn validate(&self, resource_type: &str, attributes: &Attributes) -> Vec<Invalid> {
        connection::resource(resource_type).map(|r| r.validate(attributes)).unwrap_or_default()
    }

    fn identity(&self, resource_type: &str, attributes: &Attributes) -> Option<String> {
        connection::resource(resource_type)?.identity(attributes)
    }

    fn objects(&self, resource_type: &str, attributes: &Attributes) -> Vec<Object> {
        connection::resource(resource_type).map(|r| r.objects(attributes)).unwrap_or_default()
    }

    fn initial_private_data(
        &self,
        resource_type: &str,
        desired: &Attributes,
        _observed: Option<&Observed>,
    ) -> Option<serde_json::Value> {
        connection::resource(resource_type)?.initial_private_data(desired)
    }

    fn reading_needs_desired(&self, resource_type: &str) -> bool {
        resource_type == "kubernetes_object"
    }

    fn planning_needs_dependencies(&self, resource_type: &str) -> bool {
        resource_type == "kubernetes_object"
    }

    fn resolve_ignored_path(
        &self,
        resource_type: &str,
        path: AttributePath,
        desired: &Attributes,
        observed: &Attributes,
    ) -> Vec<AttributePath> {
        match resource_type {
            "kubernetes_object" => resource::object::resolve_ignored_path(path, desired, observed),
            _ => vec![path],
        }
    }

    fn is_same_object(&self, resource_type: &str, record: &Record, attributes: &Attributes) -> bool {
        connection::resource(resource_type).is_some_and(|r| r.is_same_object(record, attributes))
    }

    fn is_bound_to_machine(&self, resource_type: &str) -> bool {
        connection::resource(resource_type).is_some_and(|r| r.is_bound_to_machine())
    }

    fn has_health(&self, resource_type: &str) -> bool {
        connection::resource(resource_type).is_some_and(|r| r.has_health())
    }

    fn implied_order(&self, instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        order::implied(instances)
    }

    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        let source = Source::new(config, &context.root)?;
        if context.untrusted {
            source.check_untrusted(&context)?;
        }
        Ok(Arc::new(KubernetesConnection::new(Cluster::new(source, config.flag("full_dry_run"), context))))
    }
}
