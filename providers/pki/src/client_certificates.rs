//! Client certificates with which other providers log in. They exist only in memory.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use moorfast_engine::provider::{CertificateIssuer, Class, ClientCertificate, ClientIdentity, Context, ProviderError};

use crate::connection::blocking;
use crate::issue::{Contents, Role, issue};
use crate::key::PrivateKey;
use crate::resource::authority::{Signer, not_issued};
use crate::resource::unusable;
use crate::store::{Entries, KeyStore};

/// How long a certificate is valid: longer than a run takes.
const VALIDITY: Duration = Duration::from_secs(24 * 3600);

/// Issues certificates of the authorities in the key store.
pub(crate) struct KeyStoreIssuer(KeyStore);

impl KeyStoreIssuer {
    pub(crate) fn of(context: &Context) -> Self {
        Self(KeyStore::of(context))
    }
}

#[async_trait]
impl CertificateIssuer for KeyStoreIssuer {
    async fn issue(&self, client: &ClientIdentity) -> Result<ClientCertificate, ProviderError> {
        let (store, client) = (self.0.clone(), client.clone());
        blocking(move || issued(&client, &store.read()?, Timestamp::now())).await
    }
}

fn issued(client: &ClientIdentity, entries: &Entries, now: Timestamp) -> Result<ClientCertificate, ProviderError> {
    let ClientIdentity { authority, common_name, organizations } = client;
    let missing = || {
        let summary = format!("the key store does not contain the authority `{authority}` yet");
        ProviderError::new(Class::Unreachable, summary).help(
            "`authority` is the `name` of a `pki_authority`. If the same manifest makes it, `depends_on` of the provider must name what starts the server",
        )
    };
    let signer = Signer::named(entries, authority)?.ok_or_else(missing)?;
    let key = PrivateKey::generate("ecdsa-p256").map_err(unusable)?;
    let role = Role::Leaf {
        dns_names: Vec::new(),
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        usages: vec!["client".to_owned()],
    };
    let contents = Contents {
        common_name: Some(common_name.clone()),
        organizations: organizations.clone(),
        validity: VALIDITY,
        role,
    };
    // The error is about the configuration of the provider, not about an attribute of a resource.
    let issuer = signer.issuer(now).map_err(|error| ProviderError { attribute: None, ..error })?;
    let certificate = issue(&contents, &key.public().map_err(unusable)?, &issuer, now).map_err(not_issued)?;
    let authority = signer.certificate.pem();
    // A server that trusts only the root needs the certificate of an intermediate authority.
    let chain = if signer.certificate.is_issued_by(&signer.certificate) { "" } else { &authority };
    Ok(ClientCertificate {
        certificate: certificate.pem() + chain,
        private_key: key.pem().map_err(unusable)?,
        authority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::authority::tests::expired;

    #[test]
    fn an_expired_authority_issues_no_client_certificate() {
        let (entries, id) = expired();
        let client =
            ClientIdentity { authority: "root".to_owned(), common_name: "admin".to_owned(), organizations: Vec::new() };
        let Err(error) = issued(&client, &entries, Timestamp::now()) else { panic!("a certificate was issued") };
        assert!(error.summary.starts_with(&format!("the authority `{id}` expired at ")), "{error}");
        let then = Timestamp::now() - Duration::from_secs(90 * 60);
        assert!(issued(&client, &entries, then).is_ok(), "it was valid then");
    }
}
