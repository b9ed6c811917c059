//! Making a plan: desired × recorded × observed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use moorfast_state::{Record, SealKey, Snapshot};

use super::reading::{Reading, Which};
use super::{Action, Change, Drift, PlanMode, PlanOptions, Reason};
use crate::early::{Early, deduplicated};
use crate::evaluate::{desired, violated};
use crate::expand::{Expanded, Instance};
use crate::graph::Graph;
use crate::scope::{InstanceScope, Values};
use crate::session::Session;
use crate::{Address, Attributes, Diagnostic, Events, Failure, Mode, Observed, ProviderError, Schema, Span, Value};

/// What the apply needs of one instance and the plan file must not hold.
#[derive(Clone, Default)]
pub(crate) struct Item {
    pub recorded: Option<Arc<Record>>,
    pub observed: Option<Observed>,
    /// What is found under the recorded identity, where the manifest now says another one.
    pub former: Option<Observed>,
    pub triggers: Vec<Address>,
}

/// What a planner found out.
pub(crate) struct Draft {
    pub changes: Vec<Change>,
    pub drift: Vec<Drift>,
    pub items: HashMap<Address, Item>,
    pub values: Values,
    pub warnings: Vec<String>,
    /// Instances that could not be read; only in a refresh, elsewhere they fail the plan.
    pub unread: Vec<(Address, ProviderError)>,
}

/// Makes the changes of a plan.
pub(crate) struct Planner<'a> {
    pub(super) expanded: &'a Expanded,
    pub(super) graph: &'a Graph,
    pub(super) session: &'a Session,
    pub(super) key: &'a SealKey,
    pub(super) options: &'a PlanOptions,
    pub(super) events: &'a Events,
    /// The records under the addresses of the manifest, `[[moved]]` and renames followed.
    pub(super) records: BTreeMap<Address, Arc<Record>>,
    pub(super) moved: HashMap<Address, Address>,
    pub(super) selected: HashSet<usize>,
    /// In a destroy: the records that `--target` and `--exclude` leave.
    doomed: HashSet<Address>,
    pub(super) early: &'a Early,
    pub(super) actions: HashMap<Address, Action>,
    pub(super) draft: Draft,
}

impl<'a> Planner<'a> {
    pub fn new(
        expanded: &'a Expanded,
        graph: &'a Graph,
        session: &'a Session,
        key: &'a SealKey,
        options: &'a PlanOptions,
        events: &'a Events,
        early: &'a Early,
        state: &Snapshot,
    ) -> Self {
        let draft = Draft {
            changes: Vec::new(),
            drift: Vec::new(),
            items: HashMap::new(),
            values: Values::default(),
            warnings: Vec::new(),
            unread: Vec::new(),
        };
        let mut planner = Self {
            expanded,
            graph,
            session,
            key,
            options,
            events,
            records: BTreeMap::new(),
            moved: HashMap::new(),
            selected: HashSet::new(),
            doomed: HashSet::new(),
            early,
            actions: HashMap::new(),
            draft,
        };
        planner.selected = planner.selection();
        planner.records = planner.records_of(state);
        planner.doomed = planner.doomed();
        planner
    }

    /// Reads the world and plans every selected instance.
    pub async fn run(mut self) -> Result<Draft, Failure> {
        self.follow_renames();
        let mut readings = self.read_all().await;
        match self.options.mode {
            PlanMode::Normal => {
                for wave in self.graph.waves() {
                    self.plan_wave(wave, &mut readings).await?;
                }
                self.plan_orphans(&mut readings, Reason::Removed)?;
            }
            PlanMode::Destroy => self.plan_orphans(&mut readings, Reason::Destroy)?,
            PlanMode::RefreshOnly => self.refresh(&mut readings),
        }
        Ok(self.draft)
    }

    /// The instances that `--target` and `--exclude` leave.
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
        let excluded = self.graph.closure(named(&self.options.exclude), petgraph::Outgoing);
        selected.retain(|i| !excluded.contains(i));
        selected
    }

    /// What a destroy removes: the targets and what depends on them, but not what is excluded and what that depends on.
    fn doomed(&self) -> HashSet<Address> {
        let (targets, exclude) = (&self.options.targets, &self.options.exclude);
        let is_target = |a: &Address| targets.is_empty() || targets.iter().any(|p| a.matches(p));
        let mut doomed: HashSet<Address> = self.records.keys().filter(|a| is_target(a)).cloned().collect();
        let mut spared: HashSet<Address> =
            self.records.keys().filter(|a| exclude.iter().any(|p| a.matches(p))).cloned().collect();
        let edges: Vec<(Address, &Address)> = self
            .records
            .iter()
            .flat_map(|(after, record)| {
                record.dependencies.iter().filter_map(|d| d.parse().ok()).map(move |d| (d, after))
            })
            .collect();
        loop {
            let before = doomed.len() + spared.len();
            for (dependency, dependant) in &edges {
                if doomed.contains(dependency) {
                    doomed.insert((*dependant).clone());
                }
                if spared.contains(*dependant) {
                    spared.insert(dependency.clone());
                }
            }
            if doomed.len() + spared.len() == before {
                break;
            }
        }
        doomed.retain(|address| !spared.contains(address));
        doomed
    }

    pub(super) fn is_selected(&self, address: &Address) -> bool {
        match self.expanded.index.get(address) {
            _ if self.options.mode == PlanMode::Destroy => self.doomed.contains(address),
            Some(i) => self.selected.contains(i),
            None => {
                let named = |patterns: &[Address]| patterns.iter().any(|p| address.matches(p));
                (self.options.targets.is_empty() || named(&self.options.targets)) && !named(&self.options.exclude)
            }
        }
    }

    /// The records by address, those of `[[moved]]` under their new ones.
    fn records_of(&mut self, state: &Snapshot) -> BTreeMap<Address, Arc<Record>> {
        let mut records = BTreeMap::new();
        for record in state.records.values() {
            let Ok(address) = record.address.parse::<Address>() else {
                self.draft
                    .warnings
                    .push(format!("the state holds `{}`, which is no address; left alone", record.address));
                continue;
            };
            let moved = self.expanded.manifest.moved.iter().find(|m| address.matches(&m.from)).map(|m| Address {
                resource: m.to.resource.clone(),
                key: if m.from.key.is_some() { m.to.key.clone() } else { address.key.clone() },
            });
            match moved.filter(|to| !state.records.contains_key(&to.to_string())) {
                Some(to) => {
                    self.moved.insert(to.clone(), address);
                    records.insert(to, Arc::new(record.clone()));
                }
                None => _ = records.insert(address, Arc::new(record.clone())),
            }
        }
        records
    }

    /// A record whose address left the manifest, while the same object of the same type is there under a new address, is that one's record:
    /// a rename is no destroy.
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
        for instance in &self.expanded.instances {
            if self.records.contains_key(&instance.address) {
                continue;
            }
            let Some(identity) = self.early_identity(instance) else { continue };
            let key = (instance.address.resource.resource_type.clone(), instance.target.name().to_owned(), identity);
            if let Some(from) = orphans.remove(&key)
                && let Some(record) = self.records.remove(&from)
            {
                self.records.insert(instance.address.clone(), record);
                self.moved.insert(instance.address.clone(), from);
            }
        }
    }

    /// Is what `record` remembers still what the instance means, as far as that is known before anything is read?
    pub(super) fn continues_early(&self, instance: &Instance, record: &Record) -> bool {
        self.early.get(&instance.address).is_some_and(|early| self.expanded.continues(instance, record, early))
    }

    pub(super) fn early_identity(&self, instance: &Instance) -> Option<String> {
        self.early.identity(self.expanded, instance)
    }

    pub(super) fn identity(&self, instance: &Instance, attributes: &Attributes) -> Option<String> {
        self.expanded.identity(instance, attributes)
    }

    /// What the schema calls sensitive is sensitive, whoever it comes from.
    pub(super) fn marked(&self, address: &Address, attributes: Attributes) -> Attributes {
        match self.expanded.catalog.find(&address.resource) {
            Some(entry) => mark_sensitive(&entry.resource_type.schema, attributes),
            None => attributes,
        }
    }

    /// Plans the instances of one wave, whose dependencies are all planned.
    async fn plan_wave(&mut self, wave: Vec<usize>, readings: &mut HashMap<Which, Reading>) -> Result<(), Failure> {
        let expanded = self.expanded;
        let wave = wave.into_iter().filter(|i| self.selected.contains(i));
        let (data, managed): (Vec<_>, Vec<_>) =
            wave.map(|i| &expanded.instances[i]).partition(|instance| instance.address.resource.mode == Mode::Data);
        self.read_data(data).await?;

        let mut errors = Vec::new();
        let mut wanted = Vec::new();
        for instance in managed {
            match self.desired(instance) {
                Ok(attributes) => wanted.push((instance, attributes)),
                Err(found) => errors.extend(found),
            }
        }
        if !errors.is_empty() {
            return Err(Failure::Manifest(deduplicated(errors)));
        }
        self.read_late(&wanted, readings).await;
        self.propose(wanted, readings).await
    }

    /// What `instance` wants now, its preconditions checked.
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

    pub(super) fn prevented(&self, instance: &Instance) -> Diagnostic {
        prevented(&instance.address, Some(instance.resource.span))
    }
}

/// What the schema calls sensitive is sensitive, whoever it comes from.
pub(crate) fn mark_sensitive(schema: &Schema, attributes: Attributes) -> Attributes {
    let mark = |(name, value): (String, Value)| match schema.attribute(&name) {
        // What a provider knows from the record alone is sealed already.
        Some(_) if matches!(&value, Value::Map(map) if map.contains_key(crate::SENSITIVE_KEY)) => (name, value),
        Some(attribute) if attribute.sensitive => (name, value.sensitive()),
        _ => (name, value),
    };
    attributes.into_iter().map(mark).collect()
}

pub(super) fn prevented(address: &Address, span: Option<Span>) -> Diagnostic {
    let error = Diagnostic::error(format!("`{address}` would be destroyed, which lifecycle.prevent_destroy forbids"))
        .help("take prevent_destroy away, or leave it out with --exclude");
    match span {
        Some(span) => error.at(span, ""),
        None => error,
    }
}
