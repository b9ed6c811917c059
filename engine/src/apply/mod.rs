//! Applying a plan: a walk of its changes, as many at once as their dependencies allow.

mod discreet;
mod explain;
mod order;
mod record;
mod verify;

pub(crate) use verify::describe;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use futures::future::join_all;
use moorfast_state::{Intent, Lock, Outcome as Recorded, Output, Record, SealKey, StateError};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::order::Order;
use crate::check::{When, run_checks};
use crate::early::Early;
use crate::early::deduplicated;
use crate::evaluate::{desired, violated};
use crate::expand::Expanded;
use crate::plan::{Action, Change, Item, Plan, PlanMode, ignoring, mark_sensitive};
use crate::scope::{InstanceScope, Values};
use crate::session::Session;
use crate::{
    Address, Applied, ApplyOptions, Attributes, Class, Connection, DataRequest, Diagnostic, Event, Events, Interrupt,
    Mode, Operation, OperationAction, Outcome, OutcomeResult, ProviderError, Report, Target, Value,
};

/// Everything that an apply works on.
pub(crate) struct Work {
    pub plan: Plan,
    pub expanded: Arc<Expanded>,
    pub session: Session,
    pub items: HashMap<Address, Item>,
    pub values: Values,
    /// What was known when the world was read.
    pub early: Early,
    pub key: SealKey,
    /// The changes that must not be done any more, because the object no longer looks as reviewed; with what differs.
    pub stale: HashMap<Address, Vec<String>>,
    /// What can't be looked at any more, and why.
    pub unread: HashMap<Address, ProviderError>,
    /// The intents that an earlier run left open.
    pub open: Vec<Intent>,
}

/// Walks the changes of a plan.
pub(crate) struct Executor<'a> {
    work: Work,
    lock: &'a Lock,
    options: ApplyOptions,
    events: &'a Events,
    interrupt: &'a Interrupt,
    order: Order,
    run: String,
    /// The records as they are now, by address.
    records: BTreeMap<String, Arc<Record>>,
    /// The operations that run, with their intent and their start.
    running: HashMap<usize, (String, Instant)>,
    /// The calls of a provider that run, by target.
    calls: HashMap<String, usize>,
    /// The desired attributes of the operations that run or ran.
    wanted: HashMap<usize, Attributes>,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
    report: Report,
}

/// What comes back from the calls of providers.
enum Message {
    /// An operation of the call is over.
    Ended(usize, Result<Done, ProviderError>),
    /// A call on this target is over.
    CallOver(String),
}

/// What an operation left.
enum Done {
    /// Of a resource.
    Applied(Applied),
    /// Of a data source.
    Data(Attributes),
}

impl<'a> Executor<'a> {
    pub fn new(
        work: Work,
        lock: &'a Lock,
        options: ApplyOptions,
        events: &'a Events,
        interrupt: &'a Interrupt,
    ) -> Self {
        let records = work.items.values().filter_map(|i| i.recorded.clone());
        let records = records.map(|r| (r.address.clone(), r)).collect();
        let order = Order::new(&work.plan.changes, &work.items);
        let (sender, receiver) = unbounded_channel();
        let (running, calls, wanted) = Default::default();
        let run = options.run.clone();
        let report = Report::default();
        Self {
            work,
            lock,
            options,
            events,
            interrupt,
            order,
            run,
            records,
            running,
            calls,
            wanted,
            sender,
            receiver,
            report,
        }
    }

    /// Does the changes and records them.
    pub async fn run(mut self) -> Report {
        if self.options.verify {
            let stale = verify::changed_since_review(&self.work, self.events).await;
            self.work.stale.extend(stale);
        }
        self.rename_moved().await;
        self.close_intents().await;
        let lost = self.lock.lost();
        loop {
            self.start_ready().await;
            // A call that reported its last operation still holds its place until it says that it is over.
            if self.running.is_empty() && self.calls.values().all(|calls| *calls == 0) {
                break;
            }
            let stopping = self.is_stopping();
            let message = tokio::select! {
                message = self.receiver.recv() => message,
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
        self.leave_rest();
        self.finish_outputs().await;
        let failed: BTreeSet<_> =
            self.report.outcomes.iter().filter(|o| !o.is_done()).map(|o| o.address.clone()).collect();
        if self.work.plan.options.mode == PlanMode::Normal && !self.report.interrupted {
            let stop = &self.interrupt.stop;
            let Work { expanded, values, .. } = &self.work;
            let pending = |address: &Address| failed.contains(address);
            self.report.checks = run_checks(expanded, values, self.events, When::Applied, stop, pending).await;
            self.report.interrupted = stop.is_cancelled();
        }
        self.report.statistics = self.work.session.statistics();
        self.work.session.close().await;
        self.report
    }

    fn is_stopping(&self) -> bool {
        self.report.interrupted || self.report.state_error.is_some()
    }

    fn change(&self, i: usize) -> &Change {
        &self.work.plan.changes[i]
    }

    async fn rename_moved(&mut self) {
        for change in &self.work.plan.changes {
            let Some(from) = &change.moved_from else { continue };
            let (from, to) = (from.to_string(), change.address.to_string());
            if let Err(error) = self.lock.rename(&from, &to).await {
                self.report.state_error = Some(error);
                return;
            }
            if let Some(record) = self.records.remove(&from) {
                let record = Arc::new(Record { address: to.clone(), ..(*record).clone() });
                self.records.insert(to, record.clone());
                if let Some(item) = self.work.items.get_mut(&change.address) {
                    item.recorded = Some(record);
                }
            }
        }
    }

    /// Resolves what an earlier run began and did not finish: the plan has looked at the world, so it is known how that ended.
    async fn close_intents(&mut self) {
        for intent in std::mem::take(&mut self.work.open) {
            let moved = |c: &&Change| c.moved_from.as_ref().is_some_and(|from| from.to_string() == intent.address);
            let moved = self.work.plan.changes.iter().find(moved).map(|c| c.address.clone());
            let address = moved.or_else(|| intent.address.parse().ok());
            // What this plan did not look at is resolved by one that does.
            let Some(item) = address.and_then(|a| self.work.items.get(&a)) else { continue };
            let there = item.observed.is_some() || item.former.is_some();
            let message = format!(
                "{} was under way when a run died at {}; it is {} now",
                intent.action,
                intent.started_at.strftime("%F %T UTC"),
                if there { "there" } else { "not there" }
            );
            if let Err(error) = self.lock.finish(&intent.id, Recorded::Unchanged).await {
                self.report.state_error = Some(error);
                return;
            }
            self.events.send(Event::Recovered { address: intent.address, message });
        }
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
                break;
            }
            let (unread, ready): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|i| self.work.unread.contains_key(&self.change(*i).address));
            unread.into_iter().for_each(|i| self.leave_unread(i));
            let (stale, ready): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|i| self.work.stale.contains_key(&self.change(*i).address));
            for i in stale {
                let lines = self.work.stale.get(&self.change(i).address).cloned().unwrap_or_default();
                self.end(i, OutcomeResult::Stale(lines));
            }
            let (outside, inside): (Vec<_>, Vec<_>) =
                ready.into_iter().partition(|i| acts_on_world(self.change(*i).action));
            for i in outside {
                self.order.queue(i);
            }
            self.record_only(inside).await;
        }
        self.start_queued().await;
    }

    /// What can't be looked at is not acted on.
    fn leave_unread(&mut self, i: usize) {
        let change = self.change(i);
        let acts = change.action.is_change() || change.action == Action::Read;
        match self.work.unread.get(&change.address).cloned().filter(|_| acts) {
            Some(error) => self.fail(i, error),
            None => self.end(i, OutcomeResult::Done),
        }
    }

    /// The changes that only the state sees: nothing to do, adopt, forget.
    async fn record_only(&mut self, changes: Vec<usize>) {
        let writes = changes.into_iter().map(|i| {
            let change = self.change(i);
            let address = change.address.to_string();
            let lock = self.lock;
            let record = match change.action {
                Action::Forget => None,
                _ => Some(self.refreshed(change)),
            };
            let known = self.records.get(&address).cloned();
            async move {
                let written = match &record {
                    None => lock.remove(&address).await,
                    Some(Some(record)) if known.as_deref().is_none_or(|k| !record::same(k, record)) => {
                        lock.put(record.clone()).await
                    }
                    Some(_) => Ok(()),
                };
                (i, record.flatten(), written)
            }
        });
        for (i, record, written) in join_all(writes.collect::<Vec<_>>()).await {
            if let Err(error) = written {
                self.report.state_error = Some(error);
                return;
            }
            let address = self.change(i).address.to_string();
            match record {
                Some(record) => _ = self.records.insert(address, Arc::new(record)),
                None => _ = self.records.remove(&address),
            }
            self.end(i, OutcomeResult::Done);
        }
    }

    /// Starts queued operations, batched by target, as far as the limits allow.
    async fn start_queued(&mut self) {
        for (target, changes) in self.order.queued_by(|i| {
            let change = &self.work.plan.changes[i];
            (change.provider.clone(), change.target.clone())
        }) {
            let total: usize = self.calls.values().sum();
            let here = self.calls.get(&target.1).copied().unwrap_or_default();
            let is_node = target.0 != target.1;
            if total >= self.options.parallelism || (is_node && here >= self.options.per_target) {
                self.order.requeue(changes);
                continue;
            }
            self.start_call(target.1, changes).await;
            if self.is_stopping() {
                return;
            }
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
                Ok(Prepared::Steps(steps)) => {
                    // What is new is known to the state before it is made: a run that dies here loses nothing.
                    let address = self.change(i).address.to_string();
                    if !self.records.contains_key(&address) {
                        begun.extend(self.incomplete(self.change(i), self.wanted.get(&i)));
                    }
                    let intent = self.intent(self.change(i));
                    self.running.insert(i, (intent.id.clone(), Instant::now()));
                    intents.push(intent);
                    operations.push((i, steps));
                }
                Err(errors) => self.fail(i, from_diagnostics(&errors)),
            }
        }
        let puts = join_all(begun.into_iter().map(|record| self.lock.put(record)));
        let (puts, began) = futures::join!(puts, self.lock.begin(intents));
        if let Err(error) = puts.into_iter().chain([began]).collect::<Result<(), _>>() {
            for (i, _) in &operations {
                self.running.remove(i);
            }
            self.report.state_error = Some(error);
            return;
        }
        for (i, _) in &operations {
            let change = self.change(*i);
            self.events.send(Event::Started { address: change.address.clone(), action: change.action });
        }
        for (i, _) in &data {
            self.running.insert(*i, (String::new(), Instant::now()));
        }
        let begun: Vec<usize> = operations.iter().map(|(i, _)| *i).chain(data.iter().map(|(i, _)| *i)).collect();
        let Some(first) = begun.first().map(|i| self.change(*i)) else { return };
        let connection = self.work.session.connection(&first.provider).cloned();
        let at = self.target(first);
        *self.calls.entry(target.clone()).or_default() += 1;
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let reports = sender.clone();
            let call = tokio::spawn(async move {
                if let (Some(connection), Some(at)) = (connection, at) {
                    perform(connection, at, operations, data, &reports).await;
                }
            });
            if call.await.is_err() {
                tracing::error!("a call of a provider panicked");
            }
            // What was reported already is not running any more, and is not heard twice. The receiver is gone only when the run is.
            for i in begun {
                let _ = sender.send(Message::Ended(i, Err(unreported())));
            }
            let _ = sender.send(Message::CallOver(target));
        });
    }

    fn target(&self, change: &Change) -> Option<Target> {
        match self.work.expanded.instance(&change.address) {
            Some(instance) if instance.target.name() == change.target => Some(instance.target.clone()),
            _ if change.target == change.provider => Some(Target::Provider(change.provider.clone())),
            _ => {
                let mut nodes = self.work.expanded.nodes.values();
                nodes.find(|n| n.name.0 == change.target).cloned().map(Target::Node)
            }
        }
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

    /// What is to be asked of the provider for one change, with the values as they are now.
    fn prepare(&mut self, i: usize) -> Result<Prepared, Vec<Diagnostic>> {
        let change = &self.work.plan.changes[i];
        let item = self.work.items.get(&change.address).cloned().unwrap_or_default();
        let operation = |action, observed| Operation {
            address: change.address.clone(),
            resource_type: change.resource_type.clone(),
            action,
            recorded: item.recorded.clone(),
            observed,
            triggers: item.triggers.clone(),
            timeout: None,
        };
        if change.action == Action::Delete {
            let timeout = self.timeout(&change.address, "delete");
            let delete = operation(OperationAction::Delete, item.observed.clone());
            return Ok(Prepared::Steps(vec![Operation { timeout, ..delete }]));
        }
        let Some(instance) = self.work.expanded.instance(&change.address) else {
            return Ok(Prepared::Steps(Vec::new()));
        };
        let scope = InstanceScope::new(&self.work.expanded, &self.work.values, instance.binding.clone());
        let what = format!("precondition of {}", change.address);
        let broken = violated(&instance.resource.preconditions, &what, &scope);
        if !broken.is_empty() {
            return Err(broken);
        }
        let wanted = desired(&self.work.expanded, instance, &self.work.values)?;
        let unknown: Vec<_> = wanted.iter().filter(|(_, v)| v.is_unknown()).map(|(k, _)| k.as_str()).collect();
        if !unknown.is_empty() {
            let message = format!("{}: still unknown after all it depends on: {}", change.address, unknown.join(", "));
            return Err(vec![Diagnostic::error(message).at(instance.resource.span, "")]);
        }
        if change.address.resource.mode == Mode::Data {
            let data_source = change.resource_type.clone();
            let timeout = self.timeout(&change.address, "read");
            let request =
                DataRequest { address: change.address.clone(), data_source, arguments: wanted.clone(), timeout };
            self.wanted.insert(i, wanted);
            return Ok(Prepared::Data(request));
        }
        let wanted = ignoring(&instance.resource.lifecycle.ignore_changes, wanted, item.observed.as_ref());
        let delete = || Operation {
            timeout: self.timeout(&change.address, "delete"),
            ..operation(OperationAction::Delete, item.former.clone().or(item.observed.clone()))
        };
        let make = |observed| Operation {
            timeout: self.timeout(&change.address, "create"),
            // What is made anew has nothing to do with what is remembered.
            recorded: None,
            ..operation(OperationAction::Create(wanted.clone()), observed)
        };
        let update = |observed| Operation {
            timeout: self.timeout(&change.address, "update"),
            ..operation(OperationAction::Update(wanted.clone()), observed)
        };
        // Under a new identity something may be there already.
        let arrive = || match (&item.former, &item.observed) {
            (Some(_), Some(there)) => Operation { recorded: None, ..update(Some(there.clone())) },
            _ => make(None),
        };
        let steps = match change.action {
            // The old object is another instance's now, which brings it to what it wants.
            Action::Replace | Action::ReplaceCreateFirst if self.is_handed_over(&item) => vec![arrive()],
            Action::Replace => vec![delete(), arrive()],
            Action::ReplaceCreateFirst => vec![arrive(), delete()],
            Action::Update => vec![update(item.observed.clone())],
            _ => vec![make(None)],
        };
        self.wanted.insert(i, wanted);
        Ok(Prepared::Steps(steps))
    }

    /// Is the object that the record of `item` remembers wanted by another instance?
    fn is_handed_over(&self, item: &Item) -> bool {
        let Some(record) = item.recorded.as_ref().filter(|_| item.former.is_some()) else { return false };
        let claims = |c: &Change| {
            c.target == record.target && c.after.is_some() && c.identity.as_deref() == Some(record.identity.as_str())
        };
        self.work.plan.changes.iter().any(claims)
    }

    fn timeout(&self, address: &Address, name: &str) -> Option<std::time::Duration> {
        self.work.expanded.instance(address)?.resource.timeouts.get(name).copied()
    }

    /// Records what came back, all of it under one sync, and lets dependants go on.
    async fn settle(&mut self, messages: Vec<Message>) {
        let mut ended = Vec::new();
        for message in messages {
            match message {
                Message::CallOver(target) => {
                    if let Some(calls) = self.calls.get_mut(&target) {
                        *calls = calls.saturating_sub(1);
                    }
                }
                Message::Ended(i, result) => ended.push((i, result)),
            }
        }
        let mut writes = Vec::new();
        for (i, result) in ended {
            let Some((intent, started)) = self.running.remove(&i) else { continue };
            let (outcome, result) = self.outcome(i, result);
            let lock = self.lock;
            writes.push(async move {
                let written = match outcome {
                    Some(outcome) => lock.finish(&intent, outcome).await,
                    None => Ok(()),
                };
                (i, started, result, written)
            });
        }
        let explained = join_all(join_all(writes).await.into_iter().map(|(i, started, result, written)| {
            let executor = &*self;
            async move {
                match result {
                    Ok(notes) => (i, started, Ok(notes), written),
                    Err(error) => (i, started, Err(executor.explained(i, error).await), written),
                }
            }
        }));
        for (i, started, result, written) in explained.await {
            if let Err(error) = written {
                self.report.state_error = Some(error);
            }
            match result {
                Ok(notes) => {
                    let change = self.change(i);
                    let (address, action) = (change.address.clone(), change.action);
                    if address.resource.mode == Mode::Managed {
                        self.events.send(Event::Finished { address, action, took: started.elapsed(), notes });
                    }
                    self.end(i, OutcomeResult::Done);
                }
                Err(error) => self.fail(i, error),
            }
        }
    }

    /// What to record of an ended operation, and what to say.
    fn outcome(
        &mut self,
        i: usize,
        result: Result<Done, ProviderError>,
    ) -> (Option<Recorded>, Result<Vec<String>, ProviderError>) {
        let change = self.work.plan.changes[i].clone();
        let address = change.address.to_string();
        match result {
            Ok(Done::Data(found)) => {
                let mut values = self.wanted.remove(&i).unwrap_or_default();
                values.extend(self.marked(&change.address, found));
                self.work.values.insert(change.address.clone(), values.clone());
                let broken = self.broken_postconditions(&change.address, values);
                (None, if broken.is_empty() { Ok(Vec::new()) } else { Err(from_diagnostics(&broken)) })
            }
            Ok(Done::Applied(applied)) if change.action == Action::Delete => {
                self.records.remove(&address);
                (Some(Recorded::Remove), Ok(applied.notes))
            }
            Ok(Done::Applied(mut applied)) => {
                applied.attributes = self.marked(&change.address, applied.attributes);
                let wanted = self.wanted.remove(&i).unwrap_or_default();
                let record = self.record(&change, &applied);
                self.records.insert(address, Arc::new(record.clone()));
                let mut values: Attributes = wanted.into_iter().filter(|(_, v)| !v.is_null()).collect();
                values.extend(applied.attributes);
                self.work.values.insert(change.address.clone(), values.clone());
                let broken = self.broken_postconditions(&change.address, values);
                let result = if broken.is_empty() { Ok(applied.notes) } else { Err(from_diagnostics(&broken)) };
                (Some(Recorded::Put(record)), result)
            }
            Err(error) if change.address.resource.mode == Mode::Data => (None, Err(error)),
            // Also what was cancelled: it may have been cancelled half-way.
            Err(error) => {
                let record = self.incomplete(&change, self.wanted.get(&i));
                let recorded = match record {
                    Some(record) => {
                        self.records.insert(address, Arc::new(record.clone()));
                        Recorded::Put(record)
                    }
                    None => Recorded::Unchanged,
                };
                (Some(recorded), Err(error))
            }
        }
    }

    fn broken_postconditions(&self, address: &Address, values: Attributes) -> Vec<Diagnostic> {
        let Some(instance) = self.work.expanded.instance(address) else { return Vec::new() };
        let scope = InstanceScope::new(&self.work.expanded, &self.work.values, instance.binding.clone());
        let scope = scope.with_self(Value::Map(values));
        violated(&instance.resource.postconditions, &format!("postcondition of {address}"), &scope)
    }

    fn marked(&self, address: &Address, attributes: Attributes) -> Attributes {
        match self.work.expanded.catalog.find(&address.resource) {
            Some(entry) => mark_sensitive(&entry.resource_type.schema, attributes),
            None => attributes,
        }
    }

    fn fail(&mut self, i: usize, error: ProviderError) {
        let change = self.change(i);
        let (address, action) = (change.address.clone(), change.action);
        if error.class == Class::Cancelled {
            self.report.interrupted = true;
        }
        self.events.send(Event::Failed { address, action, error: error.clone() });
        self.end(i, OutcomeResult::Failed(error));
    }

    /// Notes how a change ended; one that did not come about takes its dependants with it.
    fn end(&mut self, i: usize, result: OutcomeResult) {
        let done = matches!(result, OutcomeResult::Done);
        let change = self.change(i);
        let (address, action) = (change.address.clone(), change.action);
        if action.is_change() || !done {
            self.report.outcomes.push(Outcome { address: address.clone(), action, result });
        }
        if done {
            self.order.done(i);
            return;
        }
        for skipped in self.order.abandon(i) {
            let change = self.change(skipped);
            if !change.action.is_change() {
                continue;
            }
            let (skipped, action) = (change.address.clone(), change.action);
            self.events.send(Event::Skipped { address: skipped.clone(), because: address.clone() });
            let result = OutcomeResult::Skipped(address.clone());
            self.report.outcomes.push(Outcome { address: skipped, action, result });
        }
    }

    fn leave_rest(&mut self) {
        for i in self.order.rest() {
            let change = self.change(i);
            if change.action.is_change() {
                let (address, action) = (change.address.clone(), change.action);
                self.report.outcomes.push(Outcome { address, action, result: OutcomeResult::NotStarted });
            }
        }
    }

    /// Evaluates the outputs with the values as they are now; one that can't be evaluated keeps its old value.
    async fn finish_outputs(&mut self) {
        let mut recorded = BTreeMap::new();
        if self.work.plan.options.mode != PlanMode::Destroy {
            for (name, output) in &self.work.expanded.manifest.outputs {
                let scope = InstanceScope::new(&self.work.expanded, &self.work.values, Default::default());
                let value = output.value.evaluate(&scope).unwrap_or_else(|errors| {
                    self.report.errors.extend(errors);
                    Value::Unknown
                });
                let value = if output.sensitive { value.sensitive() } else { value };
                let sealed = value.seal(&self.work.key);
                if value.is_unknown() || value.is_retained() {
                    if let Some(before) = self.work.plan.outputs.get(name).and_then(|o| o.before.clone()) {
                        recorded.insert(name.clone(), Output { value: before, sensitive: value.is_sensitive() });
                    }
                    continue;
                }
                recorded.insert(name.clone(), Output { value: sealed, sensitive: value.is_sensitive() });
                self.report.outputs.insert(name.clone(), value);
            }
        }
        if self.report.state_error.is_none()
            && let Err(error) = self.lock.set_outputs(recorded).await
        {
            self.report.state_error = Some(error);
        }
    }
}

/// What is to be asked of a provider for one change.
enum Prepared {
    /// These operations, one after the other.
    Steps(Vec<Operation>),
    /// This data.
    Data(DataRequest),
}

fn acts_on_world(action: Action) -> bool {
    !matches!(action, Action::NoOp | Action::Adopt | Action::Forget)
}

/// Asks a provider for operations and data on one target. Every change is reported exactly once, whatever the provider does.
async fn perform(
    connection: Arc<dyn Connection>,
    target: Target,
    operations: Vec<(usize, Vec<Operation>)>,
    data: Vec<(usize, DataRequest)>,
    sender: &UnboundedSender<Message>,
) {
    let (single, several): (Vec<_>, Vec<_>) = operations.into_iter().partition(|(_, steps)| steps.len() == 1);
    let (places, batch): (Vec<_>, Vec<_>) =
        single.into_iter().flat_map(|(i, steps)| steps.into_iter().map(move |step| (i, step))).unzip();
    let batched = async {
        if !batch.is_empty() {
            call(&connection, &target, batch, |place, result| {
                _ = sender.send(Message::Ended(places[place], result.map(Done::Applied)));
            })
            .await;
        }
    };
    let sequences = join_all(several.into_iter().map(|(i, steps)| {
        let (connection, target) = (&connection, &target);
        async move {
            let result = in_turn(connection, target, steps).await;
            _ = sender.send(Message::Ended(i, result.map(Done::Applied)));
        }
    }));
    let reading = async {
        let (places, requests): (Vec<_>, Vec<_>) = data.into_iter().unzip();
        if requests.is_empty() {
            return;
        }
        let found = connection.read_data(&target, &requests).await;
        let found = found.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (place, found) in places.into_iter().zip(found) {
            let result = found.unwrap_or_else(|| Err(unreported())).map(Done::Data);
            _ = sender.send(Message::Ended(place, result));
        }
    };
    futures::join!(batched, sequences, reading);
}

/// One operation after the other, as long as they succeed; the attributes are those of the last that leaves any.
async fn in_turn(
    connection: &Arc<dyn Connection>,
    target: &Target,
    steps: Vec<Operation>,
) -> Result<Applied, ProviderError> {
    let mut left = Applied::default();
    for step in steps {
        let deletes = matches!(step.action, OperationAction::Delete);
        let mut ended = Err(unreported());
        call(connection, target, vec![step], |_, result| ended = result).await;
        let applied = ended?;
        left.notes.extend(applied.notes);
        if !deletes {
            left.attributes = applied.attributes;
            left.private = applied.private;
        }
    }
    Ok(left)
}

async fn call(
    connection: &Arc<dyn Connection>,
    target: &Target,
    batch: Vec<Operation>,
    mut report: impl FnMut(usize, Result<Applied, ProviderError>),
) {
    let (sender, mut receiver) = unbounded_channel();
    let mut open: BTreeSet<usize> = (0..batch.len()).collect();
    let apply = connection.apply(target, &batch, sender);
    tokio::pin!(apply);
    let mut over = false;
    loop {
        tokio::select! {
            biased;
            outcome = receiver.recv() => match outcome {
                Some((place, result)) if open.remove(&place) => report(place, result),
                Some(_) => {}
                None => break,
            },
            () = &mut apply, if !over => over = true,
        }
    }
    if !over {
        apply.await;
    }
    for place in open {
        report(place, Err(unreported()));
    }
}

fn unreported() -> ProviderError {
    ProviderError::new(Class::Failed, "the provider did not say how it ended")
        .help("this is a defect of moorfast; the next plan looks at what is there")
}

fn from_diagnostics(errors: &[Diagnostic]) -> ProviderError {
    let mut errors = deduplicated(errors.to_vec()).into_iter();
    let first = errors.next();
    let summary = first.as_ref().map_or_else(String::new, |e| e.summary.clone());
    let mut error = ProviderError::new(Class::Invalid, summary).detail(errors.map(|e| e.summary));
    error.help = first.and_then(|e| e.help);
    error
}
