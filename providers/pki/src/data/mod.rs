//! The data source `pki_certificate`: what a certificate in PEM says.

use std::sync::LazyLock;

use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value};
use moorfast_engine::provider::{Class, DataRequest, Declaration, Invalid, ProviderError, ResourceType, TargetKind};

use crate::attributes::attributes;
use crate::certificate::Certificate;

/// The data source `pki_certificate`.
pub(crate) struct CertificateData;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let text = |name, doc| Attribute::computed(name, Kind::String, doc);
    let texts = |name, doc| Attribute::computed(name, Kind::list(Kind::String), doc);
    let schema = Schema::new(
        "What a certificate says. It reads the first certificate of a text in PEM, and neither a key nor the key store.",
        [
            Attribute::required(
                "certificate",
                Kind::String,
                "The certificate in PEM, for example `${file(\"ca.pem\")}`.",
            ),
            text("subject", "The subject, as RFC 4514 writes it: `CN=web,O=example`."),
            text("issuer", "The subject of the issuer."),
            text("common_name", "The common name of the subject. Empty if there is none."),
            texts("organizations", "The organizations of the subject."),
            texts("dns_names", "The DNS names."),
            texts("ip_addresses", "The IP addresses."),
            texts("uris", "The URIs."),
            texts("usages", "The purposes: `server`, `client`, and the object identifiers of others."),
            Attribute::computed("is_authority", Kind::Bool, "Whether it is the certificate of an authority."),
            text("not_before", "When the certificate begins to be valid, as in RFC 3339."),
            text("not_after", "When the certificate expires, as in RFC 3339."),
            text("serial", "The serial number in hexadecimal digits."),
            text("fingerprint", "The SHA-256 of the certificate in hexadecimal digits."),
            text("key_algorithm", "The algorithm of the public key."),
            text("public_key", "The public key in PEM."),
        ],
    );
    Declaration { name: "pki_certificate", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for CertificateData {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        None
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let read = attributes.text("certificate").map(Certificate::chain_from_pem);
        read.and_then(Result::err).map(|reason| Invalid::new("certificate", reason)).into_iter().collect()
    }
}

/// Returns the attributes of the certificate in the arguments.
pub(crate) fn read(request: &DataRequest) -> Result<Attributes, ProviderError> {
    let given = request.arguments.get("certificate").cloned().unwrap_or_default();
    let invalid = |reason| ProviderError::new(Class::Invalid, reason).attribute("certificate");
    let chain = Certificate::chain_from_pem(given.as_str().unwrap_or_default()).map_err(invalid)?;
    let certificate = chain.first().ok_or_else(|| invalid("there is no certificate in PEM".to_owned()))?;
    let texts = |texts: Vec<String>| Value::List(texts.into_iter().map(Value::from).collect());
    Ok(attributes([
        ("certificate", given),
        ("subject", certificate.subject().into()),
        ("issuer", certificate.issuer().into()),
        ("common_name", certificate.common_name().unwrap_or_default().into()),
        ("organizations", texts(certificate.organizations())),
        ("dns_names", texts(certificate.dns_names())),
        ("ip_addresses", texts(certificate.ip_addresses())),
        ("uris", texts(certificate.uris())),
        ("usages", texts(certificate.usages())),
        ("is_authority", certificate.authority().is_some().into()),
        ("not_before", certificate.not_before().to_string().into()),
        ("not_after", certificate.not_after().to_string().into()),
        ("serial", certificate.serial().into()),
        ("fingerprint", certificate.fingerprint().into()),
        ("key_algorithm", certificate.public_key().algorithm().into()),
        ("public_key", certificate.public_key().pem().into()),
    ]))
}
