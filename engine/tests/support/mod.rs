//! A provider whose objects are in memory, so that the laws of planner and executor can be tested on thousands of manifests.

#![allow(dead_code, reason = "each test binary uses its part")]

mod bundle;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use moorfast_conformance::{Workbench, apply_options};
use moorfast_engine::apply::Report;
use moorfast_engine::model::{Address, Attribute, Attributes, Identified, Kind, Machine, Schema, Value};
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::{
    Applied, Class, Connection, Consequence, Context, DataRequest, Declaration, DrainRequest, Invalid, LocalAccess,
    Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction, Provider, ProviderError, ReadRequest,
    ResourceType, StartPermit, Target, TargetKind,
};
use moorfast_engine::session::{Events, Failure, Interrupt};
use moorfast_engine::state::Store;
use moorfast_engine::workspace::Workspace;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use bundle::{Bundle, is_bundle};

/// The objects, and the log of operations.
#[derive(Default)]
pub struct World {
    /// The value of each item by key. The part of a key before the last `>` is the container of the item, which is created before it and deleted after it.
    pub items: BTreeMap<String, String>,
    /// The type and the material of the items that operations created.
    pub made: BTreeMap<String, (String, String)>,
    /// `create KEY`, `update KEY`, `delete KEY`, `restart KEY`, `healthy KEY`, `sick KEY`, `drain KEY`, `undrain KEY`, in the order of the operations.
    pub log: Vec<String>,
    /// The operations as the provider got them, in the order of the calls.
    pub operations: Vec<Operation>,
    /// The data sources as the provider got them.
    pub data: Vec<DataRequest>,
    /// The keys whose operations fail.
    pub broken: Vec<String>,
    /// Objects explain a failure once this is in the log.
    pub explains_once: Option<String>,
    /// Operations on these keys do their work and fail then.
    pub late: Vec<String>,
    /// The objects that are removed too, by the key of the removed item.
    pub side_effects: BTreeMap<String, String>,
    /// The key that must exist before the cluster answers.
    pub answers_once: Option<String>,
    /// The line of the log after which the user interrupts the run.
    pub stop_after: Option<(String, CancellationToken)>,
    /// The length of the log at which the user interrupts the run.
    pub stops: Option<(usize, CancellationToken)>,
    /// The length of the log at which the run dies: before the last outcome is reported, or right after.
    pub dies: Option<(usize, bool, CancellationToken)>,
    /// The number of runs that died.
    pub deaths: usize,
    /// The line of the log after which this state loses the lock with this id.
    pub takes_lock: Option<(String, Store, String)>,
    /// The error of the maintenance that an apply makes.
    pub maintenance: Option<ProviderError>,
    /// The permit to start operations.
    pub start_permit: StartPermit,
    /// The keys whose values cannot be changed in place in a bundle.
    pub fixed: Vec<String>,
    /// The keys that are not healthy.
    pub sick: Vec<String>,
    /// The owner of the drain of each drained badge.
    pub drained: BTreeMap<String, String>,
    /// The badges that cannot be drained.
    pub busy: Vec<String>,
    /// The host key and the machine-id of the machine of each node. The defaults are `key` and `id`.
    pub machines: BTreeMap<String, (String, String)>,
    /// The nodes whose machine does not answer.
    pub dead: Vec<String>,
    /// The host keys that are trusted besides `key`.
    pub trusted: Vec<String>,
    /// The addresses of the instances for which a proposal was requested.
    pub proposed: Vec<String>,
    /// The keys that `mem_local` read, in order.
    pub read_here: Vec<String>,
}

/// The provider `mem` with the types `mem_item`, `mem_box`, `mem_file` (on a node), `mem_member` (on a node, but reached without it) and `mem_badge` (bound to the
/// machine of its node).
#[derive(Clone, Default)]
pub struct Memory(pub Arc<Mutex<World>>);

impl Memory {
    /// Returns the objects and the log, to inspect or change them.
    pub fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    /// Replaces the machine of a node by one without any objects.
    pub fn swap(&self, node: &str, host_key: &str, machine_id: &str) {
        let mut world = self.world();
        world.items.retain(|key, _| !key.starts_with(&format!("{node}:")));
        world.machines.insert(node.to_owned(), (host_key.to_owned(), machine_id.to_owned()));
    }

    /// Goes on, unless the run dies here.
    async fn live_on(&self) {
        let end = {
            let mut world = self.world();
            let length = world.log.len();
            let dies = world.dies.clone().filter(|(after, ..)| length >= *after);
            world.deaths += usize::from(dies.is_some());
            dies
        };
        if let Some((_, _, end)) = end {
            end.cancel();
            std::future::pending::<()>().await;
        }
        tokio::task::yield_now().await;
    }

    /// Takes the lock away, once the operation is done that does so.
    async fn take_lock(&self) {
        let taken = {
            let mut world = self.world();
            let World { takes_lock, log, .. } = &mut *world;
            takes_lock.take_if(|(last, ..)| log.contains(last))
        };
        if let Some((_, store, id)) = taken {
            store.force_unlock(&id).await.unwrap();
        }
    }

    fn machine(&self, node: &str) -> (String, String) {
        self.world().machines.get(node).cloned().unwrap_or_else(|| (format!("key-{node}"), format!("id-{node}")))
    }

    fn is_trusted(&self, node: &str) -> bool {
        let (key, _) = self.machine(node);
        key == format!("key-{node}") || self.world().trusted.contains(&key)
    }

    /// Returns the error of a node whose machine does not answer.
    fn death(&self, target: &Target, resource_type: &dyn ResourceType) -> Result<(), ProviderError> {
        match target {
            Target::Node(node)
                if resource_type.is_reached_through_node() && self.world().dead.contains(&node.name.0) =>
            {
                Err(ProviderError::new(Class::Unreachable, format!("{} does not answer", node.name)))
            }
            _ => Ok(()),
        }
    }

    /// Returns the error of a target that does not answer yet.
    fn silence(&self, target: &Target) -> Result<(), ProviderError> {
        let world = self.world();
        let is_silent = world.answers_once.as_ref().is_some_and(|key| !world.items.contains_key(key));
        match target {
            Target::Provider(name) if is_silent => {
                Err(ProviderError::new(Class::Unreachable, format!("{name} does not answer")))
            }
            _ => Ok(()),
        }
    }

    fn observed(&self, target: &Target, resource_type: &str, key: &str) -> Option<Observed> {
        let world = self.world();
        let value = world.items.get(&place(target, key))?;
        let made = world.made.get(&place(target, key));
        let material = made.filter(|(made, _)| made == resource_type).map(|(_, material)| material.as_str());
        if made.is_some() && material.is_none() {
            return None;
        }
        let mut attributes = attributes(key, value, material.unwrap_or_default());
        attributes.extend(reported(&world, resource_type, key));
        let private = match world.drained.get(&place(target, key)) {
            Some(owner) => serde_json::json!({ "drained_by": owner }),
            None => serde_json::json!("seen"),
        };
        Some(Observed { attributes, private })
    }

    /// Rejects the operations that real targets reject.
    fn refused(world: &World, key: &str, action: &OperationAction) -> Result<(), ProviderError> {
        let parent = key.rsplit_once('>').map(|(parent, _)| parent.to_owned());
        let inside = format!("{key}>");
        let next = world.items.range(inside.clone()..).next();
        let holds = next.map(|(other, _)| other).filter(|other| other.starts_with(&inside));
        let why = match (action, holds) {
            (OperationAction::Delete, Some(holds)) => format!("{key} is not empty: it holds {holds}"),
            (OperationAction::Create(_), _) if world.items.contains_key(key) => format!("{key} is there already"),
            (OperationAction::Create(_), _) if parent.as_ref().is_some_and(|p| !world.items.contains_key(p)) => {
                format!("there is no {parent:?} to create {key} in")
            }
            (OperationAction::Update(_), _) if !world.items.contains_key(key) => format!("there is no {key} to update"),
            (OperationAction::Update(wanted), _) => match world.made.get(key) {
                Some((_, material)) if *material != text(wanted, "material") => format!("{key} is of {material}"),
                _ => return Ok(()),
            },
            _ => return Ok(()),
        };
        Err(ProviderError::new(Class::Failed, why))
    }

    fn perform(&self, target: &Target, operation: &Operation) -> Result<Applied, ProviderError> {
        self.death(target, operation.resource_type.as_ref())?;
        if is_bundle(&operation.resource_type) {
            return Ok(bundle::perform(&mut self.world(), operation));
        }
        let own = match &operation.action {
            OperationAction::Create(wanted) | OperationAction::Update(wanted) => text(wanted, "key"),
            OperationAction::Delete => text(&operation.observed.clone().unwrap_or_default().attributes, "key"),
        };
        let key = place(target, &own);
        let mut world = self.world();
        if world.broken.contains(&key) {
            return Err(ProviderError::new(Class::Failed, format!("{key} is broken")));
        }
        Self::refused(&world, &key, &operation.action)?;
        let (verb, wanted) = match &operation.action {
            OperationAction::Create(wanted) => ("create", wanted),
            OperationAction::Update(wanted) => ("update", wanted),
            OperationAction::Delete => {
                world.items.remove(&key);
                world.made.remove(&key);
                let drain = operation.drain.as_ref();
                world.log.extend(drain.map(|options| format!("evict {key} within {:?}", options.timeout)));
                world.log.push(format!("delete {key}"));
                return Ok(Applied::default());
            }
        };
        world.log.push(format!("{verb} {key}"));
        if !operation.triggers.is_empty() {
            world.log.push(format!("restart {key}"));
        }
        let value = text(wanted, "value");
        world.items.insert(key.clone(), value.clone());
        let material = text(wanted, "material");
        world.made.insert(key.clone(), (operation.resource_type.name().to_owned(), material.clone()));
        if world.late.contains(&key) {
            let private = Some(Box::new(serde_json::json!({ "made": true })));
            return Err(ProviderError { private, ..ProviderError::new(Class::Failed, format!("{key} is half done")) });
        }
        let mut attributes = marked(attributes(&own, &value, &material), wanted);
        attributes.extend(reported(&world, operation.resource_type.name(), &own));
        Ok(Applied { attributes, ..Applied::default() })
    }
}

/// Returns the key of an item, which starts with the name of its node.
fn place(target: &Target, key: &str) -> String {
    match target {
        Target::Node(node) => format!("{}:{key}", node.name),
        Target::Provider(_) => key.to_owned(),
    }
}

fn text(attributes: &Attributes, name: &str) -> String {
    attributes.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// `attributes`, with a sensitive value where that of the manifest is. The id contains the value.
fn marked(mut attributes: Attributes, wanted: &Attributes) -> Attributes {
    if wanted.get("value").is_some_and(Value::is_sensitive) {
        for name in ["value", "id"] {
            attributes.get_mut(name).into_iter().for_each(|value| *value = std::mem::take(value).sensitive());
        }
    }
    attributes
}

fn attributes(key: &str, value: &str, material: &str) -> Attributes {
    let entry = |name: &str, value: &str| (name.to_owned(), Value::from(value));
    let id = format!("id-{key}-{value}{material}");
    [entry("key", key), entry("value", value), entry("material", material), entry("id", &id)].into()
}

/// Returns the attribute that an item reports about another one.
fn reported(world: &World, resource_type: &str, key: &str) -> Option<(String, Value)> {
    let version = world.items.get(&format!("{key}:version")).filter(|_| resource_type == "mem_badge")?;
    Some(("version".to_owned(), Value::from(version.as_str())))
}

/// The types whose instances are one item each.
struct Item {
    declaration: Declaration,
    /// Whether the item belongs to the machine of its node.
    is_bound: bool,
    /// Whether the item is on a node and is reached without the machine of this node.
    is_elsewhere: bool,
}

impl Item {
    fn new(name: &'static str, target_kind: TargetKind) -> Self {
        let schema = Schema::new(
            "An item.",
            [
                Attribute::required("key", Kind::String, "Its key."),
                Attribute::optional("value", Kind::String, "Its value.").or(""),
                Attribute::optional("material", Kind::String, "What it is made of, for ever.").or(""),
                Attribute::computed("id", Kind::String, "Made of key, value and material."),
            ],
        );
        Self { declaration: Declaration { name, target_kind, schema }, is_bound: false, is_elsewhere: false }
    }

    /// Returns the type of badges. A badge whose key is the name of a node reports the value of the item `version` on this node.
    fn badge() -> Self {
        let mut badge = Self { is_bound: true, ..Self::new("mem_badge", TargetKind::Provider) };
        let version = Attribute::computed("version", Kind::String, "The value of the item `version` on its node.");
        badge.declaration.schema.attributes.push(version.reported());
        badge
    }
}

impl ResourceType for Item {
    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.get("key").filter(|v| !v.is_unknown()).and_then(Value::as_str).map(str::to_owned)
    }

    /// The key of an item must not end in a slash.
    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let is_wrong = text(attributes, "key").ends_with('/');
        let invalid = Invalid { attribute: Some("key"), message: "a key ends in `/`".to_owned(), help: None };
        is_wrong.then_some(invalid).into_iter().collect()
    }

    fn is_bound_to_machine(&self) -> bool {
        self.is_bound
    }

    fn is_reached_through_node(&self) -> bool {
        self.declaration.target_kind == TargetKind::Node && !self.is_elsewhere
    }

    fn has_health(&self) -> bool {
        true
    }

    fn can_be_drained(&self) -> bool {
        self.is_bound
    }

    fn drained_by<'o>(&self, observed: &'o Observed) -> Option<&'o str> {
        observed.private["drained_by"].as_str()
    }

    fn initial_private_data(&self, _: &Attributes, observed: Option<&Observed>) -> Option<serde_json::Value> {
        found(observed)
    }
}

/// Returns the private data of an object before its first operation.
fn found(observed: Option<&Observed>) -> Option<serde_json::Value> {
    let shown = observed.filter(|o| !o.attributes.get("value").is_some_and(Value::is_sensitive));
    Some(serde_json::json!({ "found": shown.map(|o| text(&o.attributes, "value")) }))
}

/// The data sources `mem_item`, `mem_file`, which reads an item of a node, and `mem_local`, which reads the item on this machine.
struct ItemData(Declaration);

impl ItemData {
    fn new(name: &'static str, target_kind: TargetKind) -> Self {
        let key = Attribute::required("key", Kind::String, "The key of an item.");
        let value = Attribute::computed("value", Kind::String, "Its value.");
        let schema = Schema::new("An item that is there.", [key, value]);
        Self(Declaration { name, target_kind, schema })
    }
}

impl ResourceType for ItemData {
    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn local_access(&self) -> Option<LocalAccess> {
        (self.0.name == "mem_local").then_some(LocalAccess::Command)
    }

    fn identity(&self, _: &Attributes) -> Option<String> {
        None
    }
}

#[async_trait]
impl Provider for Memory {
    fn name(&self) -> &'static str {
        "mem"
    }

    fn config_schema(&self) -> Schema {
        Schema::default()
    }

    fn resource_types(&self) -> Vec<Arc<dyn ResourceType>> {
        vec![
            Arc::new(Item::new("mem_item", TargetKind::Provider)),
            Arc::new(Item::new("mem_box", TargetKind::Provider)),
            Arc::new(Item::new("mem_file", TargetKind::Node)),
            Arc::new(Item { is_elsewhere: true, ..Item::new("mem_member", TargetKind::Node) }),
            Arc::new(Item::badge()),
            Arc::new(Bundle::default()),
        ]
    }

    fn data_sources(&self) -> Vec<Arc<dyn ResourceType>> {
        let cluster = ["mem_item", "mem_local"].map(|name| ItemData::new(name, TargetKind::Provider));
        let all = cluster.into_iter().chain([ItemData::new("mem_file", TargetKind::Node)]);
        all.map(|data| Arc::new(data) as Arc<dyn ResourceType>).collect()
    }

    async fn configure(&self, _: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError> {
        self.world().start_permit = context.start_permit;
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl Connection for Memory {
    async fn identify(&self, target: &Target) -> Result<Option<Identified>, ProviderError> {
        let Target::Node(node) = target else { return Ok(None) };
        if self.world().dead.contains(&node.name.0) {
            return Err(ProviderError::new(Class::Unreachable, format!("{} does not answer", node.name)));
        }
        let (key, id) = self.machine(&node.name.0);
        let machine = Machine { host_keys: vec![key], machine_id: Some(id), boot_id: None, address: String::new() };
        Ok(Some(Identified { machine, trusted: self.is_trusted(&node.name.0) }))
    }

    async fn accept_machine(&self, _: &Target, machine: &Machine) -> Result<(), ProviderError> {
        self.world().trusted.extend(machine.host_keys.clone());
        Ok(())
    }

    async fn wait_until_reachable(&self, target: &Target, _: &Address) -> Result<(), ProviderError> {
        self.silence(target)
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        if let Err(silence) = self.silence(target) {
            return vec![Err(silence); requests.len()];
        }
        if let Target::Node(node) = target
            && !self.is_trusted(&node.name.0)
        {
            let error = ProviderError::new(Class::Identity, format!("{node:?} is a stranger"));
            return vec![Err(error); requests.len()];
        }
        let key = |r: &ReadRequest| match (&r.desired, &r.recorded) {
            (Some(wanted), _) => text(wanted, "key"),
            (None, Some(record)) => record.identity.clone(),
            (None, None) => String::new(),
        };
        let look = |r: &ReadRequest| {
            if is_bundle(&r.resource_type) {
                return bundle::read(&self.world(), r);
            }
            let found = self.observed(target, r.resource_type.name(), &key(r))?;
            let wanted = r.desired.clone().unwrap_or_default();
            Some(Observed { attributes: marked(found.attributes, &wanted), ..found })
        };
        requests.iter().map(|r| self.death(target, r.resource_type.as_ref()).map(|()| look(r))).collect()
    }

    async fn removal_consequences(
        &self,
        _: &Target,
        requests: &[ReadRequest],
    ) -> Vec<Result<Vec<Consequence>, ProviderError>> {
        let world = self.world();
        let of = |request: &ReadRequest| {
            let object = world.side_effects.get(&request.recorded.as_ref()?.identity)?.clone();
            Some(Consequence::Removal { object })
        };
        requests.iter().map(|request| Ok(of(request).into_iter().collect())).collect()
    }

    async fn maintain(&self) -> Result<(), ProviderError> {
        self.world().maintenance.clone().map_or(Ok(()), Err)
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        if let Err(silence) = self.silence(target) {
            return vec![Err(silence); requests.len()];
        }
        self.world().proposed.extend(requests.iter().map(|request| request.address.to_string()));
        let propose = |r: &PlanRequest| {
            if is_bundle(&r.resource_type) {
                return Ok(bundle::plan(&self.world(), r));
            }
            let same = |o: &Observed| o.attributes.get("value") == r.desired.get("value");
            let mut planned = r.desired.clone();
            planned.retain(|name, _| name != "id");
            let action = match &r.observed {
                None => ProposedAction::Create,
                Some(o) if o.attributes.get("material") != r.desired.get("material") => {
                    ProposedAction::Replace(vec!["material".to_owned()])
                }
                Some(o) if same(o) && r.triggers.is_empty() => ProposedAction::NoOp,
                Some(_) => ProposedAction::Update,
            };
            if action != ProposedAction::NoOp {
                planned.insert("id".to_owned(), Value::Unknown);
            }
            if action == ProposedAction::Create && r.resource_type.name() == "mem_badge" {
                planned.insert("version".to_owned(), Value::Unknown);
            }
            // A change of its definition restarts a unit.
            let is_definition =
                r.desired.get("value").and_then(Value::as_str).is_some_and(|v| v.starts_with("definition"));
            let mut proposal = Proposal::new(action, planned);
            if is_definition && proposal.action == ProposedAction::Update {
                proposal.consequences.push(Consequence::Restart { cause: "its definition changes".to_owned() });
            }
            Ok(proposal)
        };
        requests.iter().map(propose).collect()
    }

    async fn apply(
        &self,
        target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        let deaths = self.world().deaths;
        for (i, operation) in operations.iter().enumerate() {
            tokio::task::yield_now().await;
            let leave = self.world().start_permit.check(&operation.address);
            if self.world().deaths != deaths {
                return std::future::pending().await;
            }
            self.world().operations.push(operation.clone());
            let outcome = leave.and_then(|()| self.perform(target, operation));
            self.take_lock().await;
            let length = self.world().log.len();
            let dies = self.world().dies.clone().filter(|(after, ..)| length >= *after);
            if dies.as_ref().is_none_or(|(_, reports, _)| *reports) {
                outcomes.send((i, outcome)).unwrap();
            }
            if let Some((_, _, end)) = dies {
                self.world().deaths += 1;
                end.cancel();
                return std::future::pending().await;
            }
            let world = self.world();
            if let Some((_, stop)) = world.stops.as_ref().filter(|(after, _)| world.log.len() >= *after) {
                stop.cancel();
            }
            if let Some((last, stop)) = &world.stop_after
                && world.log.contains(last)
            {
                stop.cancel();
            }
        }
        // A reported change can go on before the call ends.
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    async fn drain(&self, target: &Target, request: &DrainRequest) -> Result<Vec<String>, ProviderError> {
        let key = place(target, &text(&request.object.desired.clone().unwrap_or_default(), "key"));
        {
            let mut world = self.world();
            world.log.push(format!("drain {key}"));
            world.drained.entry(key.clone()).or_insert(request.owner.clone());
        }
        self.live_on().await;
        let stopped = {
            let world = self.world();
            world.stop_after.clone().filter(|(last, _)| world.log.contains(last))
        };
        if let Some((_, stop)) = stopped {
            stop.cancel();
            return std::future::pending().await;
        }
        match self.world().busy.contains(&key) {
            true => Err(ProviderError::new(Class::Timeout, format!("{key} is busy"))),
            false => Ok(Vec::new()),
        }
    }

    async fn undrain(&self, target: &Target, request: &DrainRequest) -> Result<(), ProviderError> {
        let key = place(target, &text(&request.object.desired.clone().unwrap_or_default(), "key"));
        {
            let mut world = self.world();
            world.log.push(format!("undrain {key}"));
            if world.drained.get(&key) == Some(&request.owner) {
                world.drained.remove(&key);
            }
        }
        self.live_on().await;
        Ok(())
    }

    async fn explain(&self, _target: &Target, requests: &[ReadRequest]) -> Vec<String> {
        let Some(entry) = self.world().explains_once.clone() else { return Vec::new() };
        while !self.world().log.contains(&entry) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        requests.iter().map(|request| format!("{} saw it fail", request.address)).collect()
    }

    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        if let Err(silence) = self.silence(target) {
            return vec![Err(silence); requests.len()];
        }
        self.world().data.extend(requests.iter().cloned());
        let read = |r: &DataRequest| {
            let key = text(&r.arguments, "key");
            if r.data_source.local_access().is_some() {
                self.world().read_here.push(key.clone());
            }
            let resource_type = if r.data_source.name() == "mem_file" { "mem_file" } else { "mem_item" };
            match self.observed(target, resource_type, &key) {
                Some(found) => Ok(found.attributes),
                None => Err(ProviderError::new(Class::Failed, format!("there is no {key}"))),
            }
        };
        requests.iter().map(read).collect()
    }

    async fn wait_until_healthy(
        &self,
        target: &Target,
        request: &ReadRequest,
        _: Duration,
    ) -> Result<(), ProviderError> {
        tokio::task::yield_now().await;
        let key = place(target, &text(&request.desired.clone().unwrap_or_default(), "key"));
        let mut world = self.world();
        let is_sick = world.sick.contains(&key);
        world.log.push(format!("{} {key}", if is_sick { "sick" } else { "healthy" }));
        if is_sick { Err(ProviderError::new(Class::Timeout, format!("{key} is sick"))) } else { Ok(()) }
    }
}

/// The module `item` beside each manifest: one item, and its id as an output.
const ITEM: &str = "[variables.key]\n[variables.value]\n\
                    [resource.mem_item.it]\nkey = \"${var.key}\"\nvalue = \"${var.value}\"\n\
                    [outputs.id]\nvalue = \"${mem_item.it.id}\"\n";

/// A manifest with its world and its state.
pub struct Bench {
    /// The objects and the log.
    pub memory: Memory,
    workbench: Workbench,
}

impl Default for Bench {
    fn default() -> Self {
        let memory = Memory::default();
        let workbench = Workbench::new(&[Arc::new(memory.clone()) as Arc<dyn Provider>]).unwrap();
        let module = workbench.path().join("item");
        std::fs::create_dir(&module).unwrap();
        std::fs::write(module.join("main.toml"), ITEM).unwrap();
        Self { memory, workbench }
    }
}

impl Bench {
    /// Returns the folder of the manifest.
    pub fn path(&self) -> &Path {
        self.workbench.path()
    }

    /// Writes the manifest.
    pub fn write(&self, manifest: &str) {
        self.workbench.write(manifest).unwrap();
    }

    /// The workspace of the manifest as it is written now.
    pub fn workspace(&self) -> Workspace {
        self.workbench.workspace().unwrap()
    }

    /// Returns the state.
    pub async fn store(&self) -> Store {
        self.workbench.store().await.unwrap()
    }

    /// Returns a bench with this manifest, applied.
    pub async fn applied(manifest: &str) -> Self {
        let bench = Self::default();
        bench.write(manifest);
        bench.apply(&PlanOptions::default()).await;
        bench
    }

    /// Asserts that there is nothing to change.
    pub async fn assert_settled(&self) {
        let plan = self.plan(&PlanOptions::default()).await.unwrap();
        let changed: Vec<_> = plan.changes.iter().filter(|change| change.action.is_change()).collect();
        assert!(!plan.has_changes(), "{changed:#?}");
    }

    /// Plans.
    pub async fn plan(&self, options: &PlanOptions) -> Result<Plan, Failure> {
        self.workbench.plan(options).await
    }

    /// Plans and applies.
    pub async fn apply(&self, options: &PlanOptions) -> Report {
        self.apply_until(options, &Interrupt::default()).await
    }

    /// Plans and applies, until the user interrupts the run.
    pub async fn apply_until(&self, options: &PlanOptions, interrupt: &Interrupt) -> Report {
        self.workbench.apply(options, interrupt).await.unwrap()
    }

    /// Plans and applies. The run dies when the log has this length, before or after the last outcome is reported.
    pub async fn apply_and_die(&self, after: usize, reports: bool) {
        let (events, interrupt, end) = (Events::default(), Interrupt::default(), CancellationToken::new());
        let planned = self.workbench.planned(&PlanOptions::default(), &interrupt).await.unwrap();
        let lock = self.workbench.lock("apply").await.unwrap();
        self.memory.world().dies = Some((after, reports, end.clone()));
        tokio::select! {
            _ = planned.apply(&lock, apply_options(), &events, &interrupt) => {}
            () = end.cancelled() => {}
        }
        self.memory.world().dies = None;
        lock.release().await.unwrap();
    }

    /// Imports the existing object into an address.
    pub async fn import(&self, address: &str) -> Result<Vec<Address>, Failure> {
        self.workbench.import(&address.parse().unwrap()).await
    }

    /// Applies a reviewed plan.
    pub async fn apply_reviewed(&self, plan: Plan) -> Report {
        self.try_apply_reviewed(plan).await.unwrap()
    }

    /// Applies a reviewed plan, unless it is stale.
    pub async fn try_apply_reviewed(&self, plan: Plan) -> Result<Report, Failure> {
        self.workbench.apply_reviewed(plan).await
    }
}
