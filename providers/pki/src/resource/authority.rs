//! The resource type `pki_authority`: a certificate authority whose key is in the key store.

use jiff::Timestamp;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, Declaration, Invalid, ProviderError, TargetKind};

use super::{algorithm, key_of, name, unusable};
use crate::attributes::{
    attributes, certificate_attributes, check_lifetime, is_issued_again, lifetime, list, of_certificate,
};
use crate::certificate::Certificate;
use crate::issue::{Contents, IssueError, Issuer, Role, issue};
use crate::key::{PrivateKey, PublicKey};
use crate::store::{Entries, Entry};
use crate::stored::Stored;

/// The resource type `pki_authority`.
pub(crate) struct Authority;

const KIND: &str = "authority";

/// An authority that can issue certificates.
pub(crate) struct Signer {
    pub(crate) key: PrivateKey,
    pub(crate) certificate: Certificate,
    /// What names this authority and its key in a manifest.
    pub(crate) id: String,
}

impl Signer {
    /// Returns the authority with this `id`.
    ///
    /// # Errors
    /// If the key store does not contain it, or contains it with another key.
    pub(crate) fn find(entries: &Entries, id: &str) -> Result<Self, ProviderError> {
        let unknown = || {
            ProviderError::new(Class::Invalid, format!("the key store does not contain the authority `{id}`"))
                .help("refer to a resource: authority = \"${pki_authority.NAME.id}\"")
                .attribute("authority")
        };
        let (name, _) = id.rsplit_once(':').ok_or_else(unknown)?;
        let found = Self::named(entries, name)?.ok_or_else(unknown)?;
        if found.id == id { Ok(found) } else { Err(unknown()) }
    }

    /// Returns the authority with this name in the key store.
    ///
    /// # Errors
    /// If its entry is damaged.
    pub(crate) fn named(entries: &Entries, name: &str) -> Result<Option<Self>, ProviderError> {
        entries.existing(&format!("{KIND}/{name}")).map(|entry| Self::of(name, entry)).transpose()
    }

    /// Returns the authority as an issuer of certificates.
    ///
    /// # Errors
    /// If its own certificate has expired. Nobody would accept what it issues.
    pub(crate) fn issuer(&self, now: Timestamp) -> Result<Issuer<'_>, ProviderError> {
        let at = self.certificate.not_after();
        if at <= now {
            let expired = format!("the authority `{}` expired at {at}", self.id);
            return Err(ProviderError::new(Class::Invalid, expired)
                .help("apply its renewal first")
                .attribute("authority"));
        }
        Ok(Issuer { key: &self.key, certificate: Some(&self.certificate) })
    }

    fn of(name: &str, entry: &Entry) -> Result<Self, ProviderError> {
        let (key, public, certificate) = parts(entry)?;
        Ok(Self { key, certificate, id: id(name, &public) })
    }
}

/// Returns the authority in the key store that issued `certificate`: its `id`, and its certificate. No key is read for it, because every reading of a
/// certificate asks.
fn issuer_of(certificate: &Certificate, entries: &Entries) -> Option<(String, Certificate)> {
    let issuer = |(identity, entry): (&str, &Entry)| {
        let name = identity.strip_prefix(KIND)?.strip_prefix('/')?;
        let authority = certificate_of(entry).ok().filter(|authority| certificate.is_issued_by(authority))?;
        Some((id(name, &authority.public_key()), authority))
    };
    entries.iter().find_map(issuer)
}

impl Stored for Authority {
    fn declaration(&self) -> Declaration {
        let [validity, renew_before] = lifetime("3650d", "365d");
        let own = [
            name(),
            Attribute::optional(
                "authority",
                Kind::String,
                "The authority that issues the certificate of this one: `${pki_authority.NAME.id}`. Without it, this one is a root.",
            ),
            Attribute::required("common_name", Kind::String, "Common name of the subject.").replaces(),
            Attribute::optional("organizations", Kind::list(Kind::String), "Organizations of the subject.").replaces(),
            Attribute::optional(
                "path_length",
                Kind::Integer,
                "How many authorities there may be below this one, at most 255. Default: any number.",
            ),
            validity,
            renew_before,
            algorithm("Algorithm of the key.").replaces(),
            Attribute::computed(
                "id",
                Kind::String,
                "What names this authority and its key in other resources. It stays the same when the certificate is renewed.",
            ),
            Attribute::computed(
                "private_key",
                Kind::String,
                "The private key in PEM (PKCS#8), for a program that issues certificates itself, such as kube-controller-manager.",
            )
            .secret(),
        ];
        let schema = Schema::new(
            "A certificate authority. Its private key is made once and stays in the key store. It leaves this machine only if another resource refers to \
             `private_key`. A renewal keeps the key, so that certificates that it issued stay valid. A destroy removes the key from the key store.",
            own.into_iter().chain(certificate_attributes()),
        );
        Declaration { name: "pki_authority", target_kind: TargetKind::Provider, schema }
    }

    fn kind(&self) -> &'static str {
        KIND
    }

    fn kept(&self) -> &'static [&'static str] {
        &["id", "private_key"]
    }

    fn dependants(&self) -> &'static str {
        "every certificate that its key issued, for all who stop trusting it"
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let length = attributes.get("path_length").and_then(Value::as_i64).filter(|n| u8::try_from(*n).is_err());
        let invalid = |n| Invalid::new("path_length", format!("`path_length` must be 0 to 255, not {n}"));
        length.map(invalid).into_iter().chain(check_lifetime(attributes)).collect()
    }

    fn is_limited(&self, entry: &Entry, entries: &Entries) -> bool {
        certificate_of(entry).is_ok_and(|certificate| is_limited(&certificate, entries))
    }

    fn secret_id(&self, entry: &Entry) -> Option<String> {
        Some(parts(entry).ok()?.1.digest())
    }

    fn observe(&self, entry: &Entry, entries: &Entries, settings: &Attributes) -> Result<Attributes, ProviderError> {
        let Signer { key, certificate, id } = Signer::of(settings.text("name").unwrap_or_default(), entry)?;
        let limited = is_limited(&certificate, entries);
        let setting = |name: &str| settings.get(name).cloned().unwrap_or_default();
        let path_length = certificate.authority().and_then(|constraints| constraints.path_len_constraint);
        let mut found = attributes([
            ("authority", issuer(&certificate, entries)),
            ("common_name", certificate.common_name().map_or(Value::Null, Value::from)),
            ("organizations", list(certificate.organizations())),
            ("path_length", path_length.map_or(Value::Null, |n| Value::from(i64::from(n)))),
            ("validity", setting("validity")),
            ("renew_before", setting("renew_before")),
            ("key_algorithm", certificate.public_key().algorithm().into()),
            ("id", id.into()),
            ("private_key", Value::from(key.pem().map_err(unusable)?.as_str()).sensitive()),
        ]);
        found.extend(attributes(of_certificate(
            &certificate,
            settings.duration("renew_before"),
            limited,
            Timestamp::now(),
        )));
        Ok(found)
    }

    fn make(&self, desired: &Attributes, entries: &Entries) -> Result<Entry, ProviderError> {
        let key = PrivateKey::generate(desired.text("key_algorithm").unwrap_or_default()).map_err(unusable)?;
        issued(key, desired, entries)
    }

    fn change(
        &self,
        desired: &Attributes,
        observed: &Attributes,
        entries: &Entries,
        before: &Entry,
    ) -> Result<Entry, ProviderError> {
        let (key, _, certificate) = parts(before)?;
        match is_issued_again(desired, observed, is_limited(&certificate, entries)) {
            true => issued(key, desired, entries),
            false => Ok(before.clone()),
        }
    }
}

/// Returns the entry of an authority with this key and a new certificate.
fn issued(key: PrivateKey, desired: &Attributes, entries: &Entries) -> Result<Entry, ProviderError> {
    let path_length = desired.get("path_length").and_then(Value::as_i64).and_then(|n| u8::try_from(n).ok());
    let contents = Contents {
        common_name: desired.text("common_name").map(str::to_owned),
        organizations: desired.texts("organizations"),
        validity: desired.duration("validity").unwrap_or_default(),
        role: Role::Authority { path_length },
    };
    let parent = desired.text("authority").map(|id| Signer::find(entries, id)).transpose()?;
    let now = Timestamp::now();
    let issuer = match &parent {
        Some(parent) => parent.issuer(now)?,
        None => Issuer { key: &key, certificate: None },
    };
    let public = key.public().map_err(unusable)?;
    let certificate = issue(&contents, &public, &issuer, now).map_err(not_issued)?;
    Ok(Entry::Authority { private_key: key.pem().map_err(unusable)?, certificate: certificate.pem() })
}

/// Returns the `id` of the authority that issued `certificate`. Null if it is the certificate of a root.
pub(crate) fn issuer(certificate: &Certificate, entries: &Entries) -> Value {
    match issuer_of(certificate, entries) {
        _ if certificate.is_issued_by(certificate) => Value::Null,
        Some((id, _)) => Value::from(id),
        None => Value::from(format!("an unknown authority: {}", certificate.issuer())),
    }
}

/// Whether the certificate expires with that of its authority, so that a renewal would not make it longer.
pub(crate) fn is_limited(certificate: &Certificate, entries: &Entries) -> bool {
    let authority = issuer_of(certificate, entries).filter(|_| !certificate.is_issued_by(certificate));
    authority.is_some_and(|(_, authority)| certificate.not_after() >= authority.not_after())
}

/// Returns the error of a certificate that cannot be issued.
pub(crate) fn not_issued(error: IssueError) -> ProviderError {
    ProviderError::new(Class::Failed, format!("cannot issue the certificate: {error}"))
}

fn id(name: &str, key: &PublicKey) -> String {
    format!("{name}:{}", &key.digest()[..16])
}

fn parts(entry: &Entry) -> Result<(PrivateKey, PublicKey, Certificate), ProviderError> {
    let Entry::Authority { private_key, .. } = entry else { return Err(damaged()) };
    let (key, public) = key_of(private_key)?;
    Ok((key, public, certificate_of(entry)?))
}

fn certificate_of(entry: &Entry) -> Result<Certificate, ProviderError> {
    let Entry::Authority { certificate, .. } = entry else { return Err(damaged()) };
    let certificate = Certificate::chain_from_pem(certificate).ok().and_then(|mut chain| chain.pop());
    certificate.ok_or_else(damaged)
}

fn damaged() -> ProviderError {
    ProviderError::new(Class::Failed, "an authority in the key store is damaged")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::*;

    /// Returns a key store with the authority `root`, which has expired, and its `id`.
    pub(crate) fn expired() -> (Entries, String) {
        let key = PrivateKey::generate("ed25519").unwrap();
        let contents = Contents {
            common_name: Some("root".to_owned()),
            validity: Duration::from_secs(3600),
            role: Role::Authority { path_length: None },
            ..Contents::default()
        };
        let issuer = Issuer { key: &key, certificate: None };
        let then = Timestamp::now() - SignedDuration::from_hours(2);
        let certificate = issue(&contents, &key.public().unwrap(), &issuer, then).unwrap().pem();
        let mut entries = Entries::default();
        entries.put("authority/root", Entry::Authority { private_key: key.pem().unwrap(), certificate });
        let id = Signer::named(&entries, "root").unwrap().unwrap().id;
        (entries, id)
    }

    #[test]
    fn an_expired_authority_issues_no_authority() {
        let (entries, id) = expired();
        let desired = |parent: Option<&str>| {
            attributes([
                ("common_name", "below".into()),
                ("key_algorithm", "ed25519".into()),
                ("validity", "24h".into()),
                ("authority", parent.map_or(Value::Null, Value::from)),
            ])
        };
        let error = Authority.make(&desired(Some(&id)), &entries).unwrap_err();
        assert!(error.summary.starts_with(&format!("the authority `{id}` expired at ")), "{error}");
        assert!(Authority.make(&desired(None), &entries).is_ok(), "a root needs no other authority");
    }
}
