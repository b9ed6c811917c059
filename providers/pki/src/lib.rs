//! The provider `pki`: certificate authorities, keys and certificates, and the key store.
//!
//! | module | contains |
//! |---|---|
//! | `store` | the key store: one file with what must outlive every node |
//! | `stored` | reads, plans and changes the types whose objects are entries of the key store |
//! | `certificates`, `node_files` | reads, plans and changes certificates on nodes, through the provider `ssh` |
//! | `resource` | one file for each resource type |
//! | `data` | the data source |
//! | `client_certificates` | client certificates of this run, in memory |
//! | `key` | private and public keys |
//! | `issue`, `certificate` | writes and reads certificates |
//! | `attributes` | attributes that several types have, and the comparison of desired and observed ones |
//!
//! A key is on disk in the key store before an operation that made it ends, so nothing that was made with it is known to anybody else before.

mod attributes;
mod certificate;
mod certificates;
mod client_certificates;
mod connection;
mod data;
mod encoding;
mod error_codes;
mod issue;
mod key;
mod node_files;
mod resource;
mod store;
mod stored;

use std::sync::Arc;

use async_trait::async_trait;
use moorfast_engine::model::{Attributes, ErrorCode, Schema};
use moorfast_engine::provider::{CertificateIssuer, Connection, Context, Provider, ProviderError, ResourceType};

use crate::client_certificates::KeyStoreIssuer;
use crate::connection::PkiConnection;
use crate::data::CertificateData;
use crate::resource::certificate::NodeCertificate;
use crate::stored::StoredType;

/// The provider `pki`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PkiProvider;

#[async_trait]
impl Provider for PkiProvider {
    fn name(&self) -> &'static str {
        "pki"
    }

    fn config_schema(&self) -> Schema {
        Schema::new(
            "Certificate authorities, keys and certificates. There is nothing to configure; `[keystore]` names the key store.",
            [],
        )
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        let stored = resource::STORED.iter().map(|stored| StoredType::of(*stored));
        stored.chain([Arc::new(NodeCertificate) as Arc<dyn ResourceType>]).collect()
    }

    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        vec![Arc::new(CertificateData)]
    }

    fn uses(&self) -> &'static [&'static str] {
        &["ssh"]
    }

    fn error_codes(&self) -> &'static [ErrorCode] {
        error_codes::ALL
    }

    fn certificate_issuer(&self, context: &Context) -> Option<Arc<dyn CertificateIssuer>> {
        Some(Arc::new(KeyStoreIssuer::of(context)))
    }

    async fn configure(&self, _: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        Ok(Arc::new(PkiConnection::new(context)))
    }
}
