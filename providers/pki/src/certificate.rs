//! Certificates as they are read from PEM.

use std::net::IpAddr;

use jiff::Timestamp;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{self, Decode, Encode, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName};
use x509_cert::name::Name;
use x509_cert::time::Time;

use crate::encoding::{hex, sha256};
use crate::key::PublicKey;

pub(crate) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
pub(crate) const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// The purposes of a certificate that a manifest can name.
pub(crate) const USAGES: [(&str, ObjectIdentifier); 2] = [
    ("server", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1")),
    ("client", ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2")),
];

/// The label of a certificate in PEM.
const LABEL: &str = "CERTIFICATE";
const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// A certificate.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    pub(crate) inner: x509_cert::Certificate,
    der: Vec<u8>,
}

impl Certificate {
    /// Reads a certificate in DER.
    pub(crate) fn from_der(der: Vec<u8>) -> Result<Self, String> {
        let inner = x509_cert::Certificate::from_der(&der).map_err(|error| format!("not a certificate: {error}"))?;
        Ok(Self { inner, der })
    }

    /// Reads all certificates in a PEM text. Text between them is ignored.
    ///
    /// # Errors
    /// If there is none, or if one of them is damaged.
    pub(crate) fn chain_from_pem(text: &str) -> Result<Vec<Self>, String> {
        let mut chain = Vec::new();
        let mut rest = text;
        while let Some(begin) = rest.find(BEGIN) {
            let block = &rest[begin..];
            let end = block.find(END).ok_or("a certificate in PEM has no end")? + END.len();
            let (label, der) = der::pem::decode_vec(&block.as_bytes()[..end])
                .map_err(|error| format!("a certificate in PEM is damaged: {error}"))?;
            if label == LABEL {
                chain.push(Self::from_der(der)?);
            }
            rest = &block[end..];
        }
        if chain.is_empty() { Err("there is no certificate in PEM".to_owned()) } else { Ok(chain) }
    }

    /// Returns the certificate in PEM.
    pub(crate) fn pem(&self) -> String {
        der::pem::encode_string(LABEL, LineEnding::LF, &self.der).unwrap_or_default()
    }

    /// Returns the public key.
    pub(crate) fn public_key(&self) -> PublicKey {
        PublicKey(self.inner.tbs_certificate.subject_public_key_info.clone())
    }

    /// Whether `issuer` issued this certificate: it has the name, and its key made the signature.
    pub(crate) fn is_issued_by(&self, issuer: &Certificate) -> bool {
        let tbs = &self.inner.tbs_certificate;
        let signature = self.inner.signature.as_bytes().unwrap_or_default();
        tbs.issuer == issuer.inner.tbs_certificate.subject
            && tbs
                .to_der()
                .is_ok_and(|signed| issuer.public_key().verifies(&signed, &self.inner.signature_algorithm, signature))
    }

    /// Returns the first common name of the subject.
    pub(crate) fn common_name(&self) -> Option<String> {
        values(&self.inner.tbs_certificate.subject, COMMON_NAME).into_iter().next()
    }

    /// Returns the organizations of the subject.
    pub(crate) fn organizations(&self) -> Vec<String> {
        values(&self.inner.tbs_certificate.subject, ORGANIZATION)
    }

    /// Returns the subject as RFC 4514 writes it.
    pub(crate) fn subject(&self) -> String {
        self.inner.tbs_certificate.subject.to_string()
    }

    /// Returns the issuer as RFC 4514 writes it.
    pub(crate) fn issuer(&self) -> String {
        self.inner.tbs_certificate.issuer.to_string()
    }

    pub(crate) fn dns_names(&self) -> Vec<String> {
        self.names(|name| match name {
            GeneralName::DnsName(name) => Some(name.to_string()),
            _ => None,
        })
    }

    pub(crate) fn ip_addresses(&self) -> Vec<String> {
        self.names(|name| match name {
            GeneralName::IpAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(bytes.as_bytes()).map(IpAddr::from);
                let v6 = || <[u8; 16]>::try_from(bytes.as_bytes()).map(IpAddr::from);
                v4.or_else(|_| v6()).ok().map(|address| address.to_string())
            }
            _ => None,
        })
    }

    pub(crate) fn uris(&self) -> Vec<String> {
        self.names(|name| match name {
            GeneralName::UniformResourceIdentifier(uri) => Some(uri.to_string()),
            _ => None,
        })
    }

    /// Returns the purposes: `server`, `client`, otherwise the object identifier.
    pub(crate) fn usages(&self) -> Vec<String> {
        let word = |oid: &ObjectIdentifier| {
            let known = USAGES.iter().find(|(_, known)| known == oid);
            known.map_or_else(|| oid.to_string(), |(word, _)| (*word).to_owned())
        };
        match self.inner.tbs_certificate.get::<ExtendedKeyUsage>() {
            Ok(Some((_, ExtendedKeyUsage(usages)))) => usages.iter().map(word).collect(),
            _ => Vec::new(),
        }
    }

    /// Returns the constraints of an authority. `None` if the certificate is not that of an authority.
    pub(crate) fn authority(&self) -> Option<BasicConstraints> {
        let found = self.inner.tbs_certificate.get::<BasicConstraints>().ok().flatten();
        found.map(|(_, constraints)| constraints).filter(|constraints| constraints.ca)
    }

    /// Returns what the key may be used for. `None` if the certificate does not say it.
    pub(crate) fn key_usage(&self) -> Option<KeyUsage> {
        self.inner.tbs_certificate.get::<KeyUsage>().ok().flatten().map(|(_, usage)| usage)
    }

    pub(crate) fn not_before(&self) -> Timestamp {
        timestamp(self.inner.tbs_certificate.validity.not_before)
    }

    pub(crate) fn not_after(&self) -> Timestamp {
        timestamp(self.inner.tbs_certificate.validity.not_after)
    }

    /// Returns the serial number in hexadecimal digits.
    pub(crate) fn serial(&self) -> String {
        hex(self.inner.tbs_certificate.serial_number.as_bytes())
    }

    /// Returns the SHA-256 of the certificate in hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> String {
        hex(&sha256(&self.der))
    }

    fn names(&self, pick: impl Fn(&GeneralName) -> Option<String>) -> Vec<String> {
        match self.inner.tbs_certificate.get::<SubjectAltName>() {
            Ok(Some((_, SubjectAltName(names)))) => names.iter().filter_map(pick).collect(),
            _ => Vec::new(),
        }
    }
}

/// Returns the texts of an attribute of a name.
fn values(name: &Name, oid: ObjectIdentifier) -> Vec<String> {
    let attributes = name.0.iter().flat_map(|relative| relative.0.iter()).filter(|attribute| attribute.oid == oid);
    let text = |any: &der::Any| match any.tag() {
        Tag::Utf8String => any.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned()),
        Tag::PrintableString | Tag::Ia5String | Tag::TeletexString => {
            Some(String::from_utf8_lossy(any.value()).into_owned())
        }
        _ => None,
    };
    attributes.filter_map(|attribute| text(&attribute.value)).collect()
}

fn timestamp(time: Time) -> Timestamp {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}
