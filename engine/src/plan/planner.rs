//! The planner: compares desired, recorded and observed attributes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use moorfast_state::{Record, SealKey, Snapshot};

use super::machines::Machines;
use super::reading::{Reading, ReadingKey};
use super::superseded::SupersededObject;
use super::{Change, Drift, PlanMode, PlanOptions, Reason};
use crate::configuration::evaluate::{desired, violated};
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::graph::Graph;
use crate::configuration::owners::Owners;
use crate::configuration::scope::{InstanceScope, Values};
use crate::configuration::static_values::{StaticValues, deduplicated, with_unknown};
use crate::model::{Address, Attributes, Diagnostic, Machine, Mode, NodeName, Span};
use crate::provider::{Action, ObjectChange, Observed, ProviderError};
use crate::session::{Failure, Session};

/// The data of one instance that the apply needs and the plan file must not contain.
#[derive(Clone, Default)]
pub(crate) struct Item {
    pub recorded: Option<Arc<Record>>,
    pub observed: Option<Observed>,
    /// The object with the recorded identity, if the manifest now declares another identity.
    pub former: Option<Observed>,
    /// Whether `observed`, beside `former`, must be destroyed and created again to get its desired attributes.
    pub displaced: bool,
    /// The objects that earlier replacements started to create and that are not declared any more.
    pub superseded: Vec<SupersededObject>,
    pub triggers: Vec<Address>,
}

/// The result of planning.
pub(crate) struct Draft {
    pub changes: Vec<Change>,
    pub drift: Vec<Drift>,
    pub items: HashMap<Address, Item>,
    pub values: Values,
    pub warnings: Vec<String>,
    /// The instances that could not be read. Only a refresh and the apply of a saved plan tolerate them, otherwise the plan fails.
    pub unread: Vec<(Address, ProviderError)>,
    pub machines: Machines,
    /// The owner of each object among the instances of the manifest.
    pub owners: Owners,
}

/// Makes the changes of a plan.
pub(crate) struct Planner<'a> {
    pub(super) expanded: &'a Expanded,
    pub(super) graph: &'a Graph,
    pub(super) session: &'a Session,
    pub(super) key: &'a SealKey,
    pub(super) options: &'a PlanOptions,
    /// The records by their address in the manifest, after `[[moved]]` and renames.
    pub(super) records: BTreeMap<Address, Arc<Record>>,
    /// The recorded machines of the nodes.
    pub(super) known_machines: BTreeMap<NodeName, Machine>,
    pub(super) moved: HashMap<Address, Address>,
    pub(super) selected: HashSet<usize>,
    removable: HashSet<Address>,
    /// The objects in the state under any address, by provider instance, target and identity.
    pub(super) known_objects: OnceLock<HashSet<(String, String, String)>>,
    pub(super) static_values: &'a StaticValues,
    pub(super) actions: HashMap<Address, Action>,
    /// The planned changes of the objects of instances with several objects.
    pub(super) objects: HashMap<Address, Vec<ObjectChange>>,
    /// Whether an instance that cannot be read fails only its dependants, not the whole plan.
    tolerates_unread: bool,
    pub(super) draft: Draft,
}

impl<'a> Planner<'a> {
    pub fn new(
        expanded: &'a Expanded,
        graph: &'a Graph,
        session: &'a Session,
        key: &'a SealKey,
        options: &'a PlanOptions,
        static_values: &'a StaticValues,
        state: &Snapshot,
    ) -> Self {
        let draft = Draft {
            changes: Vec::new(),
            drift: Vec::new(),
            items: HashMap::new(),
            values: Values::default(),
            warnings: Vec::new(),
            unread: Vec::new(),
            machines: Machines::default(),
            owners: static_values.owners(),
        };
        let mut planner = Self {
            expanded,
            graph,
            session,
            key,
            options,
            records: BTreeMap::new(),
            known_machines: known_machines(state),
            moved: HashMap::new(),
            selected: HashSet::new(),
            removable: HashSet::new(),
            known_objects: OnceLock::new(),
            static_values,
            actions: HashMap::new(),
            objects: HashMap::new(),
            tolerates_unread: false,
            draft,
        };
        planner.selected = planner.selection();
        planner.records = planner.records_of(state);
        planner.removable = planner.removable();
        planner
    }

    /// Sets whether instances that cannot be read are only noted.
    pub fn tolerating_unread(self, tolerates_unread: bool) -> Self {
        Self { tolerates_unread, ..self }
    }

    /// Notes the instances that could not be read. Fails unless they are tolerated.
    pub(super) fn note_unread(&mut self, failures: Vec<(Address, ProviderError)>) -> Result<(), Failure> {
        if !failures.is_empty() && !self.tolerates_unread {
            return Err(Failure::Providers(failures));
        }
        for (address, error) in failures {
            if let (Some(instance), Some(static_values)) =
                (self.expanded.instance(&address), self.static_values.get(&address))
            {
                self.draft.values.insert(address.clone(), with_unknown(instance, static_values.clone()));
            }
            self.draft.unread.push((address, error));
        }
        Ok(())
    }

    /// Reads the objects and plans every selected instance.
    pub async fn run(mut self) -> Result<Draft, Failure> {
        self.follow_renames();
        let mut readings = self.read_all(|_| true).await;
        self.identify(&mut readings).await?;
        match self.options.mode {
            PlanMode::Normal => {
                for wave in self.graph.waves() {
                    self.plan_wave(wave, &mut readings).await?;
                }
                self.plan_orphans(&mut readings, Reason::Removed)?;
                self.order_replacements();
            }
            PlanMode::Destroy => self.plan_orphans(&mut readings, Reason::Destroy)?,
            PlanMode::RefreshOnly => self.refresh(&mut readings),
        }
        Ok(self.draft)
    }

    /// Returns the instances that `--target` and `--exclude` select.
    fn selection(&self) -> HashSet<usize> {
        let all = 0..self.expanded.instances.len();
        let named = |patterns: &[Address]| -> Vec<usize> {
            let is_named = |i: &usize| patterns.iter().any(|p| self.expanded.instances[*i].address.matches(p));
            all.clone().filter(is_named).collect()
        };
        let mut selected: HashSet<usize> = match self.options.targets.is_empty() {
            true => all.clone().collect(),
            false => self.graph.closure(named(&self.options.targets), petgraph::Incoming),
        };
        let excluded = match self.options.mode {
            // A refresh needs nothing from dependencies.
            PlanMode::RefreshOnly => named(&self.options.exclude).into_iter().collect(),
            _ => self.graph.closure(named(&self.options.exclude), petgraph::Outgoing),
        };
        selected.retain(|i| !excluded.contains(i));
        selected
    }

    /// Whether `--target` and `--exclude` select this instance of the manifest, or this record.
    pub(super) fn is_selected(&self, address: &Address) -> bool {
        match self.expanded.index.get(address) {
            Some(i) if self.options.mode != PlanMode::Destroy => self.selected.contains(i),
            _ => self.removable.contains(address),
        }
    }

    /// Returns the records that `--target` and `--exclude` select for removal. The dependants of a target are removed with it, and the dependencies of an excluded
    /// record are kept with it.
    fn removable(&self) -> HashSet<Address> {
        let edges = || {
            let of = |(address, record): (&Address, &Arc<Record>)| {
                let needs = record.dependencies.iter().filter_map(|d| d.parse::<Address>().ok());
                needs.map(|needed| (address.clone(), needed)).collect::<Vec<_>>()
            };
            self.records.iter().flat_map(of)
        };
        let mut needs: HashMap<Address, Vec<Address>> = HashMap::new();
        let mut needed_by: HashMap<Address, Vec<Address>> = HashMap::new();
        for (address, needed) in edges() {
            needs.entry(address.clone()).or_default().push(needed.clone());
            needed_by.entry(needed).or_default().push(address);
        }
        let named = |patterns: &[Address]| -> Vec<Address> {
            self.records.keys().filter(|a| patterns.iter().any(|p| a.matches(p))).cloned().collect()
        };
        let mut left = match self.options.targets.is_empty() {
            true => self.records.keys().cloned().collect(),
            false => reached(named(&self.options.targets), &needed_by),
        };
        let excluded = match self.options.mode {
            PlanMode::RefreshOnly => named(&self.options.exclude).into_iter().collect(),
            _ => reached(named(&self.options.exclude), &needs),
        };
        left.retain(|address| !excluded.contains(address));
        left
    }

    /// Returns the records by address. Records of `[[moved]]` have their new address.
    fn records_of(&mut self, state: &Snapshot) -> BTreeMap<Address, Arc<Record>> {
        let unfinished: HashSet<&str> = state.intents.iter().map(|i| i.address.as_str()).collect();
        let mut records = BTreeMap::new();
        for record in state.records.values() {
            let Ok(address) = record.address.parse::<Address>() else {
                self.draft.warnings.push(format!(
                    "the record `{}` of the state is ignored: this is not a valid address",
                    record.address
                ));
                continue;
            };
            // An open intent means that the operation may be done in part.
            let incomplete =
                record.incomplete || !record.pending.is_empty() || unfinished.contains(record.address.as_str());
            let record = Arc::new(Record { incomplete, ..record.clone() });
            let moved = self.moved_to(&address);
            match moved.filter(|to| *to != address && !state.records.contains_key(&to.to_string())) {
                Some(to) => {
                    self.moved.insert(to.clone(), address);
                    records.insert(to, record);
                }
                None => _ = records.insert(address, record),
            }
        }
        rename(&mut records, &self.moved);
        records
    }

    /// Returns the final destination of an address after all `[[moved]]`.
    fn moved_to(&self, address: &Address) -> Option<Address> {
        crate::configuration::moves::destination(&self.expanded.manifest.moved, address)
    }

    /// Assigns records of removed addresses to new addresses that declare the same object of the same type. A rename destroys nothing.
    fn follow_renames(&mut self) {
        if self.options.mode == PlanMode::Destroy {
            return;
        }
        let mut orphans: HashMap<(String, String, String), Address> = HashMap::new();
        for (address, record) in &self.records {
            if !self.expanded.index.contains_key(address) {
                let key = (record.resource_type.clone(), record.target.clone(), record.identity.clone());
                orphans.insert(key, address.clone());
            }
        }
        let mut renamed = HashMap::new();
        for instance in &self.expanded.instances {
            if self.records.contains_key(&instance.address) {
                continue;
            }
            let Some(identity) = self.static_identity(instance) else { continue };
            let key = (instance.address.resource.resource_type.clone(), instance.target.name().to_owned(), identity);
            if let Some(from) = orphans.remove(&key)
                && let Some(record) = self.records.remove(&from)
            {
                self.records.insert(instance.address.clone(), record);
                renamed.insert(instance.address.clone(), from.clone());
                let from = self.moved.remove(&from).unwrap_or(from);
                self.moved.insert(instance.address.clone(), from);
            }
        }
        rename(&mut self.records, &renamed);
    }

    /// Whether `record` describes the object of the instance, as far as this is known before anything is read.
    pub(super) fn is_same_object(&self, instance: &Instance, record: &Record) -> bool {
        self.static_values.get(&instance.address).is_some_and(|static_values| instance.continues(record, static_values))
    }

    pub(super) fn static_identity(&self, instance: &Instance) -> Option<String> {
        self.static_values.identity(instance)
    }

    /// Marks the sensitive attributes of the schema, whatever their origin.
    pub(super) fn marked(&self, address: &Address, attributes: Attributes) -> Attributes {
        self.expanded.marked(&address.resource, attributes)
    }

    /// Plans the instances of one wave. All their dependencies are planned already.
    async fn plan_wave(
        &mut self,
        wave: Vec<usize>,
        readings: &mut HashMap<ReadingKey, Reading>,
    ) -> Result<(), Failure> {
        let expanded = self.expanded;
        let wave = wave.into_iter().filter(|i| self.selected.contains(i));
        let (data, managed): (Vec<_>, Vec<_>) =
            wave.map(|i| &expanded.instances[i]).partition(|instance| instance.address.resource.mode == Mode::Data);
        self.read_data(data).await?;

        let mut errors = Vec::new();
        let mut desired = Vec::new();
        for instance in managed {
            match self.desired(instance) {
                Ok(attributes) => desired.push((instance, attributes)),
                Err(diagnostics) => errors.extend(diagnostics),
            }
        }
        if !errors.is_empty() {
            return Err(Failure::Manifest(deduplicated(errors)));
        }
        self.read_remaining(&desired, readings).await;
        self.propose(desired, readings).await
    }

    /// Returns the desired attributes of `instance`, after checking its preconditions.
    pub(super) fn desired(&self, instance: &Instance) -> Result<Attributes, Vec<Diagnostic>> {
        let scope = InstanceScope::new(self.expanded, &self.draft.values, instance.binding.clone());
        let what = format!("precondition of {}", instance.address);
        let violated = violated(&instance.resource.preconditions, &what, &scope);
        if !violated.is_empty() {
            return Err(violated);
        }
        desired(self.expanded, instance, &self.draft.values)
    }

    pub(super) fn dependencies(&self, address: &Address) -> Vec<Address> {
        let Some(i) = self.expanded.index.get(address) else { return Vec::new() };
        let names: BTreeSet<_> =
            self.graph.dependencies(*i).map(|d| self.expanded.instances[d].address.clone()).collect();
        names.into_iter().collect()
    }

    /// Returns the node that a record is bound to.
    pub(super) fn node_of(&self, address: &Address, record: &Record) -> Option<NodeName> {
        self.expanded.bound_node(address, &record.provider, &record.target).map(|node| node.name.clone())
    }

    pub(super) fn prevented(&self, instance: &Instance, objects: &[&str]) -> Diagnostic {
        prevented(&instance.address, objects, Some(instance.resource.span))
    }
}

/// Returns the machines of the state.
fn known_machines(state: &Snapshot) -> BTreeMap<NodeName, Machine> {
    let known = |(name, machine): (&String, &serde_json::Value)| {
        Some((NodeName(name.clone()), serde_json::from_value(machine.clone()).ok()?))
    };
    state.nodes.iter().filter_map(known).collect()
}

/// Returns the error for a removal that the lifecycle forbids: of the whole instance, or of these objects.
pub(super) fn prevented(address: &Address, objects: &[&str], span: Option<Span>) -> Diagnostic {
    let what = match objects {
        [] => format!("`{address}`"),
        objects => format!("{} of `{address}`", objects.join(", ")),
    };
    let error = Diagnostic::error(format!("{what} would be destroyed, but lifecycle.prevent_destroy forbids it"))
        .help("remove prevent_destroy, or exclude the resource with --exclude");
    match span {
        Some(span) => error.at(span, ""),
        None => error,
    }
}

/// Replaces moved addresses in all records, so that dependencies and triggers are kept.
fn rename(records: &mut BTreeMap<Address, Arc<Record>>, moved: &HashMap<Address, Address>) {
    if moved.is_empty() {
        return;
    }
    let names: HashMap<_, _> = moved.iter().map(|(to, from)| (from.to_string(), to.to_string())).collect();
    records.values_mut().for_each(|record| Arc::make_mut(record).rename(&|address: &str| names.get(address).cloned()));
}

/// Returns `start` and everything reachable from it.
fn reached(start: Vec<Address>, edges: &HashMap<Address, Vec<Address>>) -> HashSet<Address> {
    let mut reached = HashSet::new();
    let mut queue = start;
    while let Some(address) = queue.pop() {
        if reached.insert(address.clone()) {
            queue.extend(edges.get(&address).into_iter().flatten().cloned());
        }
    }
    reached
}
