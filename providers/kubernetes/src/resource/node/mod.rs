//! The resource type `kubernetes_node`: a machine that joined the cluster.

mod cordon;
mod diagnosis;
mod drain;
mod health;
mod taint;

use std::convert::Infallible;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, DrainRequest, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProposedAction, ProviderError, ReadRequest, ResourceType, TargetKind,
};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::attributes::{map, optional};
use crate::cluster::{Cluster, FIELD_MANAGER, Served};
use crate::object_reader::{ObjectName, fetch};
use crate::permission::Permission;
use crate::readiness::{Readiness, condition};
use crate::resource::object::FieldSet;
use crate::resource::{Reading, Resource};
use crate::waiting::{Wait, deadline};

use cordon::Cordon;
use drain::Eviction;
use taint::Taint;

/// The default time limit for a machine to register and become Ready.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);
/// How often the progress of a node without a Node object is reported.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);
/// The name of the owner of a cordon in the private data of an observed node.
const CORDONED_BY: &str = "cordoned_by";

/// The resource type `kubernetes_node`.
pub(crate) struct NodeObject;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let taint = vec![
        Attribute::required("key", Kind::String, "Key of the taint."),
        Attribute::optional("value", Kind::String, "Value of the taint."),
        Attribute::required(
            "effect",
            Kind::OneOf(&["NoSchedule", "PreferNoSchedule", "NoExecute"]),
            "Effect on pods that do not tolerate the taint.",
        ),
    ];
    let schema = Schema::new(
        "A Node of the cluster. The kubelet creates the Node object: an apply waits until the Node exists and is Ready (10 minutes, or \
         `timeouts.create`), then sets the declared labels and taints. All other labels and taints are kept. Destroying the resource cordons the node, \
         evicts its pods (disruption budgets are respected; static pods and pods of DaemonSets stay) and deletes the Node object. As a health gate of a \
         rollout, the resource is healthy when the Node is Ready and its kubelet renewed its Lease (in `kube-node-lease`) after the evaluation started.",
        [
            Attribute::required(
                "name",
                Kind::String,
                "Name of the Node: the `--hostname-override` of the kubelet, or the host name of the machine.",
            )
            .replaces(),
            Attribute::optional("labels", Kind::map(Kind::String), "Labels to set."),
            Attribute::optional("taints", Kind::list(Kind::Object(taint)), "Taints to set."),
            Attribute::optional(
                "unschedulable",
                Kind::Bool,
                "Whether the node is cordoned. If unset, the current state is kept.",
            ),
            Attribute::optional(
                "force_conflicts",
                Kind::Bool,
                "Whether to overwrite labels that another field manager set to another value.",
            )
            .or(false),
            Attribute::computed("ready", Kind::Bool, "Whether the Node is Ready."),
            Attribute::computed("uid", Kind::String, "UID of the Node object."),
            Attribute::computed("internal_ip", Kind::String, "InternalIP address of the Node.").reported(),
            Attribute::computed("kubelet_version", Kind::String, "Version of the kubelet.").reported(),
            Attribute::computed("pod_cidr", Kind::String, "Address range of the pods on the node.").reported(),
        ],
    );
    Declaration { name: "kubernetes_node", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for NodeObject {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let taints = Taint::read_all(attributes);
        let twice = taints.iter().enumerate().find(|(i, t)| taints[..*i].iter().any(|other| other.is_same(t)));
        let found = twice.map(|(_, t)| Invalid {
            attribute: Some("taints"),
            message: format!("the taint `{t}` is declared twice"),
            help: None,
        });
        found.into_iter().collect()
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("name").map(|name| format!("Node/{name}"))
    }

    fn is_bound_to_machine(&self) -> bool {
        true
    }

    fn has_health(&self) -> bool {
        true
    }

    fn can_be_drained(&self) -> bool {
        true
    }

    fn drained_by<'o>(&self, observed: &'o Observed) -> Option<&'o str> {
        observed.private[CORDONED_BY].as_str()
    }
}

#[async_trait]
impl Resource for NodeObject {
    fn permissions(&self, _: &Attributes) -> Vec<Permission> {
        vec![
            Permission::new("v1", "Node", None, "", &["get", "list", "patch", "delete"]),
            // A drain concerns the pods of all namespaces.
            Permission::new("v1", "Pod", Some(""), "", &["list"]),
            Permission::new("v1", "Pod", Some(""), "eviction", &["create"]),
            Permission::new("policy/v1", "PodDisruptionBudget", Some(""), "", &["list"]),
        ]
    }

    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        let served = Served::of::<Node>(false);
        let names: Vec<_> = requests.iter().map(|r| name_of(r)).collect();
        let wanted = |name: &String| ObjectName { namespace: String::new(), name: name.clone() };
        let found = fetch(cluster, &served, &names.iter().flatten().map(wanted).collect::<Vec<_>>()).await;
        let reading = |(request, name): (&&ReadRequest, &Option<String>)| {
            let Some(name) = name else { return Ok(None) };
            let node = found.get(&wanted(name)).cloned().unwrap_or(Ok(None))?;
            Ok(node.map(|node| observe(&node, &Compared::of_request(request))))
        };
        requests.iter().zip(&names).map(reading).collect()
    }

    async fn plan(&self, _cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let mut planned = declared(&request.desired);
        planned.insert("ready".to_owned(), Value::Bool(true));
        let Some(observed) = &request.observed else {
            for name in ["uid", "internal_ip", "kubelet_version", "pod_cidr"] {
                planned.insert(name.to_owned(), Value::Unknown);
            }
            let notes = vec!["waits for the node to register and to become Ready".to_owned()];
            return Ok(Proposal { notes, ..Proposal::new(ProposedAction::Create, planned) });
        };
        // Labels and taints that moorfast set and the manifest no longer declares are removed.
        for name in ["labels", "taints"] {
            if observed.attributes.contains_key(name) && !planned.contains_key(name) {
                planned.insert(
                    name.to_owned(),
                    if name == "labels" { Value::Map(Default::default()) } else { Value::List(Vec::new()) },
                );
            }
        }
        let mut all = observed.attributes.clone();
        all.extend(planned);
        let action = if all == observed.attributes { ProposedAction::NoOp } else { ProposedAction::Update };
        let notes = observed.private["not_ready"]
            .as_str()
            .map(|t| format!("waits for the node to become Ready: {t}"))
            .into_iter()
            .collect();
        Ok(Proposal { notes, ..Proposal::new(action, all) })
    }

    fn default_timeout(&self) -> Duration {
        DEFAULT_TIMEOUT
    }

    async fn healthy(&self, cluster: &Cluster, request: &ReadRequest, limit: Duration) -> Result<(), ProviderError> {
        let name = name_of(request)
            .ok_or_else(|| ProviderError::new(Class::Invalid, "the name of the node is not known").attribute("name"))?;
        health::healthy(cluster, &request.address, &name, deadline(Some(limit), limit)).await
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        let drain = operation.drain.as_ref().map(|drain| drain.timeout);
        let deadline = deadline(operation.timeout.or(drain), DEFAULT_TIMEOUT);
        match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                let name = desired.text("name").ok_or_else(|| {
                    ProviderError::new(Class::Invalid, "the name of the node is not known").attribute("name")
                })?;
                NodeOperation { cluster, operation, deadline, name }.configure(desired).await
            }
            OperationAction::Delete => {
                let recorded =
                    operation.recorded.as_ref().and_then(|r| r.identity.strip_prefix("Node/").map(str::to_owned));
                let observed = operation.observed.as_ref().and_then(|o| o.attributes.text("name").map(str::to_owned));
                let Some(name) = recorded.or(observed) else { return Ok(Applied::default()) };
                NodeOperation { cluster, operation, deadline, name: &name }.remove().await
            }
        }
    }
}

fn name_of(request: &ReadRequest) -> Option<String> {
    let desired = request.desired.as_ref().and_then(|d| d.text("name")).map(str::to_owned);
    desired.or_else(|| request.recorded.as_ref().and_then(|r| r.identity.strip_prefix("Node/").map(str::to_owned)))
}

/// Returns the declared attributes in the form in which they are compared.
fn declared(desired: &Attributes) -> Attributes {
    let mut attributes: Attributes = desired
        .iter()
        .filter(|(name, value)| {
            ["name", "labels", "taints", "unschedulable"].contains(&name.as_str()) && !value.is_null()
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if attributes.contains_key("taints") && !desired.is_unknown_or_retained("taints") {
        attributes.insert("taints".to_owned(), Taint::write_all(Taint::read_all(desired)));
    }
    attributes
}

/// The labels, taints and other fields of a node that are compared.
struct Compared {
    labels: Vec<String>,
    taints: Vec<Taint>,
    unschedulable: bool,
    /// The attributes that are present even if they are empty.
    declared: Vec<&'static str>,
}

impl Compared {
    fn of_request(request: &ReadRequest) -> Self {
        let recorded = request.recorded.as_ref().map(|r| recorded_values(&r.attributes));
        let sources = [request.desired.as_ref(), recorded.as_ref()];
        Self::of(sources.into_iter().flatten())
    }

    fn of<'a>(sources: impl IntoIterator<Item = &'a Attributes>) -> Self {
        let mut compared = Self { labels: Vec::new(), taints: Vec::new(), unschedulable: false, declared: Vec::new() };
        for attributes in sources {
            compared.labels.extend(
                attributes.get("labels").and_then(Value::as_map).into_iter().flatten().map(|(name, _)| name.clone()),
            );
            compared.taints.extend(Taint::read_all(attributes));
            let is_declared = |name: &&&str| attributes.is_set(name);
            compared.unschedulable |= is_declared(&&"unschedulable");
            compared.declared.extend(["labels", "taints"].iter().filter(is_declared));
        }
        compared
    }
}

fn observe(node: &Json, compared: &Compared) -> Observed {
    let readiness = condition(node, "Ready");
    let text = |value: &Json| optional(value.as_str().filter(|t| !t.is_empty()));
    let addresses = node["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let internal = addresses.iter().find(|a| a["type"] == "InternalIP").map_or(&Json::Null, |a| &a["address"]);
    let mut attributes: Attributes = [
        ("name", text(&node["metadata"]["name"])),
        ("ready", Value::Bool(readiness == Readiness::Ready)),
        ("uid", text(&node["metadata"]["uid"])),
        ("internal_ip", text(internal)),
        ("kubelet_version", text(&node["status"]["nodeInfo"]["kubeletVersion"])),
        ("pod_cidr", text(&node["spec"]["podCIDR"])),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_null())
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let ours = FieldSet::ours(node);
    let managed = ours.field("metadata").and_then(|m| m.field("labels"));
    let is_looked_at =
        |name: &str| compared.labels.iter().any(|l| l == name) || managed.is_some_and(|m| m.field(name).is_some());
    let labels = node["metadata"]["labels"].as_object().into_iter().flatten().filter(|(name, _)| is_looked_at(name));
    let labels: std::collections::BTreeMap<_, _> =
        labels.filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect();
    if !labels.is_empty() || compared.declared.contains(&"labels") {
        attributes.insert("labels".to_owned(), map(&labels));
    }
    let taints =
        Taint::of_node(node).into_iter().filter(|t| compared.taints.iter().any(|s| s.is_same(t))).collect::<Vec<_>>();
    if !taints.is_empty() || compared.declared.contains(&"taints") {
        attributes.insert("taints".to_owned(), Taint::write_all(taints));
    }
    if compared.unschedulable {
        attributes.insert("unschedulable".to_owned(), Value::Bool(node["spec"]["unschedulable"] == true));
    }
    let not_ready = match readiness {
        Readiness::Waiting(reason) | Readiness::Failed(reason) => Json::from(reason),
        Readiness::Ready => Json::Null,
    };
    Observed { attributes, private: json!({ "not_ready": not_ready, CORDONED_BY: Cordon::of(node).owner() }) }
}

/// An operation on one node.
struct NodeOperation<'a> {
    cluster: &'a Cluster,
    operation: &'a Operation,
    deadline: Instant,
    name: &'a str,
}

impl NodeOperation<'_> {
    async fn api(&self) -> Result<Api<Node>, ProviderError> {
        Ok(Api::all(self.cluster.client().await?))
    }

    async fn get(&self) -> Result<Option<Json>, ProviderError> {
        get_node(self.cluster, self.name).await
    }

    fn explain(&self, error: kube::Error, verb: &str) -> ProviderError {
        self.cluster.explain(error, &format!("{verb} node {}", self.name))
    }

    async fn configure(&self, desired: &Attributes) -> Result<Applied, ProviderError> {
        let node = self.wait_for(|_| Readiness::Ready).await?;
        self.set(&node, desired).await?;
        let node = self.wait_for(|node| condition(node, "Ready")).await?;
        let observed = observe(&node, &Compared::of([desired]));
        Ok(Applied { attributes: observed.attributes, ..Applied::default() })
    }

    /// Waits until the Node exists and `judge` finds it ready.
    async fn wait_for(&self, judge: fn(&Json) -> Readiness) -> Result<Json, ProviderError> {
        let what = format!("node {}", self.name);
        let wait =
            Wait { cluster: self.cluster, address: &self.operation.address, what: &what, deadline: self.deadline };
        let is_absent = AtomicBool::new(false);
        let watched = |node: Option<&Json>| {
            is_absent.store(node.is_none(), Ordering::Relaxed);
            node.map_or_else(|| Readiness::Waiting("no Node object yet".to_owned()), judge)
        };
        let served = Served::of::<Node>(false);
        let waited = tokio::select! {
            waited = wait.until(&served, "", self.name, watched) => waited,
            never = self.report_requests(&is_absent) => match never {},
        };
        match waited {
            Ok(Some(node)) => Ok(node),
            Ok(None) => {
                Err(ProviderError::new(Class::Failed, format!("the watch of node {} returned no object", self.name)))
            }
            Err(error) if error.class == Class::Timeout => {
                Err(error.detail(diagnosis::details(self.cluster, self.name).await).help(diagnosis::HELP))
            }
            Err(error) => Err(error),
        }
    }

    /// Reports the certificate requests of the node while it has no Node object: they show how far its kubelet is.
    async fn report_requests(&self, is_absent: &AtomicBool) -> Infallible {
        loop {
            tokio::time::sleep(PROGRESS_INTERVAL).await;
            if !is_absent.load(Ordering::Relaxed) {
                continue;
            }
            if let Some(progress) = diagnosis::of_absent(self.cluster, self.name).await {
                self.cluster.context.progress.report(&self.operation.address, progress);
            }
        }
    }

    /// Sets labels, taints and the cordon, each only if it is declared or if moorfast set it before.
    async fn set(&self, node: &Json, desired: &Attributes) -> Result<(), ProviderError> {
        self.set_labels(node, desired).await?;
        self.set_taints(node, desired).await
    }

    async fn set_labels(&self, node: &Json, desired: &Attributes) -> Result<(), ProviderError> {
        let labels = desired.text_map("labels");
        let unschedulable = desired.get("unschedulable").and_then(Value::as_bool);
        if labels.is_empty() && unschedulable.is_none() && FieldSet::ours(node).is_leaf() {
            return Ok(());
        }
        // The UID prevents the apply from creating a Node object that no kubelet registered.
        let mut body = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": self.name, "uid": node["metadata"]["uid"], "labels": labels } });
        if let Some(unschedulable) = unschedulable {
            body["spec"] = json!({ "unschedulable": unschedulable });
        }
        let parameters = PatchParams::apply(FIELD_MANAGER);
        let parameters = if desired.flag("force_conflicts") { parameters.force() } else { parameters };
        let patched = self.api().await?.patch(self.name, &parameters, &Patch::Apply(body)).await;
        patched.map(|_| ()).map_err(|e| self.explain(e, "label"))
    }

    /// Sets the taints. The API has one list of taints, which controllers change too: the patch applies only to the version that was read.
    async fn set_taints(&self, node: &Json, desired: &Attributes) -> Result<(), ProviderError> {
        let recorded = self.operation.recorded.as_ref().map(|r| recorded_values(&r.attributes));
        let ours = recorded.as_ref().map(Taint::read_all).unwrap_or_default();
        let wanted = Taint::read_all(desired);
        let mut node = node.clone();
        loop {
            let before = Taint::of_node(&node);
            let after = taint::changed(&before, &ours, &wanted);
            if after == before {
                return Ok(());
            }
            let patch = json!({
                "metadata": { "resourceVersion": node["metadata"]["resourceVersion"] },
                "spec": { "taints": after.iter().map(Taint::to_json).collect::<Vec<_>>() },
            });
            let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
            match self.api().await?.patch(self.name, &parameters, &Patch::Merge(patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_conflict() && Instant::now() < self.deadline => {
                    node = self.get().await?.unwrap_or(node);
                }
                Err(error) => return Err(self.explain(error, "taint")),
            }
        }
    }

    async fn remove(&self) -> Result<Applied, ProviderError> {
        let Some(node) = self.get().await? else { return Ok(Applied::default()) };
        let api = self.api().await?;
        api.cordon(self.name).await.map_err(|e| self.explain(e, "cordon"))?;
        let what = format!("the eviction of the pods of {}", self.name);
        let wait =
            Wait { cluster: self.cluster, address: &self.operation.address, what: &what, deadline: self.deadline };
        let notes = match condition(&node, "Ready") {
            // The Node of a dead machine stays Ready for a while.
            Readiness::Ready if self.operation.machine_gone => Vec::new(),
            Readiness::Ready => {
                let eviction = self.operation.drain.as_deref().map_or(Eviction::ALL, Eviction::of);
                drain::drain(&wait, self.name, eviction).await.map(|()| Vec::new())?
            }
            // The pods of a stopped machine never terminate: the garbage collector removes them when the Node is deleted.
            Readiness::Waiting(_) | Readiness::Failed(_) => {
                vec![format!(
                    "{} is not Ready: its pods were not evicted and are removed with the Node object",
                    self.name
                )]
            }
        };
        match api.delete(self.name, &DeleteParams::default()).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(self.explain(error, "delete")),
        }
        Ok(Applied { notes, ..Applied::default() })
    }
}

/// Cordons the node of a request and evicts its pods.
///
/// # Errors
/// If a pod cannot be evicted in time.
pub(crate) async fn drain_node(cluster: &Cluster, request: &DrainRequest) -> Result<Vec<String>, ProviderError> {
    let DrainRequest { object, owner, options } = request;
    let name = drained_name(object)?;
    let what = format!("the drain of {name}");
    let deadline = deadline(Some(options.timeout), options.timeout);
    let wait = Wait { cluster, address: &object.address, what: &what, deadline };
    let Some(node) = cordon::cordon(&wait, &name, owner).await? else {
        return Ok(vec![format!("{name} is not in the cluster any more")]);
    };
    let mut notes = Vec::new();
    if Cordon::of(&node) == Cordon::Foreign {
        notes.push(format!("{name} was cordoned before and stays cordoned"));
    }
    match condition(&node, "Ready") {
        Readiness::Ready => drain::drain(&wait, &name, Eviction::of(options)).await?,
        Readiness::Waiting(_) | Readiness::Failed(_) => {
            notes.push(format!("{name} is not Ready, so its pods were not evicted"));
        }
    }
    Ok(notes)
}

/// Uncordons the node of a request if its owner cordoned it.
///
/// # Errors
/// If the API server refuses the change or does not answer.
pub(crate) async fn undrain_node(cluster: &Cluster, request: &DrainRequest) -> Result<(), ProviderError> {
    let DrainRequest { object, owner, options } = request;
    let name = drained_name(object)?;
    let what = format!("the end of the drain of {name}");
    let deadline = deadline(Some(options.timeout), options.timeout);
    cordon::uncordon(&Wait { cluster, address: &object.address, what: &what, deadline }, &name, owner).await
}

fn drained_name(object: &ReadRequest) -> Result<String, ProviderError> {
    name_of(object)
        .ok_or_else(|| ProviderError::new(Class::Invalid, "the name of the node is not known").attribute("name"))
}

/// Returns the Node object with this name.
async fn get_node(cluster: &Cluster, name: &str) -> Result<Option<Json>, ProviderError> {
    let served = Served::of::<Node>(false);
    let wanted = ObjectName { namespace: String::new(), name: name.to_owned() };
    fetch(cluster, &served, std::slice::from_ref(&wanted)).await.remove(&wanted).unwrap_or(Ok(None))
}

/// Returns list parameters with one field selector.
fn of_field(selector: &str) -> ListParams {
    ListParams::default().fields(selector)
}
