//! Certificate signing requests of kubelets: whose they are, how far they are, and whether they ask for what they may.

mod check;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

pub(crate) use check::{check, node_of};

/// The user name of a kubelet is this and the name of its node.
pub(crate) const NODE_USER: &str = "system:node:";
/// The reason that we write into an approval.
pub(crate) const APPROVAL_REASON: &str = "MoorfastApproved";

/// Which certificate a kubelet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signer {
    /// The one that it shows to whom it serves.
    Serving,
    /// The one that it logs in with.
    Client,
}

impl Signer {
    /// Its names, as attributes write them.
    pub(crate) const NAMES: [&str; 2] =
        ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet"];

    /// The signer of this name.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        [Signer::Serving, Signer::Client].into_iter().find(|s| s.name() == name)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Signer::Serving => Self::NAMES[0],
            Signer::Client => Self::NAMES[1],
        }
    }
}

/// How far a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nobody decided.
    Pending,
    /// It is approved and not yet signed.
    Approved,
    /// The certificate is there.
    Issued,
    /// Somebody denied it, or the signer failed.
    Refused,
}

/// How far `request` is.
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

/// What the inventory says of a node: the only things that its certificate may say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Expected {
    /// The node's name.
    pub(crate) node: String,
    /// Which certificate.
    pub(crate) signer: Signer,
    /// The group of the token with which it joins.
    pub(crate) bootstrap_group: String,
    /// The addresses that it may have.
    pub(crate) addresses: Vec<IpAddr>,
    /// The names that it may have.
    pub(crate) dns_names: Vec<String>,
    /// How long it may be asked for.
    pub(crate) max_expiration: Option<Duration>,
}
