//! Applying a plan: a walk of its changes, as many at once as their dependencies allow.

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
use crate::provider::{Action, Applied, Class, ProviderError, Target};
use crate::session::{Event, Events, Interrupt, Session};

/// Everything that an apply works on.
pub(crate) struct ApplyContext {
    pub plan: Plan,
    pub expanded: Arc<Expanded>,
    pub session: Session,
    pub items: HashMap<Address, Item>,
    pub values: Values,
    /// What was known when the world was read.
    pub static_values: StaticValues,
    pub key: SealKey,
    /// The changes that must not be done any more, because the object no longer looks as reviewed; with what differs.
    pub stale: HashMap<Address, Vec<String>>,
    /// What can't be looked at any more, and why.
    pub unread: HashMap<Address, ProviderError>,
    /// What is not done because nobody approved the machine of its node.
    pub unapproved: HashMap<Address, NodeName>,
    /// Which machines answer for the nodes.
    pub machines: Machines,
    /// Which instance owns which object.
    pub owners: Owners,
    /// The machines that the state knows.
    pub known_machines: BTreeMap<String, serde_json::Value>,
    /// The intents that an earlier run left open.
    pub open: Vec<Intent>,
}

impl ApplyContext {
    /// Where the object of a change lives.
    fn target(&self, change: &Change) -> Option<Target> {
        self.expanded.target(&change.address.resource, &change.provider, &change.target)
    }
}

/// Walks the changes of a plan.
pub(crate) struct Executor<'a> {
    context: ApplyContext,
    lock: &'a Lock,
    options: ApplyOptions,
    events: &'a Events,
    interrupt: &'a Interrupt,
    order: Order,
    rollouts: Rollouts,
    /// The gates that are asked now.
    gates: JoinSet<GateResult>,
    /// The failures that are being explained.
    explanations: JoinSet<Explained>,
    /// The nodes whose gates are asked once more is known, and the pause after that.
    postponed: Vec<(NodeTurn, Duration)>,
    run: String,
    /// The records as they are now, by address.
    records: BTreeMap<String, Arc<Record>>,
    /// The provider instances whose cluster this run brings up or restarts.
    coming_up: BTreeSet<String>,
    /// The operations that run, with their intent and their start.
    running: HashMap<usize, (String, Instant)>,
    /// The calls of a provider that run, by target.
    calls: HashMap<String, usize>,
    /// The replacements whose old object went with its machine.
    cleared: HashSet<usize>,
    /// What the first parts of changes left.
    first_parts: HashMap<usize, FirstPart>,
    /// The changes whose second part does not come about, because this one did not succeed.
    abandoned_by: HashMap<usize, Address>,
    /// The desired attributes of the operations that run or ran.
    wanted: HashMap<usize, Attributes>,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
    report: Report,
}

/// What the first part of a change left.
struct FirstPart {
    /// What is recorded between the parts.
    record: Option<Arc<Record>>,
    notes: Vec<String>,
    took: Duration,
}

/// What comes back from the calls of providers.
enum Message {
    /// An operation of the call is over.
    Ended(usize, Result<CallResult, ProviderError>),
    /// The call of an operation with this intent is over, so it ended now if it did not before.
    Unreported(usize, String),
    /// A call on this target is over.
    CallOver(String),
}

/// What an operation left.
enum CallResult {
    /// Of a resource.
    Applied(Applied),
    /// Of a data source.
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
        let (running, calls, cleared, first_parts, abandoned_by, wanted) = Default::default();
        let coming_up = coming_up(&context);
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
            coming_up,
            running,
            calls,
            cleared,
            first_parts,
            abandoned_by,
            wanted,
            sender,
            receiver,
            report,
        }
    }

    /// Does the changes and records them.
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
            // A call that reported its last operation still holds its place until it says that it is over.
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

    /// Starts everything that may start now; what touches no provider is done at once.
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
                let told = self.report.outcomes.len();
                self.advance_rollouts();
                self.start_queued().await;
                if self.report.outcomes.len() == told {
                    if self.running.is_empty() && self.explanations.is_empty() {
                        self.evaluate_postponed();
                    }
                    return;
                }
                // What failed before its provider was asked may have stopped a rollout.
                continue;
            }
            let (barred, ready): (Vec<_>, Vec<_>) = ready.into_iter().partition(|i| self.is_barred(*i));
            let (outside, inside): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|i| self.change(*i).action.acts_on_world());
            for i in outside {
                self.order.queue(i);
            }
            barred.into_iter().for_each(|i| self.bar(i));
            self.record_only(inside).await;
        }
    }

    /// Whether a change is not to be done: it is of a machine that nobody approved, cannot be read, or does not look as it was reviewed.
    fn is_barred(&self, i: usize) -> bool {
        let ApplyContext { unapproved, unread, stale, .. } = &self.context;
        let address = &self.change(i).address;
        unapproved.contains_key(address) || unread.contains_key(address) || stale.contains_key(address)
    }

    fn bar(&mut self, i: usize) {
        let address = &self.change(i).address;
        if self.context.unapproved.contains_key(address) {
            self.skip_unapproved(i);
        } else if self.context.unread.contains_key(address) {
            self.skip_unread(i);
        } else if let Some(lines) = self.context.stale.get(address).cloned() {
            self.end(i, ChangeResult::Stale(lines));
        }
    }

    /// What is of a machine that nobody approved is not acted on.
    fn skip_unapproved(&mut self, i: usize) {
        let change = self.change(i);
        let acts = change.action.is_change() || change.action == Action::Read;
        match self.context.unapproved.get(&change.address).cloned().filter(|_| acts) {
            Some(node) => self.end(i, ChangeResult::Unapproved(node)),
            None => self.end(i, ChangeResult::Done),
        }
    }

    /// What can't be looked at is not acted on.
    fn skip_unread(&mut self, i: usize) {
        let change = self.change(i);
        let acts = change.action.is_change() || change.action == Action::Read;
        match self.context.unread.get(&change.address).cloned().filter(|_| acts) {
            Some(error) => self.fail(i, error),
            None => self.end(i, ChangeResult::Done),
        }
    }

    /// Starts queued operations, batched by target, as far as the limits allow.
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
        let mut begun = Vec::new();
        for i in changes {
            match self.prepare(i) {
                Ok(Prepared::Data(request)) => data.push((i, request)),
                Ok(Prepared::Operations(sequence)) => {
                    // What is new is known to the state before it is made: a run that dies here loses nothing.
                    let wanted = self.wanted.get(&i).filter(|_| self.order.part(i) == Part::Make);
                    begun.extend(self.record_before(self.change(i), wanted));
                    let intent = self.intent(self.change(i));
                    self.running.insert(i, (intent.id.clone(), Instant::now()));
                    intents.push(intent);
                    operations.push((i, sequence));
                }
                Err(errors) => self.fail(i, from_diagnostics(&errors)),
            }
        }
        let places: Vec<usize> = operations.iter().map(|(i, _)| *i).chain(data.iter().map(|(i, _)| *i)).collect();
        let puts = join_all(begun.iter().map(|record| self.lock.put(record.clone())));
        let (puts, began) = futures::join!(puts, self.lock.begin(intents));
        if let Err(error) = puts.into_iter().chain([began]).collect::<Result<(), _>>() {
            for i in &places {
                self.running.remove(i);
            }
            self.order.requeue(places);
            self.report.state_error = Some(error);
            return;
        }
        self.records.extend(begun.into_iter().map(|record| (record.address.clone(), Arc::new(record))));
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
        let waiting = self.coming_up.contains(&first.provider).then(|| first.address.clone());
        *self.calls.entry(target.clone()).or_default() += 1;
        let sender = self.sender.clone();
        let begun: Vec<_> = places.iter().filter_map(|i| Some((*i, self.running.get(i)?.0.clone()))).collect();
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
            // What was reported already is not running any more, or is with its next part. The receiver is gone only when the run is.
            for (i, intent) in begun {
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
        // What a lost lock cuts short is cancelled too, and that is no person's wish.
        if error.class == Class::Cancelled && !self.context.session.start_permit.is_lost() {
            self.report.interrupted = true;
        }
        self.events.send(Event::Failed { address, action, error: error.clone() });
        self.end(i, ChangeResult::Failed(error));
    }

    /// Notes how the part of a change ended that was to be done now; a change that did not come about takes its dependants with it.
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

    /// Notes changes that are not begun or not brought to their end, because this one did not come about.
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

    /// The error of a change of which only the first part is done.
    fn half_done(&self, i: usize, why: &str) -> ProviderError {
        let first = match self.order.part(i) {
            Part::Make => "the old object is destroyed, and the new one is not created",
            Part::Remove(_) => "the new object is created, and the old one is not destroyed",
        };
        ProviderError::new(Class::Failed, format!("{first}: {why}")).help("the next apply does the rest")
    }

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

/// The provider instances that come after something which the plan changes.
fn coming_up(context: &ApplyContext) -> BTreeSet<String> {
    let acting = context.plan.changes.iter().filter(|change| change.action.acts_on_world());
    let acting: HashSet<&Address> = acting.map(|change| &change.address).collect();
    let comes_up = |alias: &&String| provider_dependencies(&context.expanded, alias).any(|d| acting.contains(&d));
    context.expanded.manifest.providers.keys().filter(comes_up).cloned().collect()
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
