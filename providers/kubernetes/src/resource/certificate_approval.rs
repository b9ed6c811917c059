//! `kubernetes_certificate_approval`: approves what a kubelet asks for, if it is what the inventory says.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Applied, Class, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use serde_json::json;
use tokio::time::Instant;
use x509_parser::pem::Pem;

use crate::attributes::{Read, as_recorded, list, optional};
use crate::cluster::{CertificateRequests, Cluster};
use crate::csr::{APPROVAL_REASON, Expected, NODE_USER, Signer, State, check, node_of, state};
use crate::resource::bootstrap_token::node_group;
use crate::resource::object::FIELD_MANAGER;
use crate::resource::{Reading, Resource, fail_all};
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

const PAUSE: Duration = Duration::from_secs(1);
/// How many looks at the requests come before the kubelet is asked again whether it has its certificate already.
const LOOKS_PER_QUESTION: u32 = 5;
/// A request that was refused may be one of an earlier start of the kubelet, with the right one about to come: so long is waited for that.
const PATIENCE: Duration = Duration::from_secs(20);
/// So long the controller has for approving a client certificate, before we do.
const CONTROLLERS_TURN: Duration = Duration::from_secs(5);
/// What the record keeps of the certificate. It says nothing of what is there now, so it is never compared.
const OF_THE_CERTIFICATE: [&str; 4] = ["csr", "approved_at", "expires_at", "serial"];

/// `kubernetes_certificate_approval`
pub(crate) struct CertificateApproval;

#[async_trait]
impl Resource for CertificateApproval {
    fn declaration(&self) -> ResourceType {
        let schema = Schema::new(
            "The approval of a kubelet's certificate. It waits for the certificate request of that node, checks it and approves the newest one that fits. \
             The API server signs any serving certificate that is approved, so all of this must hold: signer, requestor and its groups, common name and \
             organization, usages, the request's own signature, and every DNS name and IP address in it is one that is written here. A request that \
             asks for anything else is left pending and is an error that says what is wrong with it.\n\n\
             Client certificates are approved by the controller manager where RBAC lets it; they are waited for, and approved only if it does not.",
            [
                Attribute::required("node", Kind::String, "The name of the Node.").replaces(),
                Attribute::optional("signer", Kind::OneOf(&Signer::NAMES), "Which certificate.")
                    .or(Signer::NAMES[0])
                    .replaces(),
                Attribute::optional(
                    "addresses",
                    Kind::list(Kind::String),
                    "The IP addresses that a serving certificate may have. Required for it, unless `allow_node_addresses`.",
                ),
                Attribute::optional(
                    "dns_names",
                    Kind::list(Kind::String),
                    "The DNS names that a serving certificate may have; the node's name where not written.",
                )
                .or_computed(),
                Attribute::optional(
                    "allow_node_addresses",
                    Kind::Bool,
                    "Allow the addresses of the Node object as well. The kubelet itself writes those.",
                )
                .or(false),
                Attribute::optional(
                    "max_expiration",
                    Kind::Duration,
                    "The longest time that a request may ask for. One that asks for none gets the signer's own.",
                ),
                Attribute::optional(
                    "bootstrap_group",
                    Kind::String,
                    "The group of the token with which the node asks for its client certificate; `system:bootstrappers:NODE`, as `kubernetes_bootstrap_token` \
                     has it, where not written. With `system:bootstrappers` whoever holds any token may become this node.",
                ),
                Attribute::computed("pending", Kind::list(Kind::String), "Requests that fit and wait to be approved."),
                Attribute::computed("csr", Kind::String, "The CertificateSigningRequest that was approved last."),
                Attribute::computed("approved_at", Kind::String, "When, as RFC 3339."),
                Attribute::computed("expires_at", Kind::String, "When its certificate ends, as RFC 3339."),
                Attribute::computed("serial", Kind::String, "The serial number of its certificate."),
            ],
        );
        ResourceType { name: "kubernetes_certificate_approval", target_kind: TargetKind::Provider, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut found = Vec::new();
        for address in attributes.texts("addresses").iter().filter(|a| a.parse::<IpAddr>().is_err()) {
            let message = format!("{address:?} is no IP address");
            found.push(Invalid {
                attribute: Some("addresses"),
                message,
                help: Some("a name goes into dns_names".to_owned()),
            });
        }
        let has_none = !attributes.is_open("addresses") && attributes.texts("addresses").is_empty();
        if signer(attributes) == Signer::Serving
            && has_none
            && !attributes.flag("allow_node_addresses")
            && !attributes.is_open("allow_node_addresses")
        {
            let help = "write the addresses that the certificate may have: addresses = [\"${node.address}\"]";
            let message = "a serving certificate needs `addresses`".to_owned();
            found.push(Invalid { attribute: Some("addresses"), message, help: Some(help.to_owned()) });
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("node").map(|node| identity(signer(attributes), node))
    }

    fn is_bound_to_machine(&self) -> bool {
        true
    }

    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        cluster.forget_certificate_requests().await;
        let world = match World::look(cluster).await {
            Ok(world) => world,
            Err(error) => return fail_all(requests.len(), &error),
        };
        join_all(requests.iter().map(|request| world.observe(cluster, request))).await
    }

    async fn plan(&self, _cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let mut planned = written(&request.desired);
        planned.insert("pending".to_owned(), Value::List(Vec::new()));
        let Some(observed) = &request.observed else {
            for name in OF_THE_CERTIFICATE {
                planned.insert(name.to_owned(), Value::Unknown);
            }
            let notes = vec!["waits for the request of its kubelet, checks it and approves it".to_owned()];
            return Ok(Proposal { notes, ..Proposal::new(ProposedAction::Create, planned) });
        };
        let pending = observed.attributes.texts("pending");
        let mut notes: Vec<_> = pending.last().map(|name| format!("approves {name}")).into_iter().collect();
        notes.extend(observed.private["refused"].as_str().map(str::to_owned));
        let mut all = observed.attributes.clone();
        all.extend(planned);
        if !pending.is_empty() {
            all.extend(OF_THE_CERTIFICATE.map(|name| (name.to_owned(), Value::Unknown)));
        }
        let action = if all == observed.attributes { ProposedAction::NoOp } else { ProposedAction::Update };
        Ok(Proposal { notes, ..Proposal::new(action, all) })
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        match &operation.action {
            OperationAction::Create(desired) => Work::new(cluster, operation, desired).approve().await,
            OperationAction::Update(desired) => {
                let pending = operation.observed.as_ref().is_some_and(|o| !o.attributes.texts("pending").is_empty());
                if pending {
                    return Work::new(cluster, operation, desired).approve().await;
                }
                // Only what may be approved next time changed.
                let mut attributes = operation.observed.as_ref().map(|o| o.attributes.clone()).unwrap_or_default();
                attributes.extend(written(desired));
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

fn of_identity(identity: &str) -> Option<(Signer, &str)> {
    let rest = identity.strip_prefix("certificate/")?;
    let (signer, node) = rest.split_once('/')?;
    Some((if signer == "client" { Signer::Client } else { Signer::Serving }, node))
}

/// What the manifest writes, with the node's name as its DNS name where it writes none.
fn written(desired: &Attributes) -> Attributes {
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
        dns_names: written(attributes).texts("dns_names"),
        max_expiration: attributes.duration("max_expiration"),
    }
}

/// `expected`, with what the Node object says where the manifest allows that.
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

/// Does `request` come from the kubelet of `node`? Whoever else writes that name into a request has no say.
fn is_of(request: &CertificateSigningRequest, signer: Signer, node: &str) -> bool {
    if request.spec.signer_name != signer.name() {
        return false;
    }
    let user = request.spec.username.as_deref().unwrap_or_default();
    match signer {
        Signer::Serving => user.strip_prefix(NODE_USER) == Some(node),
        Signer::Client => node_of(request).as_deref() == Some(node),
    }
}

/// The requests that there are.
struct World(CertificateRequests);

impl World {
    async fn look(cluster: &Cluster) -> Result<Self, ProviderError> {
        cluster.certificate_requests().await.map(Self)
    }

    fn of(&self, signer: Signer, node: &str) -> impl DoubleEndedIterator<Item = &CertificateSigningRequest> {
        self.0.iter().filter(move |r| is_of(r, signer, node))
    }

    async fn observe(&self, cluster: &Cluster, request: &ReadRequest) -> Reading {
        let recorded = request.recorded.as_ref().map(|r| as_recorded(&r.attributes));
        let identity = request.recorded.as_ref().and_then(|r| of_identity(&r.identity));
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
        let (fit, refused): (Vec<_>, Vec<_>) =
            newer.map(|r| (name(r), check(r, &expected))).partition(|(_, verdict)| verdict.is_ok());
        // The controller approves client certificates by itself.
        let pending = if signer == Signer::Serving { fit } else { Vec::new() };
        let mut observed = written(&attributes);
        observed.insert("pending".to_owned(), list(pending.into_iter().map(|(name, _)| name)));
        let of_certificate = match &recorded {
            Some(recorded) => recorded.clone(),
            None => issued.map(of_certificate).unwrap_or_default(),
        };
        observed.extend(of_certificate.into_iter().filter(|(name, _)| OF_THE_CERTIFICATE.contains(&name.as_str())));
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

/// Has the kubelet a certificate of the cluster, although the request for it was cleaned up (which is done after an hour)?
/// `None` where its kubelet says nothing at all.
async fn has_certificate(cluster: &Cluster, signer: Signer, node: &str) -> Result<Option<bool>, ProviderError> {
    if signer == Signer::Client {
        // A kubelet registers its node with it.
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
        // A kubelet that waits for its certificate ends every handshake.
        Err(kube::Error::Api(status)) if status.message.contains("tls: ") => Ok(Some(false)),
        Err(kube::Error::Api(_)) => Ok(None),
        Err(error) => Err(cluster.explain(error, &format!("ask the kubelet of {node} whether it has a certificate"))),
    }
}

/// What is worth remembering of an issued certificate.
fn of_certificate(request: &CertificateSigningRequest) -> Attributes {
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

/// Work on the approval for one node.
struct Work<'a> {
    cluster: &'a Cluster,
    operation: &'a Operation,
    desired: &'a Attributes,
    /// How often the requests were looked at.
    looks: AtomicU32,
}

/// The verdict on the requests of a node.
enum Verdict {
    /// This one has its certificate.
    Issued(Box<CertificateSigningRequest>),
    /// The kubelet has a certificate whose request is gone.
    Held,
    /// This one may be approved.
    Fits(Box<CertificateSigningRequest>),
    /// Not yet.
    Wait(String),
    /// The newest one asks for what it must not have.
    Refused(String),
}

impl<'a> Work<'a> {
    fn new(cluster: &'a Cluster, operation: &'a Operation, desired: &'a Attributes) -> Self {
        Self { cluster, operation, desired, looks: AtomicU32::new(0) }
    }

    async fn approve(&self) -> Result<Applied, ProviderError> {
        let node = self
            .desired
            .text("node")
            .ok_or_else(|| ProviderError::new(Class::Invalid, "the node's name is not known").attribute("node"))?;
        let what = format!(
            "the {} certificate of {node}",
            if signer(self.desired) == Signer::Serving { "serving" } else { "client" }
        );
        let begin = Instant::now();
        let deadline = deadline(self.operation.timeout, DEFAULT_TIMEOUT);
        let wait = Wait { cluster: self.cluster, address: &self.operation.address, what: &what, deadline };
        let patience = begin + PATIENCE.min(deadline.saturating_duration_since(begin) / 2);
        let ours = std::sync::Mutex::new(None::<String>);
        let issued = wait
            .poll(PAUSE, || async {
                let approved = ours.lock().ok().and_then(|o| o.clone());
                match self.judge(node, approved.as_deref()).await? {
                    Verdict::Issued(request) => Ok(Ok(Some(request))),
                    Verdict::Held => Ok(Ok(None)),
                    Verdict::Fits(request) if signer(self.desired) == Signer::Client && begin.elapsed() < CONTROLLERS_TURN => {
                        Ok(Err(format!("{} is pending", name(&request))))
                    }
                    Verdict::Fits(request) => {
                        self.write_approval(&request).await?;
                        let told = format!("approved {}, which is not signed yet", name(&request));
                        if let Ok(mut ours) = ours.lock() {
                            *ours = Some(name(&request));
                        }
                        Ok(Err(told))
                    }
                    Verdict::Refused(reason) if Instant::now() >= patience => Err(ProviderError::new(Class::Denied, format!("does not approve {what}: {reason}"))
                        .help("if the node is right, write its addresses and names into the manifest; if not, find out who asks")),
                    Verdict::Wait(missing) | Verdict::Refused(missing) => Ok(Err(missing)),
                }
            })
            .await?;
        let mut attributes = written(self.desired);
        attributes.insert("pending".to_owned(), Value::List(Vec::new()));
        attributes.extend(issued.as_deref().map(of_certificate).unwrap_or_default());
        let requested_at = issued.as_deref().and_then(created).map(|t| t.to_string());
        Ok(Applied { attributes, private: json!({ "requested_at": requested_at }), notes: Vec::new() })
    }

    async fn judge(&self, node: &str, approved: Option<&str>) -> Result<Verdict, ProviderError> {
        let signer = signer(self.desired);
        let world = World::look(self.cluster).await?;
        let since = self
            .operation
            .recorded
            .as_ref()
            .and_then(|r| r.private["requested_at"].as_str()?.parse::<Timestamp>().ok());
        let newest = world.of(signer, node).rev().find(|r| matches!(state(r), State::Issued | State::Approved));
        let after = newest.and_then(created).or(since);
        let pending: Vec<_> = world
            .of(signer, node)
            .rev()
            .filter(|r| state(r) == State::Pending && after.is_none_or(|after| created(r) > Some(after)))
            .collect();
        let expected = with_node_addresses(self.cluster, self.desired, expected(self.desired, node)).await?;
        let verdicts: Vec<_> = pending.iter().map(|r| (*r, check(r, &expected))).collect();
        if let Some((request, _)) =
            verdicts.iter().find(|(r, verdict)| verdict.is_ok() && approved.is_none_or(|a| a == name(r)))
        {
            return Ok(Verdict::Fits(Box::new((*request).clone())));
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
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let is_due = verdicts.is_empty() && looks.is_multiple_of(LOOKS_PER_QUESTION);
        if is_due && has_certificate(self.cluster, signer, node).await? == Some(true) {
            return Ok(Verdict::Held);
        }
        Ok(match verdicts.first() {
            Some((request, Err(reason))) => Verdict::Refused(format!("{}: {reason}", name(request))),
            _ => Verdict::Wait(format!("the kubelet of {node} asked for none yet")),
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
            "message": format!("{} found it to be what the inventory says", self.operation.address),
            "lastUpdateTime": Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default().to_string(),
        }));
        // Only the very object that was checked is approved, not another one that took its name meanwhile.
        let patch = json!({ "metadata": { "resourceVersion": checked.metadata.resource_version }, "status": { "conditions": conditions } });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let written = api.patch_approval(&name(checked), &parameters, &Patch::Merge(patch)).await;
        self.cluster.forget_certificate_requests().await;
        match written {
            Ok(_) => Ok(()),
            // Somebody else decided at the same time: the next look sees what.
            Err(kube::Error::Api(status)) if status.is_conflict() || status.code == 404 => Ok(()),
            Err(error) => Err(self.cluster.explain(error, &format!("approve {}", name(checked)))),
        }
    }
}

/// Deletes the requests that we approved. The certificates stay what they are: nothing takes them back.
async fn delete(cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
    let Some((signer, node)) = operation.recorded.as_ref().and_then(|r| of_identity(&r.identity)) else {
        return Ok(Applied::default());
    };
    let api: Api<CertificateSigningRequest> = Api::all(cluster.client().await?);
    let world = World::look(cluster).await?;
    // Whoever approved them: with the node its requests go, also those of a machine that was replaced. One that nobody approved
    // was not ours, and may be what somebody wants to look into, but for those of a machine that is gone: nobody has their keys any more.
    for request in world.of(signer, node).filter(|r| operation.machine_gone || !matches!(state(r), State::Pending)) {
        match api.delete(&name(request), &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(cluster.explain(error, &format!("delete {}", name(request)))),
        }
    }
    Ok(Applied::default())
}
