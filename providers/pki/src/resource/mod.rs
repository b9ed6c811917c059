//! One file for each resource type.

pub(crate) mod authority;
pub(crate) mod certificate;
mod key;
mod random;

use moorfast_engine::model::{Attribute, Kind};
use moorfast_engine::provider::{Class, ProviderError};

use crate::key::{ALGORITHMS, KeyError, PrivateKey, PublicKey};
use crate::stored::Stored;

/// The types whose objects are in the key store.
pub(crate) const STORED: &[&'static dyn Stored] = &[&authority::Authority, &key::Key, &random::Random];

/// Returns the attribute `name` of an entry of the key store.
fn name() -> Attribute {
    let doc = "Name in the key store. It stays the same when the resource is moved to another address.";
    Attribute::required("name", Kind::String, doc).replaces()
}

/// Returns the attribute for the algorithm of a key.
fn algorithm(doc: &'static str) -> Attribute {
    Attribute::optional("key_algorithm", Kind::OneOf(ALGORITHMS), doc).or("ecdsa-p256")
}

/// Returns a key and its public key from the key store.
fn key_of(pem: &str) -> Result<(PrivateKey, PublicKey), ProviderError> {
    let key = PrivateKey::from_pem(pem).map_err(unusable)?;
    let public = key.public().map_err(unusable)?;
    Ok((key, public))
}

pub(crate) fn unusable(error: KeyError) -> ProviderError {
    ProviderError::new(Class::Failed, format!("a key cannot be used: {error}"))
}
