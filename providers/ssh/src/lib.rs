//! The SSH provider: files, packages, units and users of a node.
//!
//! A node needs POSIX sh, coreutils and systemd, and no program of moorfast. One script carries all requests to a node on the
//! stdin of one exec, over ssh or on the local machine. Each resource type has shell code that reads its objects and shell code
//! that changes them.
//!
//! | module | contains |
//! |---|---|
//! | `resource` | one file per resource type: schema, validation, reading, planning, applying |
//! | `connection` | the provider's side of the engine's requests: scripts from requests, observations and outcomes from answers |
//! | `script`, `answer` | the script that a node runs, and its framed and bounded answer |
//! | `node_shell` | runs scripts on one node, with limits and cancellation |
//! | `transport` | opens the channel to a node: the user's own ssh, host keys, jump hosts |
//! | `preconditions` | what is at the paths that a change writes, so that the plan shows what the apply would refuse |
//! | `failure`, `secrets` | errors with advice, without secrets |
//!
//! An attribute travels like this: `content` of an `ssh_file` is validated and planned in `resource::file`, becomes shell code
//! there, is sent by `node_shell`, and is read again by the same script, so that the record has what is on the node.
//!
//! Before it is configured, the provider declares its types, validates attributes and computes identities, all without a connection:
//!
//! ```
//! use moorfast_engine::model::{Attributes, Value};
//! use moorfast_engine::provider::Provider;
//! use moorfast_ssh::SshProvider;
//!
//! let motd = Attributes::from([("path".to_owned(), Value::from("/etc/motd")), ("content".to_owned(), Value::from("hello"))]);
//! assert!(SshProvider.validate("ssh_file", &motd).is_empty());
//! assert_eq!(SshProvider.identity("ssh_file", &motd).as_deref(), Some("path:/etc/motd"));
//! ```

mod answer;
mod connection;
mod duration;
mod failure;
#[cfg(fuzzing)]
pub mod fuzzing;
mod machine;
mod node_shell;
mod order;
mod preconditions;
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
            "How nodes are reached. Everything else is set in `[nodes.*]` and in your own ssh_config.",
            [
                Attribute::optional("connect_timeout", Kind::Duration, "How long each jump host and the node may take to accept a connection. The login may take 5 seconds more.")
                    .or("10s"),
                Attribute::optional(
                    "config_file",
                    Kind::String,
                    "The ssh_config to use instead of `~/.ssh/config` and `/etc/ssh/ssh_config`. A relative path starts at the folder of the manifest.",
                ),
                Attribute::optional(
                    "sessions",
                    Kind::Integer,
                    "Largest number of commands that run on one node at the same time, at least 1. sshd permits 10 per connection unless its MaxSessions is set.",
                )
                .or(8),
            ],
        )
    }

    fn resource_types(&self) -> Vec<ResourceType> {
        resource::RESOURCES.iter().map(|resource| resource.declaration()).collect()
    }

    fn data_sources(&self) -> Vec<ResourceType> {
        vec![resource::facts::data_source()]
    }

    fn validate(&self, resource_type: &str, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = resource::named(resource_type).map(|resource| resource.validate(attributes)).unwrap_or_default();
        let redacted = |invalid: Invalid| {
            let secrets = Secrets::of(invalid.attribute.and_then(|name| attributes.get(name)));
            Invalid { message: secrets.redact(invalid.message), ..invalid }
        };
        invalid.into_iter().map(redacted).collect()
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
        resource::named(resource_type)?.initial_private_data(desired, observed)
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
