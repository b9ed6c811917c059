//! Issuing certificates.

use std::net::IpAddr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use ring::rand::{SecureRandom, SystemRandom};
use x509_cert::TbsCertificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{BitString, GeneralizedTime, Ia5String, OctetString, SetOfVec, UtcTime, Utf8StringRef};
use x509_cert::der::{self, Any, DateTime, Encode};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{AsExtension, Extension};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::time::{Time, Validity};

use crate::certificate::{COMMON_NAME, Certificate, ORGANIZATION, USAGES};
use crate::key::{KeyError, PrivateKey, PublicKey};

/// How long before its issue a certificate becomes valid: the clock of a node may be behind.
pub(crate) const BACKDATED: SignedDuration = SignedDuration::from_mins(5);

/// A certificate cannot be issued.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the certificate cannot be encoded: {0}")]
    Encoding(#[from] der::Error),
    #[error("{0}")]
    Issued(String),
}

/// The contents of a certificate to issue.
#[derive(Clone, Debug, Default)]
pub(crate) struct Contents {
    pub(crate) common_name: Option<String>,
    pub(crate) organizations: Vec<String>,
    pub(crate) validity: Duration,
    pub(crate) role: Role,
}

/// What the key of a certificate may be used for.
#[derive(Clone, Debug)]
pub(crate) enum Role {
    /// To issue certificates, with at most so many authorities below.
    Authority { path_length: Option<u8> },
    /// To prove an identity.
    Leaf { dns_names: Vec<String>, ip_addresses: Vec<IpAddr>, uris: Vec<String>, usages: Vec<String> },
}

impl Default for Role {
    fn default() -> Self {
        Self::Leaf { dns_names: Vec::new(), ip_addresses: Vec::new(), uris: Vec::new(), usages: Vec::new() }
    }
}

/// The authority that issues a certificate.
pub(crate) struct Issuer<'a> {
    pub(crate) key: &'a PrivateKey,
    /// The certificate of the authority. `None` for the certificate of a root, which is signed by itself.
    pub(crate) certificate: Option<&'a Certificate>,
}

/// Issues a certificate for the key `public`. It does not outlive the certificate of its issuer.
///
/// # Errors
/// If the contents cannot be encoded, or the key cannot sign.
pub(crate) fn issue(
    contents: &Contents,
    public: &PublicKey,
    issuer: &Issuer<'_>,
    now: Timestamp,
) -> Result<Certificate, IssueError> {
    let subject = name(contents)?;
    let issuer_key = issuer.key.public()?;
    let not_before = now.checked_sub(BACKDATED).unwrap_or(now);
    let validity = SignedDuration::try_from(contents.validity).unwrap_or(SignedDuration::MAX);
    let wanted = now.checked_add(validity).unwrap_or(Timestamp::MAX);
    let not_after = issuer.certificate.map_or(wanted, |issuer| wanted.min(issuer.not_after()));
    let extensions = extensions(contents, &subject, public, &issuer_key)?;
    let tbs_certificate = TbsCertificate {
        version: x509_cert::Version::V3,
        serial_number: serial()?,
        signature: issuer.key.signature_algorithm(),
        issuer: issuer
            .certificate
            .map_or_else(|| subject.clone(), |issuer| issuer.inner.tbs_certificate.subject.clone()),
        validity: Validity { not_before: time(not_before)?, not_after: time(not_after)? },
        subject,
        subject_public_key_info: public.0.clone(),
        issuer_unique_id: None,
        subject_unique_id: None,
        extensions: Some(extensions),
    };
    let signature = BitString::from_bytes(&issuer.key.sign(&tbs_certificate.to_der()?)?)?;
    let signature_algorithm = issuer.key.signature_algorithm();
    let issued = x509_cert::Certificate { tbs_certificate, signature_algorithm, signature };
    Certificate::from_der(issued.to_der()?).map_err(IssueError::Issued)
}

fn extensions(
    contents: &Contents,
    subject: &Name,
    public: &PublicKey,
    issuer: &PublicKey,
) -> Result<Vec<Extension>, der::Error> {
    let mut extensions = Vec::new();
    let mut add = |extension: &dyn Fn(&[Extension]) -> Result<Extension, der::Error>| {
        let added = extension(&extensions)?;
        extensions.push(added);
        Ok::<_, der::Error>(())
    };
    let identifier = |key: &PublicKey| OctetString::new(key.key_identifier());
    match &contents.role {
        Role::Authority { path_length } => {
            let constraints = BasicConstraints { ca: true, path_len_constraint: *path_length };
            add(&|known| constraints.to_extension(subject, known))?;
            let usage = KeyUsage(KeyUsages::KeyCertSign | KeyUsages::CRLSign | KeyUsages::DigitalSignature);
            add(&|known| usage.to_extension(subject, known))?;
        }
        Role::Leaf { dns_names, ip_addresses, uris, usages } => {
            let constraints = BasicConstraints { ca: false, path_len_constraint: None };
            add(&|known| constraints.to_extension(subject, known))?;
            add(&|known| leaf_usage(public).to_extension(subject, known))?;
            let purposes = USAGES.iter().filter(|(word, _)| usages.iter().any(|usage| usage == word));
            let purposes: Vec<_> = purposes.map(|(_, oid)| *oid).collect();
            if !purposes.is_empty() {
                add(&|known| ExtendedKeyUsage(purposes.clone()).to_extension(subject, known))?;
            }
            let dns = dns_names.iter().map(|name| Ok(GeneralName::DnsName(Ia5String::new(name)?)));
            let ips = ip_addresses.iter().map(|address| Ok(GeneralName::from(*address)));
            let uris = uris.iter().map(|uri| Ok(GeneralName::UniformResourceIdentifier(Ia5String::new(uri)?)));
            let names = dns.chain(ips).chain(uris).collect::<Result<Vec<_>, der::Error>>()?;
            if !names.is_empty() {
                add(&|known| SubjectAltName(names.clone()).to_extension(subject, known))?;
            }
        }
    }
    add(&|known| SubjectKeyIdentifier(identifier(public)?).to_extension(subject, known))?;
    let authority = AuthorityKeyIdentifier { key_identifier: Some(identifier(issuer)?), ..Default::default() };
    add(&|known| authority.to_extension(subject, known))?;
    Ok(extensions)
}

/// Returns what the key of a certificate that is not an authority's may be used for.
pub(crate) fn leaf_usage(public: &PublicKey) -> KeyUsage {
    KeyUsage(match public.algorithm().starts_with("rsa") {
        true => KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment,
        false => KeyUsages::DigitalSignature.into(),
    })
}

/// Returns the subject: the organizations, then the common name, as Kubernetes' tools write them.
fn name(contents: &Contents) -> Result<Name, der::Error> {
    let organizations = contents.organizations.iter().map(|value| (ORGANIZATION, value));
    let all = organizations.chain(contents.common_name.iter().map(|value| (COMMON_NAME, value)));
    let relative = all.map(|(oid, value)| {
        let value = Any::from(Utf8StringRef::new(value)?);
        Ok(RelativeDistinguishedName(SetOfVec::try_from(vec![AttributeTypeAndValue { oid, value }])?))
    });
    Ok(RdnSequence(relative.collect::<Result<_, der::Error>>()?))
}

/// Returns a random serial number.
fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError("the system returned no random numbers"))?;
    // The number is positive, and always has 16 bytes.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::new(&bytes)?)
}

/// Returns the time as RFC 5280 wants it: with two digits of the year before 2050.
fn time(at: Timestamp) -> Result<Time, der::Error> {
    let seconds = Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default());
    let date = DateTime::from_unix_duration(seconds)?;
    match UtcTime::from_date_time(date) {
        Ok(time) => Ok(Time::UtcTime(time)),
        Err(_) => Ok(Time::GeneralTime(GeneralizedTime::from_date_time(date))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn texts(pattern: &'static str) -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec(pattern, 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_certificate_reads_back_as_it_was_issued(
            common_name in proptest::option::of("\\PC{1,40}"),
            organizations in texts("\\PC{1,20}"),
            dns_names in texts("(\\*\\.)?[a-z0-9]{1,10}(\\.[a-z]{1,5}){0,2}"),
            ip_addresses in proptest::collection::vec(any::<IpAddr>(), 0..4),
            uris in texts("spiffe://[a-z]{1,10}/[a-z]{1,10}"),
            usages in proptest::sample::subsequence(vec!["server".to_owned(), "client".to_owned()], 0..=2),
            hours in 1_u64..200_000,
            algorithm in proptest::sample::select(vec!["ecdsa-p256", "ed25519"]),
        ) {
            let (root, leaf) = (PrivateKey::generate("ed25519").unwrap(), PrivateKey::generate(algorithm).unwrap());
            let now = Timestamp::now();
            let of_root = Contents {
                common_name: Some("root".to_owned()),
                validity: Duration::from_secs(100_000 * 3600),
                role: Role::Authority { path_length: Some(1) },
                ..Contents::default()
            };
            let itself = Issuer { key: &root, certificate: None };
            let authority = issue(&of_root, &root.public().unwrap(), &itself, now).unwrap();
            let role = Role::Leaf {
                dns_names: dns_names.clone(),
                ip_addresses: ip_addresses.clone(),
                uris: uris.clone(),
                usages: usages.clone(),
            };
            let contents = Contents {
                common_name: common_name.clone(),
                organizations: organizations.clone(),
                validity: Duration::from_secs(hours * 3600),
                role,
            };
            let issuer = Issuer { key: &root, certificate: Some(&authority) };
            let issued = issue(&contents, &leaf.public().unwrap(), &issuer, now).unwrap();
            let read = &Certificate::chain_from_pem(&issued.pem()).unwrap()[0];
            prop_assert_eq!(read.common_name(), common_name);
            prop_assert_eq!(read.organizations(), organizations);
            prop_assert_eq!(read.dns_names(), dns_names);
            prop_assert_eq!(read.ip_addresses(), ip_addresses.iter().map(ToString::to_string).collect::<Vec<_>>());
            prop_assert_eq!(read.uris(), uris);
            prop_assert_eq!(read.usages(), usages);
            prop_assert_eq!(read.public_key(), leaf.public().unwrap());
            prop_assert!(read.is_issued_by(&authority) && authority.is_issued_by(&authority) && !authority.is_issued_by(read));
            prop_assert!(read.not_after() <= authority.not_after() && read.not_before() < now);
            prop_assert_eq!((read.authority(), authority.authority().unwrap().path_len_constraint), (None, Some(1)));
        }

        #[test]
        fn foreign_text_is_an_error_and_never_a_crash(text in "\\PC{0,200}") {
            prop_assert!(Certificate::chain_from_pem(&text).is_err());
            let framed = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            prop_assert!(Certificate::chain_from_pem(&framed).is_err());
        }
    }
}
