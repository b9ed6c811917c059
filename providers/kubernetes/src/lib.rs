//! The Kubernetes provider: objects, bootstrap tokens, nodes and certificates of a cluster.
//!
//! `KubernetesConnection` hands each request to the module of its resource type (`resource/`) or data source (`data/`). These read and change a cluster
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
//! let types = KubernetesProvider.resource_types();
//! let object = types.iter().find(|resource_type| resource_type.name() == "kubernetes_object").ok_or("no such type")?;
//! assert!(object.validate(&settings).is_empty());
//! assert_eq!(object.objects(&settings)[0].name, "ConfigMap/shop/settings");
//! # Ok::<(), &str>(())
//! ```

mod access;
mod attributes;
mod cluster;
mod config;
mod configuration;
mod connection;
mod csr;
mod data;
mod description;
mod error;
mod error_codes;
mod object_reader;
mod order;
mod permission;
mod readiness;
mod request_guard;
mod resource;
mod resource_type;
mod response;
mod retry;
mod server_readiness;
mod server_urls;
mod servers;
mod waiting;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Address, Attributes, ErrorCode, ReadAttributes, Schema};
use moorfast_engine::provider::{Connection, Context, Provider, ProviderError, ResourceType, Target};

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

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        resource_type::resource_types()
    }

    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        resource_type::data_sources()
    }

    fn implied_order(&self, instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        order::implied(instances)
    }

    fn error_codes(&self) -> &'static [ErrorCode] {
        error_codes::ALL
    }

    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        let source = Source::new(config, &context.root)?;
        if context.untrusted {
            source.check_untrusted(&context)?;
        }
        Ok(Arc::new(KubernetesConnection::new(Cluster::new(source, config.flag("full_dry_run"), context))))
    }
}
