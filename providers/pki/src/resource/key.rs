//! The resource type `pki_key`: a key pair that is made once and kept in the key store.

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema};
use moorfast_engine::provider::{Declaration, ProviderError, TargetKind};
use zeroize::Zeroizing;

use super::{algorithm, key_of, name, unusable};
use crate::attributes::attributes;
use crate::key::PrivateKey;
use crate::store::{Entries, Entry};
use crate::stored::Stored;

/// The resource type `pki_key`.
pub(crate) struct Key;

impl Stored for Key {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "A key pair that is made once and kept in the key store, for example the key with which a cluster signs the tokens of its service accounts. \
             A destroy removes it from the key store.",
            [
                name(),
                algorithm("Algorithm of the key.").replaces(),
                Attribute::computed("public_key", Kind::String, "The public key in PEM."),
                Attribute::computed(
                    "fingerprint",
                    Kind::String,
                    "The SHA-256 of the public key in DER, in hexadecimal digits.",
                )
                .derived_from("public_key"),
                Attribute::computed(
                    "private_key",
                    Kind::String,
                    "The private key in PEM (PKCS#8). Write it to nodes with `ssh_file`.",
                )
                .secret(),
            ],
        );
        Declaration { name: "pki_key", target_kind: TargetKind::Provider, schema }
    }

    fn kind(&self) -> &'static str {
        "key"
    }

    fn dependants(&self) -> &'static str {
        "everything that was signed with it or encrypted for it"
    }

    fn secret_id(&self, entry: &Entry) -> Option<String> {
        let Entry::Key { private_key } = entry else { return None };
        Some(key_of(private_key).ok()?.1.digest())
    }

    fn observe(&self, entry: &Entry, _: &Entries, _: &Attributes) -> Result<Attributes, ProviderError> {
        let Entry::Key { private_key } = entry else { return Ok(Attributes::new()) };
        let (_, public) = key_of(private_key)?;
        Ok(attributes([
            ("key_algorithm", public.algorithm().into()),
            ("public_key", public.pem().into()),
            ("fingerprint", public.digest().into()),
            ("private_key", moorfast_engine::model::Value::from(private_key.as_str()).sensitive()),
        ]))
    }

    fn make(&self, desired: &Attributes, _: &Entries) -> Result<Entry, ProviderError> {
        let key = PrivateKey::generate(desired.text("key_algorithm").unwrap_or_default()).map_err(unusable)?;
        let private_key: Zeroizing<String> = key.pem().map_err(unusable)?;
        Ok(Entry::Key { private_key })
    }
}
