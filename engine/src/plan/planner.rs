//! Making a plan: desired × recorded × observed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use futures::future::join_all;
use moorfast_state::{Digest, Record, SealKey, Snapshot, canonical};
use petgraph::algo::toposort;
use petgraph::graph::DiGraph;
use serde_json::{Map, Value as Json};

use super::{Action, Change, Drift, PlanMode, PlanOptions, Reason, differences};
use crate::early::{Early, deduplicated, with_unknown};
use crate::evaluate::{desired, violated};
use crate::expand::{Expanded, Instance};
use crate::graph::{Graph, matching};
use crate::scope::{InstanceScope, Values};
use crate::session::Session;
use crate::{
    Address, Attributes, DataRequest, Diagnostic, Event, Events, Failure, Mode, Observed, PlanRequest, Proposal,
    ProposedAction, ProviderError, ReadRequest, Scope, Target, Value, seal_attributes,
};

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
    expanded: &'a Expanded,
    graph: &'a Graph,
    session: &'a Session,
    key: &'a SealKey,
    options: &'a PlanOptions,
    events: &'a Events,
    /// The records under the addresses of the manifest, `[[moved]]` and renames followed.
    records: BTreeMap<Address, Arc<Record>>,
    moved: HashMap<Address, Address>,
    selected: HashSet<usize>,
    early: &'a Early,
    actions: HashMap<Address, Action>,
    draft: Draft,
}

/// How a reading went.
type Reading = Result<Option<Observed>, ProviderError>;

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
            early,
            actions: HashMap::new(),
            draft,
        };
        planner.selected = planner.selection();
        planner.records = planner.records_of(state);
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

    fn is_selected(&self, address: &Address) -> bool {
        match self.expanded.index.get(address) {
            Some(i) if self.options.mode != PlanMode::Destroy => self.selected.contains(i),
            _ => {
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
                self.draft.warnings.push(format!("the state holds `{}`, which is no address; left alone", record.address));
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

    fn early_identity(&self, instance: &Instance) -> Option<String> {
        self.early.identity(self.expanded, instance)
    }

    fn identity(&self, instance: &Instance, attributes: &Attributes) -> Option<String> {
        self.expanded.identity(instance, attributes)
    }

    /// Reads all that can be named already: one call per provider and target.
    async fn read_all(&self) -> HashMap<Which, Reading> {
        let mut requests: Requests<(Which, ReadRequest)> = Requests::default();
        for (address, record) in &self.records {
            if !self.is_selected(address) {
                continue;
            }
            let instance = self.expanded.instance(address).filter(|_| self.options.mode != PlanMode::Destroy);
            let identity = instance.and_then(|i| self.early_identity(i));
            // Under a new identity the old object is read by the record alone, the new one by the manifest alone.
            let same = instance.is_some() && identity.as_deref() == Some(record.identity.as_str());
            let request = ReadRequest {
                address: address.clone(),
                resource_type: record.resource_type.clone(),
                desired: if same { self.early.get(address).cloned() } else { None },
                recorded: Some(record.clone()),
            };
            let kind = if same { Which::Current(address.clone()) } else { Which::Former(address.clone()) };
            if let Some(target) = self.target_of(record) {
                requests.add(&record.provider, &target, (kind, request));
            }
        }
        if self.options.mode != PlanMode::Destroy {
            for i in &self.selected {
                let instance = &self.expanded.instances[*i];
                let Some(identity) = self.early_identity(instance) else { continue };
                let recorded = self.records.get(&instance.address);
                if recorded.is_some_and(|r| r.identity == identity) || (recorded.is_none() && self.options.mode == PlanMode::RefreshOnly) {
                    continue;
                }
                let request = ReadRequest {
                    address: instance.address.clone(),
                    resource_type: instance.resource_type.name.to_owned(),
                    desired: self.early.get(&instance.address).cloned(),
                    recorded: None,
                };
                requests.add(&instance.provider, &instance.target, (Which::Current(instance.address.clone()), request));
            }
        }
        self.read(requests).await
    }

    async fn read(&self, requests: Requests<(Which, ReadRequest)>) -> HashMap<Which, Reading> {
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let (kinds, requests): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let Some(connection) = self.session.connection(&alias) else { return Vec::new() };
            self.events.send(Event::Reading { target: target.to_string(), instances: requests.len() });
            let readings = connection.read(&target, &requests).await;
            self.events.send(Event::ReadDone { target: target.to_string() });
            let marked = readings.into_iter().zip(&requests).map(|(reading, request)| {
                reading.map(|found| found.map(|o| self.mark_observed(&request.address, o)))
            });
            kinds.into_iter().zip(marked).collect()
        });
        join_all(calls).await.into_iter().flatten().collect()
    }

    fn mark_observed(&self, address: &Address, mut observed: Observed) -> Observed {
        observed.attributes = self.marked(address, observed.attributes);
        observed
    }

    /// What the schema calls sensitive is sensitive, whoever it comes from.
    fn marked(&self, address: &Address, attributes: Attributes) -> Attributes {
        match self.expanded.catalog.find(&address.resource) {
            Some(entry) => mark_sensitive(&entry.resource_type.schema, attributes),
            None => attributes,
        }
    }

    /// Where a record's object lives; `None` where its node or its type is gone.
    fn target_of(&self, record: &Record) -> Option<Target> {
        let address: Address = record.address.parse().ok()?;
        let entry = self.expanded.catalog.find(&address.resource)?;
        match entry.resource_type.scope {
            Scope::Provider => Some(Target::Provider(record.provider.clone())),
            Scope::Node => {
                self.expanded.nodes.values().find(|n| n.name.0 == record.target).cloned().map(Target::Node)
            }
        }
    }

    /// Plans the instances of one wave, whose dependencies are all planned.
    async fn plan_wave(&mut self, wave: Vec<usize>, readings: &mut HashMap<Which, Reading>) -> Result<(), Failure> {
        let expanded = self.expanded;
        let wave = wave.into_iter().filter(|i| self.selected.contains(i));
        let (data, managed): (Vec<_>, Vec<_>) = wave
            .map(|i| &expanded.instances[i])
            .partition(|instance| instance.address.resource.mode == Mode::Data);
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
    fn desired(&self, instance: &Instance) -> Result<Attributes, Vec<Diagnostic>> {
        let scope = InstanceScope::new(self.expanded, &self.draft.values, instance.binding.clone());
        let what = format!("precondition of {}", instance.address);
        let violated = violated(&instance.resource.preconditions, &what, &scope);
        if !violated.is_empty() {
            return Err(violated);
        }
        desired(self.expanded, instance, &self.draft.values)
    }

    /// Reads those whose identity depended on what was read before.
    async fn read_late(&self, wanted: &[(&Instance, Attributes)], readings: &mut HashMap<Which, Reading>) {
        let mut requests = Requests::default();
        for (instance, attributes) in wanted {
            let kind = Which::Current(instance.address.clone());
            let Some(identity) = self.identity(instance, attributes).filter(|_| !readings.contains_key(&kind)) else { continue };
            let recorded = self.records.get(&instance.address);
            let request = ReadRequest {
                address: instance.address.clone(),
                resource_type: instance.resource_type.name.to_owned(),
                desired: Some(attributes.clone()),
                recorded: recorded.filter(|r| r.identity == identity).cloned(),
            };
            requests.add(&instance.provider, &instance.target, (kind, request));
        }
        readings.extend(self.read(requests).await);
    }

    async fn propose(&mut self, wanted: Vec<(&Instance, Attributes)>, readings: &mut HashMap<Which, Reading>) -> Result<(), Failure> {
        let mut failures = Vec::new();
        let mut requests: Requests<(PlanRequest, Item)> = Requests::default();
        for (instance, attributes) in wanted {
            match self.request(instance, attributes, readings) {
                Ok(request) => requests.add(&instance.provider, &instance.target, request),
                Err(error) => failures.push((instance.address.clone(), error)),
            }
        }
        let session = self.session;
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let (requests, items): (Vec<_>, Vec<_>) = requests.into_iter().unzip();
            let proposals = match session.connection(&alias) {
                Some(connection) => connection.plan(&target, &requests).await,
                None => Vec::new(),
            };
            requests.into_iter().zip(items).zip(proposals).collect::<Vec<_>>()
        });
        let proposed: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        for ((request, item), proposal) in proposed {
            match proposal {
                Ok(proposal) => self.decide(request, item, proposal)?,
                Err(error) => failures.push((request.address, error)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::Providers(failures)) }
    }

    fn request(
        &self,
        instance: &Instance,
        attributes: Attributes,
        readings: &mut HashMap<Which, Reading>,
    ) -> Result<(PlanRequest, Item), ProviderError> {
        let address = &instance.address;
        let recorded = self.records.get(address).cloned();
        let observed = readings.remove(&Which::Current(address.clone())).transpose()?.flatten();
        let former = readings.remove(&Which::Former(address.clone())).transpose()?.flatten();
        let triggers = self.triggers(instance, recorded.as_deref());
        let item = Item {
            recorded: recorded.clone(),
            observed: observed.clone(),
            former,
            triggers: triggers.iter().map(|(address, _)| address.clone()).collect(),
        };
        let identity = self.identity(instance, &attributes);
        let request = PlanRequest {
            address: address.clone(),
            resource_type: instance.resource_type.name.to_owned(),
            desired: ignoring(&instance.resource.lifecycle.ignore_changes, attributes, observed.as_ref()),
            recorded: recorded.filter(|r| Some(&r.identity) == identity.as_ref()),
            observed,
            triggers: item.triggers.clone(),
        };
        Ok((request, item))
    }

    /// The instances of `restart_on` that change, or changed in a run that did not come to this instance.
    fn triggers(&self, instance: &Instance, recorded: Option<&Record>) -> Vec<(Address, bool)> {
        self.watched(instance, &instance.resource.restart_on, recorded)
    }

    fn watched(
        &self,
        instance: &Instance,
        patterns: &[(Address, crate::Span)],
        recorded: Option<&Record>,
    ) -> Vec<(Address, bool)> {
        let watched = patterns.iter().filter_map(|(p, _)| matching(self.expanded, p, &instance.binding)).flatten();
        let changed = |address: Address| {
            let action = self.actions.get(&address).copied().unwrap_or(Action::NoOp);
            if action.is_change() && action != Action::Adopt {
                return Some((address, false));
            }
            let seen = recorded?.triggers.get(&address.to_string())?;
            let now = self.records.get(&address)?.digest();
            (*seen != now).then_some((address, true))
        };
        watched.filter_map(changed).collect()
    }

    /// Makes the change of one instance from its provider's proposal.
    fn decide(&mut self, request: PlanRequest, item: Item, proposal: Proposal) -> Result<(), Failure> {
        let expanded = self.expanded;
        let Some(instance) = expanded.instance(&request.address) else { return Ok(()) };
        let lifecycle = &instance.resource.lifecycle;
        let planned = self.marked(&request.address, proposal.planned);
        let before = request.observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
        let after = seal_attributes(&planned, self.key);
        let mut reasons = Vec::new();

        let owed = |owed: &(Address, bool)| Reason::Trigger { address: owed.0.clone(), owed: owed.1 };
        let replacing = self.watched(instance, &lifecycle.replace_triggered_by, item.recorded.as_deref());
        let requested = self.options.replace.iter().any(|p| request.address.matches(p));
        let replace = if lifecycle.create_before_destroy && item.former.is_some() {
            Action::ReplaceCreateFirst
        } else {
            Action::Replace
        };
        let mut action = match proposal.action {
            ProposedAction::NoOp if item.recorded.is_none() => Action::Adopt,
            ProposedAction::NoOp => Action::NoOp,
            ProposedAction::Create => Action::Create,
            ProposedAction::Update => Action::Update,
            ProposedAction::Replace(attributes) => {
                reasons.push(Reason::Immutable { attributes });
                replace
            }
        };
        if item.former.is_some() {
            reasons.push(Reason::Immutable { attributes: self.identifying(instance, &item) });
            action = replace;
        } else if request.observed.is_some() && (requested || !replacing.is_empty()) {
            reasons.extend(requested.then_some(Reason::Requested));
            reasons.extend(replacing.iter().map(owed));
            action = replace;
        }
        if matches!(action, Action::Create | Action::Update) {
            reasons.extend(self.reasons(&item, before.as_ref(), &after));
        }
        if action.is_change() {
            reasons.extend(self.triggers(instance, item.recorded.as_deref()).iter().map(owed));
        }
        if matches!(action, Action::Replace | Action::ReplaceCreateFirst) && lifecycle.prevent_destroy {
            return Err(Failure::Manifest(vec![self.prevented(instance)]));
        }

        let values = known_values(instance, action, &request, &planned);
        if action == Action::NoOp {
            let scope = InstanceScope::new(expanded, &self.draft.values, instance.binding.clone());
            let scope = scope.with_self(Value::Map(values.clone()));
            let what = format!("postcondition of {}", request.address);
            let violated = violated(&instance.resource.postconditions, &what, &scope);
            if !violated.is_empty() {
                return Err(Failure::Manifest(violated));
            }
        }
        self.note_drift(&request.address, instance.target.name(), item.recorded.as_deref(), before.as_ref(), item.former.is_some());
        let former = item.former.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
        self.draft.changes.push(Change {
            address: request.address.clone(),
            moved_from: self.moved.get(&request.address).cloned(),
            resource_type: request.resource_type,
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            identity: self.identity(instance, &request.desired),
            action,
            reasons,
            observed: Some(observed_digest(request.observed.as_ref().or(item.former.as_ref()), self.key)),
            before: former.or(before),
            after: Some(after),
            dependencies: self.dependencies(&request.address),
            notes: proposal.notes,
        });
        self.actions.insert(request.address.clone(), action);
        self.draft.values.insert(request.address.clone(), values);
        self.draft.items.insert(request.address, item);
        Ok(())
    }

    /// Why an instance is created or updated.
    fn reasons(&self, item: &Item, before: Option<&Map<String, Json>>, after: &Map<String, Json>) -> Vec<Reason> {
        let Some(record) = &item.recorded else { return vec![Reason::New] };
        let mut reasons = Vec::new();
        if record.incomplete {
            reasons.push(Reason::Incomplete);
        }
        let Some(before) = before else {
            reasons.extend((!record.incomplete).then_some(Reason::Gone));
            return reasons;
        };
        let drifted = !differences(Some(&record.attributes), &common(before, &record.attributes)).is_empty();
        let differs = !differences(Some(before), after).is_empty();
        if drifted {
            reasons.push(Reason::Drift);
        } else if differs && !record.incomplete {
            reasons.push(Reason::Manifest);
        }
        reasons
    }

    /// The attributes by which the identity changed.
    fn identifying(&self, instance: &Instance, item: &Item) -> Vec<String> {
        let (Some(record), Some(early)) = (&item.recorded, self.early.get(&instance.address)) else { return Vec::new() };
        let now = seal_attributes(early, self.key);
        let identifies = |name: &&String| {
            let mut other = early.clone();
            other.insert((*name).clone(), Value::from(record.attributes[*name].clone()));
            record.attributes.get(*name) != now.get(*name) && self.identity(instance, &other) != self.identity(instance, early)
        };
        record.attributes.keys().filter(|name| now.contains_key(*name)).filter(identifies).cloned().collect()
    }

    fn dependencies(&self, address: &Address) -> Vec<Address> {
        let Some(i) = self.expanded.index.get(address) else { return Vec::new() };
        let names: BTreeSet<_> =
            self.graph.dependencies(*i).map(|d| self.expanded.instances[d].address.clone()).collect();
        names.into_iter().collect()
    }

    /// Reads the data sources of a wave, or leaves them to the apply where they depend on what it makes.
    async fn read_data(&mut self, data: Vec<&Instance>) -> Result<(), Failure> {
        let mut errors = Vec::new();
        let mut requests: Requests<DataRequest> = Requests::default();
        for instance in data {
            let arguments = match self.desired(instance) {
                Ok(arguments) => arguments,
                Err(found) => {
                    errors.extend(found);
                    continue;
                }
            };
            let pending = self.dependencies(&instance.address).iter().any(|d| {
                self.actions.get(d).is_some_and(|action| !matches!(action, Action::NoOp | Action::Adopt))
            });
            if pending || arguments.values().any(Value::is_unknown) {
                self.leave_to_apply(instance, &arguments);
                continue;
            }
            let timeout = instance.resource.timeouts.get("read").copied();
            let data_source = instance.resource_type.name.to_owned();
            let request = DataRequest { address: instance.address.clone(), data_source, arguments, timeout };
            requests.add(&instance.provider, &instance.target, request);
        }
        if !errors.is_empty() {
            return Err(Failure::Manifest(deduplicated(errors)));
        }
        let session = self.session;
        let calls = requests.0.into_values().map(|(alias, target, requests)| async move {
            let found = match session.connection(&alias) {
                Some(connection) => connection.read_data(&target, &requests).await,
                None => Vec::new(),
            };
            requests.into_iter().zip(found).collect::<Vec<_>>()
        });
        let found: Vec<_> = join_all(calls).await.into_iter().flatten().collect();
        let mut failures = Vec::new();
        for (request, found) in found {
            match found {
                Ok(attributes) => {
                    let mut values = request.arguments;
                    values.extend(self.marked(&request.address, attributes));
                    self.draft.values.insert(request.address, values);
                }
                Err(error) => failures.push((request.address, error)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::Providers(failures)) }
    }

    fn leave_to_apply(&mut self, instance: &Instance, arguments: &Attributes) {
        let address = instance.address.clone();
        self.draft.values.insert(address.clone(), with_unknown(instance, arguments.clone()));
        self.actions.insert(address.clone(), Action::Read);
        self.draft.changes.push(Change {
            dependencies: self.dependencies(&address),
            moved_from: None,
            resource_type: instance.resource_type.name.to_owned(),
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            identity: None,
            action: Action::Read,
            reasons: Vec::new(),
            before: None,
            after: Some(seal_attributes(arguments, self.key)),
            observed: None,
            notes: Vec::new(),
            address,
        });
    }

    /// Plans what is recorded and no longer wanted: dependants first.
    fn plan_orphans(&mut self, readings: &mut HashMap<Which, Reading>, reason: Reason) -> Result<(), Failure> {
        let everything = reason == Reason::Destroy;
        let orphans: BTreeMap<Address, Arc<Record>> = self
            .records
            .iter()
            .filter(|(address, _)| (everything || !self.expanded.index.contains_key(address)) && self.is_selected(address))
            .map(|(address, record)| (address.clone(), record.clone()))
            .collect();
        let mut failures = Vec::new();
        let mut errors = Vec::new();
        for address in dependants_first(&orphans) {
            let record = &orphans[&address];
            let released = self.expanded.manifest.removed.iter().any(|r| !r.destroy && address.matches(&r.from));
            let reachable = self.target_of(record).is_some();
            let reading = readings.remove(&Which::Former(address.clone()));
            let observed = match reading.transpose() {
                Ok(found) => found.flatten(),
                Err(_) if released => None,
                Err(error) => {
                    failures.push((address, error));
                    continue;
                }
            };
            let action = match (&observed, released || !reachable) {
                (Some(_), false) => Action::Delete,
                _ => Action::Forget,
            };
            if !reachable && !released {
                self.draft.warnings.push(format!(
                    "`{address}` is forgotten, not destroyed: `{}` is not in the inventory any more",
                    record.target
                ));
            }
            if action == Action::Delete && self.is_prevented(&address, record) {
                errors.push(prevented(&address, self.expanded.instance(&address).map(|i| i.resource.span)));
            }
            let before = observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
            self.note_drift(&address, &record.target, Some(record), before.as_ref(), false);
            self.draft.changes.push(Change {
                address: address.clone(),
                moved_from: None,
                resource_type: record.resource_type.clone(),
                provider: record.provider.clone(),
                target: record.target.clone(),
                identity: Some(record.identity.clone()),
                action,
                reasons: vec![if observed.is_none() && reachable && !released { Reason::Gone } else { reason.clone() }],
                before,
                after: None,
                dependencies: record.dependencies.iter().filter_map(|d| d.parse().ok()).collect(),
                observed: Some(observed_digest(observed.as_ref(), self.key)),
                notes: Vec::new(),
            });
            self.actions.insert(address.clone(), action);
            let item = Item { recorded: Some(record.clone()), observed, ..Item::default() };
            self.draft.items.insert(address, item);
        }
        if !errors.is_empty() {
            return Err(Failure::Manifest(errors));
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::Providers(failures)) }
    }

    /// Compares what is recorded with what is there, and nothing else.
    fn refresh(&mut self, readings: &mut HashMap<Which, Reading>) {
        for (address, record) in self.records.clone() {
            if !self.is_selected(&address) {
                continue;
            }
            let current = readings.remove(&Which::Current(address.clone()));
            let Some(reading) = current.or_else(|| readings.remove(&Which::Former(address.clone()))) else { continue };
            let observed = match reading {
                Ok(observed) => observed,
                Err(error) => {
                    self.draft.unread.push((address, error));
                    continue;
                }
            };
            let sealed = observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
            self.note_drift(&address, &record.target, Some(&record), sealed.as_ref(), false);
            if let (Some(instance), Some(observed)) = (self.expanded.instance(&address), &observed) {
                let mut values = self.early.get(&instance.address).cloned().unwrap_or_default();
                values.extend(observed.attributes.clone());
                self.draft.values.insert(address.clone(), values);
            }
            self.draft.changes.push(Change {
                address: address.clone(),
                moved_from: self.moved.get(&address).cloned(),
                resource_type: record.resource_type.clone(),
                provider: record.provider.clone(),
                target: record.target.clone(),
                identity: Some(record.identity.clone()),
                action: if sealed.is_some() { Action::NoOp } else { Action::Forget },
                reasons: if sealed.is_some() { Vec::new() } else { vec![Reason::Gone] },
                before: sealed.clone(),
                after: sealed,
                dependencies: record.dependencies.iter().filter_map(|d| d.parse().ok()).collect(),
                observed: Some(observed_digest(observed.as_ref(), self.key)),
                notes: Vec::new(),
            });
            self.draft.items.insert(address, Item { recorded: Some(record), observed, ..Item::default() });
        }
    }

    fn note_drift(
        &mut self,
        address: &Address,
        target: &str,
        recorded: Option<&Record>,
        observed: Option<&Map<String, Json>>,
        moved: bool,
    ) {
        // A record that an unfinished operation left says nothing of what was there.
        let Some(record) = recorded.filter(|r| !r.incomplete && !moved) else { return };
        let after = observed.map(|o| common(o, &record.attributes));
        if let Some(after) = &after
            && differences(Some(&record.attributes), after).is_empty()
        {
            return;
        }
        let before = record.attributes.clone();
        self.draft.drift.push(Drift { address: address.clone(), target: target.to_owned(), before, after });
    }

    fn is_prevented(&self, address: &Address, record: &Record) -> bool {
        match self.expanded.instance(address) {
            Some(instance) => instance.resource.lifecycle.prevent_destroy,
            None => record.prevent_destroy,
        }
    }

    fn prevented(&self, instance: &Instance) -> Diagnostic {
        prevented(&instance.address, Some(instance.resource.span))
    }
}

/// Which reading a request is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Which {
    /// What is there under the identity that the manifest says.
    Current(Address),
    /// What is there under the recorded identity, which the manifest no longer says.
    Former(Address),
}

/// Requests in batches: one per provider instance and target.
struct Requests<T>(BTreeMap<(String, String), (String, Target, Vec<T>)>);

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Requests<T> {
    fn add(&mut self, alias: &str, target: &Target, request: T) {
        let key = (alias.to_owned(), target.name().to_owned());
        let batch = self.0.entry(key).or_insert_with(|| (alias.to_owned(), target.clone(), Vec::new()));
        batch.2.push(request);
    }
}

/// The digest that stands for what was observed.
pub(crate) fn observed_digest(observed: Option<&Observed>, key: &SealKey) -> Digest {
    match observed {
        Some(observed) => {
            Digest::of(canonical(&Json::Object(seal_attributes(&observed.attributes, key))).as_bytes())
        }
        None => Digest::of(b"absent"),
    }
}

/// What the schema calls sensitive is sensitive, whoever it comes from.
pub(crate) fn mark_sensitive(schema: &crate::Schema, attributes: Attributes) -> Attributes {
    let mark = |(name, value): (String, Value)| match schema.attribute(&name) {
        Some(attribute) if attribute.sensitive => (name, value.sensitive()),
        _ => (name, value),
    };
    attributes.into_iter().map(mark).collect()
}

/// What references to the instance see after this plan.
fn known_values(instance: &Instance, action: Action, request: &PlanRequest, planned: &Attributes) -> Attributes {
    let mut values = Attributes::new();
    let stays = !matches!(action, Action::Create | Action::Replace | Action::ReplaceCreateFirst);
    if let Some(observed) = request.observed.as_ref().filter(|_| stays) {
        values.extend(observed.attributes.clone());
    }
    let written = request.desired.iter().filter(|(_, v)| !v.is_null());
    values.extend(written.map(|(k, v)| (k.clone(), v.clone())));
    values.extend(planned.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())));
    match stays {
        true => values,
        false => with_unknown(instance, values),
    }
}

/// `desired` with the observed values of the attributes that `lifecycle.ignore_changes` names.
pub(crate) fn ignoring(ignored: &[String], mut desired: Attributes, observed: Option<&Observed>) -> Attributes {
    let Some(observed) = observed else { return desired };
    for path in ignored {
        if path == "all" {
            let known = observed.attributes.iter().filter(|(name, _)| desired.contains_key(*name));
            let known: Vec<_> = known.map(|(k, v)| (k.clone(), v.clone())).collect();
            desired.extend(known);
            continue;
        }
        let steps: Vec<_> = path.split('.').collect();
        copy_path(&steps, &mut desired, &observed.attributes);
    }
    desired
}

fn copy_path(steps: &[&str], to: &mut BTreeMap<String, Value>, from: &BTreeMap<String, Value>) {
    let Some((first, rest)) = steps.split_first() else { return };
    match (rest.is_empty(), from.get(*first)) {
        (true, Some(value)) => _ = to.insert((*first).to_owned(), value.clone()),
        (true, None) => _ = to.remove(*first),
        (false, Some(Value::Map(from))) => {
            if let Some(Value::Map(to)) = to.get_mut(*first) {
                copy_path(rest, to, from);
            }
        }
        (false, _) => {}
    }
}

/// The members of `observed` that `recorded` has too: only these can have drifted.
fn common(observed: &Map<String, Json>, recorded: &Map<String, Json>) -> Map<String, Json> {
    observed.iter().filter(|(name, _)| recorded.contains_key(*name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The addresses of `records`, each after all that were recorded as depending on it.
fn dependants_first(records: &BTreeMap<Address, Arc<Record>>) -> Vec<Address> {
    let addresses: Vec<_> = records.keys().cloned().collect();
    let mut graph = DiGraph::<usize, ()>::new();
    let vertices: HashMap<_, _> =
        records.values().enumerate().map(|(i, r)| (r.address.as_str(), graph.add_node(i))).collect();
    for record in records.values() {
        for dependency in &record.dependencies {
            if let Some(dependency) = vertices.get(dependency.as_str()) {
                graph.add_edge(vertices[record.address.as_str()], *dependency, ());
            }
        }
    }
    match toposort(&graph, None) {
        Ok(order) => order.into_iter().map(|v| addresses[graph[v]].clone()).collect(),
        // Records of several manifests' times may contradict each other; any order is as good as another then.
        Err(_) => addresses,
    }
}

fn prevented(address: &Address, span: Option<crate::Span>) -> Diagnostic {
    let error = Diagnostic::error(format!("`{address}` would be destroyed, which lifecycle.prevent_destroy forbids"))
        .help("take prevent_destroy away, or leave it out with --exclude");
    match span {
        Some(span) => error.at(span, ""),
        None => error,
    }
}
