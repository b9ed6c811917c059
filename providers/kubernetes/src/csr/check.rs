//! The check of a request before its approval.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;

use super::{Expected, NODE_USER, Signer, State, state};

const NODES: &str = "system:nodes";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
const BOOTSTRAP_USER: &str = "system:bootstrap:";

/// Checks whether `request` may be approved.
///
/// # Errors
/// If a check fails, with the reason of the first one.
pub(crate) fn check(request: &CertificateSigningRequest, expected: &Expected) -> Result<(), String> {
    let spec = &request.spec;
    check_state(request)?;
    check_signer(spec, expected)?;
    check_requestor(spec, expected)?;
    check_usages(spec, expected.signer)?;
    check_expiration(spec, expected)?;
    with_parsed(&spec.request.0, |parsed| {
        parsed.verify_signature().map_err(|_| "its own signature is not valid".to_owned())?;
        check_subject(parsed, expected)?;
        check_names(parsed, expected)
    })?
}

/// Returns the node in the subject of `request`.
pub(crate) fn node_of(request: &CertificateSigningRequest) -> Option<String> {
    let name = with_parsed(&request.spec.request.0, |parsed| {
        let subject = &parsed.certification_request_info.subject;
        subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).map(str::to_owned)
    });
    name.ok().flatten()?.strip_prefix(NODE_USER).map(str::to_owned)
}

/// Parses the PEM text `bytes` and calls `read` with the request.
fn with_parsed<T>(bytes: &[u8], read: impl FnOnce(&X509CertificationRequest<'_>) -> T) -> Result<T, String> {
    let mut blocks = Pem::iter_from_buffer(bytes);
    let broken = || "it contains no certificate request in PEM format".to_owned();
    let pem = blocks.next().ok_or_else(broken)?.map_err(|_| broken())?;
    if blocks.next().is_some() {
        return Err("it contains more than one PEM block".to_owned());
    }
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(format!("it contains a {} instead of a certificate request", pem.label));
    }
    match X509CertificationRequest::from_der(&pem.contents) {
        Ok(([], parsed)) => Ok(read(&parsed)),
        _ => Err("its certificate request is not valid DER".to_owned()),
    }
}

fn check_state(request: &CertificateSigningRequest) -> Result<(), String> {
    match state(request) {
        State::Pending => Ok(()),
        State::Approved => Err("it is approved already".to_owned()),
        State::Issued => Err("its certificate is issued already".to_owned()),
        State::Refused => Err("it was denied or failed".to_owned()),
    }
}

fn check_signer(spec: &CertificateSigningRequestSpec, expected: &Expected) -> Result<(), String> {
    let wanted = expected.signer.name();
    if spec.signer_name == wanted { Ok(()) } else { Err(format!("its signer is {}, not {wanted}", spec.signer_name)) }
}

fn check_requestor(spec: &CertificateSigningRequestSpec, expected: &Expected) -> Result<(), String> {
    let user = spec.username.as_deref().unwrap_or_default();
    let groups = spec.groups.as_deref().unwrap_or_default();
    let node_user = format!("{NODE_USER}{}", expected.node);
    let bootstraps = expected.signer == Signer::Client && user.starts_with(BOOTSTRAP_USER);
    if user != node_user && !bootstraps {
        return Err(format!("its requestor is {user:?}, not {node_user:?}"));
    }
    // With the token of one node, nobody may become another node.
    let needed = if bootstraps { [BOOTSTRAPPERS, &expected.bootstrap_group].to_vec() } else { vec![NODES] };
    match needed.iter().find(|group| !groups.iter().any(|g| g == *group)) {
        None => Ok(()),
        Some(group) => Err(format!("its requestor {user:?} is not in the group {group}")),
    }
}

fn check_usages(spec: &CertificateSigningRequestSpec, signer: Signer) -> Result<(), String> {
    let auth = if signer == Signer::Serving { "server auth" } else { "client auth" };
    let usages = spec.usages.as_deref().unwrap_or_default();
    for required in ["digital signature", auth] {
        if !usages.iter().any(|u| u == required) {
            return Err(format!("its usages do not include {required:?}"));
        }
    }
    let allowed = ["digital signature", "key encipherment", auth];
    match usages.iter().find(|u| !allowed.contains(&u.as_str())) {
        Some(other) => Err(format!("its usages include {other:?}, which is not permitted for this certificate")),
        None => Ok(()),
    }
}

/// Checks the requested lifetime. Without one, the default of the signer applies.
fn check_expiration(spec: &CertificateSigningRequestSpec, expected: &Expected) -> Result<(), String> {
    let (Some(seconds), Some(limit)) = (spec.expiration_seconds, expected.max_expiration) else { return Ok(()) };
    let is_within = u64::try_from(seconds).is_ok_and(|seconds| seconds <= limit.as_secs());
    if is_within {
        Ok(())
    } else {
        Err(format!("it requests a lifetime of {seconds} s, but `max_expiration` is {} s", limit.as_secs()))
    }
}

fn check_subject(parsed: &X509CertificationRequest<'_>, expected: &Expected) -> Result<(), String> {
    let subject = &parsed.certification_request_info.subject;
    let names: Vec<_> = subject.iter_common_name().map(|n| n.as_str().unwrap_or_default()).collect();
    let organizations: Vec<_> = subject.iter_organization().map(|n| n.as_str().unwrap_or_default()).collect();
    let user = format!("{NODE_USER}{}", expected.node);
    if names != [user.as_str()] {
        return Err(format!("its CN is {names:?}, not {user:?}"));
    }
    if organizations != [NODES] {
        return Err(format!("its O is {organizations:?}, not exactly {NODES:?}"));
    }
    match subject.iter_attributes().count() {
        2 => Ok(()),
        _ => Err(format!("its subject {subject} contains more than CN and O")),
    }
}

/// Checks the requested extensions and each subject alternative name.
fn check_names(parsed: &X509CertificationRequest<'_>, expected: &Expected) -> Result<(), String> {
    let attributes = parsed.certification_request_info.iter_attributes();
    let requested: Vec<_> = attributes
        .filter_map(|a| match a.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(requested) => Some(requested),
            _ => None,
        })
        .collect();
    // Parsers differ in which one they use, so the signer could sign another one than was checked.
    if requested.len() > 1 {
        return Err("it has more than one set of requested extensions".to_owned());
    }
    let mut lists = Vec::new();
    for extension in requested.iter().flat_map(|r| &r.extensions) {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => lists.push(&names.general_names),
            ParsedExtension::BasicConstraints(constraints) if constraints.ca => {
                return Err("it requests a CA certificate".to_owned());
            }
            ParsedExtension::ParseError { .. } => {
                return Err(format!("its extension {} cannot be parsed", extension.oid));
            }
            _ => {}
        }
    }
    if lists.len() > 1 {
        return Err("it has more than one list of SANs".to_owned());
    }
    let names = lists.first().map(|names| names.as_slice()).unwrap_or_default();
    match (expected.signer, names.is_empty()) {
        (Signer::Serving, true) => Err("it has no SAN, neither DNS nor IP".to_owned()),
        (Signer::Client, false) => Err("a client certificate must not have SANs, but it requests some".to_owned()),
        _ => names.iter().try_for_each(|name| check_name(name, expected)),
    }
}

fn check_name(name: &GeneralName<'_>, expected: &Expected) -> Result<(), String> {
    let node = &expected.node;
    match name {
        GeneralName::DNSName(dns) if expected.dns_names.iter().any(|n| n == dns) => Ok(()),
        GeneralName::DNSName(dns) => {
            Err(format!("SAN DNS {dns:?} is not a name of {node} in the inventory ({})", expected.dns_names.join(", ")))
        }
        GeneralName::IPAddress(bytes) => check_address(bytes, expected),
        GeneralName::RFC822Name(mail) => Err(format!("SAN e-mail {mail:?}: a node does not have one")),
        GeneralName::URI(uri) => Err(format!("SAN URI {uri:?}: a node does not have one")),
        other => Err(format!("SAN {other:?}: only DNS names and IP addresses are permitted")),
    }
}

fn check_address(bytes: &[u8], expected: &Expected) -> Result<(), String> {
    let address = if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        IpAddr::from(Ipv4Addr::from(four))
    } else if let Ok(sixteen) = <[u8; 16]>::try_from(bytes) {
        IpAddr::from(Ipv6Addr::from(sixteen)).to_canonical()
    } else {
        return Err(format!("SAN IP of {} bytes is not an IP address", bytes.len()));
    };
    if expected.addresses.contains(&address) {
        return Ok(());
    }
    let known = expected.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Err(format!("SAN IP {address} is not an address of {} in the inventory ({known})", expected.node))
}
