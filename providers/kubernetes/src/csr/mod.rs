//! Certificate signing requests of kubelets: their node, their state and the check before an approval.

mod check;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub(crate) use check::{check, node_of};

/// The prefix of the user name of a kubelet; the name of the node follows.
pub(crate) const NODE_USER: &str = "system:node:";
/// The reason in an approval by moorfast.
pub(crate) const APPROVAL_REASON: &str = "MoorfastApproved";

/// The signer of a kubelet certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The signer of serving certificates.
    Serving,
    /// The signer of client certificates.
    Client,
}

impl Signer {
    /// The names of the signers, as in attributes.
    pub(crate) const NAMES: [&str; 2] =
        ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

    /// Returns the signer with this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Signer::Serving, Signer::Client].into_iter().find(|s| s.name() == name)
    }

    /// Returns the name of the signer.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signer::Serving => Self::NAMES[0],
            Signer::Client => Self::NAMES[1],
        }
    }
}

/// The state of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Neither approved nor denied.
    Pending,
    /// Approved, but not signed yet.
    Approved,
    /// The certificate is issued.
    Issued,
    /// Denied, or the signer failed.
    Refused,
}

/// Returns the state of a request.
pub(crate) fn state(request: &CertificateSigningRequest) -> State {
    let Some(status) = &request.status else { return State::Pending };
    let has = |name: &str| status.conditions.iter().flatten().any(|c| c.type_ == name && c.status == "True");
    if has("Denied") || has("Failed") {
        return State::Refused;
    }
    match (has("Approved"), &status.certificate) {
        (true, Some(certificate)) if !certificate.0.is_empty() => State::Issued,
        (true, _) => State::Approved,
        (false, _) => State::Pending,
    }
}

/// The expected contents of the certificate of a node, from the manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    /// The name of the node.
    pub(crate) node: String,
    /// The signer.
    pub(crate) signer: Signer,
    /// The group of the token with which the node joins.
    pub(crate) bootstrap_group: String,
    /// The permitted IP addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// The permitted DNS names.
    pub(crate) dns_names: Vec<String>,
    /// The longest permitted lifetime.
    pub(crate) max_expiration: Option<Duration>,
}
