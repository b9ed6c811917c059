//! The resource type `pki_random`: bytes that are made once and kept in the key store.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{Declaration, Invalid, ProviderError, TargetKind};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::{name, unusable};
use crate::attributes::attributes;
use crate::encoding::hex;
use crate::key::KeyError;
use crate::store::{Entries, Entry};
use crate::stored::Stored;

/// The resource type `pki_random`.
pub(crate) struct Random;

/// The permitted numbers of bytes.
const LENGTHS: std::ops::RangeInclusive<i64> = 8..=1024;

impl Stored for Random {
    fn declaration(&self) -> Declaration {
        let schema = Schema::new(
            "Random bytes that are made once and kept in the key store, for example the key with which an API server encrypts Secrets in etcd. \
             A destroy removes them from the key store.",
            [
                name(),
                Attribute::optional("length", Kind::Integer, "Number of bytes: 8 to 1024.").or(32).replaces(),
                Attribute::computed("base64", Kind::String, "The bytes in base64.").secret(),
                Attribute::computed("hex", Kind::String, "The bytes in hexadecimal digits.").secret(),
            ],
        );
        Declaration { name: "pki_random", target_kind: TargetKind::Provider, schema }
    }

    fn kind(&self) -> &'static str {
        "random"
    }

    fn dependants(&self) -> &'static str {
        "everything that was encrypted or authenticated with it"
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let length = attributes.get("length").and_then(Value::as_i64).filter(|length| !LENGTHS.contains(length));
        let invalid = |length| Invalid::new("length", format!("`length` must be 8 to 1024, not {length}"));
        length.map(invalid).into_iter().collect()
    }

    fn secret_id(&self, entry: &Entry) -> Option<String> {
        let Entry::Random { id, .. } = entry else { return None };
        Some(id.clone())
    }

    fn observe(&self, entry: &Entry, _: &Entries, _: &Attributes) -> Result<Attributes, ProviderError> {
        let Entry::Random { bytes, .. } = entry else { return Ok(Attributes::new()) };
        let decoded = Zeroizing::new(STANDARD.decode(bytes.as_bytes()).unwrap_or_default());
        Ok(attributes([
            ("length", Value::from(decoded.len() as i64)),
            ("base64", Value::from(bytes.as_str()).sensitive()),
            ("hex", Value::from(hex(&decoded)).sensitive()),
        ]))
    }

    fn make(&self, desired: &Attributes, _: &Entries) -> Result<Entry, ProviderError> {
        let length = desired.get("length").and_then(Value::as_i64).and_then(|length| usize::try_from(length).ok());
        let mut bytes = Zeroizing::new(vec![0; length.unwrap_or(32)]);
        let mut id = [0; 16];
        let random = SystemRandom::new();
        let filled = random.fill(&mut bytes).and_then(|()| random.fill(&mut id));
        filled.map_err(|_| unusable(KeyError("the system returned no random numbers")))?;
        Ok(Entry::Random { id: hex(&id), bytes: Zeroizing::new(STANDARD.encode(&bytes)) })
    }
}
