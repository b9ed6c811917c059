//! Keyed digests: enough to see that a value changed, nothing to learn the value from.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A BLAKE3 digest, written as `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// The plain digest of public bytes: manifests, inputs, plan files.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("blake3:{}", blake3::hash(bytes).to_hex()))
    }

    /// The digest's text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret key under which sensitive values are digested.
///
/// Without it a digest of a short secret could be found by trying; it lives beside the state with mode 0600 and never in it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// A fresh key from the system's random source.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// The key with these bytes, as a store keeps it.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to keep, in a place that only the owner reads.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The keyed digest of `bytes`.
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        Digest(format!("blake3:{}", blake3::keyed_hash(&self.0, bytes).to_hex()))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}
