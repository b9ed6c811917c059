//! The SSH provider: files, packages, units and users of a node.
//!
//! A node needs POSIX sh, coreutils and systemd, nothing of ours. All that is asked of it in one go travels as one script on the
//! stdin of one exec (`script`), over ssh or on this very machine (`transport`); each resource type says in shell how it is looked at
//! and how it is changed (`resource`).

mod answer;
mod connection;
mod duration;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod ground;
mod link;
mod machine;
mod order;
mod resource;
mod script;
mod secrets;
mod sources;
mod subject;
mod transport;
mod untrusted;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Address, Attribute, Attributes, Kind, Schema};
use moorfast_engine::provider::{
    Connection, Context, Invalid, Observed, Provider, ProviderError, ResourceType, Target,
};
use moorfast_engine::state::Record;

use crate::connection::SshConnection;
use crate::secrets::Secrets;
pub use crate::transport::{Settings, forget, known, trust};

/// The provider `ssh`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SshProvider;

#[async_trait]
impl Provider for SshProvider {
    fn name(&self) -> &'static str {
        "ssh"
    }

    fn config_schema(&self) -> Schema {
        Schema::new(
            "How nodes are reached. Everything else is said by `[nodes.*]` and by your own ssh_config.",
            [
                Attribute::optional("connect_timeout", Kind::Duration, "How long each host on the way, a jump host or the node, may take to accept a connection. The login may take 5 seconds more.")
                    .or("10s"),
                Attribute::optional(
                    "config_file",
                    Kind::String,
                    "The ssh_config to respect in place of `~/.ssh/config` and `/etc/ssh/ssh_config`. A relative path starts at the folder of the manifest.",
                ),
                Attribute::optional(
                    "sessions",
                    Kind::Integer,
                    "How many commands run on one node at once, from 1. sshd allows 10 per connection unless its MaxSessions says otherwise.",
                )
                .or(8),
            ],
        )
    }

    fn resource_types(&self) -> Vec<ResourceType> {
        resource::ALL.iter().map(|resource| resource.resource_type()).collect()
    }

    fn data_sources(&self) -> Vec<ResourceType> {
        vec![resource::facts::data_source()]
    }

    fn validate(&self, resource_type: &str, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = resource::named(resource_type).map(|resource| resource.validate(attributes)).unwrap_or_default();
        let discreet = |invalid: Invalid| {
            let secrets = Secrets::of(invalid.attribute.and_then(|name| attributes.get(name)));
            Invalid { message: secrets.cut(invalid.message), ..invalid }
        };
        invalid.into_iter().map(discreet).collect()
    }

    fn identity(&self, resource_type: &str, attributes: &Attributes) -> Option<String> {
        resource::named(resource_type)?.identity(attributes)
    }

    fn is_same_object(&self, resource_type: &str, record: &Record, attributes: &Attributes) -> bool {
        resource::named(resource_type).is_some_and(|resource| resource.is_same_object(record, attributes))
    }

    fn initial_private_data(
        &self,
        resource_type: &str,
        desired: &Attributes,
        observed: Option<&Observed>,
    ) -> Option<serde_json::Value> {
        resource::named(resource_type)?.initial_private_data(desired, observed.map(|o| &o.attributes))
    }

    fn has_health(&self, resource_type: &str) -> bool {
        resource::named(resource_type).is_some_and(|resource| resource.health(&Default::default()).is_some())
    }

    fn implied_order(&self, instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        order::implied(instances)
    }

    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(SshConnection::new(config, context)?))
    }
}
