//! A small engine for tests: it keeps records, and checks every operation against the laws of a provider.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use moorfast_engine::model::{Address, Attributes, Node, ResourceAddress, Transport, Value, seal_attributes};
use moorfast_engine::provider::{
    Applied, Connection, Consequence, Context, Observed, Operation, OperationAction, PlanRequest, Progress, Proposal,
    ProposedAction, Provider, ProviderError, ReadRequest, ResourceType, StartPermit, Target,
};
use moorfast_engine::state::{Record, SealKey};
use moorfast_ssh::SshProvider;
use serde_json::json;
use tokio_util::sync::CancellationToken;

/// One node with its records.
pub struct World {
    pub connection: Arc<dyn Connection>,
    pub target: Target,
    pub cancel: CancellationToken,
    records: Mutex<BTreeMap<String, Record>>,
    key: SealKey,
}

/// Returns this machine as a node.
pub fn local_node() -> Node {
    Node { transport: Transport::Local, sudo: false, ..Node::new("here") }
}

/// Returns attributes from JSON.
pub fn attributes(json: serde_json::Value) -> Attributes {
    match Value::from(json) {
        Value::Map(map) => map,
        other => panic!("{other:?} is not a map"),
    }
}

/// Returns the resource type with this name.
pub fn resource_type(name: &str) -> Arc<dyn ResourceType> {
    let mut types = SshProvider.resource_types().into_iter();
    types.find(|resource_type| resource_type.name() == name).unwrap()
}

impl World {
    pub async fn new(node: Node, root: &Path) -> Self {
        Self::configured(node, root, json!({})).await
    }

    pub async fn configured(node: Node, root: &Path, config: serde_json::Value) -> Self {
        let cancel = CancellationToken::new();
        let context = Context {
            root: root.to_owned(),
            data_dir: root.join(".moorfast"),
            state_dir: root.join(".moorfast"),
            untrusted: false,
            cancel: cancel.clone(),
            start_permit: StartPermit::default(),
            progress: Progress(None),
            key_store: None,
            used: moorfast_engine::provider::UsedProviders::default(),
            client_certificates: Default::default(),
        };
        let connection = SshProvider.configure(&attributes(config), context).await.unwrap();
        let target = Target::Node(Arc::new(node));
        Self { connection, target, cancel, records: Mutex::default(), key: SealKey::generate() }
    }

    pub async fn local(root: &Path) -> Self {
        Self::new(local_node(), root).await
    }

    /// Returns the attributes with their defaults, as the engine passes them.
    pub fn full(kind: &str, mut written: Attributes) -> Attributes {
        let resource_type = resource_type(kind);
        let schema = resource_type.schema();
        for name in written.keys() {
            assert!(schema.attribute(name).is_some(), "{kind} has no attribute {name}");
        }
        for attribute in &schema.attributes {
            if let Some(default) = &attribute.default {
                written.get_or_insert_with(attribute.name, || default.clone());
            }
        }
        let invalid = resource_type.validate(&written);
        assert!(invalid.is_empty(), "{invalid:?}");
        written
    }

    pub fn record(&self, kind: &str) -> Option<Record> {
        self.records.lock().unwrap().get(kind).cloned()
    }

    pub fn clear_records(&self) {
        self.records.lock().unwrap().clear();
    }

    pub async fn read(&self, kind: &str, desired: Option<Attributes>) -> Result<Option<Observed>, ProviderError> {
        let request = ReadRequest {
            address: address(kind),
            resource_type: resource_type(kind),
            desired: desired.map(|d| Self::full(kind, d)),
            recorded: self.record(kind).map(Arc::new),
        };
        self.connection.read(&self.target, &[request]).await.pop().unwrap()
    }

    pub async fn plan(&self, kind: &str, desired: Attributes) -> Result<Proposal, ProviderError> {
        self.plan_with(kind, desired, Vec::new()).await
    }

    pub async fn plan_with(
        &self,
        kind: &str,
        desired: Attributes,
        triggers: Vec<Address>,
    ) -> Result<Proposal, ProviderError> {
        let observed = self.read(kind, Some(desired.clone())).await?;
        let request = PlanRequest { triggers, ..self.plan_request(kind, desired, observed) };
        self.connection.plan(&self.target, &[request]).await.pop().unwrap()
    }

    /// Plans with an observation that was made when less was known.
    pub async fn plan_over(
        &self,
        kind: &str,
        desired: Attributes,
        observed: Option<Observed>,
    ) -> Result<Proposal, ProviderError> {
        let request = self.plan_request(kind, desired, observed);
        self.connection.plan(&self.target, &[request]).await.pop().unwrap()
    }

    fn plan_request(&self, kind: &str, desired: Attributes, observed: Option<Observed>) -> PlanRequest {
        PlanRequest {
            address: address(kind),
            resource_type: resource_type(kind),
            desired: Self::full(kind, desired),
            recorded: self.record(kind).map(Arc::new),
            foreign: observed.is_some() && self.record(kind).is_none(),
            ignored: Vec::new(),
            observed,
            triggers: Vec::new(),
            dependencies: Vec::new(),
        }
    }

    /// Plans and applies. Then a read must return what was applied, and a second plan must be empty.
    pub async fn apply(&self, kind: &str, desired: Attributes) -> Result<Applied, ProviderError> {
        self.apply_with(kind, desired, Vec::new()).await
    }

    pub async fn apply_with(
        &self,
        kind: &str,
        desired: Attributes,
        triggers: Vec<Address>,
    ) -> Result<Applied, ProviderError> {
        let observed = self.read(kind, Some(desired.clone())).await?;
        let proposal = self.plan_with(kind, desired.clone(), triggers.clone()).await?;
        let full = Self::full(kind, desired.clone());
        let action = match proposal.action {
            ProposedAction::Create => OperationAction::Create(full),
            ProposedAction::Update => OperationAction::Update(full),
            ProposedAction::Compare => panic!("the provider compares by itself"),
            ProposedAction::NoOp => panic!("there is nothing to do"),
            ProposedAction::Replace(why) => panic!("replace because of {why:?}"),
        };
        let operation = self.operation(kind, action, observed, triggers);
        let operation = Operation { consequences: proposal.consequences, ..operation };
        let applied = self.operate_all(&[operation]).await.pop().unwrap()?;
        self.add_record(kind, &applied);
        for (name, value) in &proposal.planned {
            let same = value.is_unknown() || applied.attributes.get(name).is_none_or(|now| now == value);
            assert!(same, "{kind}.{name} was planned as {value:?} and is {:?}", applied.attributes.get(name));
        }
        let read = self.read(kind, Some(desired.clone())).await?.expect("it is there after the apply");
        assert_eq!(read.attributes, applied.attributes, "{kind}: what is read is what was applied");
        let drift = self.read(kind, None).await?.expect("it is there without the manifest");
        assert_eq!(
            self.sealed(&drift.attributes),
            self.sealed(&applied.attributes),
            "{kind}: what is read by the record alone"
        );
        let again = self.plan(kind, desired).await?;
        assert_eq!(again.action, ProposedAction::NoOp, "{kind}: {:?} over {:?}", again.planned, read.attributes);
        Ok(applied)
    }

    fn sealed(&self, attributes: &Attributes) -> serde_json::Map<String, serde_json::Value> {
        seal_attributes(attributes, &self.key)
    }

    fn add_record(&self, kind: &str, applied: &Applied) {
        let record = Record {
            address: address(kind).to_string(),
            resource_type: kind.to_owned(),
            provider: "ssh".to_owned(),
            target: self.target.name().to_owned(),
            identity: resource_type(kind).identity(&applied.attributes).expect("an identity"),
            attributes: self.sealed(&applied.attributes),
            dependencies: Vec::new(),
            triggers: BTreeMap::new(),
            private: applied.private.clone(),
            prevent_destroy: false,
            incomplete: false,
            pending: Vec::new(),
            machine: None,
            updated_at: Default::default(),
        };
        self.records.lock().unwrap().insert(kind.to_owned(), record);
    }

    /// Records an existing object as an import or an adoption does, with the private data of its reading.
    pub async fn import(&self, kind: &str, desired: Attributes) {
        let Observed { attributes, private } = self.read(kind, Some(desired)).await.unwrap().expect("an object");
        self.add_record(kind, &Applied { attributes, private, notes: Vec::new() });
    }

    /// Applies a change that fails half-way, and records it as the engine does.
    pub async fn apply_failing(&self, kind: &str, desired: Attributes) -> ProviderError {
        let full = Self::full(kind, desired.clone());
        let observed = self.read(kind, Some(desired)).await.unwrap();
        let action = match observed {
            None => OperationAction::Create(full.clone()),
            Some(_) => OperationAction::Update(full.clone()),
        };
        let error = self.operate(kind, action, observed, Vec::new()).await.unwrap_err();
        let private = error.private.as_deref().cloned().or(self.record(kind).map(|r| r.private)).unwrap_or_default();
        self.add_record(kind, &Applied { attributes: full, private, notes: Vec::new() });
        self.records.lock().unwrap().get_mut(kind).unwrap().incomplete = true;
        error
    }

    /// Marks the last operation as one that did not end.
    pub fn set_incomplete(&self, kind: &str) {
        self.records.lock().unwrap().get_mut(kind).unwrap().incomplete = true;
    }

    /// Applies without recording the result, as a run that crashes: only what the engine records in advance is known.
    pub async fn apply_and_crash(&self, kind: &str, desired: Attributes) {
        let full = Self::full(kind, desired.clone());
        let observed = self.read(kind, Some(desired)).await.unwrap();
        let private = resource_type(kind).initial_private_data(&full, observed.as_ref()).unwrap_or_default();
        let action = match observed {
            None => OperationAction::Create(full.clone()),
            Some(_) => OperationAction::Update(full.clone()),
        };
        self.operate(kind, action, observed, Vec::new()).await.unwrap();
        self.add_record(kind, &Applied { attributes: full, private, notes: Vec::new() });
        self.records.lock().unwrap().get_mut(kind).unwrap().incomplete = true;
    }

    /// Returns the consequences of a destroy, as a plan shows them.
    pub async fn removal_consequences(&self, kind: &str) -> Result<Vec<Consequence>, ProviderError> {
        let request = ReadRequest {
            address: address(kind),
            resource_type: resource_type(kind),
            desired: None,
            recorded: self.record(kind).map(Arc::new),
        };
        self.connection.removal_consequences(&self.target, &[request]).await.pop().unwrap()
    }

    pub async fn destroy(&self, kind: &str) -> Result<Applied, ProviderError> {
        let observed = self.read(kind, None).await?;
        let applied = self.operate(kind, OperationAction::Delete, observed, Vec::new()).await?;
        self.records.lock().unwrap().remove(kind);
        Ok(applied)
    }

    pub async fn operate(
        &self,
        kind: &str,
        action: OperationAction,
        observed: Option<Observed>,
        triggers: Vec<Address>,
    ) -> Result<Applied, ProviderError> {
        let operation = self.operation(kind, action, observed, triggers);
        self.operate_all(&[operation]).await.pop().unwrap()
    }

    pub fn operation(
        &self,
        kind: &str,
        action: OperationAction,
        observed: Option<Observed>,
        triggers: Vec<Address>,
    ) -> Operation {
        Operation {
            address: address(kind),
            resource_type: resource_type(kind),
            action,
            recorded: self.record(kind).map(Arc::new),
            observed,
            triggers,
            objects: Vec::new(),
            consequences: Vec::new(),
            machine_gone: false,
            drain: None,
            timeout: None,
        }
    }

    /// Returns the outcomes in the order of the operations, exactly one for each.
    pub async fn operate_all(&self, operations: &[Operation]) -> Vec<Result<Applied, ProviderError>> {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        self.connection.apply(&self.target, operations, sender).await;
        let mut outcomes = BTreeMap::new();
        while let Some((index, outcome)) = receiver.recv().await {
            assert!(outcomes.insert(index, outcome).is_none(), "one outcome for each operation");
        }
        assert_eq!(outcomes.len(), operations.len());
        outcomes.into_values().collect()
    }

    /// Returns the number of commands that were started, over ssh or on this machine.
    pub fn execs(&self) -> u64 {
        let statistics = self.connection.statistics();
        statistics.iter().filter(|(name, _)| name.ends_with(" execs")).map(|(_, count)| count).sum()
    }
}

pub fn address(kind: &str) -> Address {
    Address::new(ResourceAddress::managed(kind, "x"), None)
}

pub fn create(kind: &str, written: serde_json::Value) -> OperationAction {
    OperationAction::Create(World::full(kind, attributes(written)))
}
