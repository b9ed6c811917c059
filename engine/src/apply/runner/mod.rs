//! The runner of an apply: takes steps from the schedule, calls the providers, and hands their results to the journal, then to the schedule.

mod call;
mod drains;
mod explain;
mod finishing;
mod gates;
mod opening;
mod reported;
mod reporter;
mod requests;
mod results;
mod running;
mod unselected;

pub(super) use opening::open;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use moorfast_state::StateError;
use tokio_util::sync::CancellationToken;

use self::call::{Destination, Request};
use self::drains::{DrainCalls, DrainResult, Drains};
use self::explain::{Explanations, Failed, Failure};
use self::finishing::finish;
use self::gates::{GateFailure, GateResult, Gates, causes};
use self::reporter::{Reporter, half_done_because};
use self::requests::{Prepared, prepare};
use self::results::{invalid, learn_data, outcome};
use self::running::{Ended, RunningCalls};
use super::context::{ApplyContext, Refusal};
use super::journal::{Journal, OpenOperation};
use super::report::{ChangeResult, Report};
use super::schedule::{Call, ChangeProgress, NodeTurn, Schedule, Skipped, Step};
use crate::configuration::graph::provider_dependencies;
use crate::model::hash::{HashMap, HashSet};
use crate::model::{Address, Attributes};
use crate::plan::Change;
use crate::plan::order::PlannedPart;
use crate::provider::{Applied, Class, ProviderError};
use crate::session::{Events, Interrupt, RolloutStep};

/// The runner of an apply.
pub(super) struct Runner<'a> {
    context: ApplyContext,
    schedule: Schedule,
    journal: Journal<'a>,
    interrupt: &'a Interrupt,
    /// Cancelled when the lock is lost.
    lost: CancellationToken,
    /// The replacements whose old object was removed with its machine.
    cleared: HashSet<usize>,
    /// The provider instances whose cluster this run starts or restarts.
    starting_clusters: BTreeSet<String>,
    calls: RunningCalls<Running>,
    /// The durations and notes of the completed parts of changes that are not complete.
    first_parts: HashMap<usize, (Duration, Vec<String>)>,
    drains: Drains,
    gates: Gates,
    explanations: Explanations,
    reporter: Reporter<'a>,
}

/// What runs in a provider call.
enum Running {
    Operation { part: PlannedPart, started: Instant, open: OpenOperation, desired: Option<Attributes> },
    Reading { part: PlannedPart, arguments: Attributes },
}

impl<'a> Runner<'a> {
    pub fn new(
        context: ApplyContext,
        schedule: Schedule,
        journal: Journal<'a>,
        lost: CancellationToken,
        events: &'a Events,
        interrupt: &'a Interrupt,
    ) -> Self {
        let mut reporter = Reporter::new(events, context.plan.changes.len());
        let nodes = context.plan.rollouts.iter().flat_map(|rollout| &rollout.nodes);
        reporter.report.out_of_service = nodes.filter(|node| node.was_drained).map(|node| node.name.clone()).collect();
        Self {
            starting_clusters: starting_clusters(&context),
            context,
            schedule,
            journal,
            interrupt,
            lost,
            cleared: HashSet::default(),
            calls: RunningCalls::new(),
            first_parts: HashMap::default(),
            drains: Drains::new(interrupt.stop.clone()),
            gates: Gates::new(events.clone(), interrupt.stop.clone()),
            explanations: Explanations::new(interrupt.cancel.clone()),
            reporter,
        }
    }

    /// Makes the changes, after [`open`] returned `opened`.
    pub async fn run(mut self, opened: Result<HashSet<usize>, StateError>) -> Report {
        match opened {
            Ok(cleared) => self.cleared = cleared,
            Err(error) => self.stop_without_state(error),
        }
        loop {
            while let Some(step) = self.next_step() {
                self.take(step).await;
            }
            if !self.schedule.is_stopped() {
                let runs = self.schedule.is_running() || !self.explanations.is_empty() || !self.drains.is_empty();
                self.gates.start_postponed(&self.context, &self.journal, runs);
            }
            if self.is_over() {
                break;
            }
            self.wait().await;
        }
        self.end_run().await
    }

    fn next_step(&mut self) -> Option<Step> {
        if self.interrupt.stop.is_cancelled() {
            self.interrupted();
        }
        self.schedule.next()
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Refuse(change) => self.refuse(change),
            Step::Record(changes) => self.record(changes).await,
            Step::Call(call, parts) => self.call(call, parts).await,
            Step::Drain(turn) => self.drain(turn),
            Step::StartNode(turn) => self.reporter.rollout_step(&self.context, &turn, RolloutStep::Started),
            Step::EvaluateGates { turn, pauses } => self.gates.start(&self.context, &self.journal, turn, pauses),
            Step::SkipNodes(skipped) => self.reporter.nodes_skipped(&self.context, skipped),
        }
    }

    fn is_over(&self) -> bool {
        let gates_are_over = self.gates.is_empty() || self.schedule.is_stopped();
        self.schedule.is_idle() && self.drains.is_empty() && gates_are_over && self.explanations.is_empty()
    }

    /// Waits until something ends, or until the run must stop.
    async fn wait(&mut self) {
        let may_stop = !self.schedule.is_stopped();
        tokio::select! {
            ended = self.calls.next() => self.settle(ended).await,
            result = self.gates.next(), if !self.gates.is_empty() => {
                if let Some(result) = result {
                    self.gates_evaluated(result);
                }
            }
            result = self.drains.next(), if !self.drains.is_empty() => {
                if let Some(result) = result {
                    self.drained(result);
                }
            }
            Some(failure) = self.explanations.next() => self.report_failure(failure),
            () = self.interrupt.stop.cancelled(), if may_stop => self.interrupted(),
            () = self.lost.cancelled(), if may_stop => self.stop_without_state(StateError::LockLost { now_held_by: None }),
        }
    }

    /// Starts nothing more, because the user interrupted the run.
    fn interrupted(&mut self) {
        self.reporter.report.interrupted = true;
        self.schedule.stop();
    }

    /// Starts nothing more, because nothing can be recorded.
    fn stop_without_state(&mut self, error: StateError) {
        self.reporter.report.state_error = Some(error);
        self.schedule.stop();
    }

    /// Ends a change that must not be made.
    fn refuse(&mut self, i: usize) {
        match self.context.refusal(self.context.change(i)) {
            Some(Refusal::Unapproved(node)) => self.end(i, ChangeResult::Unapproved(node.clone())),
            Some(Refusal::Unread(error)) => self.fail(i, error.clone()),
            Some(Refusal::Stale(lines)) => self.end(i, ChangeResult::Stale(lines.to_vec())),
            Some(Refusal::Untouched) | None => self.done(i),
        }
    }

    /// Records changes that need no operation.
    async fn record(&mut self, changes: BTreeSet<usize>) {
        for (i, written) in self.journal.record_without_operation(&self.context, changes).await {
            match written {
                Ok(()) => self.done(i),
                Err(error) => {
                    self.schedule.not_started(i);
                    self.stop_without_state(error);
                }
            }
        }
    }

    /// Calls the provider of these parts, which are on one target.
    async fn call(&mut self, call: Call, parts: Vec<PlannedPart>) {
        let mut prepared = Vec::new();
        for part in parts {
            match prepare(&mut self.context, part, self.cleared.contains(&part.change)) {
                Ok(request) => prepared.push((part, request)),
                Err(errors) => self.fail(part.change, invalid(errors)),
            }
        }
        let operations: Vec<_> = prepared
            .iter()
            .filter_map(|(part, request)| match request {
                Prepared::Remove(_) => Some((part.change, None)),
                Prepared::Make(_, desired) => Some((part.change, Some(desired))),
                Prepared::Read(_) => None,
            })
            .collect();
        let open = match self.journal.begin(&self.context, &operations).await {
            Ok(open) => open,
            Err(error) => {
                prepared.iter().for_each(|(part, _)| self.schedule.not_started(part.change));
                self.schedule.call_over(call);
                return self.stop_without_state(error);
            }
        };
        // One part that waits for the cluster makes the whole call wait.
        let mut changes = prepared.iter().map(|(part, _)| self.context.change(part.change));
        let Some(first) = changes.clone().find(|change| self.waits_for_cluster(change)).or_else(|| changes.next())
        else {
            return self.schedule.call_over(call);
        };
        let destination = self.destination(first);
        let requests = self.requests(prepared, open);
        self.calls.start(call, destination, requests);
    }

    /// Returns the destination of the calls for a change. `None` if its provider instance or its node no longer exists.
    fn destination(&self, change: &Change) -> Option<Destination> {
        Some(Destination {
            connection: self.context.session.connection(&change.provider)?.clone(),
            target: self.context.target(change)?,
            waiting: self.waits_for_cluster(change).then(|| change.address.clone()),
        })
    }

    /// Whether a change must wait until the cluster answers that this run starts.
    fn waits_for_cluster(&self, change: &Change) -> bool {
        let accesses_target = || {
            let entry = self.context.expanded.catalog.find(&change.address.resource);
            entry.is_none_or(|entry| entry.resource_type.accesses_target())
        };
        self.starting_clusters.contains(&change.provider) && accesses_target()
    }

    /// Returns the requests of a call, and reports the operations as started.
    fn requests(&self, prepared: Vec<(PlannedPart, Prepared)>, open: Vec<OpenOperation>) -> Vec<(Running, Request)> {
        let mut open = open.into_iter();
        let request = |(part, prepared): (PlannedPart, Prepared)| {
            let (operation, desired) = match prepared {
                Prepared::Read(request) => {
                    return Some((
                        Running::Reading { part, arguments: request.arguments.clone() },
                        Request::Data(request),
                    ));
                }
                Prepared::Remove(operation) => (operation, None),
                Prepared::Make(operation, desired) => (Some(operation), Some(desired)),
            };
            if part.is_first {
                self.reporter.started(self.context.change(part.change));
            }
            let running = Running::Operation { part, started: Instant::now(), open: open.next()?, desired };
            Some((running, Request::Operation(operation)))
        };
        prepared.into_iter().filter_map(request).collect()
    }

    /// Records the results of operations, together, and hands them to the schedule.
    async fn settle(&mut self, ended: Ended<Running>) {
        ended.calls.into_iter().for_each(|call| self.schedule.call_over(call));
        let (mut outcomes, mut results) = (Vec::new(), Vec::new());
        for (running, result) in ended.results {
            match running {
                Running::Operation { part, started, open, desired } => {
                    let (outcome, result) = outcome(&mut self.context, &mut self.journal, part, &open, desired, result);
                    outcomes.push((open, outcome));
                    results.push((part, started, result));
                }
                Running::Reading { part, arguments } => {
                    let read = result.and_then(|Applied { attributes, .. }| {
                        learn_data(&mut self.context, part.change, arguments, attributes)
                    });
                    self.ended(part, Duration::ZERO, read.map(|()| Vec::new()));
                }
            }
        }
        for ((part, started, result), written) in results.into_iter().zip(self.journal.finish(outcomes).await) {
            match written {
                Ok(()) => self.ended(part, started.elapsed(), result),
                Err(error) => {
                    self.schedule.unrecorded(part.change);
                    self.reporter.unrecorded(self.context.change(part.change), result.err());
                    self.stop_without_state(error);
                }
            }
        }
    }

    /// Takes in the recorded end of a part of a change.
    fn ended(&mut self, part: PlannedPart, took: Duration, result: Result<Vec<String>, ProviderError>) {
        let i = part.change;
        match result {
            Ok(notes) => {
                let (mut total, mut all_notes) = self.first_parts.remove(&i).unwrap_or_default();
                total += took;
                all_notes.extend(notes);
                match part.is_last {
                    true => self.reporter.finished(self.context.change(i), total, all_notes),
                    false => _ = self.first_parts.insert(i, (total, all_notes)),
                }
                self.done(i);
            }
            // The run starts nothing more, so the change is reported as not started.
            Err(error) if error.class == Class::NotStarted => self.schedule.not_started(i),
            Err(error) => {
                let failure = Failure { of: Failed::Operation(i), error };
                let causes = &self.context.change(i).dependencies;
                if let Some(failure) = self.explanations.start(&self.context, &self.journal, failure, causes) {
                    self.report_failure(failure);
                }
            }
        }
    }

    /// Starts to drain a node.
    fn drain(&mut self, turn: NodeTurn) {
        match DrainCalls::of(&self.context, &self.journal, &turn) {
            Some(calls) => {
                self.reporter.rollout_step(&self.context, &turn, RolloutStep::Draining);
                self.reporter.out_of_service(&turn);
                self.drains.start(turn, calls);
            }
            // The plan was made for another manifest, which `apply` refuses.
            None => self.schedule.drained(&turn, true),
        }
    }

    /// Takes in the end of a drain.
    fn drained(&mut self, DrainResult { turn, address, result, is_drained }: DrainResult) {
        if !is_drained {
            self.reporter.in_service(&turn);
        }
        match result {
            Ok(notes) => {
                self.reporter.rollout_step(&self.context, &turn, RolloutStep::Drained { notes });
                self.schedule.drained(&turn, true);
            }
            Err(error) if error.class == Class::Cancelled && self.interrupt.stop.is_cancelled() => {}
            Err(error) => {
                self.schedule.drained(&turn, false);
                self.reporter.not_drained(&self.context, turn, address, error);
            }
        }
    }

    /// Takes in how the gates of a node were.
    fn gates_evaluated(&mut self, GateResult { turn, result }: GateResult) {
        match result {
            Ok(()) => {
                self.schedule.gates_evaluated(&turn, None);
                self.reporter.in_service(&turn);
                self.reporter.rollout_step(&self.context, &turn, RolloutStep::Passed);
            }
            Err(GateFailure { error, .. }) if error.class == Class::Cancelled => {}
            Err(GateFailure { gate, address, error }) => {
                let causes = causes(&self.context, &turn, address.as_ref());
                let failure = Failure { of: Failed::Gate { turn, gate, address }, error };
                if let Some(failure) = self.explanations.start(&self.context, &self.journal, failure, &causes) {
                    self.report_failure(failure);
                }
            }
        }
    }

    /// Reports a failure that is explained as far as possible.
    fn report_failure(&mut self, Failure { of, error }: Failure) {
        match of {
            Failed::Operation(i) => self.fail(i, error),
            Failed::Gate { turn, gate, address } => {
                let stops = self.schedule.gates_evaluated(&turn, Some(&gate));
                self.reporter.gate_failed(&self.context, turn, gate, address, error, stops);
            }
        }
    }

    /// Ends the current part of a change, which succeeded.
    fn done(&mut self, i: usize) {
        match self.schedule.done(i) {
            ChangeProgress::NextPart => {}
            ChangeProgress::Complete => {
                let change = self.context.change(i);
                if change.action.is_change() {
                    self.reporter.ended(change, ChangeResult::Done);
                }
            }
            ChangeProgress::Abandoned(skipped) => self.fail(i, half_done_because(&self.context, skipped)),
        }
    }

    /// Ends a change that failed.
    fn fail(&mut self, i: usize, error: ProviderError) {
        // An operation is also cancelled when the lock is lost. That is not an interruption by the user.
        if error.class == Class::Cancelled && !self.context.session.start_permit.is_lost() {
            self.interrupted();
        }
        self.reporter.failed(self.context.change(i), error);
        self.skip_dependants(i);
    }

    /// Ends a change that is not made.
    fn end(&mut self, i: usize, result: ChangeResult) {
        self.reporter.ended(self.context.change(i), result);
        self.skip_dependants(i);
    }

    fn skip_dependants(&mut self, i: usize) {
        let skipped: Vec<Skipped> = self.schedule.failed(i);
        skipped.into_iter().for_each(|skipped| self.reporter.skipped(&self.context, skipped));
    }

    /// Ends the run, once nothing runs any more.
    async fn end_run(mut self) -> Report {
        self.gates.abort();
        for part in self.schedule.unfinished() {
            self.reporter.not_started(self.context.change(part.change), part);
        }
        let is_stopped = self.schedule.is_stopped();
        let Self { context, journal, interrupt, reporter: Reporter { events, report }, .. } = self;
        finish(context, journal, events, interrupt, report, is_stopped).await
    }
}

/// Returns the provider instances that depend on a planned change.
fn starting_clusters(context: &ApplyContext) -> BTreeSet<String> {
    let acting = context.plan.changes.iter().filter(|change| change.action.accesses_target());
    let acting: HashSet<&Address> = acting.map(|change| &change.address).collect();
    let is_starting = |alias: &&String| provider_dependencies(&context.expanded, alias).any(|d| acting.contains(&d));
    context.expanded.manifest.providers.keys().filter(is_starting).cloned().collect()
}
