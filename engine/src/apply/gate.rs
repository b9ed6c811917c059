//! The gates of rollouts: what must be healthy before the next node begins.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::rollout::{NodeTurn, RolloutAction};
use super::unselected::UnselectedInstances;
use super::{ApplyContext, Executor};
use crate::apply::{ChangeOutcome, ChangeResult, FailedGate};
use crate::check::{When, evaluate_check};
use crate::configuration::evaluate::desired;
use crate::configuration::expand::{CheckInstance, Expanded, Instance, Selection};
use crate::configuration::graph::{LocalReferences, check_dependencies};
use crate::configuration::scope::Values;
use crate::configuration::selection::Gate;
use crate::model::{Address, CheckStatus, Value};
use crate::provider::{Class, Connection, ProviderError, ReadRequest, Target};
use crate::session::{Event, RolloutStep};

/// How often a check is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long after its time a gate may take to say what it waited for.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// How the gates of a node were.
pub(super) struct GateResult {
    turn: NodeTurn,
    /// None where the person ended the run.
    result: Option<Result<(), GateFailure>>,
}

/// A gate that is not passed.
struct GateFailure {
    gate: String,
    address: Option<Address>,
    error: ProviderError,
}

/// A node with a health gate that was not passed.
pub(super) struct Unhealthy {
    turn: NodeTurn,
    failure: GateFailure,
}

impl Unhealthy {
    /// Returns why the gate was not passed.
    pub fn error(&self) -> &ProviderError {
        &self.failure.error
    }

    /// Returns the same gate with another error.
    pub fn with_error(mut self, error: ProviderError) -> Self {
        self.failure.error = error;
        self
    }
}

/// A gate, with all that it takes to ask it.
struct PendingGate {
    name: String,
    address: Option<Address>,
    evaluation: GateEvaluation,
}

enum GateEvaluation {
    Health { connection: Option<Arc<dyn Connection>>, target: Target, request: Box<ReadRequest> },
    Check { expanded: Arc<Expanded>, values: Values, unselected: Vec<UnselectedInstances>, place: usize },
}

impl Executor<'_> {
    /// Lets the rollouts go on as far as they can now.
    pub(super) fn advance_rollouts(&mut self) {
        for (turn, pause) in std::mem::take(&mut self.postponed) {
            self.evaluate_once_known(turn, pause);
        }
        loop {
            let actions = self.rollouts.next(|i| self.order.is_queued(i));
            if actions.is_empty() {
                return;
            }
            for step in actions {
                match step {
                    RolloutAction::EvaluateUnchanged(turn) => self.evaluate_once_known(turn, Duration::ZERO),
                    RolloutAction::Start(turn) => self.report_step(&turn, RolloutStep::Started),
                    RolloutAction::EvaluateGates(turn, true) => {
                        let pause = self.rollouts.plan(turn.lane).pause;
                        self.evaluate_once_known(turn, pause);
                    }
                    RolloutAction::EvaluateGates(turn, false) => self.evaluate_once_known(turn, Duration::ZERO),
                    RolloutAction::Skip(turns, why) => self.skip_remaining(&turns, &why),
                }
            }
        }
    }

    fn report_step(&self, turn: &NodeTurn, step: RolloutStep) {
        let rollout = self.rollouts.plan(turn.lane).name.clone();
        self.events.send(Event::Rollout { rollout, node: turn.node.clone(), step });
    }

    /// Asks the gates of a node, unless it is yet to be known what their checks look at: what is under way may tell.
    fn evaluate_once_known(&mut self, turn: NodeTurn, pause: Duration) {
        let ApplyContext { expanded, values, .. } = &self.context;
        let mut locals = LocalReferences::default();
        let is_open = |gate: Gate| match gate {
            Gate::Resource(_) => false,
            Gate::Check(_, check) => check_dependencies(expanded, check, &mut locals)
                .iter()
                .any(|address| values.get(address).is_some_and(Value::is_unknown)),
        };
        let is_open = self.selection(&turn).is_some_and(|selection| selection.gates(expanded, &turn.node).any(is_open));
        match is_open {
            true => self.postponed.push((turn, pause)),
            false => self.evaluate_gates(turn, pause),
        }
    }

    /// Asks the gates that waited to be known, now that nothing is under way any more: those that still are not say so.
    pub(super) fn evaluate_postponed(&mut self) {
        for (turn, pause) in std::mem::take(&mut self.postponed) {
            self.evaluate_gates(turn, pause);
        }
    }

    fn selection(&self, turn: &NodeTurn) -> Option<&Selection> {
        let name = &self.rollouts.plan(turn.lane).name;
        self.context.expanded.rollouts.iter().find(|selection| selection.name == *name)
    }

    /// Asks the gates of a node, and pauses once they are passed.
    fn evaluate_gates(&mut self, turn: NodeTurn, pause: Duration) {
        let gates = self.gates_of(&turn);
        let names: Vec<String> = gates.iter().map(|gate| gate.name.clone()).collect();
        if !names.is_empty() {
            self.report_step(&turn, RolloutStep::Waiting { gates: names });
        }
        let limit = self.rollouts.plan(turn.lane).timeout;
        let (stop, events) = (self.interrupt.stop.clone(), self.events.clone());
        let rollout = self.rollouts.plan(turn.lane).name.clone();
        self.gates.spawn(async move {
            let node = turn.node.clone();
            let passed = async {
                try_join_all(gates.into_iter().map(|gate| gate.evaluate(limit))).await?;
                if !pause.is_zero() {
                    events.send(Event::Rollout { rollout, node, step: RolloutStep::Pausing { pause } });
                    sleep(pause).await;
                }
                Ok(())
            };
            tokio::select! {
                result = passed => GateResult { turn, result: Some(result) },
                () = stop.cancelled() => GateResult { turn, result: None },
            }
        });
    }

    fn gates_of(&self, turn: &NodeTurn) -> Vec<PendingGate> {
        let Some(selection) = self.selection(turn) else { return Vec::new() };
        let expanded = &self.context.expanded;
        let mut locals = LocalReferences::default();
        let pending = |gate: Gate| PendingGate {
            name: gate.name(),
            address: match gate {
                Gate::Resource(instance) => Some(instance.address.clone()),
                Gate::Check(..) => None,
            },
            evaluation: match gate {
                Gate::Resource(instance) => self.health(instance),
                Gate::Check(place, check) => {
                    let dependencies = check_dependencies(expanded, check, &mut locals);
                    // As they are now.
                    let values = self.context.values.only(&dependencies);
                    GateEvaluation::Check {
                        expanded: expanded.clone(),
                        values,
                        unselected: self.unselected(&dependencies),
                        place,
                    }
                }
            },
        };
        selection.gates(expanded, &turn.node).map(pending).collect()
    }

    fn health(&self, instance: &Instance) -> GateEvaluation {
        let Instance { address, provider, target, .. } = instance;
        let request = ReadRequest {
            address: address.clone(),
            resource_type: address.resource.resource_type.clone(),
            desired: desired(&self.context.expanded, instance, &self.context.values).ok(),
            recorded: self.records.get(&address.to_string()).cloned(),
        };
        let connection = self.context.session.connection(provider).cloned();
        GateEvaluation::Health { connection, target: target.clone(), request: Box::new(request) }
    }

    /// Takes in how the gates of a node were.
    pub(super) fn gates_evaluated(&mut self, answer: GateResult) {
        let GateResult { turn, result: Some(result) } = answer else { return };
        let Err(failure) = result else {
            self.rollouts.gates_evaluated(&turn, None);
            self.report_step(&turn, RolloutStep::Passed);
            return;
        };
        if failure.error.class == Class::Cancelled {
            return;
        }
        let causes = self.causes(&turn, failure.address.as_ref());
        self.explain_gate(Unhealthy { turn, failure }, &causes);
    }

    /// Reports a health gate that was not passed. Its rollout stops if it may not go on without the node.
    pub(super) fn stop_at_gate(&mut self, unhealthy: Unhealthy) {
        let Unhealthy { turn, failure: GateFailure { gate, address, error } } = unhealthy;
        self.rollouts.gates_evaluated(&turn, Some(&format!("{gate} is not healthy")));
        self.report_step(&turn, RolloutStep::Unhealthy { gate: gate.clone(), error: error.clone() });
        if self.rollouts.is_stopped(turn.lane) {
            let rollout = self.rollouts.plan(turn.lane).name.clone();
            self.report.gates.push(FailedGate { rollout, node: turn.node, gate, address, error });
        }
    }

    /// What may tell why a gate is not passed: itself, what it depends on, and what was changed.
    fn causes(&self, turn: &NodeTurn, gate: Option<&Address>) -> Vec<Address> {
        let change = self.context.plan.changes.iter().find(|change| Some(&change.address) == gate);
        let before = change.iter().flat_map(|change| change.dependencies.iter().cloned());
        let nodes = self.rollouts.plan(turn.lane).nodes.iter();
        let changed = nodes.filter(|node| node.name == turn.node).flat_map(|node| node.changes.iter().cloned());
        let mut causes: Vec<Address> = gate.cloned().into_iter().chain(before).chain(changed).collect();
        causes.sort();
        causes.dedup();
        causes
    }

    /// The work on nodes that have not begun is left, and what depends on it from elsewhere is skipped.
    fn skip_remaining(&mut self, turns: &[NodeTurn], why: &str) {
        // As it is now: leaving another rollout may have skipped some of it.
        let held: Vec<Vec<usize>> = turns.iter().map(|turn| self.rollouts.held(turn)).collect();
        for (turn, changes) in turns.iter().zip(&held) {
            let rollout = self.rollouts.plan(turn.lane).name.clone();
            self.report_step(turn, RolloutStep::Skipped { because: why.to_owned() });
            for i in changes {
                let change = self.change(*i);
                let result = ChangeResult::RolloutStopped { rollout: rollout.clone(), because: why.to_owned() };
                let outcome = ChangeOutcome::of(change, result);
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

impl PendingGate {
    async fn evaluate(self, limit: Duration) -> Result<(), GateFailure> {
        let Self { name, address, evaluation } = self;
        let passed = timeout(limit.saturating_add(REPORT_TIMEOUT), evaluation.evaluate(&name, limit)).await;
        let passed = passed.unwrap_or_else(|_| {
            Err(ProviderError::new(Class::Timeout, format!("{name} was not healthy within {limit:?}")))
        });
        passed.map_err(|error| GateFailure { gate: name, address, error })
    }
}

impl GateEvaluation {
    async fn evaluate(self, name: &str, limit: Duration) -> Result<(), ProviderError> {
        match self {
            GateEvaluation::Health { connection: Some(connection), target, request } => {
                connection.wait_until_healthy(&target, &request, limit).await
            }
            GateEvaluation::Health { connection: None, .. } => {
                Err(ProviderError::new(Class::Failed, format!("{name} has no connection to be asked on")))
            }
            GateEvaluation::Check { expanded, mut values, unselected, place } => {
                for instances in unselected {
                    instances.read(&expanded, &mut values).await?;
                }
                wait_for_check(&expanded, &values, &expanded.checks[place], limit).await
            }
        }
    }
}

async fn wait_for_check(
    expanded: &Expanded,
    values: &Values,
    check: &CheckInstance,
    limit: Duration,
) -> Result<(), ProviderError> {
    let end = Instant::now() + limit;
    // Whoever asks gives up by dropping this.
    let never = CancellationToken::new();
    loop {
        let (status, messages) = evaluate_check(expanded, values, check, When::Applied, &never).await;
        match status {
            CheckStatus::Pass => return Ok(()),
            // The values are those that there are now, so it stays unknown.
            CheckStatus::Unknown => return Err(unknown(expanded, values, check)),
            CheckStatus::Fail | CheckStatus::Error => {}
        }
        if Instant::now() + POLL_INTERVAL > end {
            let message = format!("{} does not pass: {}", check.name, messages.join("; "));
            return Err(ProviderError::new(Class::Timeout, message));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn unknown(expanded: &Expanded, values: &Values, check: &CheckInstance) -> ProviderError {
    let dependencies = check_dependencies(expanded, check, &mut LocalReferences::default());
    let is_open = |address: &&Address| values.get(address).is_none_or(|v| v.is_unknown() || v.is_retained());
    let open: Vec<_> = dependencies.iter().filter(is_open).map(ToString::to_string).collect();
    let message = format!("it depends on what is not known of {}", open.join(", "));
    ProviderError::new(Class::Invalid, message).help(
        "a gate is asked once the changes of its node are done: let its check look at nothing that comes later, and name in --target what it looks at",
    )
}
