//! The provider `etcd`: the members of an etcd cluster, and snapshots of it.
//!
//! | module | contains |
//! |---|---|
//! | `config` | `[providers.etcd]`: the members of the cluster, and how to log in |
//! | `membership` | which change of the members the quorum permits; pure |
//! | `cluster` | the members as they answer, and their changes, one at a time |
//! | `api` | the JSON gateway of etcd |
//! | `connection` | hands each request to its type |
//! | `resource` | one file for each resource type |

mod access;
mod api;
mod attributes;
mod cluster;
mod config;
mod connection;
mod membership;
mod resource;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, Schema};
use moorfast_engine::provider::{Class, Connection, Context, Provider, ProviderError, ResourceType};

use crate::cluster::Cluster;
use crate::config::Config;
use crate::connection::EtcdConnection;

/// The provider `etcd`.
#[derive(Clone, Copy, Debug, Default)]
pub struct EtcdProvider;

#[async_trait]
impl Provider for EtcdProvider {
    fn name(&self) -> &'static str {
        "etcd"
    }

    fn config_schema(&self) -> Schema {
        config::schema()
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        resource::types()
    }

    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        if context.untrusted {
            let summary = "`plan --untrusted` refuses to send requests to an etcd cluster that the manifest names";
            return Err(
                ProviderError::new(Class::Denied, summary).help("review the manifest, then plan without --untrusted")
            );
        }
        Ok(Arc::new(EtcdConnection(Cluster::new(Config::new(config)?, context))))
    }
}
