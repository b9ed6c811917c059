//! The seam between the engine and the world: what a provider declares, and what it is asked to do.
//!
//! A provider never prints and never touches the state. It is asked in batches per [`Target`], so that reading a node is one
//! round trip however many resources it carries.

mod action;
pub(crate) mod catalog;
mod consequence;
mod objects;
pub(crate) mod redacting_connection;
mod redaction;
mod start_permit;

pub use action::Action;
pub use consequence::Consequence;
pub use objects::{Object, ObjectChange};
pub use redaction::Redaction;
pub use start_permit::StartPermit;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use moorfast_state::Record;
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use crate::model::{Address, AttributePath, Attributes, Identified, Machine, Node, Schema, Value};

/// Where an instance lives.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// On a node of the inventory.
    Node(Arc<Node>),
    /// In what the provider instance connects to (a cluster); the name is that instance's: `kubernetes`, `kubernetes.prod`.
    Provider(String),
}

impl Target {
    /// The name by which records and messages know the target.
    pub fn name(&self) -> &str {
        match self {
            Target::Node(node) => &node.name.0,
            Target::Provider(alias) => alias,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the instances of a resource type live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// On the node that `on` binds; `on` is required.
    Node,
    /// In the cluster; `on` may still make one instance per node.
    Provider,
}

/// A resource type or a data source, as its provider declares it.
#[derive(Clone, Debug)]
pub struct ResourceType {
    /// Its name: `ssh_file`.
    pub name: &'static str,
    /// Where its instances live.
    pub scope: Scope,
    /// What a manifest may write, and what the provider adds.
    pub schema: Schema,
}

/// What a provider is, before it is configured: its name, its schemas, and the rules that need no connection.
#[async_trait]
pub trait Provider: Send + Sync {
    /// Its name, which is the prefix of its types up to the first `_`: `ssh`.
    fn name(&self) -> &'static str;

    /// What `[providers.NAME]` takes.
    fn config(&self) -> Schema;

    /// Its resource types.
    fn resource_types(&self) -> Vec<ResourceType>;

    /// Its data sources.
    fn data_sources(&self) -> Vec<ResourceType>;

    /// Rules beyond the schema, for attributes that may still hold unknown values (which must pass).
    ///
    /// # Errors
    /// Each violated rule, with the attribute it is about. Must be quick, and must not touch the world.
    fn validate(&self, resource_type: &str, attributes: &Attributes) -> Vec<Invalid>;

    /// The natural key of an instance within its target: `/etc/motd`, `v1/Secret/kube-system/x`.
    /// `None` while what it is made of is unknown.
    fn identity(&self, resource_type: &str, attributes: &Attributes) -> Option<String>;

    /// Returns the objects that an instance with these wanted or observed attributes stands for, as far as they are known. Empty for a type of which
    /// each instance is one object that holds nothing else.
    fn objects(&self, _resource_type: &str, _attributes: &Attributes) -> Vec<Object> {
        Vec::new()
    }

    /// Does what is observed of this type depend on what is wanted of it (only what the manifest declares of an object is looked at)? Then an instance
    /// whose attributes were not all known when it was read is read again once they are.
    fn reads_by_desired(&self, _resource_type: &str) -> bool {
        false
    }

    /// Returns the paths into the observed attributes that a path of `ignore_changes` stands for: `manifest.spec.replicas` stands for that of every
    /// object where the manifest writes them as one text.
    fn observed_paths(
        &self,
        _resource_type: &str,
        path: AttributePath,
        _desired: &Attributes,
        _observed: &Attributes,
    ) -> Vec<AttributePath> {
        vec![path]
    }

    /// Whether planning an instance of this type asks what is planned for the instances that come directly before it ([`PlanRequest::dependencies`]).
    fn plans_by_dependencies(&self, _resource_type: &str) -> bool {
        false
    }

    /// Is what `record` remembers still what `attributes` mean, though its natural key is another one now? A list of packages is, as long as one
    /// of them is in both. What is not is replaced: the old object is deleted, the new one made.
    fn continues(&self, resource_type: &str, record: &Record, attributes: &Attributes) -> bool {
        self.identity(resource_type, attributes).is_some_and(|identity| identity == record.identity)
    }

    /// Is an object of this type, though it lives elsewhere, of the very machine that its node is: its registration, the token it joined with?
    /// On another machine it is no use, and is made anew before anything is done there.
    fn is_of_machine(&self, _resource_type: &str) -> bool {
        false
    }

    /// Orders that nobody needs to write: pairs of places in `instances`, the first of which comes before the second. A folder comes before the
    /// files in it, a Namespace before what lives there. `instances` are all of this provider, with the attributes that are known before anything
    /// is read. An order that contradicts a written one is dropped.
    fn implied_order(&self, _instances: &[(&Address, &Target, &Attributes)]) -> Vec<(usize, usize)> {
        Vec::new()
    }

    /// What to remember of an object before it is made or first changed, as long as that did not tell better: how it was found, so that a destroy can tell
    /// what a run that died had made from what was there. `observed` is none for what is about to be made. Never sensitive. `None` where there is
    /// nothing to remember.
    fn found(
        &self,
        _resource_type: &str,
        _desired: &Attributes,
        _observed: Option<&Observed>,
    ) -> Option<serde_json::Value> {
        None
    }

    /// Can the objects of this type be healthy or not, so that [`Connection::healthy`] may be asked?
    fn has_health(&self, _resource_type: &str) -> bool {
        false
    }

    /// A provider instance with this configuration. Connections are made when they are first needed.
    ///
    /// # Errors
    /// If the configuration can't be used.
    async fn configure(&self, config: &Attributes, context: Context) -> Result<Arc<dyn Connection>, ProviderError>;
}

/// A configured provider, which reads and changes the world.
///
/// All methods may be called concurrently, also for one target.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Which machine answers for a node. `None` for what is no machine.
    ///
    /// A machine that does not prove to be the known one is asked who it is and nothing else, and is told nothing.
    ///
    /// # Errors
    /// If it can't be reached or asked.
    async fn identify(&self, _target: &Target) -> Result<Option<Identified>, ProviderError> {
        Ok(None)
    }

    /// Takes `machine`, as [`Connection::identify`] told of it, for the one that is meant, in this run.
    ///
    /// # Errors
    /// If it does not answer any more.
    async fn accept(&self, _target: &Target, _machine: &Machine) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Takes `machine`, which was accepted, for the one that is meant in later runs as well.
    ///
    /// # Errors
    /// If that can't be remembered.
    async fn remember(&self, _target: &Target, _machine: &Machine) -> Result<(), ProviderError> {
        Ok(())
    }

    /// Waits until the target answers that this very run brings up or restarts: asked before each call there. `waiting` is one of those that wait.
    ///
    /// # Errors
    /// If it does not answer for minutes.
    async fn come_up(&self, _target: &Target, _waiting: &Address) -> Result<(), ProviderError> {
        Ok(())
    }

    /// What is there now: for each request, in its order, the observed attributes, or `None` where there is no such object.
    ///
    /// The attributes are those of the schema, and only what is worth comparing with an earlier reading of the same object.
    /// A target that can't be reached fails each of its requests with [`Class::Unreachable`].
    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>>;

    /// What would be done to bring each observed object to its desired attributes. Must not change the world.
    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>>;

    /// Does the operations, concurrently where it can, and reports each through `outcomes` as soon as it is over: its index and how it ended.
    /// Each operation is reported exactly once. Operations of one call do not depend on each other.
    ///
    /// On cancellation ([`Context::cancel`]) what runs is cut off and ends as [`Class::Cancelled`]. Where the run has no leave any more
    /// ([`Context::leave`]), what has not begun ends as [`Class::NotBegun`], and what is under way comes to its end: half of it would be worse.
    async fn apply(
        &self,
        target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    );

    /// The data of each request, in its order.
    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>>;

    /// What these objects say when something that depends on them did not come about: the last journal lines of a unit. One line each, none where
    /// they have nothing to say. Never sensitive.
    async fn explain(&self, _target: &Target, _requests: &[ReadRequest]) -> Vec<String> {
        Vec::new()
    }

    /// Waits until what an instance stands for is healthy: a unit runs and stays so, a machine serves. Asked after an operation on it or on something
    /// else of the same node, so what was true before is no proof. Only of types with [`Provider::has_health`].
    ///
    /// # Errors
    /// [`Class::Timeout`] with what is missing if it is not healthy within `timeout`.
    async fn healthy(&self, _target: &Target, request: &ReadRequest, _timeout: Duration) -> Result<(), ProviderError> {
        Err(ProviderError::new(Class::Invalid, format!("{} has no health", request.resource_type)))
    }

    /// How often the world was asked so far: `("ssh execs", 12)`.
    fn statistics(&self) -> Vec<(&'static str, u64)>;

    /// Ends the connections.
    async fn close(&self);
}

/// A rule beyond the schema that attributes violate.
#[derive(Clone, Debug, PartialEq)]
pub struct Invalid {
    /// The attribute it is about; none for the whole block.
    pub attribute: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
}

/// A request to read an instance.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    /// Which instance.
    pub address: Address,
    /// Its resource type.
    pub resource_type: String,
    /// What the manifest wants, where it is in the manifest; may hold unknown values. Tells the provider what is worth reading.
    pub desired: Option<Attributes>,
    /// What is remembered of it. Where `desired` is none this alone says what to read.
    pub recorded: Option<Arc<Record>>,
}

/// What a provider saw of an instance.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Its attributes.
    pub attributes: Attributes,
    /// What the provider wants to have at hand in plan and apply, and nobody compares.
    pub private: serde_json::Value,
}

/// A request to plan an instance that the manifest has.
#[derive(Clone, Debug)]
pub struct PlanRequest {
    /// Which instance.
    pub address: Address,
    /// Its resource type.
    pub resource_type: String,
    /// What the manifest wants, checked and with defaults; may hold unknown and retained values.
    pub desired: Attributes,
    /// What is remembered of it.
    pub recorded: Option<Arc<Record>>,
    /// What is there.
    pub observed: Option<Observed>,
    /// The paths into the observed attributes that `lifecycle.ignore_changes` names.
    pub ignored: Vec<AttributePath>,
    /// Whether the observed object is foreign: the state does not know it under any address, and no `[[import]]` names it.
    pub foreign: bool,
    /// The addresses of `restart_on` that change or changed since this instance last acted on them.
    pub triggers: Vec<Address>,
    /// The instances that come directly before this one, with what is planned for them; empty unless [`Provider::plans_by_dependencies`].
    pub dependencies: Vec<Dependency>,
}

/// An instance that comes before a planned one.
#[derive(Clone, Debug)]
pub struct Dependency {
    /// Which instance.
    pub address: Address,
    /// What is planned for it; none where it was not planned yet.
    pub action: Option<Action>,
    /// What is planned for each of its objects; empty for an instance of one object.
    pub objects: Vec<ObjectChange>,
    /// What the manifest wants, as far as it is known.
    pub desired: Attributes,
}

impl PlanRequest {
    /// Returns the consequence that `proposal` overwrites a foreign object, if one of these attributes loses a value that was observed: it gets another
    /// one, or the object is replaced.
    pub fn overwrite(&self, proposal: &Proposal, contents: &[&str]) -> Option<Consequence> {
        let observed = self.observed.as_ref().filter(|_| self.foreign)?;
        let is_lost = |name: &&str| match (observed.attributes.get(*name), proposal.planned.get(*name)) {
            (Some(now), Some(then)) => loses(now, then),
            _ => false,
        };
        let overwrites = match &proposal.action {
            ProposedAction::NoOp | ProposedAction::Create => false,
            ProposedAction::Replace(_) => true,
            ProposedAction::Update | ProposedAction::Compare => contents.iter().any(is_lost),
        };
        overwrites.then_some(Consequence::Overwrite)
    }
}

/// Whether something of `now` is gone or different in `then`. Members that are added lose nothing.
pub fn loses(now: &Value, then: &Value) -> bool {
    match (now.reveal_deep(), then.reveal_deep()) {
        (Value::Null, _) => false,
        (Value::Map(now), Value::Map(then)) => {
            now.iter().any(|(name, now)| then.get(name).is_none_or(|then| loses(now, then)))
        }
        (now, then) => now != then,
    }
}

/// What a provider proposes for one instance.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What is to be done.
    pub action: ProposedAction,
    /// The attributes as they will be: what is known of them now. The plan's diff is between the observed attributes and these;
    /// observed attributes that are missing here are not looked at.
    pub planned: Attributes,
    /// What is to be done with each object that the instance stands for, those without a change included. Empty for a type of which each instance is
    /// one object.
    pub objects: Vec<ObjectChange>,
    /// What it does beyond the attributes.
    pub consequences: Vec<Consequence>,
    /// Why, beyond what the diff shows, one line each.
    pub notes: Vec<String>,
}

impl Proposal {
    /// Returns a proposal without objects, consequences and notes.
    pub fn new(action: ProposedAction, planned: Attributes) -> Self {
        Self { action, planned, objects: Vec::new(), consequences: Vec::new(), notes: Vec::new() }
    }
}

/// What is to be done with one instance of the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProposedAction {
    /// Nothing.
    NoOp,
    /// It is not there and will be made.
    Create,
    /// It will be changed in place.
    Update,
    /// Nothing if the sealed attributes are equal, else it will be changed in place: for what can't be compared because it is secret and only
    /// remembered.
    Compare,
    /// It will be deleted and made again, because of these attributes.
    Replace(Vec<String>),
}

/// One operation on the world.
#[derive(Clone, Debug)]
pub struct Operation {
    /// On which instance.
    pub address: Address,
    /// Its resource type.
    pub resource_type: String,
    /// What to do.
    pub action: OperationAction,
    /// What is remembered of it.
    pub recorded: Option<Arc<Record>>,
    /// What was observed before.
    pub observed: Option<Observed>,
    /// The addresses of `restart_on` that changed.
    pub triggers: Vec<Address>,
    /// What the plan does with each of the instance's objects; empty where the instance is one object, or where the plan did not know them. No object is
    /// removed that the plan does not remove.
    pub objects: Vec<ObjectChange>,
    /// What the plan showed that it does beyond the attributes. A provider does nothing of this kind that is not listed here.
    pub consequences: Vec<Consequence>,
    /// Is it a deletion because the machine that the object was of is gone for good?
    pub machine_gone: bool,
    /// How long it may take in all, from `timeouts`.
    pub timeout: Option<Duration>,
}

/// What to do with an instance. The engine splits a replacement into a delete and a create.
#[derive(Clone, Debug)]
pub enum OperationAction {
    /// Make it with these attributes, all known (or retained).
    Create(Attributes),
    /// Bring it to these attributes, all known (or retained).
    Update(Attributes),
    /// Remove it. That it is already gone is a success.
    Delete,
}

/// What an operation left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The attributes as [`Connection::read`] would observe them now (empty after a delete), and computed ones.
    pub attributes: Attributes,
    /// What the provider wants back in `recorded.private` next time. Never sensitive.
    pub private: serde_json::Value,
    /// What a person should know, one line each.
    pub notes: Vec<String>,
}

/// A request to read data.
#[derive(Clone, Debug)]
pub struct DataRequest {
    /// Which instance.
    pub address: Address,
    /// Its data source.
    pub data_source: String,
    /// Its arguments, all known.
    pub arguments: Attributes,
    /// How long it may take.
    pub timeout: Option<Duration>,
}

/// What a provider is given besides its configuration.
#[derive(Clone, Debug)]
pub struct Context {
    /// The folder of the manifest: relative paths start here.
    pub root: PathBuf,
    /// The folder where moorfast keeps what is its own (`.moorfast` beside the manifest): known_hosts, caches.
    pub data_dir: PathBuf,
    /// Whether the manifest is somebody else's: nothing that it names is run, asked or read on this machine but files in `root`.
    pub untrusted: bool,
    /// Cancelled when the person wants running operations to end now.
    pub cancel: CancellationToken,
    /// Asked right before each operation begins.
    pub start_permit: StartPermit,
    /// Where news of long work goes.
    pub progress: Progress,
}

/// The way by which providers tell of long work: what is waited for, how far an upload is.
#[derive(Clone, Debug)]
pub struct Progress(pub Option<UnboundedSender<(Address, String)>>);

impl Progress {
    /// Tells that the operation on `address` is at `message` now.
    pub fn report(&self, address: &Address, message: impl Into<String>) {
        if let Some(sender) = &self.0 {
            // Nobody listening is no failure of the work.
            let _ = sender.send((address.clone(), message.into()));
        }
    }
}

/// Why a provider could not do what it was asked.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{summary}")]
pub struct ProviderError {
    /// What sort of failure it is.
    pub class: Class,
    /// What happened, in one line and without a full stop: `cannot write /etc/motd on gpu01: no space left on device`.
    pub summary: String,
    /// More lines, as the world said them: stderr, journal, conditions. Never sensitive.
    pub detail: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The attribute of the manifest that it is about.
    pub attribute: Option<String>,
    /// Of an operation that did a part of its work: what the provider wants back in `recorded.private` next time. Never sensitive.
    pub private: Option<Box<serde_json::Value>>,
}

/// What sort of failure a [`ProviderError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The target does not answer: nothing is known of it.
    Unreachable,
    /// The target answers, but is not the one we know: a changed host key, a foreign certificate.
    Identity,
    /// The target refuses us: key, sudo, RBAC.
    Denied,
    /// Someone else owns what we would change.
    Conflict,
    /// The attributes are not acceptable to the target.
    Invalid,
    /// It did not come about in time.
    Timeout,
    /// It was cancelled, maybe half-way.
    Cancelled,
    /// Nothing of it was begun, because the run may begin nothing more.
    NotBegun,
    /// It failed.
    Failed,
}

impl ProviderError {
    /// An error of this class with this summary.
    pub fn new(class: Class, summary: impl Into<String>) -> Self {
        Self { class, summary: summary.into(), detail: Vec::new(), help: None, attribute: None, private: None }
    }

    /// With what to do about it.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// With lines as the world said them.
    pub fn detail(mut self, lines: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.detail.extend(lines.into_iter().map(Into::into));
        self
    }

    /// About this attribute.
    pub fn attribute(mut self, name: impl Into<String>) -> Self {
        self.attribute = Some(name.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn attributes(json: serde_json::Value) -> Attributes {
        match Value::from(json) {
            Value::Map(map) => map,
            other => panic!("{other:?} is not a map"),
        }
    }

    #[test]
    fn what_a_foreign_object_loses() {
        let overwritten = |foreign, action, now: serde_json::Value, then: serde_json::Value| {
            let observed = Observed { attributes: attributes(now), private: json!(null) };
            let request = PlanRequest {
                address: "ssh_file.a".parse().unwrap(),
                resource_type: "ssh_file".to_owned(),
                desired: Attributes::new(),
                recorded: None,
                observed: Some(observed),
                foreign,
                ignored: Vec::new(),
                triggers: Vec::new(),
                dependencies: Vec::new(),
            };
            request.overwrite(&Proposal::new(action, attributes(then)), &["content", "parts"]).is_some()
        };
        let update = || ProposedAction::Update;
        assert!(overwritten(true, update(), json!({"content": "theirs"}), json!({"content": "mine"})));
        assert!(!overwritten(false, update(), json!({"content": "theirs"}), json!({"content": "mine"})));
        // Nothing is lost by another mode, nor by what is added.
        assert!(!overwritten(
            true,
            update(),
            json!({"content": "x", "mode": "1"}),
            json!({"content": "x", "mode": "2"})
        ));
        assert!(!overwritten(true, update(), json!({"parts": {"a": 1}}), json!({"parts": {"a": 1, "b": 2}})));
        assert!(!overwritten(true, update(), json!({}), json!({"content": "mine"})));
        assert!(overwritten(true, update(), json!({"parts": {"a": 1, "b": 2}}), json!({"parts": {"a": 1}})));
        assert!(overwritten(true, update(), json!({"parts": {"a": {"b": 1}}}), json!({"parts": {"a": {"b": 2}}})));
        assert!(overwritten(true, ProposedAction::Replace(vec![]), json!({"mode": "1"}), json!({"mode": "2"})));
        assert!(!overwritten(true, ProposedAction::NoOp, json!({"content": "x"}), json!({"content": "y"})));
    }
}
