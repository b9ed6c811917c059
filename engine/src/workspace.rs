//! A manifest with its providers and the values of its variables: what the commands work on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use moorfast_state::{Lock, SealKey, Snapshot, StateError};

use crate::plan::{Action, CheckResult, Plan, PlanOptions};
use crate::{Address, Diagnostic, Events, Interrupt, Manifest, Provider, ProviderError, Value};

/// A manifest with its providers and the values of its variables.
pub struct Workspace {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// The providers that this binary has.
    pub providers: Vec<Arc<dyn Provider>>,
    /// The values of the variables.
    pub variables: BTreeMap<String, Value>,
    /// The folder of moorfast's own things beside the manifest: `.moorfast`.
    pub data_dir: PathBuf,
}

/// Why a plan or an apply could not be made at all.
#[derive(Debug)]
pub enum Failure {
    /// The manifest is wrong, or an expression failed.
    Manifest(Vec<Diagnostic>),
    /// Instances could not be read or planned; an instance is named once. Other instances were fine, but a plan of a part is no plan.
    Providers(Vec<(Address, ProviderError)>),
    /// A provider could not be configured.
    Provider(String, ProviderError),
    /// The state can't be read or written.
    State(StateError),
    /// A saved plan does not fit the manifest, its inputs or the state any more; one line each.
    Stale(Vec<String>),
    /// The person ended the run.
    Interrupted,
}

/// A plan with the connections and values to apply it.
pub struct Planned {
    /// The plan.
    pub plan: Plan,
}

/// How one change of the plan ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which instance.
    pub address: Address,
    /// What was to be done.
    pub action: Action,
    /// How it ended.
    pub result: OutcomeResult,
}

/// How a change ended.
#[derive(Clone, Debug)]
pub enum OutcomeResult {
    /// Done.
    Done,
    /// Failed; what it did before it failed is recorded or will be found by the next run.
    Failed(ProviderError),
    /// Not begun: this one failed.
    Skipped(Address),
    /// Not begun: the person ended the run.
    NotStarted,
    /// Not begun: the object no longer looks as it was reviewed; what differs, one line each.
    Stale(Vec<String>),
}

/// What an apply did.
#[derive(Debug, Default)]
pub struct Report {
    /// One for each change of the plan, in the order in which they ended.
    pub outcomes: Vec<Outcome>,
    /// The outputs after it, by name; whether each is sensitive is in the value.
    pub outputs: BTreeMap<String, Value>,
    /// What the checks said after it.
    pub checks: Vec<CheckResult>,
    /// How often the world was asked: `("ssh execs", 12)`.
    pub statistics: Vec<(String, u64)>,
    /// Set where the state could not be written any more; the run stopped there.
    pub state_error: Option<StateError>,
    /// True where the person ended the run.
    pub interrupted: bool,
}

/// How an apply goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyOptions {
    /// How many operations may run at once.
    pub parallelism: usize,
    /// How many operations may run at once on one target.
    pub per_target: usize,
    /// Read every object once more before acting, and leave alone what no longer looks as reviewed: for plans that a person approved.
    pub verify: bool,
}

/// The dependency graph for people: nodes and edges by address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphView {
    /// Every node: an address, or `var.x`, `local.x`, `output.x`, `check.x`.
    pub nodes: Vec<String>,
    /// From each dependant to what it depends on.
    pub edges: Vec<(String, String)>,
}

impl Workspace {
    /// Everything that can be checked without the state and the world.
    pub fn validate(&self) -> Vec<Diagnostic> {
        todo!()
    }

    /// The dependency graph of the instances.
    ///
    /// # Errors
    /// If the manifest is wrong; a cycle is one of the errors.
    pub fn graph(&self) -> Result<GraphView, Vec<Diagnostic>> {
        todo!()
    }

    /// Reads the world and plans.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn plan(
        &self,
        _state: &Snapshot,
        _key: &SealKey,
        _options: &PlanOptions,
        _events: &Events,
        _interrupt: &Interrupt,
    ) -> Result<Planned, Failure> {
        todo!()
    }

    /// Makes a saved plan ready to be applied: checks manifest, inputs, variables and state against it, and evaluates again what the plan
    /// does not hold (sensitive values). Decides nothing anew.
    ///
    /// # Errors
    /// [`Failure::Stale`] if any of them changed.
    pub async fn resume(
        &self,
        _plan: Plan,
        _state: &Snapshot,
        _key: &SealKey,
        _events: &Events,
        _interrupt: &Interrupt,
    ) -> Result<Planned, Failure> {
        todo!()
    }

    /// The value of an expression as `moorfast console` takes it, with resources as the state has them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn evaluate(&self, _expression: &str, _state: &Snapshot) -> Result<Value, Vec<Diagnostic>> {
        todo!()
    }

    /// Reads what is there under the address of an instance of the manifest and records it.
    ///
    /// # Errors
    /// See [`Failure`]; that there is no such object is a provider error.
    pub async fn import(&self, _address: &Address, _state: &Snapshot, _lock: &Lock) -> Result<(), Failure> {
        todo!()
    }
}

impl Planned {
    /// Does what the plan says, and records it.
    pub async fn apply(self, _lock: &Lock, _options: ApplyOptions, _events: &Events, _interrupt: &Interrupt) -> Report {
        todo!()
    }

    /// How often the world was asked so far.
    pub fn statistics(&self) -> Vec<(String, u64)> {
        todo!()
    }

    /// Ends the connections, where the plan is not applied.
    pub async fn close(self) {
        todo!()
    }
}
