//! Private and public keys: EC P-256, Ed25519 and RSA.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RsaKeyPair,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rsa::pkcs8::EncodePrivateKey;
use rsa::traits::PublicKeyParts;
use x509_cert::der::asn1::{BitString, ObjectIdentifier};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{self, Any, Decode, Encode};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use zeroize::Zeroizing;

use crate::encoding::{hex, sha256};

const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED25519_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

/// The PKCS#8 form of an Ed25519 key, up to its 32 bytes. ring writes a newer form, which OpenSSL cannot read.
const ED25519_PREFIX: [u8; 16] = *b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20";
/// The label of a PKCS#8 key in PEM.
const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The label of a public key in PEM.
const PUBLIC_KEY: &str = "PUBLIC KEY";

/// The names of the algorithms of new keys.
pub(crate) const ALGORITHMS: &[&str] = &["ecdsa-p256", "ed25519", "rsa-2048", "rsa-3072", "rsa-4096"];

/// A key cannot be made, read or used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct KeyError(pub(crate) &'static str);

/// A private key.
pub(crate) struct PrivateKey {
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
}

enum Pair {
    Ecdsa(Box<EcdsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
    Rsa(Box<RsaKeyPair>),
}

impl PrivateKey {
    /// Makes a key of one of the [`ALGORITHMS`].
    ///
    /// # Errors
    /// If the algorithm is unknown, or the system has no random numbers.
    pub(crate) fn generate(algorithm: &str) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let no_random = |_| KeyError("the system returned no random numbers");
        let pkcs8 = match algorithm {
            "ecdsa-p256" => {
                let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random).map_err(no_random)?;
                Zeroizing::new(made.as_ref().to_vec())
            }
            "ed25519" => {
                let seed: [u8; 32] = ring::rand::generate(&random).map_err(no_random)?.expose();
                Zeroizing::new([ED25519_PREFIX.as_slice(), Zeroizing::new(seed).as_slice()].concat())
            }
            "rsa-2048" => rsa(2048)?,
            "rsa-3072" => rsa(3072)?,
            "rsa-4096" => rsa(4096)?,
            _ => return Err(KeyError("the algorithm of the key is unknown")),
        };
        Self::from_pkcs8(pkcs8)
    }

    /// Reads a PKCS#8 key in PEM.
    ///
    /// # Errors
    /// If the text is not such a key.
    pub(crate) fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (label, pkcs8) = der::pem::decode_vec(text.as_bytes()).map_err(|_| UNREADABLE)?;
        let pkcs8 = Zeroizing::new(pkcs8);
        if label == PRIVATE_KEY { Self::from_pkcs8(pkcs8) } else { Err(UNREADABLE) }
    }

    fn from_pkcs8(pkcs8: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &pkcs8, &random).map(Box::new);
        let pair = ecdsa.map(Pair::Ecdsa);
        let ed25519 = |_| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map(Box::new).map(Pair::Ed25519);
        let rsa = |_| RsaKeyPair::from_pkcs8(&pkcs8).map(Box::new).map(Pair::Rsa);
        let pair = pair.or_else(ed25519).or_else(rsa).map_err(|_| UNREADABLE)?;
        Ok(Self { pkcs8, pair })
    }

    /// Returns the key in PKCS#8 and PEM.
    pub(crate) fn pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let pem = der::pem::encode_string(PRIVATE_KEY, LineEnding::LF, &self.pkcs8);
        pem.map(Zeroizing::new).map_err(|_| KeyError("the key cannot be written as PEM"))
    }

    /// Returns the public key.
    pub(crate) fn public(&self) -> Result<PublicKey, KeyError> {
        let (oid, parameters, bits) = match &self.pair {
            Pair::Ecdsa(pair) => (EC_PUBLIC_KEY, Some(Any::from(&P256)), pair.public_key().as_ref()),
            Pair::Ed25519(pair) => (ED25519_KEY, None, pair.public_key().as_ref()),
            Pair::Rsa(pair) => (RSA_ENCRYPTION, Some(Any::null()), pair.public_key().as_ref()),
        };
        let subject_public_key = BitString::from_bytes(bits).map_err(|_| UNREADABLE)?;
        let algorithm = AlgorithmIdentifierOwned { oid, parameters };
        Ok(PublicKey(SubjectPublicKeyInfoOwned { algorithm, subject_public_key }))
    }

    /// Returns the identifier of the signatures that this key makes.
    pub(crate) fn signature_algorithm(&self) -> AlgorithmIdentifierOwned {
        let (oid, parameters) = match self.pair {
            Pair::Ecdsa(_) => (ECDSA_SHA256, None),
            Pair::Ed25519(_) => (ED25519_KEY, None),
            Pair::Rsa(_) => (RSA_SHA256, Some(Any::null())),
        };
        AlgorithmIdentifierOwned { oid, parameters }
    }

    /// Signs `message`.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        let failed = |_| KeyError("the key cannot sign");
        match &self.pair {
            Pair::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
            Pair::Ed25519(pair) => Ok(pair.sign(message).as_ref().to_vec()),
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

const UNREADABLE: KeyError = KeyError("this is not a private key that moorfast can read: PKCS#8 in PEM");

fn rsa(bits: usize) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = KeyError("an RSA key cannot be made");
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).map_err(|_| failed.clone())?;
    key.to_pkcs8_der().map(|document| document.to_bytes()).map_err(|_| failed)
}

/// A public key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PublicKey(pub(crate) SubjectPublicKeyInfoOwned);

impl PublicKey {
    /// Reads a public key in PEM. Returns `None` if the text is not one.
    pub(crate) fn from_pem(text: &str) -> Option<Self> {
        let (label, der) = der::pem::decode_vec(text.as_bytes()).ok()?;
        let key = SubjectPublicKeyInfoOwned::from_der(&der).ok()?;
        (label == PUBLIC_KEY).then_some(Self(key))
    }

    /// Returns the SHA-256 of the key in DER, in hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        hex(&sha256(&self.der()))
    }

    /// Returns the identifier of the key in certificates.
    pub(crate) fn key_identifier(&self) -> Vec<u8> {
        // RFC 7093, method 1.
        sha256(self.0.subject_public_key.raw_bytes())[..20].to_vec()
    }

    /// Returns the key in PEM.
    pub(crate) fn pem(&self) -> String {
        der::pem::encode_string(PUBLIC_KEY, LineEnding::LF, &self.der()).unwrap_or_default()
    }

    /// Returns the name of the algorithm: one of [`ALGORITHMS`] if it is known, otherwise its object identifier.
    pub(crate) fn algorithm(&self) -> String {
        let algorithm = &self.0.algorithm;
        let curve = || algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        match algorithm.oid {
            EC_PUBLIC_KEY if curve() == Some(P256) => "ecdsa-p256".to_owned(),
            ED25519_KEY => "ed25519".to_owned(),
            RSA_ENCRYPTION => {
                let key = <rsa::RsaPublicKey as rsa::pkcs1::DecodeRsaPublicKey>::from_pkcs1_der(
                    self.0.subject_public_key.raw_bytes(),
                );
                key.map_or_else(|_| "rsa".to_owned(), |key| format!("rsa-{}", key.size() * 8))
            }
            other => other.to_string(),
        }
    }

    /// Whether `signature` is a signature of this key over `message`. An unknown algorithm signs nothing.
    pub(crate) fn verifies(&self, message: &[u8], algorithm: &AlgorithmIdentifierOwned, signature: &[u8]) -> bool {
        let scheme: &dyn VerificationAlgorithm = match (self.0.algorithm.oid, algorithm.oid) {
            (EC_PUBLIC_KEY, ECDSA_SHA256) if self.algorithm() == "ecdsa-p256" => &ECDSA_P256_SHA256_ASN1,
            (ED25519_KEY, ED25519_KEY) => &ED25519,
            (RSA_ENCRYPTION, RSA_SHA256) => &RSA_PKCS1_2048_8192_SHA256,
            (RSA_ENCRYPTION, RSA_SHA384) => &RSA_PKCS1_2048_8192_SHA384,
            (RSA_ENCRYPTION, RSA_SHA512) => &RSA_PKCS1_2048_8192_SHA512,
            _ => return false,
        };
        UnparsedPublicKey::new(scheme, self.0.subject_public_key.raw_bytes()).verify(message, signature).is_ok()
    }

    fn der(&self) -> Vec<u8> {
        self.0.to_der().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_algorithm_makes_keys_that_sign_and_are_read_again() {
        for algorithm in ALGORITHMS {
            let key = PrivateKey::generate(algorithm).unwrap();
            let again = PrivateKey::from_pem(&key.pem().unwrap()).unwrap();
            let public = again.public().unwrap();
            assert_eq!((public.clone(), public.algorithm()), (key.public().unwrap(), (*algorithm).to_owned()));
            let signature = key.sign(b"message").unwrap();
            assert!(public.verifies(b"message", &key.signature_algorithm(), &signature));
            assert!(!public.verifies(b"massage", &key.signature_algorithm(), &signature));
        }
    }

    #[test]
    fn what_is_not_a_key_is_refused() {
        let cut = PrivateKey::generate("ed25519").unwrap().pem().unwrap()[..60].to_owned();
        for text in ["", "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n", &cut] {
            assert!(PrivateKey::from_pem(text).is_err());
        }
        assert!(PrivateKey::generate("rsa-512").is_err());
    }
}
