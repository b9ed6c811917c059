//! The SSH provider: files, packages, units and users of a node.
//!
//! A node needs POSIX sh, coreutils and systemd, and no program of moorfast. One script carries all requests to a node on the
//! stdin of one exec, over ssh or on the local machine. Each resource type has shell code that reads its objects and shell code
//! that changes them.
//!
//! | module | contains |
//! |---|---|
//! | `resource` | one file per resource type: schema, validation, reading, planning, applying |
//! | `resource_type` | the resource types as the engine holds them |
//! | `connection` | the provider's side of the engine's requests, the nodes' shells, and the trust in their machines |
//! | `reading` | reads objects and facts: scripts from requests, observations from answers |
//! | `planning` | proposals, with the obstacles and the side effects of changes |
//! | `operations` | carries out operations: few scripts for many of them, outcomes from answers |
//! | `access` | checks the access to a node before the first plan: from the address to the programs that scripts need |
//! | `description` | what a new manifest would say about objects that exist |
//! | `health` | waits until an object is healthy |
//! | `question`, `asked`, `findings`, `object_answer`, `look` | what resource types ask about a node, answered for all of them together |
//! | `script`, `answer` | the script that a node runs, and its framed and bounded answer |
//! | `node_shell` | runs scripts on one node, with limits and cancellation |
//! | `network` | the network as a node sees it, for probes of checks |
//! | `limits` | the default limits of scripts |
//! | `transport` | opens the channel to a node: the user's own ssh, host keys, jump hosts |
//! | `writes` | files of one directory that are written together |
//! | `preconditions` | what is at the paths that a change writes, so that the plan shows what the apply would refuse |
//! | `failure` | errors with advice |
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
//! let types = SshProvider.resource_types();
//! let file = types.iter().find(|resource_type| resource_type.name() == "ssh_file").ok_or("no such type")?;
//! let motd = Attributes::from([("path".to_owned(), Value::from("/etc/motd")), ("content".to_owned(), Value::from("hello"))]);
//! assert!(file.validate(&motd).is_empty());
//! assert_eq!(file.identity(&motd).as_deref(), Some("path:/etc/motd"));
//! # Ok::<(), &str>(())
//! ```

mod access;
mod answer;
mod asked;
mod connection;
mod description;
mod duration;
mod error_codes;
mod failure;
mod findings;
#[cfg(fuzzing)]
pub mod fuzzing;
mod health;
mod limits;
mod look;
mod machine;
mod network;
mod node_shell;
mod object_answer;
mod operations;
mod order;
mod path;
mod planning;
mod preconditions;
mod question;
mod reading;
mod resource;
mod resource_type;
mod script;
mod size;
mod sources;
mod subject;
mod transport;
mod untrusted;
mod writes;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Address, Attribute, Attributes, ErrorCode, Kind, Node, Schema};
use moorfast_engine::provider::{Connection, Context, HostKeys, Provider, ProviderError, ResourceType, Target};

use crate::connection::SshConnection;
use crate::resource::facts::Facts;
use crate::transport::Settings;

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

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        resource_type::all()
    }

    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        vec![Arc::new(Facts)]
    }

    fn implied_order(&self, instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        order::implied(instances)
    }

    fn host_keys(&self) -> Option<&dyn HostKeys> {
        Some(self)
    }

    fn error_codes(&self) -> &'static [ErrorCode] {
        error_codes::ALL
    }

    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(SshConnection::new(config, context)?))
    }
}

#[async_trait]
impl HostKeys for SshProvider {
    fn known(&self, node: &Node, data_dir: &Path) -> Result<Vec<String>, ProviderError> {
        transport::known(node, data_dir)
    }

    async fn trust(
        &self,
        node: &Node,
        config: &Attributes,
        root: &Path,
        data_dir: &Path,
    ) -> Result<Vec<String>, ProviderError> {
        transport::trust(node, data_dir, &Settings::new(config, root)).await
    }

    fn forget(&self, node: &Node, data_dir: &Path) -> Result<bool, ProviderError> {
        transport::forget(node, data_dir)
    }
}
