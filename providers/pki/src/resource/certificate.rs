//! The resource type `pki_certificate`: a certificate and its private key in two files of a node.

use std::net::IpAddr;
use std::sync::LazyLock;

use jiff::{SignedDuration, Timestamp};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Declaration, Invalid, PlanRequest, Proposal, ProviderError, ResourceType, TargetKind};
use zeroize::Zeroizing;

use super::authority::{Signer, is_limited, issuer, not_issued};
use super::{algorithm, unusable};
use crate::attributes::{
    NO_CERTIFICATE_FILE, NO_KEY_FILE, attributes, certificate_attributes, check_lifetime, is_issued_again, lifetime,
    list, of_certificate, propose, spelled_as,
};
use crate::certificate::Certificate;
use crate::issue::{BACKDATED, Contents, Role, issue, leaf_usage};
use crate::key::{PrivateKey, PublicKey};
use crate::node_files::{NodeFile, NodeFiles};
use crate::store::Entries;

/// The resource type `pki_certificate`.
pub(crate) struct NodeCertificate;

/// The computed attributes that no change in place changes.
const KEPT: &[&str] = &["owner", "group"];

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let texts = |name, doc| Attribute::optional(name, Kind::list(Kind::String), doc);
    let [validity, renew_before] = lifetime("365d", "30d");
    let own = [
        Attribute::required("certificate_path", Kind::String, "Absolute path of the file with the certificate.").replaces(),
        Attribute::required("key_path", Kind::String, "Absolute path of the file with the private key (PKCS#8 in PEM).").replaces(),
        Attribute::required("authority", Kind::String, "The authority that issues the certificate: `${pki_authority.NAME.id}`."),
        Attribute::optional("common_name", Kind::String, "Common name of the subject. Kubernetes takes it as the name of the user."),
        texts("organizations", "Organizations of the subject. Kubernetes takes them as the groups of the user."),
        texts("dns_names", "DNS names of a server, such as `*.example.org`."),
        texts("ip_addresses", "IP addresses of a server."),
        texts("uris", "URIs, such as a SPIFFE ID."),
        Attribute::required("usages", Kind::list(Kind::OneOf(&["server", "client"])), "What the certificate is for: `server`, `client` or both."),
        Attribute::optional(
            "chain",
            Kind::String,
            "Certificates in PEM that follow in the file of the certificate: `${pki_authority.NAME.certificate}` of each authority below the root.",
        ),
        validity,
        renew_before,
        algorithm("Algorithm of the private key. A change makes a new key."),
        Attribute::optional("owner", Kind::String, "Owner of both files, by name or number. If unset, an existing file keeps it, and a new one belongs to the user that moorfast runs as on the node.").or_computed(),
        Attribute::optional("group", Kind::String, "Group of both files, by name or number. If unset, as for `owner`.").or_computed(),
        Attribute::optional("key_mode", Kind::Mode, "Permissions of the private key in octal.").or("0600"),
        Attribute::optional("certificate_mode", Kind::Mode, "Permissions of the certificate in octal.").or("0644"),
        Attribute::optional("parents", Kind::Bool, "Whether missing parent directories are created (mode 0755). They stay when the certificate is destroyed.").or(false).instruction(),
        Attribute::computed("key_matches", Kind::Bool, "Whether the private key on the node exists and fits the certificate."),
    ];
    let schema = Schema::new(
        "A certificate and its private key in two files of a node. The key is made once, is sent to the node over ssh, and is stored nowhere else. A renewal keeps \
         it. `moorfast apply -replace` makes a new one. Every plan checks the issuer, the subject, the names, the purposes and the validity, whether the key fits, and owner and \
         permissions of the files. A destroy removes both files.",
        own.into_iter().chain(certificate_attributes()),
    );
    Declaration { name: "pki_certificate", target_kind: TargetKind::Node, schema }
});

impl ResourceType for NodeCertificate {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        let (certificate, key) = (attributes.text("certificate_path")?, attributes.text("key_path")?);
        Some(format!("{certificate} with {key}"))
    }

    /// A renewal of the authority makes a longer certificate possible.
    fn planning_needs_dependencies(&self) -> bool {
        true
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut found: Vec<Invalid> = check_lifetime(attributes).into_iter().collect();
        for name in ["certificate_path", "key_path"] {
            let is_absolute = |path: &str| path.starts_with('/') && !path.ends_with('/');
            if let Some(path) = attributes.text(name).filter(|path| !is_absolute(path)) {
                found.push(Invalid::new(name, format!("`{path}` is not the absolute path of a file")));
            }
        }
        let (certificate, key) = (attributes.text("certificate_path"), attributes.text("key_path"));
        if certificate.is_some() && certificate == key {
            found.push(Invalid::new("key_path", "the certificate and its key are two files"));
        }
        let is_host = |name: &String| {
            let label =
                |label: &str| label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) && !label.is_empty();
            name.strip_prefix("*.").unwrap_or(name).split('.').all(label)
        };
        for name in attributes.texts("dns_names").iter().filter(|name| !is_host(name)) {
            found.push(Invalid::new("dns_names", format!("`{name}` is not a DNS name")));
        }
        for address in attributes.texts("ip_addresses").iter().filter(|address| address.parse::<IpAddr>().is_err()) {
            found.push(Invalid::new("ip_addresses", format!("`{address}` is not an IP address")));
        }
        let is_uri = |uri: &String| uri.is_ascii() && uri.split_once(':').is_some_and(|(scheme, _)| !scheme.is_empty());
        for uri in attributes.texts("uris").iter().filter(|uri| !is_uri(uri)) {
            found.push(Invalid::new("uris", format!("`{uri}` is not a URI")));
        }
        let is_empty_list = |name: &str| attributes.get(name).and_then(Value::as_list).is_some_and(<[Value]>::is_empty);
        if is_empty_list("usages") {
            found.push(
                Invalid::new("usages", "a certificate without a purpose is of no use")
                    .help("write usages = [\"server\"], for example"),
            );
        }
        let names = ["common_name", "dns_names", "ip_addresses", "uris"];
        let is_named =
            names.iter().any(|name| attributes.get(name).is_some_and(|v| !v.is_null() && !is_empty_list(name)));
        if !is_named {
            found.push(
                Invalid::block("the certificate names nobody").help("set `common_name` or `dns_names`, for example"),
            );
        }
        if let Some(Err(reason)) =
            attributes.text("chain").filter(|chain| !chain.trim().is_empty()).map(Certificate::chain_from_pem)
        {
            found.push(Invalid::new("chain", reason));
        }
        found
    }
}

/// Returns the attributes of the files that were found on a node. `None` if neither file exists. `settings` are the recorded attributes, or those of the
/// manifest.
pub(crate) fn observe(files: &NodeFiles, settings: &Attributes, entries: &Entries) -> Option<Attributes> {
    let existing: Vec<_> = [&files.key, &files.certificate].into_iter().flatten().collect();
    let first = existing.first()?;
    let setting = |name: &str| settings.get(name).cloned().unwrap_or_default();
    let common = |name: &str| {
        let values: Vec<_> = existing.iter().filter_map(|file| file.attributes.text(name)).collect();
        let is_one = values.iter().all(|value| Some(value) == values.first());
        // Two values are never the desired one.
        Value::from(if is_one {
            first.attributes.text(name).unwrap_or_default().to_owned()
        } else {
            values.join(" and ")
        })
    };
    // A missing file has no mode. Without a value there would be no difference to see.
    let mode = |file: Option<&NodeFile>, missing: &str| match file {
        Some(file) => file.attributes.get("mode").cloned().unwrap_or_default(),
        None => Value::from(missing),
    };
    let mut found = attributes([
        ("certificate_path", setting("certificate_path")),
        ("key_path", setting("key_path")),
        ("owner", common("owner")),
        ("group", common("group")),
        ("key_mode", mode(files.key.as_ref(), NO_KEY_FILE)),
        ("certificate_mode", mode(files.certificate.as_ref(), NO_CERTIFICATE_FILE)),
        ("parents", setting("parents")),
        ("renew_before", setting("renew_before")),
        ("key_matches", files.key_matches().into()),
    ]);
    let chain = files.certificate.as_ref().and_then(|file| Certificate::chain_from_pem(file.pem.as_deref()?).ok());
    if let Some([certificate, rest @ ..]) = chain.as_deref() {
        found.extend(attributes([
            ("authority", issuer(certificate, entries)),
            ("common_name", certificate.common_name().map_or(Value::Null, Value::from)),
            ("organizations", list(certificate.organizations())),
            ("dns_names", list(certificate.dns_names())),
            ("ip_addresses", list(certificate.ip_addresses())),
            ("uris", list(certificate.uris())),
            ("usages", list(certificate.usages())),
            ("chain", if rest.is_empty() { Value::Null } else { Value::from(pem(rest)) }),
            ("validity", setting("validity")),
            ("key_algorithm", certificate.public_key().algorithm().into()),
        ]));
        found.extend(attributes(of_certificate(
            certificate,
            settings.duration("renew_before"),
            is_limited(certificate, entries),
            Timestamp::now(),
        )));
    }
    spelled_as(settings, &mut found);
    Some(found)
}

/// Plans a certificate.
pub(crate) fn plan(request: &PlanRequest) -> Proposal {
    let mut request = request.clone();
    normalize(&mut request.desired);
    let observed = request.observed.as_ref().map(|observed| &observed.attributes);
    let reason = observed.and_then(|observed| unlike_issued(&request.desired, observed, Timestamp::now()));
    let mut proposal = propose(&request, KEPT, reason);
    proposal.consequences.extend(request.overwrite(&proposal, &["certificate", "key_matches"]));
    proposal
}

/// Returns why moorfast would not issue a certificate like the observed one for the desired attributes, as far as the observed attributes do not show it.
fn unlike_issued(desired: &Attributes, observed: &Attributes, now: Timestamp) -> Option<String> {
    let chain = Certificate::chain_from_pem(observed.text("certificate")?).ok()?;
    let certificate = chain.first()?;
    let validity = desired.duration("validity").and_then(|validity| SignedDuration::try_from(validity).ok());
    let latest = validity.and_then(|validity| now.checked_add(validity).ok()?.checked_add(BACKDATED).ok());
    let found = if certificate.authority().is_some() {
        "is a certificate of an authority".to_owned()
    } else if certificate.key_usage() != Some(leaf_usage(&certificate.public_key())) {
        "has another key usage".to_owned()
    } else if certificate.not_before() > now {
        format!("is not valid before {}", certificate.not_before())
    } else if latest.is_some_and(|latest| certificate.not_after() > latest) {
        "is valid for longer than `validity`".to_owned()
    } else {
        return None;
    };
    Some(format!("the certificate on the node {found}"))
}

/// Writes the modes and the chain as they are observed.
pub(crate) fn normalize(desired: &mut Attributes) {
    for name in ["key_mode", "certificate_mode"] {
        if let Some(mode) = desired.text(name) {
            let mode = format!("{:0>4}", mode.trim_start_matches("0o").trim_start_matches('0'));
            desired.insert(name.to_owned(), mode.into());
        }
    }
    match desired.text("chain").map(Certificate::chain_from_pem) {
        Some(Ok(chain)) => _ = desired.insert("chain".to_owned(), pem(&chain).into()),
        // An empty text is no chain; a damaged one was refused.
        Some(Err(_)) => _ = desired.remove("chain"),
        None => {}
    }
    desired.retain(|_, value| !value.is_null() && value.as_list().is_none_or(|items| !items.is_empty()));
}

/// What an operation writes to a node.
pub(crate) struct Written {
    /// The new private key in PEM. `None` if the existing key stays.
    pub(crate) key: Option<Zeroizing<String>>,
    /// The new certificate with its chain in PEM. `None` if the existing one stays.
    pub(crate) certificate: Option<String>,
    /// The public key.
    pub(crate) public: PublicKey,
}

/// Makes what an operation writes. `before` is what was found on the node, `known` the public key that the last apply left there.
///
/// # Errors
/// If the key store does not have the authority.
pub(crate) fn make(
    desired: &Attributes,
    observed: Option<&Attributes>,
    before: &NodeFiles,
    known: Option<&str>,
    entries: &Entries,
) -> Result<Written, ProviderError> {
    let now = Timestamp::now();
    let key_algorithm = desired.text("key_algorithm").unwrap_or_default();
    let kept = before.trusted_key(known).filter(|key| key.algorithm() == key_algorithm);
    let limited = before.first_certificate().is_some_and(|certificate| is_limited(&certificate, entries));
    if let (Some(public), Some(observed)) = (&kept, observed)
        && !is_issued_again(desired, observed, limited)
        && unlike_issued(desired, observed, now).is_none()
    {
        return Ok(Written { key: None, certificate: None, public: public.clone() });
    }
    let (key, public) = match kept {
        Some(public) => (None, public),
        None => {
            let key = PrivateKey::generate(key_algorithm).map_err(unusable)?;
            (Some(key.pem().map_err(unusable)?), key.public().map_err(unusable)?)
        }
    };
    let authority = Signer::find(entries, desired.text("authority").unwrap_or_default())?;
    let issuer = authority.issuer(now)?;
    let role = Role::Leaf {
        dns_names: desired.texts("dns_names"),
        ip_addresses: desired.texts("ip_addresses").iter().filter_map(|address| address.parse().ok()).collect(),
        uris: desired.texts("uris"),
        usages: desired.texts("usages"),
    };
    let contents = Contents {
        common_name: desired.text("common_name").map(str::to_owned),
        organizations: desired.texts("organizations"),
        validity: desired.duration("validity").unwrap_or_default(),
        role,
    };
    let certificate = issue(&contents, &public, &issuer, now).map_err(not_issued)?;
    let text = certificate.pem() + desired.text("chain").unwrap_or_default();
    Ok(Written { key, certificate: Some(text), public })
}

fn pem(chain: &[Certificate]) -> String {
    chain.iter().map(Certificate::pem).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::issue::Issuer;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    /// Returns the reason for a certificate of ten hours that is issued at this time, seen at `now`.
    fn reason(key_algorithm: &str, role: Role, issued_at: Timestamp, now: Timestamp) -> Option<String> {
        let key = PrivateKey::generate(key_algorithm).unwrap();
        let contents = Contents {
            common_name: Some("web".to_owned()),
            validity: Duration::from_secs(10 * 3600),
            role,
            ..Contents::default()
        };
        let issuer = Issuer { key: &key, certificate: None };
        let certificate = issue(&contents, &key.public().unwrap(), &issuer, issued_at).unwrap();
        let observed = attributes([("certificate", certificate.pem().into())]);
        unlike_issued(&attributes([("validity", "10h".into())]), &observed, now)
    }

    #[test]
    fn a_certificate_of_moorfast_is_not_issued_again_and_one_of_others_is() {
        let now = Timestamp::now();
        for algorithm in ["ecdsa-p256", "ed25519", "rsa-2048"] {
            for issued_at in [now, now - HOUR, now - 9 * HOUR] {
                assert_eq!(reason(algorithm, Role::default(), issued_at, now), None);
            }
        }
        let future = now + 2 * HOUR;
        let begins = Timestamp::from_second((future - BACKDATED).as_second()).unwrap();
        let not_yet = format!("the certificate on the node is not valid before {begins}");
        assert_eq!(reason("ed25519", Role::default(), future, now), Some(not_yet));
        let authority = Role::Authority { path_length: Some(0) };
        let is_authority = "the certificate on the node is a certificate of an authority".to_owned();
        assert_eq!(reason("ed25519", authority, now, now), Some(is_authority));
    }
}
