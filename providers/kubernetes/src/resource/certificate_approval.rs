//! The resource type `kubernetes_certificate_approval`: approves a certificate request of a kubelet if it matches the inventory.

use std::net::IpAddr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use serde_json::json;
use tokio::time::Instant;
use x509_parser::pem::Pem;

use crate::attributes::{list, optional};
use crate::cluster::{CertificateRequests, Cluster, FIELD_MANAGER};
use crate::csr::{APPROVAL_REASON, Expected, NODE_USER, Signer, State, check, node_of, state};
use crate::permission::Permission;
use crate::resource::bootstrap_token::node_group;
use crate::resource::{Reading, Resource, fail_all};
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

const PAUSE: Duration = Duration::from_secs(1);
/// How many polls of the requests pass before the kubelet is asked again whether it has a certificate already.
const POLLS_PER_KUBELET_CHECK: u32 = 5;
/// How long a request that does not match is tolerated. It can be left over from an earlier start of the kubelet, and the correct one follows.
const MISMATCH_TOLERANCE: Duration = Duration::from_secs(20);
/// How long the controller manager has to approve a client certificate before moorfast does.
const CONTROLLER_GRACE: Duration = Duration::from_secs(5);
/// The recorded attributes of the certificate. They describe the last approval and are never compared.
const CERTIFICATE_ATTRIBUTES: [&str; 4] = ["csr", "approved_at", "expires_at", "serial"];

/// The resource type `kubernetes_certificate_approval`.
pub(crate) struct CertificateApproval;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let schema = Schema::new(
        "The approval of a kubelet's certificate. An apply waits for the certificate request of the node, checks it, and approves the newest request that \
         matches. The API server signs every approved serving certificate, so the check covers the signer, the requestor and its groups, the common \
         name and organization, the usages, the signature of the request, and every DNS name and IP address: each of them must be listed here. A \
         request with anything else stays pending, and the error names the mismatch.\n\n\
         The controller manager approves client certificates if RBAC permits it. An apply waits for that approval first and approves the request \
         itself otherwise.",
        [
            Attribute::required("node", Kind::String, "Name of the Node.").replaces(),
            Attribute::optional("signer", Kind::OneOf(&Signer::NAMES), "Certificate to approve.")
                .or(Signer::NAMES[0])
                .replaces(),
            Attribute::optional(
                "addresses",
                Kind::list(Kind::String),
                "IP addresses that a serving certificate may contain. Required for a serving certificate unless `allow_node_addresses` is set.",
            ),
            Attribute::optional(
                "dns_names",
                Kind::list(Kind::String),
                "DNS names that a serving certificate may contain. Default: the name of the node.",
            )
            .or_computed(),
            Attribute::optional(
                "allow_node_addresses",
                Kind::Bool,
                "Whether to permit the addresses of the Node object as well. The kubelet itself sets these addresses.",
            )
            .or(false),
            Attribute::optional(
                "max_expiration",
                Kind::Duration,
                "Longest lifetime that a request may ask for. Without a lifetime in the request, the default of the signer applies.",
            ),
            Attribute::optional(
                "bootstrap_group",
                Kind::String,
                "Group of the token with which the node requests its client certificate. Default: `system:bootstrappers:NODE`, the default of \
                 `kubernetes_bootstrap_token`. With `system:bootstrappers`, the holder of any bootstrap token can become this node.",
            ),
            Attribute::computed("pending", Kind::list(Kind::String), "Matching requests that wait for approval."),
            Attribute::computed("csr", Kind::String, "Name of the CertificateSigningRequest that was approved last."),
            Attribute::computed("approved_at", Kind::String, "Time of the approval (RFC 3339)."),
            Attribute::computed("expires_at", Kind::String, "Expiry time of the certificate (RFC 3339)."),
            Attribute::computed("serial", Kind::String, "Serial number of the certificate."),
        ],
    );
    Declaration { name: "kubernetes_certificate_approval", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for CertificateApproval {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut found = Vec::new();
        for address in attributes.texts("addresses").iter().filter(|a| a.parse::<IpAddr>().is_err()) {
            let message = format!("`{address}` is not a valid IP address");
            found.push(Invalid {
                attribute: Some("addresses"),
                message,
                help: Some("put a name into `dns_names`".to_owned()),
            });
        }
        let has_none = !attributes.is_unknown_or_retained("addresses") && attributes.texts("addresses").is_empty();
        if signer(attributes) == Signer::Serving
            && has_none
            && !attributes.flag("allow_node_addresses")
            && !attributes.is_unknown_or_retained("allow_node_addresses")
        {
            let help = "list the addresses that the certificate may contain: addresses = [\"${node.address}\"]";
            let message = "a serving certificate needs `addresses`".to_owned();
            found.push(Invalid::new("addresses", message).help(help));
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("node").map(|node| identity(signer(attributes), node))
    }

    fn is_bound_to_machine(&self) -> bool {
        true
    }
}

#[async_trait]
impl Resource for CertificateApproval {
    fn permissions(&self, _: &Attributes) -> Vec<Permission> {
        let requests = |subresource, verbs| {
            Permission::new("certificates.k8s.io/v1", "CertificateSigningRequest", None, subresource, verbs)
        };
        vec![requests("", &["list"]), requests("approval", &["update"])]
    }

    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        cluster.invalidate_certificate_requests().await;
        let snapshot = match Snapshot::read(cluster).await {
            Ok(snapshot) => snapshot,
            Err(error) => return fail_all(requests.len(), &error),
        };
        join_all(requests.iter().map(|request| snapshot.observe(cluster, request))).await
    }

    async fn plan(&self, _cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let mut planned = declared(&request.desired);
        planned.insert("pending".to_owned(), Value::List(Vec::new()));
        let Some(observed) = &request.observed else {
            for name in CERTIFICATE_ATTRIBUTES {
                planned.insert(name.to_owned(), Value::Unknown);
            }
            let notes = vec!["waits for the certificate request of the kubelet, checks it and approves it".to_owned()];
            return Ok(Proposal { notes, ..Proposal::new(ProposedAction::Create, planned) });
        };
        let pending = observed.attributes.texts("pending");
        let mut notes: Vec<_> = pending.last().map(|name| format!("approves {name}")).into_iter().collect();
        notes.extend(observed.private["refused"].as_str().map(str::to_owned));
        let mut all = observed.attributes.clone();
        all.extend(planned);
        if !pending.is_empty() {
            all.extend(CERTIFICATE_ATTRIBUTES.map(|name| (name.to_owned(), Value::Unknown)));
        }
        let action = if all == observed.attributes { ProposedAction::NoOp } else { ProposedAction::Update };
        Ok(Proposal { notes, ..Proposal::new(action, all) })
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        match &operation.action {
            OperationAction::Create(desired) => Approval::new(cluster, operation, desired).approve().await,
            OperationAction::Update(desired) => {
                let pending = operation.observed.as_ref().is_some_and(|o| !o.attributes.texts("pending").is_empty());
                if pending {
                    return Approval::new(cluster, operation, desired).approve().await;
                }
                // Only the rules for the next approval changed.
                let mut attributes = operation.observed.as_ref().map(|o| o.attributes.clone()).unwrap_or_default();
                attributes.extend(declared(desired));
                let private = operation.recorded.as_ref().map(|r| r.private.clone()).unwrap_or_default();
                Ok(Applied { attributes, private, notes: Vec::new() })
            }
            OperationAction::Delete => delete(cluster, operation).await,
        }
    }
}

fn signer(attributes: &Attributes) -> Signer {
    attributes.text("signer").and_then(Signer::of_name).unwrap_or(Signer::Serving)
}

fn identity(signer: Signer, node: &str) -> String {
    match signer {
        Signer::Serving => format!("certificate/serving/{node}"),
        Signer::Client => format!("certificate/client/{node}"),
    }
}

fn parse_identity(identity: &str) -> Option<(Signer, &str)> {
    let rest = identity.strip_prefix("certificate/")?;
    let (signer, node) = rest.split_once('/')?;
    Some((if signer == "client" { Signer::Client } else { Signer::Serving }, node))
}

/// Returns the attributes of the manifest, with the default of `dns_names` filled in.
fn declared(desired: &Attributes) -> Attributes {
    const NAMES: [&str; 7] =
        ["node", "signer", "addresses", "dns_names", "allow_node_addresses", "max_expiration", "bootstrap_group"];
    let mut attributes: Attributes = desired
        .iter()
        .filter(|(name, value)| NAMES.contains(&name.as_str()) && !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if signer(desired) == Signer::Serving && !attributes.contains_key("dns_names") {
        let name = desired.get("node").cloned().unwrap_or_default();
        attributes.insert("dns_names".to_owned(), Value::List(vec![name]));
    }
    attributes
}

fn expected(attributes: &Attributes, node: &str) -> Expected {
    Expected {
        node: node.to_owned(),
        signer: signer(attributes),
        bootstrap_group: attributes.text("bootstrap_group").map_or_else(|| node_group(node), str::to_owned),
        addresses: attributes.texts("addresses").iter().filter_map(|a| a.parse().ok()).collect(),
        dns_names: declared(attributes).texts("dns_names"),
        max_expiration: attributes.duration("max_expiration"),
    }
}

/// Adds the addresses of the Node object to `expected` if the manifest permits it.
async fn with_node_addresses(
    cluster: &Cluster,
    attributes: &Attributes,
    mut expected: Expected,
) -> Result<Expected, ProviderError> {
    if !attributes.flag("allow_node_addresses") {
        return Ok(expected);
    }
    let api: Api<Node> = Api::all(cluster.client().await?);
    let node =
        api.get_opt(&expected.node).await.map_err(|e| cluster.explain(e, &format!("read node {}", expected.node)))?;
    for address in node.and_then(|n| n.status).and_then(|s| s.addresses).unwrap_or_default() {
        match address.address.parse() {
            Ok(ip) => expected.addresses.push(ip),
            Err(_) => expected.dns_names.push(address.address),
        }
    }
    Ok(expected)
}

fn created(request: &CertificateSigningRequest) -> Option<Timestamp> {
    request.metadata.creation_timestamp.as_ref().map(|t| t.0)
}

fn name(request: &CertificateSigningRequest) -> String {
    request.metadata.name.clone().unwrap_or_default()
}

/// Whether the kubelet of `node` sent the request. A request of another user with the name of the node does not count.
fn is_from_node(request: &CertificateSigningRequest, signer: Signer, node: &str) -> bool {
    if request.spec.signer_name != signer.name() {
        return false;
    }
    let user = request.spec.username.as_deref().unwrap_or_default();
    match signer {
        Signer::Serving => user.strip_prefix(NODE_USER) == Some(node),
        Signer::Client => node_of(request).as_deref() == Some(node),
    }
}

/// All certificate requests of the cluster.
struct Snapshot(CertificateRequests);

impl Snapshot {
    async fn read(cluster: &Cluster) -> Result<Self, ProviderError> {
        cluster.certificate_requests().await.map(Self)
    }

    fn of(&self, signer: Signer, node: &str) -> impl DoubleEndedIterator<Item = &CertificateSigningRequest> {
        self.0.iter().filter(move |r| is_from_node(r, signer, node))
    }

    async fn observe(&self, cluster: &Cluster, request: &ReadRequest) -> Reading {
        let recorded = request.recorded.as_ref().map(|r| recorded_values(&r.attributes));
        let identity = request.recorded.as_ref().and_then(|r| parse_identity(&r.identity));
        let attributes = recorded.as_ref().or(request.desired.as_ref()).cloned().unwrap_or_default();
        let Some(node) = request.desired.as_ref().and_then(|d| d.text("node")).or(identity.map(|(_, node)| node))
        else {
            return Ok(None);
        };
        let signer =
            request.desired.as_ref().map(signer).or(identity.map(|(signer, _)| signer)).unwrap_or(Signer::Serving);
        let issued = self.of(signer, node).rev().find(|r| state(r) == State::Issued);
        if issued.is_none() && !has_certificate(cluster, signer, node).await?.unwrap_or(request.recorded.is_some()) {
            return Ok(None);
        }
        let since = issued.and_then(created).or_else(|| recorded_time(request));
        let rules = request.desired.as_ref().unwrap_or(&attributes);
        let expected = with_node_addresses(cluster, rules, expected(rules, node)).await?;
        let newer = self
            .of(signer, node)
            .filter(|r| state(r) == State::Pending && since.is_none_or(|since| created(r) > Some(since)));
        let (matching, refused): (Vec<_>, Vec<_>) =
            newer.map(|r| (name(r), check(r, &expected))).partition(|(_, verdict)| verdict.is_ok());
        // The controller manager approves client certificates.
        let pending = if signer == Signer::Serving { matching } else { Vec::new() };
        let mut observed = declared(&attributes);
        observed.insert("pending".to_owned(), list(pending.into_iter().map(|(name, _)| name)));
        let certificate = match &recorded {
            Some(recorded) => recorded.clone(),
            None => issued.map(certificate_attributes).unwrap_or_default(),
        };
        observed.extend(certificate.into_iter().filter(|(name, _)| CERTIFICATE_ATTRIBUTES.contains(&name.as_str())));
        let refused = refused
            .last()
            .and_then(|(name, verdict)| Some(format!("{name} is not approved: {}", verdict.as_ref().err()?)));
        Ok(Some(Observed {
            attributes: observed,
            private: json!({ "refused": refused, "requested_at": since.map(|t| t.to_string()) }),
        }))
    }
}

fn recorded_time(request: &ReadRequest) -> Option<Timestamp> {
    request.recorded.as_ref()?.private["requested_at"].as_str()?.parse().ok()
}

/// Checks whether the kubelet has a certificate whose request was cleaned up, which happens after an hour.
///
/// Returns `None` if the kubelet does not answer.
async fn has_certificate(cluster: &Cluster, signer: Signer, node: &str) -> Result<Option<bool>, ProviderError> {
    if signer == Signer::Client {
        // A kubelet needs its client certificate to register the Node.
        let api: Api<Node> = Api::all(cluster.client().await?);
        let found = api.get_opt(node).await.map_err(|e| cluster.explain(e, &format!("read node {node}")))?;
        return Ok(Some(found.is_some()));
    }
    match cluster.kubelet(node, "healthz").await? {
        Ok(_) => Ok(Some(true)),
        Err(kube::Error::Api(status)) if status.code == 403 => {
            let doing = format!("ask the kubelet of {node} whether it has a certificate");
            Err(cluster.explain(kube::Error::Api(status), &doing))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(false)),
        // A kubelet without a certificate aborts every TLS handshake.
        Err(kube::Error::Api(status)) if status.message.contains("tls: ") => Ok(Some(false)),
        Err(kube::Error::Api(_)) => Ok(None),
        Err(error) => Err(cluster.explain(error, &format!("ask the kubelet of {node} whether it has a certificate"))),
    }
}

/// Returns the attributes of an issued certificate.
fn certificate_attributes(request: &CertificateSigningRequest) -> Attributes {
    let status = request.status.as_ref();
    let approved = status.and_then(|s| s.conditions.as_ref()).and_then(|c| c.iter().find(|c| c.type_ == "Approved"));
    let approved_at = approved.and_then(|c| c.last_update_time.as_ref()).map(|t| t.0.to_string());
    let pem = status.and_then(|s| s.certificate.as_ref()).and_then(|c| Pem::iter_from_buffer(&c.0).next()?.ok());
    let certificate = pem.as_ref().and_then(|pem| pem.parse_x509().ok());
    let ends = certificate.as_ref().and_then(|c| Timestamp::from_second(c.validity().not_after.timestamp()).ok());
    let attributes = [
        ("csr", Value::from(name(request))),
        ("approved_at", optional(approved_at)),
        ("expires_at", optional(ends.map(|t| t.to_string()))),
        ("serial", optional(certificate.as_ref().map(|c| c.raw_serial_as_string()))),
    ];
    attributes.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_owned(), v)).collect()
}

/// The approval of the certificate of one node.
struct Approval<'a> {
    cluster: &'a Cluster,
    operation: &'a Operation,
    desired: &'a Attributes,
    /// The number of polls.
    polls: AtomicU32,
}

/// The verdict on the requests of a node.
enum Verdict {
    /// The certificate of this request is issued.
    Issued(Box<CertificateSigningRequest>),
    /// The kubelet has a certificate, and its request is gone.
    Held,
    /// This request may be approved.
    Matches(Box<CertificateSigningRequest>),
    /// There is nothing to decide yet, for this reason.
    Wait(String),
    /// The newest request does not match, for this reason.
    Refused(String),
}

impl<'a> Approval<'a> {
    fn new(cluster: &'a Cluster, operation: &'a Operation, desired: &'a Attributes) -> Self {
        Self { cluster, operation, desired, polls: AtomicU32::new(0) }
    }

    async fn approve(&self) -> Result<Applied, ProviderError> {
        let node = self
            .desired
            .text("node")
            .ok_or_else(|| ProviderError::new(Class::Invalid, "the name of the node is not known").attribute("node"))?;
        let what = format!(
            "the {} certificate of {node}",
            if signer(self.desired) == Signer::Serving { "serving" } else { "client" }
        );
        let begin = Instant::now();
        let deadline = deadline(self.operation.timeout, DEFAULT_TIMEOUT);
        let wait = Wait { cluster: self.cluster, address: &self.operation.address, what: &what, deadline };
        let mismatch_deadline = begin + MISMATCH_TOLERANCE.min(deadline.saturating_duration_since(begin) / 2);
        let approved = std::sync::Mutex::new(None::<String>);
        let issued = wait
            .poll(PAUSE, || async {
                let earlier = approved.lock().ok().and_then(|name| name.clone());
                match self.judge(node, earlier.as_deref()).await? {
                    Verdict::Issued(request) => Ok(Ok(Some(request))),
                    Verdict::Held => Ok(Ok(None)),
                    Verdict::Matches(request) if signer(self.desired) == Signer::Client && begin.elapsed() < CONTROLLER_GRACE => {
                        Ok(Err(format!("{} is pending", name(&request))))
                    }
                    Verdict::Matches(request) => {
                        self.write_approval(&request).await?;
                        let progress = format!("approved {}, which is not signed yet", name(&request));
                        if let Ok(mut approved) = approved.lock() {
                            *approved = Some(name(&request));
                        }
                        Ok(Err(progress))
                    }
                    Verdict::Refused(reason) if Instant::now() >= mismatch_deadline => Err(ProviderError::new(Class::Denied, format!("cannot approve {what}: {reason}"))
                        .help("if the node is correct, add its addresses and names to the manifest; otherwise find out who sent the request")),
                    Verdict::Wait(missing) | Verdict::Refused(missing) => Ok(Err(missing)),
                }
            })
            .await?;
        let mut attributes = declared(self.desired);
        attributes.insert("pending".to_owned(), Value::List(Vec::new()));
        attributes.extend(issued.as_deref().map(certificate_attributes).unwrap_or_default());
        let requested_at = issued.as_deref().and_then(created).map(|t| t.to_string());
        Ok(Applied { attributes, private: json!({ "requested_at": requested_at }), notes: Vec::new() })
    }

    async fn judge(&self, node: &str, approved: Option<&str>) -> Result<Verdict, ProviderError> {
        let signer = signer(self.desired);
        let snapshot = Snapshot::read(self.cluster).await?;
        let since = self
            .operation
            .recorded
            .as_ref()
            .and_then(|r| r.private["requested_at"].as_str()?.parse::<Timestamp>().ok());
        let newest = snapshot.of(signer, node).rev().find(|r| matches!(state(r), State::Issued | State::Approved));
        let after = newest.and_then(created).or(since);
        let pending: Vec<_> = snapshot
            .of(signer, node)
            .rev()
            .filter(|r| state(r) == State::Pending && after.is_none_or(|after| created(r) > Some(after)))
            .collect();
        let expected = with_node_addresses(self.cluster, self.desired, expected(self.desired, node)).await?;
        let verdicts: Vec<_> = pending.iter().map(|r| (*r, check(r, &expected))).collect();
        if let Some((request, _)) =
            verdicts.iter().find(|(r, verdict)| verdict.is_ok() && approved.is_none_or(|a| a == name(r)))
        {
            return Ok(Verdict::Matches(Box::new((*request).clone())));
        }
        match newest {
            Some(request) if state(request) == State::Issued && pending.is_empty() => {
                return Ok(Verdict::Issued(Box::new(request.clone())));
            }
            Some(request) if approved == Some(name(request).as_str()) && state(request) == State::Issued => {
                return Ok(Verdict::Issued(Box::new(request.clone())));
            }
            Some(request) if state(request) == State::Approved => {
                return Ok(Verdict::Wait(format!("{} is approved and not signed yet", name(request))));
            }
            _ => {}
        }
        let polls = self.polls.fetch_add(1, Ordering::Relaxed);
        let is_due = verdicts.is_empty() && polls.is_multiple_of(POLLS_PER_KUBELET_CHECK);
        if is_due && has_certificate(self.cluster, signer, node).await? == Some(true) {
            return Ok(Verdict::Held);
        }
        Ok(match verdicts.first() {
            Some((request, Err(reason))) => Verdict::Refused(format!("{}: {reason}", name(request))),
            _ => Verdict::Wait(format!("the kubelet of {node} has not requested a certificate yet")),
        })
    }

    async fn write_approval(&self, checked: &CertificateSigningRequest) -> Result<(), ProviderError> {
        let api: Api<CertificateSigningRequest> = Api::all(self.cluster.client().await?);
        let known = checked.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let mut conditions: Vec<_> = known.filter_map(|c| serde_json::to_value(c).ok()).collect();
        conditions.push(json!({
            "type": "Approved",
            "status": "True",
            "reason": APPROVAL_REASON,
            "message": format!("{}: the request matches the inventory", self.operation.address),
            "lastUpdateTime": Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string(),
        }));
        // The resource version ensures that exactly the checked request is approved, not a later one of the same name.
        let patch = json!({ "metadata": { "resourceVersion": checked.metadata.resource_version }, "status": { "conditions": conditions } });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = api.patch_approval(&name(checked), &parameters, &Patch::Merge(patch)).await;
        self.cluster.invalidate_certificate_requests().await;
        match written {
            Ok(_) => Ok(()),
            // Somebody else decided at the same time: the next poll reads the decision.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.code == 404 => Ok(()),
            Err(error) => Err(self.cluster.explain(error, &format!("approve {}", name(checked)))),
        }
    }
}

/// Deletes the decided requests of the node. Issued certificates stay valid, because Kubernetes cannot revoke them.
async fn delete(cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
    let Some((signer, node)) = operation.recorded.as_ref().and_then(|r| parse_identity(&r.identity)) else {
        return Ok(Applied::default());
    };
    let api: Api<CertificateSigningRequest> = Api::all(cluster.client().await?);
    let snapshot = Snapshot::read(cluster).await?;
    // A pending request was not approved by moorfast, and somebody may want to inspect it. If the machine is gone, so is its key: then the
    // pending requests are deleted too.
    for request in snapshot.of(signer, node).filter(|r| operation.machine_gone || !matches!(state(r), State::Pending)) {
        match api.delete(&name(request), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(cluster.explain(error, &format!("delete {}", name(request)))),
        }
    }
    Ok(Applied::default())
}
