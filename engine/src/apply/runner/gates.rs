//! Health gates: the checks and resources that must be healthy before the next node starts.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::drains::DrainCalls;
use super::unselected::{UnselectedInstances, unselected};
use crate::apply::context::ApplyContext;
use crate::apply::journal::Journal;
use crate::apply::schedule::NodeTurn;
use crate::check::{When, evaluate_check};
use crate::configuration::evaluate::desired;
use crate::configuration::expand::{CheckInstance, Expanded, Instance};
use crate::configuration::graph::{LocalReferences, check_dependencies};
use crate::configuration::scope::Values;
use crate::configuration::selection::Gate;
use crate::model::{Address, CheckStatus, Value};
use crate::plan::PlannedRollout;
use crate::provider::{Class, Connection, ProviderError, ReadRequest, Target};
use crate::session::{Event, Events, RolloutStep};

/// The interval between two evaluations of a check.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The extra time that a gate may take to report the reason why it is not healthy.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// The gates that are being evaluated.
pub(super) struct Gates {
    tasks: JoinSet<Option<GateResult>>,
    /// The nodes whose gates are evaluated once more is known, and whether to pause after that.
    postponed: Vec<(NodeTurn, bool)>,
    events: Events,
    stop: CancellationToken,
}

/// The result of the gates of a node.
pub(super) struct GateResult {
    pub turn: NodeTurn,
    pub result: Result<(), GateFailure>,
}

/// A gate that is not healthy.
pub(super) struct GateFailure {
    pub gate: String,
    /// The instance whose health was evaluated. `None` for a check.
    pub address: Option<Address>,
    pub error: ProviderError,
}

impl GateFailure {
    /// Returns the failure of a node that cannot be put back into service.
    fn of_return(drained: &DrainCalls, error: ProviderError) -> Self {
        Self { gate: format!("uncordoning {}", drained.address), address: Some(drained.address.clone()), error }
    }
}

/// A gate, with everything that its evaluation needs.
struct PendingGate {
    name: String,
    address: Option<Address>,
    evaluation: GateEvaluation,
}

enum GateEvaluation {
    Health {
        connection: Option<Arc<dyn Connection>>,
        target: Target,
        request: Box<ReadRequest>,
    },
    Check {
        expanded: Arc<Expanded>,
        values: Values,
        nodes: Option<Arc<dyn Connection>>,
        unselected: Vec<UnselectedInstances>,
        place: usize,
    },
}

impl Gates {
    /// Returns gates that report their steps to `events` and end when `stop` is cancelled.
    pub fn new(events: Events, stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), postponed: Vec::new(), events, stop }
    }

    /// Whether no gate is being evaluated.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Starts to evaluate the gates of a node. After they are healthy, puts the node back into service if it was drained, and pauses. If their checks depend on unknown values, this is postponed until running operations
    /// may have made them known.
    pub fn start(&mut self, context: &ApplyContext, journal: &Journal<'_>, turn: NodeTurn, pauses: bool) {
        match depend_on_unknown_values(context, &turn) {
            true => self.postponed.push((turn, pauses)),
            false => self.evaluate(context, journal, turn, pauses),
        }
    }

    /// Evaluates the postponed gates whose values are known now. If nothing runs that may make the others known, they are evaluated too, and fail.
    pub fn start_postponed(&mut self, context: &ApplyContext, journal: &Journal<'_>, runs: bool) {
        for (turn, pauses) in std::mem::take(&mut self.postponed) {
            match runs {
                true => self.start(context, journal, turn, pauses),
                false => self.evaluate(context, journal, turn, pauses),
            }
        }
    }

    /// Waits for the next result. Returns `None` if the evaluation was interrupted, or if no gate is being evaluated.
    pub async fn next(&mut self) -> Option<GateResult> {
        match self.tasks.join_next().await? {
            Ok(result) => result,
            Err(error) => {
                tracing::error!("a gate of a rollout broke: {error}");
                None
            }
        }
    }

    /// Ends the evaluation of all gates.
    pub fn abort(&mut self) {
        self.tasks.abort_all();
    }

    /// Evaluates the gates of a node in the background.
    fn evaluate(&mut self, context: &ApplyContext, journal: &Journal<'_>, turn: NodeTurn, pauses: bool) {
        let PlannedRollout { name, timeout: limit, pause, .. } = &context.plan.rollouts[turn.rollout];
        let (limit, pause) = (*limit, *pause);
        let gates = gates_of(context, journal, &turn);
        let drained = DrainCalls::of(context, journal, &turn);
        let names: Vec<String> = gates.iter().map(|gate| gate.name.clone()).collect();
        let (rollout, node) = (name.clone(), turn.node.clone());
        let step = move |step| Event::Rollout { rollout: rollout.clone(), node: node.clone(), step };
        if !names.is_empty() {
            self.events.send(step(RolloutStep::Waiting { gates: names }));
        }
        let (stop, events) = (self.stop.clone(), self.events.clone());
        self.tasks.spawn(async move {
            let passed = async {
                try_join_all(gates.into_iter().map(|gate| gate.evaluate(limit))).await?;
                if let Some(drained) = drained {
                    drained.undrain().await.map_err(|error| GateFailure::of_return(&drained, error))?;
                    events.send(step(RolloutStep::Uncordoned));
                }
                if pauses && !pause.is_zero() {
                    events.send(step(RolloutStep::Pausing { pause }));
                    sleep(pause).await;
                }
                Ok(())
            };
            tokio::select! {
                result = passed => Some(GateResult { turn, result }),
                () = stop.cancelled() => None,
            }
        });
    }
}

/// Returns the instances that may explain a failed gate: the gate itself, its dependencies, and the changes of the node.
pub(super) fn causes(context: &ApplyContext, turn: &NodeTurn, gate: Option<&Address>) -> Vec<Address> {
    let change = context.plan.changes.iter().find(|change| Some(&change.address) == gate);
    let before = change.iter().flat_map(|change| change.dependencies.iter().cloned());
    let nodes = context.plan.rollouts[turn.rollout].nodes.iter();
    let changed = nodes.filter(|node| node.name == turn.node).flat_map(|node| node.changes.iter().cloned());
    let mut causes: Vec<Address> = gate.cloned().into_iter().chain(before).chain(changed).collect();
    causes.sort();
    causes.dedup();
    causes
}

/// Whether a gate of the node is a check that depends on unknown values.
fn depend_on_unknown_values(context: &ApplyContext, turn: &NodeTurn) -> bool {
    let ApplyContext { expanded, values, .. } = context;
    let mut locals = LocalReferences::default();
    let is_open = |gate: Gate| match gate {
        Gate::Resource(_) => false,
        Gate::Check(_, check) => check_dependencies(expanded, check, &mut locals)
            .iter()
            .any(|address| values.get(address).is_some_and(|known| known.values().any(Value::is_unknown))),
    };
    context.selection(turn.rollout).is_some_and(|selection| selection.gates(expanded, &turn.node).any(is_open))
}

fn gates_of(context: &ApplyContext, journal: &Journal<'_>, turn: &NodeTurn) -> Vec<PendingGate> {
    let Some(selection) = context.selection(turn.rollout) else { return Vec::new() };
    let expanded = &context.expanded;
    let mut locals = LocalReferences::default();
    let pending = |gate: Gate| PendingGate {
        name: gate.name(),
        address: match gate {
            Gate::Resource(instance) => Some(instance.address.clone()),
            Gate::Check(..) => None,
        },
        evaluation: match gate {
            Gate::Resource(instance) => health(context, journal, instance),
            Gate::Check(place, check) => {
                let dependencies = check_dependencies(expanded, check, &mut locals);
                GateEvaluation::Check {
                    expanded: expanded.clone(),
                    // The gate uses the current values.
                    values: context.values.only(&dependencies),
                    nodes: context.session.probing(expanded).cloned(),
                    unselected: unselected(context, &dependencies),
                    place,
                }
            }
        },
    };
    selection.gates(expanded, &turn.node).map(pending).collect()
}

fn health(context: &ApplyContext, journal: &Journal<'_>, instance: &Instance) -> GateEvaluation {
    let Instance { address, provider, target, .. } = instance;
    let desired = desired(&context.expanded, instance, &context.values).ok();
    let request = instance.read_request(desired, journal.record(address).cloned());
    let connection = context.session.connection(provider).cloned();
    GateEvaluation::Health { connection, target: target.clone(), request: Box::new(request) }
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
            GateEvaluation::Check { expanded, mut values, nodes, unselected, place } => {
                for instances in unselected {
                    instances.read(&mut values).await?;
                }
                wait_for_check(&expanded, &values, nodes.as_deref(), &expanded.checks[place], limit).await
            }
        }
    }
}

async fn wait_for_check(
    expanded: &Expanded,
    values: &Values,
    nodes: Option<&dyn Connection>,
    check: &CheckInstance,
    limit: Duration,
) -> Result<(), ProviderError> {
    let end = Instant::now() + limit;
    // The caller aborts by dropping the future.
    let never = CancellationToken::new();
    loop {
        let (status, messages) = evaluate_check(expanded, values, nodes, check, When::Applied, &never).await;
        match status {
            CheckStatus::Pass => return Ok(()),
            // The values do not change any more, so the status stays unknown.
            CheckStatus::Unknown => return Err(unknown_values(expanded, values, check)),
            CheckStatus::Fail | CheckStatus::Error | CheckStatus::Skipped => {}
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
    let is_open = |address: &&Address| {
        values.get(address).is_none_or(|known| known.values().any(|v| v.is_unknown() || v.is_retained()))
    };
    let open: Vec<_> = dependencies.iter().filter(is_open).map(ToString::to_string).collect();
    let message = format!("it depends on unknown values of {}", open.join(", "));
    ProviderError::new(Class::Invalid, message).help(
        "a gate is evaluated after the changes of its node: remove references to later resources from the check, or select them with --target",
    )
}
