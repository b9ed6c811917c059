//! The pipeline of planning: from the prior state to the draft. The stages are in the other modules of this folder.

use super::calls;
use super::candidates::{Candidates, candidates};
use super::data::{DataSources, data_digest, data_sources, data_values};
use super::decide::{claim, decide};
use super::draft::Draft;
use super::import::import;
use super::inputs::Inputs;
use super::machines::{self, Machines};
use super::model::PlanMode;
use super::orphans::{Removals, removals};
use super::prior::Prior;
use super::provisional::{decide_provisionally, is_provisional};
use super::readings::Readings;
use super::refresh::refresh;
use super::replacements::order_replacements;
use super::requests;
use super::selected::Selected;
use super::side_effects;
use crate::configuration::expand::Instance;
use crate::configuration::graph::{LocalReferences, check_dependencies};
use crate::configuration::static_values::{deduplicated, with_unknown};
use crate::model::hash::HashSet;
use crate::model::{Address, Attributes, Decoded, Mode};
use crate::provider::{ProviderError, Target};
use crate::session::{Failure, Session};

/// Makes the draft of a plan.
pub(crate) struct Planner<'a> {
    pub inputs: Inputs<'a>,
    pub session: &'a Session,
    /// Whether an instance that cannot be read fails only its dependants, not the whole plan.
    pub tolerates_unread: bool,
}

impl Planner<'_> {
    /// Reads the objects and plans every selected instance.
    pub async fn run(&self, state: &Decoded<'_>) -> Result<Draft, Failure> {
        let inputs = &self.inputs;
        let mut prior = Prior::of(state, &inputs.expanded.moved);
        let selected = Selected::of(inputs, &prior);
        if inputs.options.mode != PlanMode::Destroy {
            prior.follow_renames(inputs);
        }
        let (mut readings, machines) = self.observe(&mut prior, &selected).await?;
        let warnings = std::mem::take(&mut prior.warnings);
        let mut draft = Draft::new(machines, inputs.static_values.owners(), warnings);
        draft.reserve(inputs.expanded.instances.len().max(prior.records.len()));
        draft.selected = inputs.options.is_partial().then(|| selected.addresses());
        let decided = self.decide_all(&prior, &selected, &mut readings, &mut draft).await;
        // A refresh records what can be read. An import is complete, or records nothing.
        let is_refresh = inputs.options.mode == PlanMode::RefreshOnly && !inputs.options.imports;
        // Instances that could not be read are the reason of an error that follows, not the other way round.
        if !self.tolerates_unread && !is_refresh && !draft.unread.is_empty() {
            return Err(Failure::Providers(self.without_dependants(draft.unread)));
        }
        decided?;
        if inputs.options.mode == PlanMode::Normal {
            let announced = calls::pending_maintenance(self.session).await;
            draft.maintains = !announced.is_empty();
            draft.warnings.extend(announced);
        }
        draft.records = prior.records;
        Ok(draft)
    }

    /// Decides about every selected instance, also about those that follow one that could not be read.
    async fn decide_all(
        &self,
        prior: &Prior,
        selected: &Selected<'_>,
        readings: &mut Readings,
        draft: &mut Draft,
    ) -> Result<(), Failure> {
        let inputs = &self.inputs;
        match inputs.options.mode {
            PlanMode::Normal => {
                for mut wave in inputs.graph.waves() {
                    // There will be no plan then, and a dependant could wait for the same target.
                    if !self.tolerates_unread && !draft.unread.is_empty() {
                        let dependants = self.dependants(&draft.unread);
                        wave.retain(|instance| !dependants.contains(instance));
                    }
                    self.plan_wave(prior, selected.among(wave), readings, draft).await?;
                }
                self.remove_orphans(prior, selected, readings, draft)?;
                order_replacements(&mut draft.changes, &draft.items);
                self.add_side_effects(draft).await;
            }
            PlanMode::Destroy => {
                self.remove_orphans(prior, selected, readings, draft)?;
                self.add_side_effects(draft).await;
            }
            PlanMode::RefreshOnly => {
                for (address, record) in prior.records.iter().filter(|(address, _)| selected.contains(address)) {
                    match refresh(inputs, prior, address, record, readings) {
                        Ok(decision) => draft.add(decision),
                        Err(error) => draft.unread.push((address.clone(), error)),
                    }
                }
                if inputs.options.imports {
                    self.import(prior, selected, readings, draft);
                } else {
                    self.read_data_of_checks(prior, selected, draft).await;
                }
            }
        }
        Ok(())
    }

    /// Reads the objects whose identity is known, and identifies the machines of the nodes. Reads nodes again if that changes what must be read.
    async fn observe(&self, prior: &mut Prior, selected: &Selected<'_>) -> Result<(Readings, Machines), Failure> {
        let Self { inputs, session, .. } = self;
        let requests = requests::known_objects(inputs, prior, selected, |_| true);
        let mut readings = calls::read_all(session, requests).await;

        let nodes = machines::nodes(inputs, prior, selected);
        let mut identified = calls::identify(session, &nodes).await;
        let renamed = machines::take_renamed(inputs, &mut identified);
        let assessments =
            machines::assess(identified, &nodes, &prior.machines, inputs.options).map_err(Failure::Manifest)?;
        let accepted = calls::accept(session, &nodes, &assessments).await;
        let mut machines = Machines::of(assessments, accepted, inputs.options.mode);
        machines.renamed = renamed;
        machines.explain_readings(&mut readings, |key| machines::node_of_reading(inputs, prior, key));

        let again = machines::drop_former_records(inputs, prior, &mut machines);
        if !again.is_empty() {
            let is_again = |target: &Target| matches!(target, Target::Node(node) if again.contains(&node.name));
            let requests = requests::known_objects(inputs, prior, selected, is_again);
            let fresh = calls::read_all(session, requests).await;
            let node_of = |key: &_| machines::node_of_reading(inputs, prior, key);
            readings.0.retain(|key, _| node_of(key).is_none_or(|node| !again.contains(&node)));
            readings.0.extend(fresh.0);
        }
        Ok((readings, machines))
    }

    /// Plans the instances of one wave. All their dependencies are in the draft.
    async fn plan_wave<'a>(
        &self,
        prior: &Prior,
        wave: impl Iterator<Item = &'a Instance>,
        readings: &mut Readings,
        draft: &mut Draft,
    ) -> Result<(), Failure> {
        let (data, managed): (Vec<_>, Vec<_>) = wave.partition(|instance| instance.address.resource.mode == Mode::Data);
        self.plan_data(prior, &data, draft).await?;
        let desired = self.desired(managed, draft)?;
        let remaining = requests::remaining_objects(&self.inputs, prior, &draft.machines, readings, &desired);
        readings.0.extend(calls::read_all(self.session, remaining).await.0);
        self.plan_managed(prior, desired, readings, draft).await
    }

    /// Reads the data sources of a wave, or defers them to the apply.
    async fn plan_data(&self, prior: &Prior, data: &[&Instance], draft: &mut Draft) -> Result<(), Failure> {
        let mut sources = data_sources(&self.inputs, prior, draft, data)?;
        std::mem::take(&mut sources.deferred).into_iter().for_each(|decision| draft.add(decision));
        let failures = self.read_data(sources, draft).await?;
        self.note_unread(failures, draft);
        Ok(())
    }

    /// Reads the data sources that checks refer to, for a refresh, which reports the resources also without them: what cannot be read gives a warning, and
    /// what needs a resource that does not exist yet stays unknown.
    async fn read_data_of_checks(&self, prior: &Prior, selected: &Selected<'_>, draft: &mut Draft) {
        let Inputs { expanded, graph, .. } = self.inputs;
        let mut locals = LocalReferences::default();
        let referred = expanded.checks.iter().flat_map(|check| check_dependencies(expanded, check, &mut locals));
        let referred: Vec<_> = referred.filter_map(|address| expanded.index.get(&address).copied()).collect();
        let mut needed = graph.closure(referred, petgraph::Incoming);
        needed.retain(|i| expanded.instances[*i].address.resource.mode == Mode::Data);
        if needed.is_empty() {
            return;
        }
        for mut wave in graph.waves() {
            wave.retain(|i| needed.contains(i));
            let data: Vec<_> = selected.among(wave).collect();
            let read = match data_sources(&self.inputs, prior, draft, &data) {
                Ok(sources) => self.read_data(sources, draft).await,
                Err(failure) => Err(failure),
            };
            let unknown = "so the checks that refer to it are unknown";
            match read {
                // What does not answer is among the resources that could not be read.
                Ok(_) if !draft.unread.is_empty() => {}
                Ok(failures) => draft.warnings.extend(
                    failures.iter().map(|(address, error)| format!("`{address}` was not read, {unknown}: {error}")),
                ),
                Err(failure) => draft.warnings.push(format!("a data source was not read, {unknown}: {failure}")),
            }
        }
    }

    /// Reads these data sources. Returns those that could not be read.
    async fn read_data(
        &self,
        sources: DataSources<'_>,
        draft: &mut Draft,
    ) -> Result<Vec<(Address, ProviderError)>, Failure> {
        let DataSources { requests, known, .. } = sources;
        for (instance, arguments) in known {
            let read = self.inputs.expanded.static_data.result(&instance.address).cloned().unwrap_or_default();
            let values = data_values(&self.inputs, draft, instance, arguments, read)?;
            draft.values.insert(instance.address.clone(), values);
        }
        let mut failures = Vec::new();
        for (instance, request, result) in calls::read_data(self.session, requests).await {
            match result {
                Ok(read) => {
                    draft.inputs.extend(data_digest(&self.inputs, instance, &read));
                    let values = data_values(&self.inputs, draft, instance, request.arguments, read)?;
                    draft.values.insert(request.address, values);
                }
                Err(error) => failures.push((request.address, error)),
            }
        }
        Ok(failures)
    }

    /// Returns the desired attributes of the instances of a wave.
    fn desired<'a>(
        &self,
        managed: Vec<&'a Instance>,
        draft: &Draft,
    ) -> Result<Vec<(&'a Instance, Attributes)>, Failure> {
        let mut errors = Vec::new();
        let mut desired = Vec::new();
        for instance in managed {
            match self.inputs.desired(instance, &draft.values) {
                Ok(attributes) => desired.push((instance, attributes)),
                Err(diagnostics) => errors.extend(diagnostics),
            }
        }
        if errors.is_empty() { Ok(desired) } else { Err(Failure::Manifest(deduplicated(errors))) }
    }

    /// Asks the providers for proposals and decides about the instances of a wave.
    async fn plan_managed(
        &self,
        prior: &Prior,
        desired: Vec<(&Instance, Attributes)>,
        readings: &mut Readings,
        draft: &mut Draft,
    ) -> Result<(), Failure> {
        let inputs = &self.inputs;
        let Candidates { requests, provisional, mut failures } = candidates(inputs, prior, draft, desired, readings);
        for (instance, desired) in provisional {
            draft.add(decide_provisionally(inputs, prior, draft, instance, desired));
        }
        for (candidate, request, proposal) in calls::propose(self.session, requests).await {
            let instance = candidate.instance;
            match proposal {
                Ok(proposal) => {
                    claim(inputs.expanded, &mut draft.owners, instance, &request.desired)?;
                    draft.add(decide(inputs, prior, draft, candidate, request, proposal)?);
                }
                Err(error) if is_provisional(inputs, prior, draft, instance, &error) => {
                    draft.add(decide_provisionally(inputs, prior, draft, instance, request.desired));
                }
                Err(error) => failures.push((request.address, error)),
            }
        }
        self.note_unread(failures, draft);
        Ok(())
    }

    /// Plans to remove recorded instances: all of them in a destroy, otherwise those that are not in the manifest any more.
    fn remove_orphans(
        &self,
        prior: &Prior,
        selected: &Selected,
        readings: &mut Readings,
        draft: &mut Draft,
    ) -> Result<(), Failure> {
        let Removals { decisions, warnings, failures, errors } =
            removals(&self.inputs, prior, selected, draft, readings);
        if !errors.is_empty() {
            return Err(Failure::Manifest(errors));
        }
        draft.warnings.extend(warnings);
        decisions.into_iter().for_each(|decision| draft.add(decision));
        self.note_unread(failures, draft);
        Ok(())
    }

    /// Adds the side effects of removals to their changes.
    async fn add_side_effects(&self, draft: &mut Draft) {
        let mut failures = Vec::new();
        let requests = side_effects::removals(&self.inputs, draft);
        for (i, request, consequences) in calls::removal_consequences(self.session, requests).await {
            match consequences {
                Ok(consequences) => draft.changes[i].consequences.extend(consequences),
                Err(error) => failures.push((request.address, error)),
            }
        }
        self.note_unread(failures, draft);
    }

    /// Decides to record the objects of the selected instances, which the state does not have.
    fn import(&self, prior: &Prior, selected: &Selected, readings: &mut Readings, draft: &mut Draft) {
        let mut failures = Vec::new();
        for instance in selected.instances() {
            match import(&self.inputs, prior, &draft.machines, instance, readings) {
                Ok(decision) => draft.add(decision),
                Err(error) => failures.push((instance.address.clone(), error)),
            }
        }
        self.note_unread(failures, draft);
    }

    /// Notes the instances that could not be read. What refers to them gets unknown values.
    fn note_unread(&self, failures: Vec<(Address, ProviderError)>, draft: &mut Draft) {
        for (address, error) in failures {
            let static_values = self.inputs.static_values.get(&address);
            if let (Some(instance), Some(static_values)) = (self.inputs.expanded.instance(&address), static_values) {
                draft.values.insert(address.clone(), with_unknown(instance, static_values.clone()));
            }
            draft.unread.push((address, error));
        }
    }

    /// Leaves out the instances that depend on another one of `failures`: they may have failed only because its values are unknown.
    fn without_dependants(&self, failures: Vec<(Address, ProviderError)>) -> Vec<(Address, ProviderError)> {
        let dependants = self.dependants(&failures);
        let index = &self.inputs.expanded.index;
        let is_dependant = |address: &Address| index.get(address).is_some_and(|i| dependants.contains(i));
        failures.into_iter().filter(|(address, _)| !is_dependant(address)).collect()
    }

    /// Returns the instances that depend on one of `failures`.
    fn dependants(&self, failures: &[(Address, ProviderError)]) -> HashSet<usize> {
        let Inputs { expanded, graph, .. } = &self.inputs;
        let failed = failures.iter().filter_map(|(address, _)| expanded.index.get(address));
        graph.closure(failed.flat_map(|instance| graph.dependants(*instance)), petgraph::Outgoing)
    }
}
