//! Valid and invalid requests, as a table of cases.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};

use super::*;

fn expected() -> Expected {
    Expected {
        node: "gpu01".to_owned(),
        signer: Signer::Serving,
        bootstrap_group: "system:bootstrappers:gpu01".to_owned(),
        addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        dns_names: vec!["gpu01".to_owned()],
        max_expiration: Some(Duration::from_secs(3600)),
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn ip(address: &str) -> SanType {
    SanType::IpAddress(address.parse().unwrap())
}

/// The contents of a request.
struct Case {
    common_name: &'static str,
    organizations: Vec<&'static str>,
    country: bool,
    names: Vec<SanType>,
    user: &'static str,
    groups: Vec<&'static str>,
    usages: Vec<&'static str>,
    signer: &'static str,
    expiration: Option<i32>,
    condition: Option<&'static str>,
    spoil: fn(Vec<u8>) -> Vec<u8>,
}

fn serving() -> Case {
    Case {
        common_name: "system:node:gpu01",
        organizations: vec!["system:nodes"],
        country: false,
        names: vec![dns("gpu01"), ip("10.0.0.1")],
        user: "system:node:gpu01",
        groups: vec!["system:nodes", "system:authenticated"],
        usages: vec!["digital signature", "server auth"],
        signer: Signer::NAMES[0],
        expiration: None,
        condition: None,
        spoil: |pem| pem,
    }
}

fn client() -> Case {
    Case {
        names: Vec::new(),
        user: "system:bootstrap:07401b",
        groups: vec!["system:bootstrappers", "system:bootstrappers:gpu01"],
        usages: vec!["digital signature", "client auth"],
        signer: Signer::NAMES[1],
        ..serving()
    }
}

impl Case {
    fn build(&self) -> CertificateSigningRequest {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        // rcgen stores one value for each type of name.
        params.distinguished_name.push(DnType::CommonName, self.common_name);
        if let [only] = self.organizations.as_slice() {
            params.distinguished_name.push(DnType::OrganizationName, *only);
        }
        if self.country {
            params.distinguished_name.push(DnType::CountryName, "DE");
        }
        params.subject_alt_names = self.names.clone();
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap().into_bytes();
        let owned = |texts: &[&str]| Some(texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
        let condition = |name: &str| CertificateSigningRequestCondition {
            type_: name.to_owned(),
            status: "True".to_owned(),
            ..Default::default()
        };
        CertificateSigningRequest {
            spec: CertificateSigningRequestSpec {
                request: ByteString((self.spoil)(pem)),
                signer_name: self.signer.to_owned(),
                username: Some(self.user.to_owned()),
                groups: owned(&self.groups),
                usages: owned(&self.usages),
                expiration_seconds: self.expiration,
                ..Default::default()
            },
            status: self.condition.map(|name| CertificateSigningRequestStatus {
                conditions: Some(vec![condition(name)]),
                certificate: None,
            }),
            ..Default::default()
        }
    }
}

/// Changes the last byte of what the PEM text holds, which belongs to the signature.
fn break_signature(pem: Vec<u8>) -> Vec<u8> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let text = String::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|l| !l.starts_with("-----")).collect();
    let mut der = STANDARD.decode(body).unwrap();
    *der.last_mut().unwrap() ^= 1;
    format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der))
        .into_bytes()
}

#[test]
fn good_requests_are_approved() {
    let cases = [
        ("the kubelet's own form", serving()),
        ("an address alone", Case { names: vec![ip("10.0.0.1")], ..serving() }),
        ("IPv6", Case { names: vec![ip("fd00::1")], ..serving() }),
        ("an RSA kubelet", Case { usages: vec!["key encipherment", "digital signature", "server auth"], ..serving() }),
        ("a short time", Case { expiration: Some(3600), ..serving() }),
    ];
    for (what, case) in cases {
        assert_eq!(check(&case.build(), &expected()), Ok(()), "{what}");
    }
    let client_expected = Expected { signer: Signer::Client, ..expected() };
    let renewal = Case { user: "system:node:gpu01", groups: vec!["system:nodes"], ..client() };
    for (what, case) in [("bootstrap", client()), ("renewal", renewal)] {
        assert_eq!(check(&case.build(), &client_expected), Ok(()), "{what}");
    }
    let any_token = Expected { bootstrap_group: "system:bootstrappers".to_owned(), ..client_expected };
    assert_eq!(check(&Case { groups: vec!["system:bootstrappers"], ..client() }.build(), &any_token), Ok(()));
}

#[test]
fn invalid_requests_are_refused_with_the_reason() {
    let cases = [
        (
            Case { names: vec![dns("gpu01"), ip("10.9.9.9")], ..serving() },
            "SAN IP 10.9.9.9 is not an address of gpu01 in the inventory (10.0.0.1, fd00::1)",
        ),
        (
            Case { names: vec![dns("gpu02")], ..serving() },
            "SAN DNS \"gpu02\" is not a name of gpu01 in the inventory (gpu01)",
        ),
        (Case { names: vec![dns("*.gpu01")], ..serving() }, "SAN DNS \"*.gpu01\" is not a name"),
        (
            Case { names: vec![dns("gpu01"), SanType::Rfc822Name("a@b".try_into().unwrap())], ..serving() },
            "SAN e-mail \"a@b\"",
        ),
        (
            Case { names: vec![dns("gpu01"), SanType::URI("spiffe://x".try_into().unwrap())], ..serving() },
            "SAN URI \"spiffe://x\"",
        ),
        (Case { names: Vec::new(), ..serving() }, "it has no SAN"),
        (
            Case { common_name: "system:node:gpu02", ..serving() },
            "its CN is [\"system:node:gpu02\"], not \"system:node:gpu01\"",
        ),
        (Case { organizations: vec!["system:masters"], ..serving() }, "its O is [\"system:masters\"]"),
        (Case { organizations: Vec::new(), ..serving() }, "its O is []"),
        (Case { country: true, ..serving() }, "contains more than CN and O"),
        (Case { user: "system:node:gpu02", ..serving() }, "its requestor is \"system:node:gpu02\""),
        (Case { user: "system:bootstrap:07401b", ..serving() }, "its requestor is \"system:bootstrap:07401b\""),
        (Case { user: "admin", ..serving() }, "its requestor is \"admin\""),
        (Case { groups: vec!["system:authenticated"], ..serving() }, "is not in the group system:nodes"),
        (
            Case { usages: vec!["digital signature", "server auth", "client auth"], ..serving() },
            "its usages include \"client auth\"",
        ),
        (Case { usages: vec!["digital signature"], ..serving() }, "its usages do not include \"server auth\""),
        (Case { usages: vec!["server auth"], ..serving() }, "its usages do not include \"digital signature\""),
        (
            Case { usages: vec!["digital signature", "server auth", "cert sign"], ..serving() },
            "its usages include \"cert sign\"",
        ),
        (Case { signer: Signer::NAMES[1], ..serving() }, "its signer is kubernetes.io/kube-apiserver-client-kubelet"),
        (Case { signer: "kubernetes.io/legacy-unknown", ..serving() }, "its signer is kubernetes.io/legacy-unknown"),
        (
            Case { expiration: Some(3601), ..serving() },
            "it requests a lifetime of 3601 s, but `max_expiration` is 3600 s",
        ),
        (Case { expiration: Some(-1), ..serving() }, "it requests a lifetime of -1 s"),
        (Case { condition: Some("Approved"), ..serving() }, "it is approved already"),
        (Case { condition: Some("Denied"), ..serving() }, "it was denied"),
        (Case { spoil: break_signature, ..serving() }, "its own signature is not valid"),
        (Case { spoil: |_| b"hello".to_vec(), ..serving() }, "it contains no certificate request in PEM"),
        (Case { spoil: |pem| [pem.clone(), pem].concat(), ..serving() }, "it contains more than one PEM block"),
        (
            Case {
                spoil: |pem| String::from_utf8(pem).unwrap().replace("CERTIFICATE REQUEST", "CERTIFICATE").into_bytes(),
                ..serving()
            },
            "it contains a CERTIFICATE instead",
        ),
    ];
    for (case, reason) in cases {
        let refused = check(&case.build(), &expected()).unwrap_err();
        assert!(refused.contains(reason), "expected {reason:?}, got {refused:?}");
    }
}

#[test]
fn invalid_client_requests_are_refused_with_the_reason() {
    let cases = [
        (Case { names: vec![dns("gpu01")], ..client() }, "a client certificate must not have SANs"),
        (Case { user: "system:node:gpu02", ..client() }, "its requestor is"),
        (Case { groups: vec!["system:authenticated"], ..client() }, "is not in the group system:bootstrappers"),
        (
            Case { groups: vec!["system:bootstrappers", "system:bootstrappers:gpu02"], ..client() },
            "is not in the group system:bootstrappers:gpu01",
        ),
        (
            Case { usages: vec!["digital signature", "server auth"], ..client() },
            "its usages do not include \"client auth\"",
        ),
        (Case { common_name: "system:node:gpu02", ..client() }, "its CN is"),
    ];
    let expected = Expected { signer: Signer::Client, ..expected() };
    for (case, reason) in cases {
        let refused = check(&case.build(), &expected).unwrap_err();
        assert!(refused.contains(reason), "expected {reason:?}, got {refused:?}");
    }
}

#[test]
fn the_node_of_a_request_is_in_its_subject() {
    assert_eq!(node_of(&client().build()).as_deref(), Some("gpu01"));
    assert_eq!(node_of(&Case { common_name: "admin", ..client() }.build()), None);
}
