//! Keyed digests: they show that a value changed without revealing the value.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A BLAKE3 digest, written as `blake3:` and 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    /// Returns the digest without a key, for public data: manifests, inputs, plan files.
    pub fn of(bytes: &[u8]) -> Self {
        Self(format!("blake3:{}", blake3::hash(bytes).to_hex()))
    }

    /// Returns the digest as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The secret key of the digests of sensitive values.
///
/// Without a key, short secrets could be guessed from their digests. The key is stored beside the state with mode 0600, never in it.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SealKey([u8; 32]);

impl SealKey {
    /// Generates a key from the system's random source.
    pub fn generate() -> Self {
        Self(rand::random())
    }

    /// Returns the key with these bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes of the key. Store them where only the owner can read them.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the keyed digest of `bytes`.
    pub fn digest(&self, bytes: &[u8]) -> Digest {
        Digest(format!("blake3:{}", blake3::keyed_hash(&self.0, bytes).to_hex()))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}
