//! Client certificates that exist only in memory, with which a provider logs in to the servers of its target.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{Class, ProviderError};
use crate::model::{Attribute, Attributes, Kind, Value};

/// The attribute of a provider's configuration that [`ClientIdentity`] reads.
const ATTRIBUTE: &str = "client_certificate";

/// A client whose certificate is issued in memory: `client_certificate` of a provider's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The name of the authority in the key store.
    pub authority: String,
    /// The common name of the subject.
    pub common_name: String,
    /// The organizations of the subject.
    pub organizations: Vec<String>,
}

impl ClientIdentity {
    /// Returns the attribute for the schema of a provider's configuration.
    pub fn attribute() -> Attribute {
        let fields = vec![
            Attribute::required(
                "authority",
                Kind::String,
                "Name in the key store of the authority that issues the certificate: `name` of a `pki_authority`.",
            ),
            Attribute::required("common_name", Kind::String, "Common name of the subject: the user."),
            Attribute::optional("organizations", Kind::list(Kind::String), "Organizations of the subject: the groups."),
        ];
        Attribute::optional(
            ATTRIBUTE,
            Kind::Object(fields),
            "Client certificate to log in with. Each run issues it with a new key, for one day and in memory only, so neither is in a file, the state, a plan or a \
             log.",
        )
    }

    /// Returns the client that a configuration names. Returns `None` if it names none, or if an attribute is unknown.
    pub fn of(configuration: &Attributes) -> Option<Self> {
        let fields = configuration.get(ATTRIBUTE)?.as_map()?;
        let text = |name: &str| fields.get(name)?.as_str().map(str::to_owned);
        let organizations = fields.get("organizations").and_then(Value::as_list).unwrap_or_default();
        let organizations = organizations.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Some(Self { authority: text("authority")?, common_name: text("common_name")?, organizations })
    }
}

/// A certificate with its key, which must be written nowhere.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate in PEM, followed by the certificates of intermediate authorities.
    pub certificate: String,
    /// The private key in PEM.
    pub private_key: Zeroizing<String>,
    /// The certificate of the authority in PEM.
    pub authority: String,
}

/// A provider that can issue client certificates.
#[async_trait]
pub trait CertificateIssuer: Send + Sync {
    /// Issues a certificate for one day, with a new key.
    ///
    /// # Errors
    /// If the key store cannot be read. If the authority does not exist yet, the class is [`Class::Unreachable`], because the servers that trust it cannot exist
    /// either.
    async fn issue(&self, client: &ClientIdentity) -> Result<ClientCertificate, ProviderError>;
}

/// The issuer of a run. It is the provider that implements [`Provider::certificate_issuer`](super::Provider::certificate_issuer).
#[derive(Clone, Default)]
pub struct ClientCertificates(pub Option<Arc<dyn CertificateIssuer>>);

impl ClientCertificates {
    /// Issues a certificate, as [`CertificateIssuer::issue`] does.
    ///
    /// # Errors
    /// As there. Also if no provider issues certificates.
    pub async fn issue(&self, client: &ClientIdentity) -> Result<ClientCertificate, ProviderError> {
        match &self.0 {
            Some(issuer) => issuer.issue(client).await,
            None => Err(ProviderError::new(Class::Invalid, "no provider of this program issues certificates")),
        }
    }
}

/// Writes whether there is an issuer.
impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientCertificates").field(&self.0.is_some()).finish()
    }
}
