//! The gates of rollouts: what must be healthy before the next node begins.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::rollout::{Step, Visit};
use super::unselected::LeftOut;
use super::{Executor, Work};
use crate::apply::{FailedGate, Outcome, OutcomeResult};
use crate::check::{When, look};
use crate::configuration::evaluate::desired;
use crate::configuration::expand::{CheckInstance, Expanded, Instance, Selection};
use crate::configuration::graph::{LocalReferences, check_dependencies};
use crate::configuration::scope::Values;
use crate::configuration::selection::Gate;
use crate::model::{Address, CheckStatus, Value};
use crate::provider::{Class, Connection, ProviderError, ReadRequest, Target};
use crate::session::{Event, RolloutStep};

/// How often a check is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// How long after its time a gate may take to say what it waited for.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How the gates of a node were.
pub(super) struct Answer {
    visit: Visit,
    /// None where the person ended the run.
    result: Option<Result<(), Shut>>,
}

/// A gate that is not passed.
struct Shut {
    gate: String,
    address: Option<Address>,
    error: ProviderError,
}

/// A gate, with all that it takes to ask it.
struct Asked {
    name: String,
    address: Option<Address>,
    what: What,
}

enum What {
    Health { connection: Option<Arc<dyn Connection>>, target: Target, request: Box<ReadRequest> },
    Check { expanded: Arc<Expanded>, values: Values, left_out: Vec<LeftOut>, place: usize },
}

impl Executor<'_> {
    /// Lets the rollouts go on as far as they can now.
    pub(super) fn advance_rollouts(&mut self) {
        for (visit, pause) in std::mem::take(&mut self.postponed) {
            self.ask_once_known(visit, pause);
        }
        loop {
            let steps = self.rollouts.next(|i| self.order.is_queued(i));
            if steps.is_empty() {
                return;
            }
            for step in steps {
                match step {
                    Step::Look(visit) => self.ask_once_known(visit, Duration::ZERO),
                    Step::Begin(visit) => self.tell_step(&visit, RolloutStep::Begun),
                    Step::Gates(visit, true) => {
                        let pause = self.rollouts.plan(visit.lane).pause;
                        self.ask_once_known(visit, pause);
                    }
                    Step::Gates(visit, false) => self.ask_once_known(visit, Duration::ZERO),
                    Step::Leave(visits, why) => self.leave(&visits, &why),
                }
            }
        }
    }

    fn tell_step(&self, visit: &Visit, step: RolloutStep) {
        let rollout = self.rollouts.plan(visit.lane).name.clone();
        self.events.send(Event::Rollout { rollout, node: visit.node.clone(), step });
    }

    /// Asks the gates of a node, unless it is yet to be known what their checks look at: what is under way may tell.
    fn ask_once_known(&mut self, visit: Visit, pause: Duration) {
        let Work { expanded, values, .. } = &self.work;
        let mut locals = LocalReferences::default();
        let is_open = |gate: Gate| match gate {
            Gate::Resource(_) => false,
            Gate::Check(_, check) => check_dependencies(expanded, check, &mut locals)
                .iter()
                .any(|address| values.get(address).is_some_and(Value::is_unknown)),
        };
        let is_open =
            self.selection(&visit).is_some_and(|selection| selection.gates(expanded, &visit.node).any(is_open));
        match is_open {
            true => self.postponed.push((visit, pause)),
            false => self.ask(visit, pause),
        }
    }

    /// Asks the gates that waited to be known, now that nothing is under way any more: those that still are not say so.
    pub(super) fn ask_postponed(&mut self) {
        for (visit, pause) in std::mem::take(&mut self.postponed) {
            self.ask(visit, pause);
        }
    }

    fn selection(&self, visit: &Visit) -> Option<&Selection> {
        let name = &self.rollouts.plan(visit.lane).name;
        self.work.expanded.rollouts.iter().find(|selection| selection.name == *name)
    }

    /// Asks the gates of a node, and pauses once they are passed.
    fn ask(&mut self, visit: Visit, pause: Duration) {
        let gates = self.gates_of(&visit);
        let names: Vec<String> = gates.iter().map(|gate| gate.name.clone()).collect();
        if !names.is_empty() {
            self.tell_step(&visit, RolloutStep::Waiting { gates: names });
        }
        let patience = self.rollouts.plan(visit.lane).timeout;
        let (stop, events) = (self.interrupt.stop.clone(), self.events.clone());
        let rollout = self.rollouts.plan(visit.lane).name.clone();
        self.gates.spawn(async move {
            let node = visit.node.clone();
            let passed = async {
                try_join_all(gates.into_iter().map(|gate| gate.pass(patience))).await?;
                if !pause.is_zero() {
                    events.send(Event::Rollout { rollout, node, step: RolloutStep::Pausing { pause } });
                    sleep(pause).await;
                }
                Ok(())
            };
            tokio::select! {
                result = passed => Answer { visit, result: Some(result) },
                () = stop.cancelled() => Answer { visit, result: None },
            }
        });
    }

    fn gates_of(&self, visit: &Visit) -> Vec<Asked> {
        let Some(selection) = self.selection(visit) else { return Vec::new() };
        let expanded = &self.work.expanded;
        let mut locals = LocalReferences::default();
        let asked = |gate: Gate| Asked {
            name: gate.name(),
            address: match gate {
                Gate::Resource(instance) => Some(instance.address.clone()),
                Gate::Check(..) => None,
            },
            what: match gate {
                Gate::Resource(instance) => self.health(instance),
                Gate::Check(place, check) => {
                    let looked_at = check_dependencies(expanded, check, &mut locals);
                    // As they are now.
                    let values = self.work.values.only(&looked_at);
                    What::Check { expanded: expanded.clone(), values, left_out: self.left_out(&looked_at), place }
                }
            },
        };
        selection.gates(expanded, &visit.node).map(asked).collect()
    }

    fn health(&self, instance: &Instance) -> What {
        let Instance { address, provider, target, .. } = instance;
        let request = ReadRequest {
            address: address.clone(),
            resource_type: address.resource.resource_type.clone(),
            desired: desired(&self.work.expanded, instance, &self.work.values).ok(),
            recorded: self.records.get(&address.to_string()).cloned(),
        };
        let connection = self.work.session.connection(provider).cloned();
        What::Health { connection, target: target.clone(), request: Box::new(request) }
    }

    /// Takes in how the gates of a node were.
    pub(super) async fn answered(&mut self, answer: Answer) {
        let Answer { visit, result: Some(result) } = answer else { return };
        let Err(Shut { gate, address, error }) = result else {
            self.rollouts.answered(&visit, None);
            self.tell_step(&visit, RolloutStep::Passed);
            return;
        };
        if error.class == Class::Cancelled {
            return;
        }
        let causes = self.causes(&visit, address.as_ref());
        let error = self.explained_by(&causes, error).await;
        self.rollouts.answered(&visit, Some(&format!("{gate} is not healthy")));
        self.tell_step(&visit, RolloutStep::Unhealthy { gate: gate.clone(), error: error.clone() });
        if self.rollouts.is_stopped(visit.lane) {
            let rollout = self.rollouts.plan(visit.lane).name.clone();
            self.report.gates.push(FailedGate { rollout, node: visit.node, gate, address, error });
        }
    }

    /// What may tell why a gate is not passed: itself, what it depends on, and what was changed.
    fn causes(&self, visit: &Visit, gate: Option<&Address>) -> Vec<Address> {
        let change = self.work.plan.changes.iter().find(|change| Some(&change.address) == gate);
        let before = change.iter().flat_map(|change| change.dependencies.iter().cloned());
        let nodes = self.rollouts.plan(visit.lane).nodes.iter();
        let changed = nodes.filter(|node| node.name == visit.node).flat_map(|node| node.changes.iter().cloned());
        let mut causes: Vec<Address> = gate.cloned().into_iter().chain(before).chain(changed).collect();
        causes.sort();
        causes.dedup();
        causes
    }

    /// The work on nodes that have not begun is left, and what depends on it from elsewhere is skipped.
    fn leave(&mut self, visits: &[Visit], why: &str) {
        // As it is now: leaving another rollout may have skipped some of it.
        let held: Vec<Vec<usize>> = visits.iter().map(|visit| self.rollouts.held(visit)).collect();
        for (visit, changes) in visits.iter().zip(&held) {
            let rollout = self.rollouts.plan(visit.lane).name.clone();
            self.tell_step(visit, RolloutStep::Left { because: why.to_owned() });
            for i in changes {
                let change = self.change(*i);
                let result = OutcomeResult::Left { rollout: rollout.clone(), because: why.to_owned() };
                let outcome = Outcome::of(change, result);
                self.report.outcomes.push(outcome);
            }
        }
        // What is left of one node is not skipped because of another one.
        self.order.close(&held.concat());
        for changes in held {
            let Some(first) = changes.first().map(|i| self.change(*i).address.clone()) else { continue };
            let skipped = self.order.abandon(&changes);
            self.skip(skipped, &first);
        }
    }
}

impl Asked {
    async fn pass(self, patience: Duration) -> Result<(), Shut> {
        let Self { name, address, what } = self;
        let passed = timeout(patience.saturating_add(LAST_WORDS), what.pass(&name, patience)).await;
        let passed = passed.unwrap_or_else(|_| {
            Err(ProviderError::new(Class::Timeout, format!("{name} was not healthy within {patience:?}")))
        });
        passed.map_err(|error| Shut { gate: name, address, error })
    }
}

impl What {
    async fn pass(self, name: &str, patience: Duration) -> Result<(), ProviderError> {
        match self {
            What::Health { connection: Some(connection), target, request } => {
                connection.healthy(&target, &request, patience).await
            }
            What::Health { connection: None, .. } => {
                Err(ProviderError::new(Class::Failed, format!("{name} has no connection to be asked on")))
            }
            What::Check { expanded, mut values, left_out, place } => {
                for instances in left_out {
                    instances.read(&expanded, &mut values).await?;
                }
                until_it_passes(&expanded, &values, &expanded.checks[place], patience).await
            }
        }
    }
}

async fn until_it_passes(
    expanded: &Expanded,
    values: &Values,
    check: &CheckInstance,
    patience: Duration,
) -> Result<(), ProviderError> {
    let end = Instant::now() + patience;
    // Whoever asks gives up by dropping this.
    let never = CancellationToken::new();
    loop {
        let (status, messages) = look(expanded, values, check, When::Applied, &never).await;
        match status {
            CheckStatus::Pass => return Ok(()),
            // The values are those that there are now, so it stays unknown.
            CheckStatus::Unknown => return Err(unknown(expanded, values, check)),
            CheckStatus::Fail | CheckStatus::Error => {}
        }
        if Instant::now() + PAUSE > end {
            let message = format!("{} does not pass: {}", check.name, messages.join("; "));
            return Err(ProviderError::new(Class::Timeout, message));
        }
        sleep(PAUSE).await;
    }
}

fn unknown(expanded: &Expanded, values: &Values, check: &CheckInstance) -> ProviderError {
    let looked_at = check_dependencies(expanded, check, &mut LocalReferences::default());
    let is_open = |address: &&Address| values.get(address).is_none_or(|v| v.is_unknown() || v.is_retained());
    let open: Vec<_> = looked_at.iter().filter(is_open).map(ToString::to_string).collect();
    let message = format!("it depends on what is not known of {}", open.join(", "));
    ProviderError::new(Class::Invalid, message).help(
        "a gate is asked once the changes of its node are done: let its check look at nothing that comes later, and name in --target what it looks at",
    )
}
