//! A manifest with its providers and the values of its variables: what the commands work on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use moorfast_state::{Digest, Lock, Record, SealKey, Snapshot, StateError};
use serde_json::{Map, Value as Json};

use crate::apply::{Executor, Work, describe};
use crate::catalog::Catalog;
use crate::check::{When, run_checks};
use crate::early::Early;
use crate::expand::{Binding, Expanded};
use crate::graph::Graph;
use crate::plan::{Action, CheckResult, Draft, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, Planner};
use crate::scope::{InstanceScope, Values};
use crate::session::Session;
use crate::{
    Address, Attributes, Class, Diagnostic, Events, Expr, Interrupt, Manifest, Node, Provider, ProviderError,
    ReadRequest, Value, seal_attributes, suggest,
};

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
    /// The instances that could not be read. Only a refresh has any; elsewhere they fail the plan.
    pub unread: Vec<(Address, ProviderError)>,
    work: Work,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplyOptions {
    /// The id of the run in the state's history.
    pub run: String,
    /// How many calls of providers may run at once. What is ready on one target at the same time is one call.
    pub parallelism: usize,
    /// How many calls may run at once on one node.
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
    fn expanded(&self) -> Result<Expanded, Vec<Diagnostic>> {
        let catalog = Catalog::new(&self.providers);
        Expanded::new(self.manifest.clone(), self.variables.clone(), catalog)
    }

    /// Everything that can be checked without the state and the world.
    pub fn validate(&self) -> Vec<Diagnostic> {
        let expanded = match self.expanded() {
            Ok(expanded) => expanded,
            Err(errors) => return errors,
        };
        let outputs = self.manifest.outputs.values().map(|output| &output.value);
        let mut errors = match Graph::new(&expanded).and_then(|mut graph| Early::new(&expanded, &mut graph)) {
            Ok(_) => Vec::new(),
            Err(errors) => errors,
        };
        let scope = InstanceScope::new(&expanded, Values::none(), Binding::default());
        let free = outputs.chain(self.manifest.locals.values()).filter_map(|expr| expr.evaluate(&scope).err());
        errors.extend(free.flatten());
        crate::early::deduplicated(errors)
    }

    /// The nodes of the inventory.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn nodes(&self) -> Result<Vec<Arc<Node>>, Vec<Diagnostic>> {
        Ok(self.expanded()?.nodes.into_values().collect())
    }

    /// The configuration of a provider instance, checked and with defaults; empty where this binary has no such provider.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn provider_configuration(&self, alias: &str) -> Result<Attributes, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        match expanded.catalog.provider(alias) {
            Some(provider) => crate::session::configuration(&expanded, provider.as_ref(), alias),
            None => Ok(Attributes::new()),
        }
    }

    /// The dependency graph of the instances.
    ///
    /// # Errors
    /// If the manifest is wrong; a cycle is one of the errors.
    pub fn graph(&self) -> Result<GraphView, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        let mut graph = Graph::new(&expanded)?;
        Early::new(&expanded, &mut graph)?;
        Ok(graph.view(&expanded))
    }

    /// Reads the world and plans.
    ///
    /// # Errors
    /// See [`Failure`].
    pub async fn plan(
        &self,
        state: &Snapshot,
        key: &SealKey,
        options: &PlanOptions,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Planned, Failure> {
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let mut graph = Graph::new(&expanded).map_err(Failure::Manifest)?;
        let early = Early::new(&expanded, &mut graph).map_err(Failure::Manifest)?;
        check_patterns(&expanded, state, options)?;
        let session = Session::open(&expanded, aliases(&expanded, state), &self.data_dir, events, interrupt).await?;
        let planner = Planner::new(&expanded, &graph, &session, key, options, events, &early, state);
        let draft = tokio::select! {
            draft = planner.run() => draft,
            () = interrupt.stop.cancelled() => Err(Failure::Interrupted),
        };
        let draft = draft.and_then(|draft| {
            let outputs = output_changes(&expanded, &draft.values, state, key, options.mode);
            outputs.map(|outputs| (draft, outputs)).map_err(Failure::Manifest)
        });
        match draft {
            Ok((draft, outputs)) => {
                Ok(self.planned(expanded, session, draft, outputs, state, key, options, events).await)
            }
            Err(failure) => {
                session.close().await;
                Err(failure)
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "everything that a plan is made of")]
    async fn planned(
        &self,
        expanded: Expanded,
        session: Session,
        draft: Draft,
        outputs: BTreeMap<String, OutputChange>,
        state: &Snapshot,
        key: &SealKey,
        options: &PlanOptions,
        events: &Events,
    ) -> Planned {
        let checks = match options.mode {
            PlanMode::Destroy => Vec::new(),
            _ => {
                let is_pending = |action| !matches!(action, Action::NoOp | Action::Adopt);
                let changing = draft.changes.iter().filter(|c| is_pending(c.action));
                let pending: HashSet<&Address> = changing.map(|c| &c.address).collect();
                run_checks(&expanded, &draft.values, events, When::Planned, |address| pending.contains(address)).await
            }
        };
        let plan = Plan {
            format_version: PLAN_FORMAT,
            moorfast_version: env!("CARGO_PKG_VERSION").to_owned(),
            created_at: Timestamp::now(),
            options: options.clone(),
            lineage: state.lineage.clone(),
            serial: state.serial,
            manifest: self.manifest.digest.clone().unwrap_or_else(|| Digest::of(b"")),
            inputs: inputs(&expanded),
            variables: sealed_variables(&self.variables, key),
            outputs,
            changes: draft.changes,
            drift: draft.drift,
            checks,
            nodes: Vec::new(),
            warnings: draft.warnings,
        };
        let work = Work {
            plan: plan.clone(),
            expanded: Arc::new(expanded),
            session,
            items: draft.items,
            values: draft.values,
            key: key.clone(),
            stale: Default::default(),
            open: state.intents.clone(),
        };
        Planned { plan, unread: draft.unread, work }
    }

    /// Makes a saved plan ready to be applied: checks manifest, inputs, variables and state against it, reads the world again, and keeps of what was
    /// reviewed what still is as it was. Decides nothing anew: an operation that was not reviewed is not done.
    ///
    /// # Errors
    /// [`Failure::Stale`] if the manifest, an input, a variable or the state changed; otherwise as [`Workspace::plan`].
    pub async fn resume(
        &self,
        plan: Plan,
        state: &Snapshot,
        key: &SealKey,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Planned, Failure> {
        let mut reasons = Vec::new();
        if plan.lineage != state.lineage {
            reasons.push("the plan was made for another state".to_owned());
        } else if plan.serial != state.serial {
            reasons.push("the state changed since the plan was made".to_owned());
        }
        if Some(&plan.manifest) != self.manifest.digest.as_ref() {
            reasons.push("the manifest changed since the plan was made".to_owned());
        }
        let variables = sealed_variables(&self.variables, key);
        let differs = plan.variables.iter().filter(|(name, value)| variables.get(*name) != Some(value));
        reasons.extend(differs.map(|(name, _)| format!("the variable `{name}` has another value than in the plan")));
        if !reasons.is_empty() {
            return Err(Failure::Stale(reasons));
        }
        let mut now = self.plan(state, key, &plan.options, events, interrupt).await?;
        let inputs = plan.inputs.iter().filter(|(path, digest)| now.plan.inputs.get(*path) != Some(digest));
        let changed: Vec<_> = inputs.map(|(path, _)| format!("`{path}` changed since the plan was made")).collect();
        if !changed.is_empty() {
            now.close().await;
            return Err(Failure::Stale(changed));
        }
        now.work.keep_reviewed(plan);
        now.plan = now.work.plan.clone();
        Ok(now)
    }

    /// The value of an expression as `moorfast console` takes it, with resources as the state has them.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn evaluate(&self, expression: &str, state: &Snapshot) -> Result<Value, Vec<Diagnostic>> {
        let expanded = self.expanded()?;
        let mut values = Values::default();
        for (address, record) in &state.records {
            let Ok(address) = address.parse() else { continue };
            values.insert(address, record.attributes.iter().map(|(k, v)| (k.clone(), unsealed(v))).collect());
        }
        let span = crate::Span { file: usize::MAX, start: 0, end: expression.len() };
        let expr = Expr::expression(expression, span).map_err(|error| vec![*error])?;
        expr.evaluate(&InstanceScope::new(&expanded, &values, Binding::default()))
    }

    /// Reads what is there under the address of an instance of the manifest and records it.
    ///
    /// # Errors
    /// See [`Failure`]; that there is no such object is a provider error.
    pub async fn import(
        &self,
        address: &Address,
        state: &Snapshot,
        key: &SealKey,
        lock: &Lock,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<(), Failure> {
        let failed =
            |class, summary: String| Failure::Providers(vec![(address.clone(), ProviderError::new(class, summary))]);
        if state.records.contains_key(&address.to_string()) {
            return Err(failed(Class::Invalid, format!("`{address}` is in the state already")));
        }
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let mut graph = Graph::new(&expanded).map_err(Failure::Manifest)?;
        let early = Early::new(&expanded, &mut graph).map_err(Failure::Manifest)?;
        let Some(instance) = expanded.instance(address) else {
            return Err(failed(Class::Invalid, format!("the manifest has no `{address}`: write it there first")));
        };
        let Some(identity) = early.identity(&expanded, instance) else {
            let message = format!("it is not known which object `{address}` is until others were applied");
            return Err(failed(Class::Invalid, message));
        };
        let session = Session::open(&expanded, [instance.provider.clone()], &self.data_dir, events, interrupt).await?;
        let request = ReadRequest {
            address: address.clone(),
            resource_type: instance.resource_type.name.to_owned(),
            desired: early.get(address).cloned(),
            recorded: None,
        };
        let readings = match session.connection(&instance.provider) {
            Some(connection) => connection.read(&instance.target, &[request]).await,
            None => Vec::new(),
        };
        session.close().await;
        let observed = match readings.into_iter().next() {
            Some(Ok(Some(observed))) => observed,
            Some(Err(error)) => return Err(Failure::Providers(vec![(address.clone(), error)])),
            _ => return Err(failed(Class::Invalid, format!("there is no {identity} on {}", instance.target))),
        };
        let attributes = crate::plan::mark_sensitive(&instance.resource_type.schema, observed.attributes);
        let dependencies = expanded.index.get(address).map(|i| graph.dependencies(*i).collect::<BTreeSet<_>>());
        let dependencies = dependencies.into_iter().flatten().map(|d| expanded.instances[d].address.to_string());
        let record = Record {
            address: address.to_string(),
            resource_type: instance.resource_type.name.to_owned(),
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            identity,
            attributes: seal_attributes(&attributes, key),
            dependencies: dependencies.collect(),
            triggers: BTreeMap::new(),
            private: Json::Null,
            prevent_destroy: instance.resource.lifecycle.prevent_destroy,
            incomplete: false,
            updated_at: Timestamp::now(),
        };
        lock.put(record).await.map_err(Failure::State)
    }
}

impl Planned {
    /// Does what the plan says, and records it.
    pub async fn apply(self, lock: &Lock, options: ApplyOptions, events: &Events, interrupt: &Interrupt) -> Report {
        Executor::new(self.work, lock, options, events, interrupt).run().await
    }

    /// How often the world was asked so far.
    pub fn statistics(&self) -> Vec<(String, u64)> {
        self.work.session.statistics()
    }

    /// Ends the connections, where the plan is not applied.
    pub async fn close(self) {
        self.work.session.close().await;
    }
}

impl Work {
    /// Keeps of a reviewed plan what would be planned the same way now; the rest of it is stale. What was not reviewed is not done.
    fn keep_reviewed(&mut self, reviewed: Plan) {
        let now: BTreeMap<_, _> = self.plan.changes.drain(..).map(|c| (c.address.clone(), c)).collect();
        for change in reviewed.changes.iter().filter(|c| c.action.is_change() || c.action == Action::Read) {
            let present = now.get(&change.address);
            let same = present
                .is_some_and(|p| p.action == change.action && p.observed == change.observed && p.after == change.after);
            if same {
                continue;
            }
            let mut lines = describe(change.before.as_ref(), present.and_then(|p| p.before.as_ref()));
            if lines.is_empty() {
                lines.push("it would be planned differently now".to_owned());
            }
            self.stale.insert(change.address.clone(), lines);
        }
        self.plan = reviewed;
    }
}

impl Outcome {
    /// Did it come about?
    pub fn is_done(&self) -> bool {
        matches!(self.result, OutcomeResult::Done)
    }
}

/// The provider instances that the manifest or the state needs.
fn aliases(expanded: &Expanded, state: &Snapshot) -> BTreeSet<String> {
    let of_manifest = expanded.instances.iter().map(|i| i.provider.clone());
    of_manifest.chain(state.records.values().map(|r| r.provider.clone())).collect()
}

/// Addresses of `--target`, `--exclude` and `--replace` that name nothing are mistakes.
fn check_patterns(expanded: &Expanded, state: &Snapshot, options: &PlanOptions) -> Result<(), Failure> {
    let recorded: Vec<Address> = state.records.keys().filter_map(|a| a.parse().ok()).collect();
    let known = || expanded.instances.iter().map(|i| &i.address).chain(&recorded);
    let patterns = options.targets.iter().chain(&options.exclude).chain(&options.replace);
    let error = |pattern: &Address| {
        let error = Diagnostic::error(format!("neither the manifest nor the state has a resource `{pattern}`"));
        let names: Vec<_> = known().map(ToString::to_string).collect();
        match suggest(&pattern.to_string(), names.iter().map(String::as_str)) {
            Some(help) => error.help(help),
            None => error,
        }
    };
    let errors: Vec<_> = patterns.filter(|p| !known().any(|a| a.matches(p))).map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::Manifest(errors)) }
}

fn inputs(expanded: &Expanded) -> BTreeMap<String, Digest> {
    let read = expanded.files.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    read.iter().map(|(path, digest)| (path.display().to_string(), digest.clone())).collect()
}

fn sealed_variables(variables: &BTreeMap<String, Value>, key: &SealKey) -> Map<String, Json> {
    variables.iter().map(|(name, value)| (name.clone(), value.seal(key))).collect()
}

fn output_changes(
    expanded: &Expanded,
    values: &Values,
    state: &Snapshot,
    key: &SealKey,
    mode: PlanMode,
) -> Result<BTreeMap<String, OutputChange>, Vec<Diagnostic>> {
    let before = |name: &str| state.outputs.get(name).map(|o| o.value.clone());
    let recorded = state.outputs.keys().map(|name| {
        let after = before(name).filter(|_| mode == PlanMode::RefreshOnly);
        (name.clone(), OutputChange { before: before(name), after })
    });
    let mut changes: BTreeMap<_, _> = recorded.collect();
    if mode != PlanMode::Normal {
        return Ok(changes);
    }
    let scope = InstanceScope::new(expanded, values, Binding::default());
    let mut errors = Vec::new();
    for (name, output) in &expanded.manifest.outputs {
        match output.value.evaluate(&scope) {
            Ok(value) => {
                let value = if output.sensitive { value.sensitive() } else { value };
                let after = Some(value.seal(key));
                changes.insert(name.clone(), OutputChange { before: before(name), after });
            }
            Err(found) => errors.extend(found),
        }
    }
    if errors.is_empty() { Ok(changes) } else { Err(errors) }
}

/// A recorded value; what was sensitive is an empty secret.
fn unsealed(json: &Json) -> Value {
    match json {
        Json::Object(map) if map.contains_key(crate::SENSITIVE_KEY) => Value::from("").sensitive(),
        Json::Object(map) if crate::plan::is_mark(map) => Value::Unknown,
        Json::Object(map) => Value::Map(map.iter().map(|(k, v)| (k.clone(), unsealed(v))).collect()),
        Json::Array(items) => Value::List(items.iter().map(unsealed).collect()),
        scalar => Value::from(scalar.clone()),
    }
}
