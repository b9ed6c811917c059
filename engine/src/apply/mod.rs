//! The apply: runs the changes of a plan, as many at the same time as their dependencies permit.

mod bookkeeping;
mod call;
mod explain;
mod gate;
mod machines;
mod outcome;
mod prepare;
mod provisional_attributes;
mod record;
mod report;
mod rollout;
mod unselected;
mod verify;

pub use report::{ApplyOptions, ChangeOutcome, ChangeResult, FailedGate, Report};
pub(crate) use verify::describe;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use moorfast_state::{Intent, Lock, Record, SealKey, StateError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;

use self::call::perform;
use self::explain::Explained;
use self::gate::GateResult;
use self::prepare::Prepared;
use self::rollout::{NodeTurn, Rollouts};
use crate::check::{When, run_checks};
use crate::configuration::expand::Expanded;
use crate::configuration::graph::provider_dependencies;
use crate::configuration::owners::Owners;
use crate::configuration::scope::Values;
use crate::configuration::static_values::{StaticValues, deduplicated};
use crate::model::{Address, Attributes, Diagnostic, NodeName};
use crate::plan::order::{ChangeProgress, Order};
use crate::plan::sequence::Part;
use crate::plan::{Change, Item, Machines, Plan, PlanMode};
use crate::provider::{Action, Applied, Class, ProviderError, ResourceType, Target};
use crate::session::{Event, Events, Interrupt, Session};

/// The data of an apply.
pub(crate) struct ApplyContext {
    pub plan: Plan,
    pub expanded: Arc<Expanded>,
    pub session: Session,
    pub items: HashMap<Address, Item>,
    pub values: Values,
    /// What was known when the world was read.
    pub static_values: StaticValues,
    pub key: SealKey,
    /// The changes that are stale because their object changed after the review, with the differences.
    pub stale: HashMap<Address, Vec<String>>,
    /// The instances that could not be read, with the errors.
    pub unread: HashMap<Address, ProviderError>,
    /// The changes that are not made because nobody approved the machine of their node.
    pub unapproved: HashMap<Address, NodeName>,
    /// The machines that answer as the nodes.
    pub machines: Machines,
    /// The owner of each object.
    pub owners: Owners,
    /// The recorded machines of the nodes.
    pub known_machines: BTreeMap<String, serde_json::Value>,
    /// The intents that an earlier run left open.
    pub open: Vec<Intent>,
}

impl ApplyContext {
    /// Returns the target of a change.
    fn target(&self, change: &Change) -> Option<Target> {
        self.expanded.target(&change.address.resource, &change.provider, &change.target)
    }

    /// Returns the resource type or the data source of a change. `None` if no provider has it any more.
    fn resource_type(&self, change: &Change) -> Option<Arc<dyn ResourceType>> {
        self.expanded.catalog.find(&change.address.resource).map(|entry| entry.resource_type.clone())
    }
}

/// Runs the changes of a plan.
pub(crate) struct Executor<'a> {
    context: ApplyContext,
    lock: &'a Lock,
    options: ApplyOptions,
    events: &'a Events,
    interrupt: &'a Interrupt,
    order: Order,
    rollouts: Rollouts,
    /// The health gates that are being evaluated.
    gates: JoinSet<GateResult>,
    /// The failures that are being explained.
    explanations: JoinSet<Explained>,
    /// The nodes whose gates are asked once more is known, and the pause after that.
    postponed: Vec<(NodeTurn, Duration)>,
    run: String,
    /// The current records, by address.
    records: BTreeMap<String, Arc<Record>>,
    /// The provider instances whose cluster this run starts or restarts.
    starting_clusters: BTreeSet<String>,
    /// The running operations, each with its intent and its start.
    running: HashMap<usize, (String, Instant)>,
    /// The number of running provider calls, by target.
    calls: HashMap<String, usize>,
    /// The replacements whose old object was removed with its machine.
    cleared: HashSet<usize>,
    /// The results of the first parts of changes.
    first_parts: HashMap<usize, FirstPart>,
    /// The changes whose second part is abandoned, each with the failed instance that caused this.
    abandoned_by: HashMap<usize, Address>,
    /// The desired attributes of operations that run or have run.
    desired: HashMap<usize, Attributes>,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
    report: Report,
}

/// The result of the first part of a change.
struct FirstPart {
    /// The record between the parts.
    record: Option<Arc<Record>>,
    notes: Vec<String>,
    took: Duration,
}

/// A message from a provider call.
enum Message {
    /// An operation of the call ended.
    Ended(usize, Result<CallResult, ProviderError>),
    /// The call of an operation with this intent ended. If the operation did not report its end, it failed.
    Unreported(usize, String),
    /// A call on this target ended.
    CallOver(String),
}

/// The result of a successful operation.
enum CallResult {
    /// The result for a resource.
    Applied(Applied),
    /// The attributes of a data source.
    Data(Attributes),
}

impl<'a> Executor<'a> {
    pub fn new(
        context: ApplyContext,
        lock: &'a Lock,
        options: ApplyOptions,
        events: &'a Events,
        interrupt: &'a Interrupt,
    ) -> Self {
        context.session.start_permit.bind(lock.hold());
        let records = context.items.values().filter_map(|i| i.recorded.clone());
        let records = records.map(|r| (r.address.clone(), r)).collect();
        let order = Order::new(&context.plan.changes, &context.items);
        let rollouts = Rollouts::new(&context.plan.rollouts, &context.plan.changes, &order);
        let (sender, receiver) = unbounded_channel();
        let (running, calls, cleared, first_parts, abandoned_by, desired) = Default::default();
        let starting_clusters = starting_clusters(&context);
        let run = options.run.clone();
        let report = Report::default();
        Self {
            context,
            lock,
            options,
            events,
            interrupt,
            order,
            rollouts,
            gates: JoinSet::new(),
            explanations: JoinSet::new(),
            postponed: Vec::new(),
            run,
            records,
            starting_clusters,
            running,
            calls,
            cleared,
            first_parts,
            abandoned_by,
            desired,
            sender,
            receiver,
            report,
        }
    }

    /// Runs the changes and records them.
    pub async fn run(mut self) -> Report {
        if self.options.verify {
            let stale = verify::changed_since_review(&self.context, self.events).await;
            self.context.stale.extend(stale);
        }
        self.rename_moved().await;
        self.close_intents().await;
        self.report_unapproved();
        self.record_machines().await;
        self.remove_objects_of_former_machines().await;
        let lost = self.lock.lost();
        loop {
            self.start_ready().await;
            // A call counts against the limits until it ends, even if all of its operations have reported.
            let calls_are_over = self.calls.values().all(|calls| *calls == 0);
            let gates_are_over = self.gates.is_empty() || self.is_stopping();
            if self.running.is_empty() && calls_are_over && gates_are_over && self.explanations.is_empty() {
                break;
            }
            let stopping = self.is_stopping();
            let message = tokio::select! {
                message = self.receiver.recv() => message,
                Some(answer) = self.gates.join_next() => {
                    match answer {
                        Ok(answer) => self.gates_evaluated(answer),
                        Err(error) => tracing::error!("a gate of a rollout broke: {error}"),
                    }
                    continue;
                }
                Some(explained) = self.explanations.join_next() => {
                    match explained {
                        Ok(explained) => self.report_explained(explained),
                        Err(error) => tracing::error!("the explanation of a failure broke: {error}"),
                    }
                    continue;
                }
                () = self.interrupt.stop.cancelled(), if !stopping => {
                    self.report.interrupted = true;
                    continue;
                }
                () = lost.cancelled(), if !stopping => {
                    self.report.state_error = Some(StateError::LockLost { now_held_by: None });
                    continue;
                }
            };
            let mut messages: Vec<_> = message.into_iter().collect();
            while let Ok(more) = self.receiver.try_recv() {
                messages.push(more);
            }
            self.settle(messages).await;
        }
        self.gates.abort_all();
        self.report_not_started();
        if !self.is_stopping() {
            self.remove_machines().await;
        }
        self.finish_outputs().await;
        let failed: BTreeSet<_> =
            self.report.outcomes.iter().filter(|o| !o.is_done()).map(|o| o.address.clone()).collect();
        if self.context.plan.options.mode == PlanMode::Normal && !self.report.interrupted {
            let stop = &self.interrupt.stop;
            let ApplyContext { expanded, values, .. } = &self.context;
            let pending = |address: &Address| failed.contains(address);
            self.report.checks = run_checks(expanded, values, self.events, When::Applied, stop, pending).await;
            self.report.interrupted = stop.is_cancelled();
        }
        self.report.statistics = self.context.session.statistics();
        self.context.session.close().await;
        self.report
    }

    fn is_stopping(&self) -> bool {
        self.report.interrupted || self.report.state_error.is_some()
    }

    fn change(&self, i: usize) -> &Change {
        &self.context.plan.changes[i]
    }

    /// Starts everything that may start now. Changes that need no provider are completed immediately.
    async fn start_ready(&mut self) {
        loop {
            if self.interrupt.stop.is_cancelled() {
                self.report.interrupted = true;
            }
            if self.is_stopping() {
                return;
            }
            let ready = self.order.take_ready();
            if ready.is_empty() {
                let reported = self.report.outcomes.len();
                self.advance_rollouts();
                self.start_queued().await;
                if self.report.outcomes.len() == reported {
                    if self.running.is_empty() && self.explanations.is_empty() {
                        self.evaluate_postponed();
                    }
                    return;
                }
                // An operation that failed before its call may have stopped a rollout.
                continue;
            }
            let (blocked, ready): (Vec<_>, Vec<_>) = ready.into_iter().partition(|i| self.is_blocked(*i));
            let (operations, state_only): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|i| self.change(*i).action.accesses_target());
            for i in operations {
                self.order.queue(i);
            }
            blocked.into_iter().for_each(|i| self.end_blocked(i));
            self.record_only(state_only).await;
        }
    }

    /// Whether a change must not be made: nobody approved its machine, it could not be read, or it changed after the review.
    fn is_blocked(&self, i: usize) -> bool {
        let ApplyContext { unapproved, unread, stale, .. } = &self.context;
        let address = &self.change(i).address;
        unapproved.contains_key(address) || unread.contains_key(address) || stale.contains_key(address)
    }

    /// Ends a change that must not be made, with the reason.
    fn end_blocked(&mut self, i: usize) {
        let address = &self.change(i).address;
        if self.context.unapproved.contains_key(address) {
            self.skip_unapproved(i);
        } else if self.context.unread.contains_key(address) {
            self.skip_unread(i);
        } else if let Some(lines) = self.context.stale.get(address).cloned() {
            self.end(i, ChangeResult::Stale(lines));
        }
    }

    /// Ends a change whose machine nobody approved.
    fn skip_unapproved(&mut self, i: usize) {
        let change = self.change(i);
        let acts = change.action.is_change() || change.action == Action::Read;
        match self.context.unapproved.get(&change.address).cloned().filter(|_| acts) {
            Some(node) => self.end(i, ChangeResult::Unapproved(node)),
            None => self.end(i, ChangeResult::Done),
        }
    }

    /// Ends a change whose instance could not be read.
    fn skip_unread(&mut self, i: usize) {
        let change = self.change(i);
        let acts = change.action.is_change() || change.action == Action::Read;
        match self.context.unread.get(&change.address).cloned().filter(|_| acts) {
            Some(error) => self.fail(i, error),
            None => self.end(i, ChangeResult::Done),
        }
    }

    /// Starts queued operations, batched by target, as far as the limits permit.
    async fn start_queued(&mut self) {
        let target_of = |i: usize| {
            let change = &self.context.plan.changes[i];
            (change.provider.clone(), change.target.clone())
        };
        for (target, changes) in self.order.queued_by(target_of, |i| self.rollouts.admits(i)) {
            let total: usize = self.calls.values().sum();
            let here = self.calls.get(&target.1).copied().unwrap_or_default();
            let is_node = target.0 != target.1;
            let is_full = total >= self.options.parallelism || (is_node && here >= self.options.per_target);
            if is_full || self.is_stopping() {
                self.order.requeue(changes);
                continue;
            }
            self.start_call(target.1, changes).await;
        }
    }

    async fn start_call(&mut self, target: String, changes: Vec<usize>) {
        let mut operations = Vec::new();
        let mut data = Vec::new();
        let mut intents = Vec::new();
        let mut new_records = Vec::new();
        for i in changes {
            match self.prepare(i) {
                Ok(Prepared::Data(request)) => data.push((i, request)),
                Ok(Prepared::Operations(sequence)) => {
                    // A new object is recorded before it is created, so that it is found if the run is killed here.
                    let desired = self.desired.get(&i).filter(|_| self.order.part(i) == Part::Make);
                    new_records.extend(self.record_before(self.change(i), desired));
                    let intent = self.intent(self.change(i));
                    self.running.insert(i, (intent.id.clone(), Instant::now()));
                    intents.push(intent);
                    operations.push((i, sequence));
                }
                Err(errors) => self.fail(i, from_diagnostics(&errors)),
            }
        }
        let places: Vec<usize> = operations.iter().map(|(i, _)| *i).chain(data.iter().map(|(i, _)| *i)).collect();
        let puts = join_all(new_records.iter().map(|record| self.lock.put(record.clone())));
        let (puts, started) = futures::join!(puts, self.lock.begin(intents));
        if let Err(error) = puts.into_iter().chain([started]).collect::<Result<(), _>>() {
            for i in &places {
                self.running.remove(i);
            }
            self.order.requeue(places);
            self.report.state_error = Some(error);
            return;
        }
        self.records.extend(new_records.into_iter().map(|record| (record.address.clone(), Arc::new(record))));
        for (i, _) in operations.iter().filter(|(i, _)| !self.order.is_half_done(*i)) {
            let change = self.change(*i);
            self.events.send(Event::Started { address: change.address.clone(), action: change.action });
        }
        for (i, _) in &data {
            self.running.insert(*i, (String::new(), Instant::now()));
        }
        let Some(first) = places.first().map(|i| self.change(*i)) else { return };
        let connection = self.context.session.connection(&first.provider).cloned();
        let at = self.context.target(first);
        let waiting = self.starting_clusters.contains(&first.provider).then(|| first.address.clone());
        *self.calls.entry(target.clone()).or_default() += 1;
        let sender = self.sender.clone();
        let intents: Vec<_> = places.iter().filter_map(|i| Some((*i, self.running.get(i)?.0.clone()))).collect();
        tokio::spawn(async move {
            let reports = sender.clone();
            let call = tokio::spawn(async move {
                if let (Some(connection), Some(at)) = (connection, at) {
                    perform(connection, at, waiting.as_ref(), operations, data, &reports).await;
                }
            });
            if call.await.is_err() {
                tracing::error!("a call of a provider panicked");
            }
            // A reported operation is not running any more, or its next part runs. The receiver is dropped only at the end of the run.
            for (i, intent) in intents {
                let _ = sender.send(Message::Unreported(i, intent));
            }
            let _ = sender.send(Message::CallOver(target));
        });
    }

    fn intent(&self, change: &Change) -> Intent {
        Intent {
            id: Intent::new_id(),
            address: change.address.to_string(),
            action: format!("{:?}", change.action).to_lowercase(),
            resource_type: change.resource_type.clone(),
            provider: change.provider.clone(),
            target: change.target.clone(),
            identity: change.identity.clone(),
            started_at: jiff::Timestamp::now(),
            run: self.run.clone(),
        }
    }

    fn fail(&mut self, i: usize, error: ProviderError) {
        let change = self.change(i);
        let (address, action) = (change.address.clone(), change.action);
        // An operation is also cancelled when the lock is lost. That is not an interruption by the user.
        if error.class == Class::Cancelled && !self.context.session.start_permit.is_lost() {
            self.report.interrupted = true;
        }
        self.events.send(Event::Failed { address, action, error: error.clone() });
        self.end(i, ChangeResult::Failed(error));
    }

    /// Records the result of the current part of a change. If the change failed, its dependants are abandoned.
    fn end(&mut self, i: usize, result: ChangeResult) {
        let done = matches!(result, ChangeResult::Done);
        match done.then(|| self.order.done(i)) {
            Some(ChangeProgress::NextPart) => return,
            Some(ChangeProgress::Abandoned) => {
                let why = self.abandoned_by.remove(&i).map_or_else(String::new, |because| not_done(&because));
                return self.fail(i, self.half_done(i, &why));
            }
            Some(ChangeProgress::Complete) | None => {}
        }
        let change = self.change(i);
        let (address, action) = (change.address.clone(), change.action);
        if action.is_change() || !done {
            let outcome = ChangeOutcome::of(change, result);
            self.report.outcomes.push(outcome);
        }
        if done {
            self.rollouts.over(i, None);
            return;
        }
        self.rollouts.over(i, Some(&not_done(&address)));
        let skipped = self.order.abandon(&[i]);
        self.skip(skipped, &address);
    }

    /// Records changes that are not started or not completed because the change of `because` did not succeed.
    fn skip(&mut self, skipped: Vec<usize>, because: &Address) {
        for i in skipped {
            if self.running.contains_key(&i) {
                self.abandoned_by.insert(i, because.clone());
                continue;
            }
            self.rollouts.over(i, Some(&not_done(because)));
            let change = self.change(i);
            if !change.action.is_change() {
                continue;
            }
            let (address, action) = (change.address.clone(), change.action);
            let result = match self.context.unapproved.get(&address).cloned() {
                Some(node) => ChangeResult::Unapproved(node),
                None if self.order.is_half_done(i) => {
                    let error = self.half_done(i, &not_done(because));
                    self.events.send(Event::Failed { address, action, error: error.clone() });
                    ChangeResult::Failed(error)
                }
                None => {
                    self.events.send(Event::Skipped { address, because: because.clone() });
                    ChangeResult::Skipped(because.clone())
                }
            };
            let outcome = ChangeOutcome::of(change, result);
            self.report.outcomes.push(outcome);
        }
    }

    /// Returns the error of a change whose first part alone is done.
    fn half_done(&self, i: usize, why: &str) -> ProviderError {
        let first = match self.order.part(i) {
            Part::Make => "the old object is destroyed, and the new one is not created",
            Part::Remove(_) => "the new object is created, and the old one is not destroyed",
        };
        ProviderError::new(Class::Failed, format!("{first}: {why}")).help("the next apply completes the change")
    }

    /// Records the changes that were not started before the run ended.
    fn report_not_started(&mut self) {
        for i in self.order.rest() {
            let change = self.change(i);
            if change.action.is_change() {
                let result = match self.order.is_half_done(i) {
                    true => ChangeResult::Failed(self.half_done(i, "the run was interrupted")),
                    false => ChangeResult::NotStarted,
                };
                let outcome = ChangeOutcome::of(change, result);
                self.report.outcomes.push(outcome);
            }
        }
    }
}

/// Returns the provider instances that depend on a planned change.
fn starting_clusters(context: &ApplyContext) -> BTreeSet<String> {
    let acting = context.plan.changes.iter().filter(|change| change.action.accesses_target());
    let acting: HashSet<&Address> = acting.map(|change| &change.address).collect();
    let is_starting = |alias: &&String| provider_dependencies(&context.expanded, alias).any(|d| acting.contains(&d));
    context.expanded.manifest.providers.keys().filter(is_starting).cloned().collect()
}

fn not_done(address: &Address) -> String {
    format!("{address} did not succeed")
}

fn from_diagnostics(errors: &[Diagnostic]) -> ProviderError {
    let mut errors = deduplicated(errors.to_vec()).into_iter();
    let first = errors.next();
    let summary = first.as_ref().map_or_else(String::new, |e| e.summary.clone());
    let mut error = ProviderError::new(Class::Invalid, summary).detail(errors.map(|e| e.summary));
    error.help = first.and_then(|e| e.help);
    error
}
