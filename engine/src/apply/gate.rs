//! Health gates: the checks and resources that must be healthy before the next node starts.

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

/// The interval between two evaluations of a check.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The extra time that a gate may take to report reason it is not healthy.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The result of the gates of a node.
pub(super) struct GateResult {
    turn: NodeTurn,
    /// `None` if the user interrupted the run.
    result: Option<Result<(), GateFailure>>,
}

/// A gate that is not healthy.
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
    /// Runs the next actions of the rollouts.
    pub(super) fn advance_rollouts(&mut self) {
        for (turn, pause) in std::mem::take(&mut self.postponed) {
            self.evaluate_once_known(turn, pause);
        }
        loop {
            let actions = self.rollouts.next(|i| self.order.is_queued(i));
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    RolloutAction::EvaluateUnchanged(turn) => self.evaluate_once_known(turn, Duration::ZERO),
                    RolloutAction::Start(turn) => self.report_step(&turn, RolloutStep::Started),
                    RolloutAction::EvaluateGates(turn, true) => {
                        let pause = self.rollouts.plan(turn.rollout).pause;
                        self.evaluate_once_known(turn, pause);
                    }
                    RolloutAction::EvaluateGates(turn, false) => self.evaluate_once_known(turn, Duration::ZERO),
                    RolloutAction::Skip(turns, reason) => self.skip_remaining(&turns, &reason),
                }
            }
        }
    }

    fn report_step(&self, turn: &NodeTurn, step: RolloutStep) {
        let rollout = self.rollouts.plan(turn.rollout).name.clone();
        self.events.send(Event::Rollout { rollout, node: turn.node.clone(), step });
    }

    /// Evaluates the gates of a node. If their checks depend on unknown values, this is postponed until running operations may have made them known.
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

    /// Evaluates the postponed gates, because no operation runs any more. Gates that still depend on unknown values fail.
    pub(super) fn evaluate_postponed(&mut self) {
        for (turn, pause) in std::mem::take(&mut self.postponed) {
            self.evaluate_gates(turn, pause);
        }
    }

    fn selection(&self, turn: &NodeTurn) -> Option<&Selection> {
        let name = &self.rollouts.plan(turn.rollout).name;
        self.context.expanded.rollouts.iter().find(|selection| selection.name == *name)
    }

    /// Starts to evaluate the gates of a node, and pauses after they are healthy.
    fn evaluate_gates(&mut self, turn: NodeTurn, pause: Duration) {
        let gates = self.gates_of(&turn);
        let names: Vec<String> = gates.iter().map(|gate| gate.name.clone()).collect();
        if !names.is_empty() {
            self.report_step(&turn, RolloutStep::Waiting { gates: names });
        }
        let limit = self.rollouts.plan(turn.rollout).timeout;
        let (stop, events) = (self.interrupt.stop.clone(), self.events.clone());
        let rollout = self.rollouts.plan(turn.rollout).name.clone();
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
                    // The gate uses the current values.
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
        let Instance { address, provider, target, resource_type, .. } = instance;
        let request = ReadRequest {
            address: address.clone(),
            resource_type: resource_type.clone(),
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
        if self.rollouts.is_stopped(turn.rollout) {
            let rollout = self.rollouts.plan(turn.rollout).name.clone();
            self.report.gates.push(FailedGate { rollout, node: turn.node, gate, address, error });
        }
    }

    /// Returns the instances that may explain a failed gate: the gate itself, its dependencies, and the changes of the node.
    fn causes(&self, turn: &NodeTurn, gate: Option<&Address>) -> Vec<Address> {
        let change = self.context.plan.changes.iter().find(|change| Some(&change.address) == gate);
        let before = change.iter().flat_map(|change| change.dependencies.iter().cloned());
        let nodes = self.rollouts.plan(turn.rollout).nodes.iter();
        let changed = nodes.filter(|node| node.name == turn.node).flat_map(|node| node.changes.iter().cloned());
        let mut causes: Vec<Address> = gate.cloned().into_iter().chain(before).chain(changed).collect();
        causes.sort();
        causes.dedup();
        causes
    }

    /// Skips the changes of nodes that have not started, and their dependants elsewhere.
    fn skip_remaining(&mut self, turns: &[NodeTurn], reason: &str) {
        // Read before the loop: skipping one rollout may skip changes of another.
        let held: Vec<Vec<usize>> = turns.iter().map(|turn| self.rollouts.held(turn)).collect();
        for (turn, changes) in turns.iter().zip(&held) {
            let rollout = self.rollouts.plan(turn.rollout).name.clone();
            self.report_step(turn, RolloutStep::Skipped { because: reason.to_owned() });
            for i in changes {
                let change = self.change(*i);
                let result = ChangeResult::RolloutStopped { rollout: rollout.clone(), because: reason.to_owned() };
                let outcome = ChangeOutcome::of(change, result);
                self.report.outcomes.push(outcome);
            }
        }
        // The changes of one node are not skipped because of another node.
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
                Err(ProviderError::new(Class::Failed, format!("{name}: its provider instance has no connection")))
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
    // The caller aborts by dropping the future.
    let never = CancellationToken::new();
    loop {
        let (status, messages) = evaluate_check(expanded, values, check, When::Applied, &never).await;
        match status {
            CheckStatus::Pass => return Ok(()),
            // The values do not change any more, so the status stays unknown.
            CheckStatus::Unknown => return Err(unknown_values(expanded, values, check)),
            CheckStatus::Fail | CheckStatus::Error => {}
        }
        if Instant::now() + POLL_INTERVAL > end {
            let message = format!("{} does not pass: {}", check.name, messages.join("; "));
            return Err(ProviderError::new(Class::Timeout, message));
        }
        sleep(POLL_INTERVAL).await;
    }
}

fn unknown_values(expanded: &Expanded, values: &Values, check: &CheckInstance) -> ProviderError {
    let dependencies = check_dependencies(expanded, check, &mut LocalReferences::default());
    let is_open = |address: &&Address| values.get(address).is_none_or(|v| v.is_unknown() || v.is_retained());
    let open: Vec<_> = dependencies.iter().filter(is_open).map(ToString::to_string).collect();
    let message = format!("it depends on unknown values of {}", open.join(", "));
    ProviderError::new(Class::Invalid, message).help(
        "a gate is evaluated after the changes of its node: remove references to later resources from the check, or select them with --target",
    )
}
