//! Plans of a workspace: new plans, and saved plans that are applied.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jiff::Timestamp;
use moorfast_state::{Digest, Lock, SealKey, Snapshot};
use serde_json::{Map, Value as Json};
use tokio_util::sync::CancellationToken;

use crate::apply::{ApplyContext, ApplyOptions, Report, apply, describe};
use crate::check::{Checks, When};
use crate::configuration::expand::{Binding, Expanded};
use crate::configuration::leaving::LeavingNodes;
use crate::configuration::moves;
use crate::configuration::scope::{InstanceScope, Values};
use crate::model::hash::{HashMap, HashSet};
use crate::model::{
    Address, CheckResult, Decoded, Departure, Diagnostic, LeavingNode, NodeChange, NodeName, Pattern, Value,
    error_codes, suggest,
};
use crate::plan::{
    Change, Draft, Inputs, Machines, OutputChange, PLAN_FORMAT, Plan, PlanMode, PlanOptions, PlannedRollout, Planner,
    forgotten_drains, result_digest, rollouts,
};
use crate::policy;
use crate::provider::{Action, ProviderError};
use crate::session::{Events, Failure, Interrupt, Session};
use crate::workspace::{Evaluated, Workspace};

/// A plan with the connections and values that its apply needs.
pub struct Planned {
    /// The instances that could not be read. Only a refresh tolerates them, otherwise the plan fails.
    pub unread: Vec<(Address, ProviderError)>,
    context: ApplyContext,
}

impl Workspace {
    /// Reads the objects and makes a plan.
    pub async fn plan(
        &self,
        state: &Snapshot,
        key: &SealKey,
        options: &PlanOptions,
        events: &Events,
        interrupt: &Interrupt,
    ) -> Result<Planned, Failure> {
        self.plan_readable(state, key, options, events, interrupt, false).await
    }

    /// Makes a plan. With `tolerates_unread`, an instance that cannot be read fails only its dependants.
    async fn plan_readable(
        &self,
        state: &Snapshot,
        key: &SealKey,
        options: &PlanOptions,
        events: &Events,
        interrupt: &Interrupt,
        tolerates_unread: bool,
    ) -> Result<Planned, Failure> {
        self.read_static_data(events, interrupt).await?;
        let expanded = self.expanded().map_err(Failure::Manifest)?;
        let evaluated = self.evaluated().map_err(Failure::Manifest)?;
        let Evaluated { graph, static_values } = &*evaluated;
        let decoded = Decoded::sharing(state, expanded.by_resource.keys());
        check_patterns(&expanded, &decoded, options)?;
        check_nodes(&expanded, options)?;
        if options.mode == PlanMode::Normal {
            let lost: Vec<_> = moves::without_destination(&expanded)
                .into_iter()
                .chain(moves::without_origin(&expanded, &decoded))
                .collect();
            if !lost.is_empty() {
                return Err(Failure::Manifest(lost));
            }
        }
        let leaving = leaving_nodes(&expanded, &decoded, options).map_err(Failure::Manifest)?;
        let session = Session::open(&expanded, aliases(&expanded, state), &self.data_dir, events, interrupt).await?;
        let inputs = Inputs { expanded: &expanded, graph, static_values, leaving: &leaving, key, options };
        let planner = Planner { inputs, session: &session, tolerates_unread };
        let draft = tokio::select! {
            draft = planner.run(&decoded) => draft,
            () = interrupt.stop.cancelled() => Err(Failure::Interrupted),
        };
        let made = draft.and_then(|mut draft| Ok((self.assemble(&expanded, &mut draft, state, key, options)?, draft)));
        let made = made.map(|(plan, draft)| (with_leaving(plan, &leaving, &draft.machines), draft));
        let (mut plan, draft) = match made {
            Ok(made) => made,
            Err(failure) => {
                session.close().await;
                return Err(failure);
            }
        };
        plan.checks = checks(&expanded, &draft, &session, &plan, events, &interrupt.stop).await;
        if interrupt.stop.is_cancelled() {
            session.close().await;
            return Err(Failure::Interrupted);
        }
        let unapproved = unapproved(&expanded, &draft.machines, &plan);
        let context = ApplyContext {
            plan,
            expanded,
            session,
            records: draft.records,
            items: draft.items,
            values: draft.values,
            static_values: static_values.clone(),
            key: key.clone(),
            stale: Default::default(),
            unread: draft.unread.iter().cloned().collect(),
            unapproved,
            leaving,
            machines: draft.machines,
            owners: draft.owners,
            selected: draft.selected,
            known_machines: state.nodes.clone(),
            open: decoded.intents.into_iter().map(|(address, intent)| (address, intent.clone())).collect(),
        };
        Ok(Planned { unread: draft.unread, context })
    }

    /// Returns the plan of a draft, without the results of checks. Moves the changes out of the draft, because they can be many and large.
    fn assemble(
        &self,
        expanded: &Expanded,
        draft: &mut Draft,
        state: &Snapshot,
        key: &SealKey,
        options: &PlanOptions,
    ) -> Result<Plan, Failure> {
        let owner = state.lineage.as_str();
        // A destroy and a refresh have no rollouts.
        if options.mode == PlanMode::Normal {
            draft.warnings.extend(forgotten_drains(expanded, draft, owner));
        }
        Ok(Plan {
            format_version: PLAN_FORMAT,
            moorfast_version: env!("CARGO_PKG_VERSION").to_owned(),
            site: self.site.clone(),
            environment: self.manifest.environment.clone(),
            created_at: Timestamp::now(),
            options: options.with_observed_machines(&draft.machines.changes),
            lineage: state.lineage.clone(),
            serial: state.serial,
            manifest: self.manifest.digest.clone().unwrap_or_else(|| Digest::of(b"")),
            inputs: inputs(expanded, std::mem::take(&mut draft.inputs), key),
            variables: sealed_variables(&self.variables, key),
            outputs: output_changes(expanded, &draft.values, state, key, options).map_err(Failure::Manifest)?,
            checks: Vec::new(),
            policies: Vec::new(),
            rollouts: planned_rollouts(expanded, draft, options.mode, owner).map_err(Failure::Manifest)?,
            changes: std::mem::take(&mut draft.changes),
            drift: std::mem::take(&mut draft.drift),
            nodes: draft.machines.changes.clone(),
            leaving: Vec::new(),
            warnings: expanded.warnings.iter().map(one_line).chain(draft.warnings.iter().cloned()).collect(),
            maintains: draft.maintains,
        })
    }

    /// Prepares the apply of a saved plan.
    ///
    /// The plan must fit the manifest, its inputs, its variables and the state. The objects are read again, and each reviewed change is kept if it would be planned
    /// the same way now. No other change is made.
    ///
    /// # Errors
    /// [`Failure::Stale`] if the manifest, an input, a variable or the state changed. Otherwise as [`Workspace::plan`], except that an instance that cannot be
    /// read fails during the apply, with its dependants.
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
        reasons.extend(differs.map(|(name, _)| format!("the variable `{name}` changed since the plan was made")));
        if !reasons.is_empty() {
            return Err(Failure::Stale(reasons));
        }
        // Other data can mean other nodes, and then a new plan can fail in many ways.
        self.read_static_data(events, interrupt).await?;
        let changed = self.changed_static_data(&plan, key);
        if !changed.is_empty() {
            return Err(Failure::Stale(changed));
        }
        let mut now = self.plan_readable(state, key, &plan.options, events, interrupt, true).await?;
        // A data source of the plan's inputs that cannot be read any more is an error, not a change.
        let is_input = |(address, _): &&(Address, ProviderError)| plan.inputs.contains_key(&address.to_string());
        let unread: Vec<_> = now.unread.iter().filter(is_input).cloned().collect();
        if !unread.is_empty() {
            now.close().await;
            return Err(Failure::Providers(unread));
        }
        let inputs = plan.inputs.iter().filter(|(path, digest)| now.plan().inputs.get(*path) != Some(digest));
        let changed: Vec<_> = inputs.map(|(path, _)| format!("`{path}` changed since the plan was made")).collect();
        if !changed.is_empty() {
            now.close().await;
            return Err(Failure::Stale(changed));
        }
        // They fail during the apply, with their dependants. The rest of the plan is done.
        now.unread.clear();
        now.context.keep_reviewed(plan);
        Ok(now)
    }
}

impl Planned {
    /// Returns the plan.
    pub fn plan(&self) -> &Plan {
        &self.context.plan
    }

    /// Applies the plan and records the results.
    pub async fn apply(self, lock: &Lock, options: ApplyOptions, events: &Events, interrupt: &Interrupt) -> Report {
        apply(self.context, lock, options, events, interrupt).await
    }

    /// Evaluates the policies and stores their results in the plan. Returns the messages of violated policies. `applying` is `true` if the plan is about to be
    /// applied.
    ///
    /// # Errors
    /// If a policy cannot be evaluated.
    pub fn evaluate_policies(&mut self, applying: bool) -> Result<Vec<Diagnostic>, Failure> {
        let ApplyContext { expanded, plan, .. } = &mut self.context;
        plan.policies = policy::evaluate(expanded, plan, applying).map_err(Failure::Manifest)?;
        Ok(policy::diagnostics(expanded, plan))
    }

    /// Returns how often the providers have accessed their targets so far.
    pub fn statistics(&self) -> Vec<(String, u64)> {
        self.context.session.statistics()
    }

    /// Closes the connections of a plan that is not applied. Returns the plan.
    pub async fn close(self) -> Plan {
        self.context.session.close().await;
        self.context.plan
    }
}

impl ApplyContext {
    /// Keeps the changes of a reviewed plan that would be planned the same way now, and marks the others as stale.
    fn keep_reviewed(&mut self, reviewed: Plan) {
        let now: BTreeMap<_, _> = self.plan.changes.drain(..).map(|c| (c.address.clone(), c)).collect();
        for change in reviewed.changes.iter().filter(|c| c.action.is_change() || c.action == Action::Read) {
            let present = now.get(&change.address);
            let same = present.is_some_and(|p| {
                let as_seen = p.action == change.action && p.observed == change.observed && p.after == change.after;
                as_seen && p.objects == change.objects && p.superseded().eq(change.superseded())
            });
            if same || self.unread.contains_key(&change.address) || self.unapproved.contains_key(&change.address) {
                continue;
            }
            let mut lines = describe(change, present.and_then(|p| p.before.as_ref()));
            if lines.is_empty() {
                lines.push("it would be planned differently now".to_owned());
            }
            self.stale.insert(change.address.clone(), lines);
        }
        self.mark_other_machines_stale(&reviewed);
        self.plan = reviewed;
    }

    /// Marks all changes on nodes as stale whose machine is neither the recorded nor the reviewed one. That machine is not recorded either.
    ///
    /// An approval by host key is meant for the reviewed machine, and host keys can be copied.
    fn mark_other_machines_stale(&mut self, reviewed: &Plan) {
        let same = |now: &NodeChange| {
            reviewed
                .nodes
                .iter()
                .any(|r| r.node == now.node && r.after.became(&now.after).is_none_or(|k| !k.is_another_machine()))
        };
        let another = |now: &&NodeChange| now.kind.is_another_machine() && !same(now);
        let others: Vec<_> = self.machines.changes.iter().filter(another).cloned().collect();
        for change in &reviewed.changes {
            let node = self.expanded.instance(&change.address).and_then(|i| i.binding.node.as_ref());
            if let Some(other) = others.iter().find(|other| node.is_some_and(|node| node.name == other.node)) {
                self.stale.insert(change.address.clone(), vec![other.to_string()]);
            }
        }
        for other in &others {
            self.machines.seen.remove(&other.node);
        }
    }
}

/// Returns a warning in one line.
fn one_line(warning: &Diagnostic) -> String {
    match &warning.help {
        Some(help) => format!("{}; {help}", warning.summary),
        None => warning.summary.clone(),
    }
}

/// Returns the changes that are not made because nobody approved the machine of their node.
fn unapproved(expanded: &Expanded, machines: &Machines, plan: &Plan) -> HashMap<Address, NodeName> {
    // A destroy does nothing on such a node: the objects are gone with the old machine, and their records are removed.
    if plan.options.mode == PlanMode::Destroy {
        return HashMap::default();
    }
    let of_change = |change: &Change| {
        let node = match expanded.instance(&change.address) {
            Some(instance) => instance.binding.node.as_ref()?,
            None => expanded.nodes.get(&NodeName(change.target.clone()))?,
        };
        let unapproved = machines.unapproved(&node.name)?;
        Some((change.address.clone(), unapproved.node.clone()))
    };
    plan.changes.iter().filter_map(of_change).collect()
}

/// Returns the rollouts of a draft. A destroy has none, because nothing has to stay available.
fn planned_rollouts(
    expanded: &Expanded,
    draft: &Draft,
    mode: PlanMode,
    owner: &str,
) -> Result<Vec<PlannedRollout>, Vec<Diagnostic>> {
    match mode {
        PlanMode::Normal => rollouts(expanded, draft, owner),
        PlanMode::Destroy | PlanMode::RefreshOnly => Ok(Vec::new()),
    }
}

/// Evaluates the checks before the apply. A check that depends on a planned change has the status unknown. An import reports no checks.
async fn checks(
    expanded: &Expanded,
    draft: &Draft,
    session: &Session,
    plan: &Plan,
    events: &Events,
    stop: &CancellationToken,
) -> Vec<CheckResult> {
    if plan.options.mode == PlanMode::Destroy || plan.options.imports {
        return Vec::new();
    }
    let changing = plan.changes.iter().filter(|c| !matches!(c.action, Action::NoOp | Action::Adopt));
    let pending: HashSet<&Address> = changing.map(|c| &c.address).collect();
    let nodes = session.probing(expanded).map(AsRef::as_ref);
    let selected = draft.selected.as_ref();
    let checks = Checks { expanded, values: &draft.values, nodes, selected, when: When::Planned };
    checks.run(events, stop, |address| pending.contains(address)).await
}

/// Returns the provider instances that the manifest or the state needs.
fn aliases(expanded: &Expanded, state: &Snapshot) -> BTreeSet<String> {
    let of_manifest = expanded.instances.iter().map(|i| i.provider.clone());
    let of_records = state.records.values().map(|r| r.provider.clone());
    of_manifest.chain(of_records).chain(expanded.probing_provider()).collect()
}

/// Checks that each address of `--target`, `--exclude` and `--replace` exists.
fn check_patterns(expanded: &Expanded, state: &Decoded, options: &PlanOptions) -> Result<(), Failure> {
    let patterns: Vec<_> = options.targets.iter().chain(&options.exclude).chain(&options.replace).collect();
    if patterns.is_empty() {
        return Ok(());
    }
    let known = || expanded.instances.iter().map(|i| &i.address).chain(state.addresses());
    let error = |pattern: &Pattern| {
        let kind = if matches!(pattern, Pattern::Module(_)) { "module" } else { "resource" };
        let error = Diagnostic::error(format!("the {kind} `{pattern}` is neither in the manifest nor in the state"))
            .code(error_codes::UNKNOWN_ADDRESS);
        let names: Vec<_> = match pattern {
            Pattern::Module(_) if *pattern == pattern.block() => {
                expanded.modules.iter().map(|module| module.path.without_keys().to_string()).collect()
            }
            Pattern::Module(_) => expanded.modules.iter().map(|module| module.path.to_string()).collect(),
            Pattern::Resource(Address { key: Some(_), .. }) => known().map(ToString::to_string).collect(),
            Pattern::Resource(_) => known().map(|address| address.resource.to_string()).collect(),
        };
        match suggest(&pattern.to_string(), names.iter().map(String::as_str).filter(|name| !name.is_empty())) {
            Some(help) => error.help(help),
            None => error,
        }
    };
    let errors: Vec<_> = patterns.into_iter().filter(|p| !known().any(|a| a.matches(p))).map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::Manifest(errors)) }
}

/// Checks that each node of `--replace-node` exists.
fn check_nodes(expanded: &Expanded, options: &PlanOptions) -> Result<(), Failure> {
    let known = |name: &NodeName| expanded.nodes.contains_key(name);
    let error = |name: &NodeName| {
        let error = Diagnostic::error(format!("the node `{name}` is not in the inventory"));
        match suggest(&name.0, expanded.nodes.keys().map(|name| name.0.as_str())) {
            Some(help) => error.help(help),
            None => error,
        }
    };
    let errors: Vec<_> = options.replace_nodes.iter().map(|r| &r.node).filter(|n| !known(n)).map(error).collect();
    if errors.is_empty() { Ok(()) } else { Err(Failure::Manifest(errors)) }
}

/// Returns the nodes that leave. A refresh only reads, and only nodes of the inventory.
fn leaving_nodes(
    expanded: &Expanded,
    state: &Decoded<'_>,
    options: &PlanOptions,
) -> Result<LeavingNodes, Vec<Diagnostic>> {
    match options.mode {
        PlanMode::RefreshOnly => Ok(LeavingNodes::default()),
        mode => LeavingNodes::of(expanded, state, &options.dead_nodes, mode == PlanMode::Destroy),
    }
}

/// Returns `plan` with the nodes that leave and have changes.
fn with_leaving(mut plan: Plan, leaving: &LeavingNodes, machines: &Machines) -> Plan {
    let nodes: BTreeSet<&NodeName> = plan.changes.iter().filter_map(|change| change.node.as_ref()).collect();
    let leaves = |node: &NodeName| {
        let departure = leaving.departure(node)?;
        let is_renamed = machines.renamed.contains(node);
        Some(LeavingNode { node: node.clone(), departure: if is_renamed { Departure::Renamed } else { departure } })
    };
    plan.leaving = nodes.into_iter().filter_map(leaves).collect();
    plan
}

/// Returns the digests of what the plan was made from: `read`, the static data and the files.
fn inputs(expanded: &Expanded, read: BTreeMap<String, Digest>, key: &SealKey) -> BTreeMap<String, Digest> {
    let data = expanded.static_data.results();
    let data = data.map(|(address, result)| (address.to_string(), result_digest(key, result)));
    let mut inputs: BTreeMap<_, _> = read.into_iter().chain(data).collect();
    for module in &expanded.modules {
        let files = module.files.read.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = Path::new(&module.manifest.label);
        inputs.extend(files.iter().map(|(path, digest)| (folder.join(path).display().to_string(), digest.clone())));
    }
    inputs
}

fn sealed_variables(variables: &BTreeMap<String, Value>, key: &SealKey) -> Map<String, Json> {
    variables.iter().map(|(name, value)| (name.clone(), value.seal(key))).collect()
}

fn output_changes(
    expanded: &Expanded,
    values: &Values,
    state: &Snapshot,
    key: &SealKey,
    options: &PlanOptions,
) -> Result<BTreeMap<String, OutputChange>, Vec<Diagnostic>> {
    let mode = options.mode;
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
                // An output keeps its value if it cannot be read any more, or if this plan does not select what it depends on.
                let stays = value.is_retained() || (options.is_partial() && value.is_unknown());
                let after = if stays { before(name) } else { Some(value.seal(key)) };
                changes.insert(name.clone(), OutputChange { before: before(name), after });
            }
            Err(diagnostics) => errors.extend(diagnostics),
        }
    }
    if errors.is_empty() { Ok(changes) } else { Err(errors) }
}
