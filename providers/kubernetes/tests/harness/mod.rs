//! The provider on a real API server, called as the planner and the executor call it.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test panics to fail")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use moorfast_engine::model::{Address, Attributes, DrainOptions, Value, seal_attributes};
use moorfast_engine::provider::{
    Applied, Connection, Context, DataRequest, Dependency, ObjectChange, Observed, Operation, OperationAction,
    PlanRequest, Progress, Proposal, ProposedAction, Provider, ProviderError, ReadRequest, ResourceType, Target,
};
use moorfast_engine::state::{Record, SealKey};
use moorfast_kubernetes::KubernetesProvider;
use serde_json::Value as Json;

/// Returns the kubeconfig of the testbed. Without a testbed, prints why the test is skipped and returns `None`.
pub fn kubeconfig() -> Option<PathBuf> {
    let Some(path) = std::env::var_os("MOORFAST_TESTBED_JSON") else {
        println!("skipped: MOORFAST_TESTBED_JSON names no testbed");
        return None;
    };
    let testbed: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    Some(PathBuf::from(testbed["control_plane"]["kubeconfig"].as_str().unwrap()))
}

/// Returns the description of the testbed. Without a testbed, prints why the test is skipped and returns `None`.
pub fn testbed() -> Option<Json> {
    kubeconfig()?;
    let path = std::env::var_os("MOORFAST_TESTBED_JSON")?;
    Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
}

/// Returns a client that checks the work of the provider and acts as another user of the cluster.
pub async fn client(kubeconfig: &std::path::Path, change: impl FnOnce(&mut kube::Config)) -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    change(&mut config);
    Client::try_from(config).unwrap()
}

/// Returns a name that no other test and no earlier run uses.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() % 100_000_000;
    format!("{prefix}-{time}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Converts JSON to attributes.
pub fn attributes(json: Json) -> Attributes {
    Value::from(json).as_map().unwrap().clone()
}

/// Connects the provider.
pub async fn connect(config: Json) -> Arc<dyn Connection> {
    connect_for(config, false).await
}

/// Connects the provider for a manifest that may be untrusted.
pub async fn connect_for(config: Json, untrusted: bool) -> Arc<dyn Connection> {
    let context = Context {
        root: PathBuf::from("/"),
        data_dir: PathBuf::from("/nonexistent"),
        state_dir: PathBuf::from("/nonexistent"),
        untrusted,
        cancel: Default::default(),
        start_permit: Default::default(),
        progress: Progress(None),
        key_store: None,
        used: moorfast_engine::provider::UsedProviders::default(),
        client_certificates: Default::default(),
    };
    KubernetesProvider.configure(&attributes(config), context).await.unwrap()
}

/// One instance and its record.
pub struct Instance {
    pub connection: Arc<dyn Connection>,
    pub address: Address,
    pub key: SealKey,
    pub record: Option<Arc<Record>>,
    pub timeout: Duration,
    /// The options of a drain before a deletion.
    pub drain: Option<DrainOptions>,
    /// The dependencies in the plan.
    pub dependencies: Vec<Dependency>,
    /// The object changes of the last plan.
    objects: Vec<ObjectChange>,
}

pub type Reading = Result<Option<Observed>, ProviderError>;

/// Returns the resource type with this name.
pub fn resource_type(name: &str) -> Arc<dyn ResourceType> {
    let mut types = KubernetesProvider.resource_types().into_iter();
    types.find(|resource_type| resource_type.name() == name).unwrap()
}

impl Instance {
    pub async fn new(resource_type: &str) -> Option<Self> {
        let kubeconfig = kubeconfig()?;
        Some(Self::on(connect(serde_json::json!({ "kubeconfig": kubeconfig })).await, resource_type))
    }

    pub fn on(connection: Arc<dyn Connection>, resource_type: &str) -> Self {
        let address = format!("{resource_type}.x").parse().unwrap();
        let (dependencies, objects) = Default::default();
        Self {
            connection,
            address,
            key: SealKey::generate(),
            record: None,
            timeout: Duration::from_secs(30),
            drain: None,
            dependencies,
            objects,
        }
    }

    fn resource_type(&self) -> Arc<dyn ResourceType> {
        resource_type(&self.address.resource.resource_type)
    }

    /// Fills in the defaults, as the planner does.
    fn with_defaults(&self, desired: &Attributes) -> Attributes {
        let resource_type = self.resource_type();
        let defaults =
            resource_type.schema().attributes.iter().filter_map(|a| Some((a.name.to_owned(), a.default.clone()?)));
        let mut attributes: Attributes = defaults.collect();
        attributes.extend(desired.clone());
        attributes
    }

    fn target() -> Target {
        Target::Provider("kubernetes".to_owned())
    }

    pub async fn read(&self, desired: Option<&Attributes>) -> Reading {
        let request = ReadRequest {
            address: self.address.clone(),
            resource_type: self.resource_type(),
            desired: desired.map(|d| self.with_defaults(d)),
            recorded: self.record.clone(),
        };
        self.connection.read(&Self::target(), &[request]).await.remove(0)
    }

    pub async fn wait_until_healthy(&self, desired: &Attributes, timeout: Duration) -> Result<(), ProviderError> {
        let request = ReadRequest {
            address: self.address.clone(),
            resource_type: self.resource_type(),
            desired: Some(self.with_defaults(desired)),
            recorded: self.record.clone(),
        };
        self.connection.wait_until_healthy(&Self::target(), &request, timeout).await
    }

    pub async fn plan(&self, desired: &Attributes) -> Result<(Proposal, Option<Observed>), ProviderError> {
        let observed = self.read(Some(desired)).await?;
        let request = PlanRequest {
            address: self.address.clone(),
            resource_type: self.resource_type(),
            desired: self.with_defaults(desired),
            recorded: self.record.clone(),
            observed: observed.clone(),
            foreign: observed.is_some() && self.record.is_none(),
            ignored: Vec::new(),
            triggers: Vec::new(),
            dependencies: self.dependencies.clone(),
        };
        Ok((self.connection.plan(&Self::target(), &[request]).await.remove(0)?, observed))
    }

    /// Does one operation.
    pub async fn operate(&self, action: OperationAction, observed: Option<Observed>) -> Result<Applied, ProviderError> {
        let operation = Operation {
            address: self.address.clone(),
            resource_type: self.resource_type(),
            action,
            recorded: self.record.clone(),
            observed,
            triggers: Vec::new(),
            objects: self.objects.clone(),
            consequences: Vec::new(),
            machine_gone: false,
            drain: self.drain.clone().map(Box::new),
            timeout: Some(self.timeout),
        };
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        self.connection.apply(&Self::target(), &[operation], sender).await;
        let (index, outcome) = receiver.recv().await.unwrap();
        assert_eq!((index, receiver.recv().await), (0, None), "each operation is reported once");
        outcome
    }

    fn remember(&mut self, desired: &Attributes, applied: &Applied) {
        let identity = self.resource_type().identity(desired).unwrap_or_default();
        if let Some(again) = self.resource_type().identity(&applied.attributes) {
            assert_eq!(again, identity, "what was applied has the identity of what was wanted");
        }
        self.record = Some(Arc::new(Record {
            address: self.address.to_string(),
            resource_type: self.resource_type().name().to_owned(),
            provider: "kubernetes".to_owned(),
            target: "kubernetes".to_owned(),
            identity,
            attributes: seal_attributes(&applied.attributes, &self.key),
            dependencies: Vec::new(),
            triggers: Default::default(),
            private: applied.private.clone(),
            prevent_destroy: false,
            incomplete: false,
            pending: Vec::new(),
            machine: None,
            updated_at: jiff::Timestamp::now(),
        }));
    }

    /// Writes the record of a failed operation.
    pub fn remember_failure(&mut self, desired: &Attributes) {
        self.remember(desired, &Applied { attributes: desired.clone(), ..Applied::default() });
        let failed = self.record.take().map(|record| Record { incomplete: true, ..(*record).clone() });
        self.record = failed.map(Arc::new);
    }

    /// Does what `--replace` asks for.
    pub async fn replace(&mut self, desired: &Attributes) -> Result<(), ProviderError> {
        let desired = &self.with_defaults(desired);
        let observed = self.read(Some(desired)).await?;
        self.operate(OperationAction::Delete, observed).await?;
        self.record = None;
        let applied = self.operate(OperationAction::Create(desired.clone()), None).await?;
        self.remember(desired, &applied);
        Ok(())
    }

    /// Plans and does what is planned. Returns what was done.
    pub async fn apply(&mut self, desired: &Attributes) -> Result<Proposal, ProviderError> {
        let (proposal, observed) = self.plan(desired).await?;
        self.objects = proposal.objects.clone();
        let desired = &self.with_defaults(desired);
        let applied = match &proposal.action {
            ProposedAction::NoOp => {
                let observed = observed.unwrap();
                Applied { attributes: observed.attributes, private: observed.private, notes: Vec::new() }
            }
            ProposedAction::Create => self.operate(OperationAction::Create(desired.clone()), observed).await?,
            ProposedAction::Update | ProposedAction::Compare => {
                self.operate(OperationAction::Update(desired.clone()), observed).await?
            }
            ProposedAction::Replace(_) => {
                self.operate(OperationAction::Delete, observed).await?;
                self.operate(OperationAction::Create(desired.clone()), None).await?
            }
        };
        self.remember(desired, &applied);
        Ok(proposal)
    }

    /// Applies, and holds the provider to its laws: what it reads afterwards is what it said, and there is nothing left to do.
    pub async fn bring(&mut self, desired: &Attributes) -> Proposal {
        let proposal = self.apply(desired).await.unwrap();
        self.is_settled(desired).await;
        proposal
    }

    /// Checks that the next plan is empty and that there is no drift.
    pub async fn is_settled(&self, desired: &Attributes) {
        let recorded = self.record.as_ref().unwrap().attributes.clone();
        assert_eq!(self.sealed(self.read(Some(desired)).await), Some(recorded.clone()), "read by the manifest");
        assert_eq!(self.sealed(self.read(None).await), Some(recorded), "read by the record alone");
        let (again, observed) = self.plan(desired).await.unwrap();
        match again.action {
            ProposedAction::Compare => {
                let planned = seal_attributes(&again.planned, &self.key);
                assert_eq!(Some(planned), observed.map(|o| seal_attributes(&o.attributes, &self.key)), "compared");
            }
            action => assert_eq!(action, ProposedAction::NoOp, "second plan: {:?} {:?}", again.planned, again.notes),
        }
    }

    /// The names of the attributes that differ from the record.
    pub async fn drift(&self) -> Vec<String> {
        let recorded = self.record.as_ref().unwrap().attributes.clone();
        let Some(now) = self.sealed(self.read(None).await) else { return vec!["gone".to_owned()] };
        recorded.iter().filter(|(name, value)| now.get(*name) != Some(value)).map(|(name, _)| name.clone()).collect()
    }

    pub fn sealed(&self, reading: Reading) -> Option<serde_json::Map<String, Json>> {
        reading.unwrap().map(|o| seal_attributes(&o.attributes, &self.key))
    }

    /// The number of requests that the connection has sent so far.
    pub fn requests(&self) -> u64 {
        self.connection.statistics()[0].1
    }

    pub async fn destroy(&mut self) -> Result<(), ProviderError> {
        let observed = self.read(None).await?;
        self.operate(OperationAction::Delete, observed).await?;
        self.record = None;
        Ok(())
    }

    pub async fn data(&self, data_source: &str, arguments: Json) -> Result<Attributes, ProviderError> {
        let mut data_sources = KubernetesProvider.data_sources().into_iter();
        let request = DataRequest {
            address: format!("data.{data_source}.x").parse().unwrap(),
            data_source: data_sources.find(|declared| declared.name() == data_source).unwrap(),
            arguments: attributes(arguments),
            timeout: Some(Duration::from_secs(10)),
        };
        self.connection.read_data(&Self::target(), &[request]).await.remove(0)
    }
}
