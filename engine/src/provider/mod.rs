//! The interface between the engine and the providers: what a provider declares, and how the engine calls it.
//!
//! A [`Provider`] has [`ResourceType`]s: values with a schema and the rules that need no connection. [`Provider::configure`] returns a [`Connection`], which
//! reads and changes objects. The engine calls a connection with batches per [`Target`], so a node is read in one round trip, however many resources it has.
//!
//! A [`SimpleProvider`] implements the three traits for types whose objects are read and changed one at a time.
//!
//! A provider never prints and never accesses the state.

mod access;
mod action;
pub(crate) mod catalog;
mod client_certificates;
mod connection;
mod consequence;
mod context;
mod definition;
mod error;
mod existing;
mod host_keys;
mod http_client;
pub(crate) mod known_secrets;
mod local_access;
mod marking;
mod node_network;
mod objects;
mod operation;
mod proposal;
pub(crate) mod protected_connection;
mod redaction;
mod request;
mod resource_type;
mod simple;
mod start_permit;
mod target;

pub use access::{Finding, Need};
pub use action::Action;
pub use client_certificates::{CertificateIssuer, ClientCertificate, ClientCertificates, ClientIdentity};
pub use connection::Connection;
pub use consequence::Consequence;
pub use context::{Context, KeyStoreSettings, Progress, ProgressMessage, UsedProvider, UsedProviders};
pub use definition::Provider;
pub use error::{Class, ProviderError};
pub use existing::{Described, Existing};
pub use host_keys::HostKeys;
pub use http_client::{Body, http_client, read_body, root_cause};
pub use local_access::LocalAccess;
pub(crate) use node_network::is_host;
pub use node_network::{Destination, NodeNetwork, NodeStream, ProbeError};
pub use objects::{Object, ObjectChange};
pub use operation::{Applied, Operation, OperationAction};
pub use proposal::{Proposal, ProposedAction, loses};
pub use redaction::Redaction;
pub use request::{DataRequest, Dependency, DrainRequest, Observed, PlanRequest, ReadRequest};
pub use resource_type::{Declaration, Invalid, ResourceType, TargetKind};
pub use simple::{SimpleProvider, SimpleResource};
pub use start_permit::StartPermit;
pub use target::Target;
