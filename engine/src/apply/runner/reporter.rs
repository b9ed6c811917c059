//! What the user learns from a run: its events while it runs, its report at the end.

use std::time::Duration;

use crate::apply::context::ApplyContext;
use crate::apply::report::{ChangeOutcome, ChangeResult, FailedGate, Report};
use crate::apply::schedule::{NodeTurn, Skipped, SkippedNodes, StopReason};
use crate::model::{Address, Mode};
use crate::plan::Change;
use crate::plan::order::PlannedPart;
use crate::plan::sequence::Part;
use crate::provider::{Class, ProviderError};
use crate::session::{Event, Events, RolloutStep};

/// The events and the report of a run.
pub(super) struct Reporter<'a> {
    pub events: &'a Events,
    pub report: Report,
}

impl<'a> Reporter<'a> {
    pub fn new(events: &'a Events, changes: usize) -> Self {
        Self { events, report: Report { outcomes: Vec::with_capacity(changes), ..Report::default() } }
    }

    /// Reports that the operation on a change starts.
    pub fn started(&self, change: &Change) {
        self.events.send(Event::Started { address: change.address.clone(), action: change.action });
    }

    /// Reports that all operations on a change succeeded.
    pub fn finished(&self, change: &Change, took: Duration, notes: Vec<String>) {
        if change.address.resource.mode == Mode::Managed {
            self.events.send(Event::Finished { address: change.address.clone(), action: change.action, took, notes });
        }
    }

    /// Adds the outcome of a change to the report.
    pub fn ended(&mut self, change: &Change, result: ChangeResult) {
        self.report.outcomes.push(ChangeOutcome::of(change, result));
    }

    /// Reports that a change failed.
    pub fn failed(&mut self, change: &Change, error: ProviderError) {
        self.send_failed(change, error.clone());
        self.ended(change, ChangeResult::Failed(error));
    }

    /// Reports a change whose result is not recorded.
    pub fn unrecorded(&mut self, change: &Change, error: Option<ProviderError>) {
        // A cancelled operation may have been done in part.
        let failed = error.filter(|error| !matches!(error.class, Class::Cancelled | Class::NotStarted));
        let reported = failed.clone().unwrap_or_else(|| {
            ProviderError::new(Class::Failed, "the result is not recorded; the next run reads the object again")
        });
        self.send_failed(change, reported);
        self.ended(change, failed.map_or(ChangeResult::Unrecorded, ChangeResult::Failed));
    }

    /// Reports a change that is not started or not completed, because another change did not succeed.
    pub fn skipped(&mut self, context: &ApplyContext, skipped: Skipped) {
        let Skipped { part, because } = skipped;
        let change = context.change(part.change);
        if !change.action.is_change() {
            return;
        }
        let because = context.change(because).address.clone();
        match context.unapproved.get(&change.address) {
            Some(node) => self.ended(change, ChangeResult::Unapproved(node.clone())),
            None if !part.is_first => self.failed(change, half_done(part, &not_done(&because))),
            None => {
                self.events.send(Event::Skipped { address: change.address.clone(), because: because.clone() });
                self.ended(change, ChangeResult::Skipped(because));
            }
        }
    }

    /// Reports a change that was not started or not completed before the run ended.
    pub fn not_started(&mut self, change: &Change, part: PlannedPart) {
        if change.action.is_change() {
            let result = match part.is_first {
                true => ChangeResult::NotStarted,
                false => ChangeResult::Failed(half_done(part, "the run was interrupted")),
            };
            self.ended(change, result);
        }
    }

    /// Reports a step of a rollout with one of its nodes.
    pub fn rollout_step(&self, context: &ApplyContext, turn: &NodeTurn, step: RolloutStep) {
        let rollout = context.plan.rollouts[turn.rollout].name.clone();
        self.events.send(Event::Rollout { rollout, node: turn.node.clone(), step });
    }

    /// Reports the nodes that a rollout does not start.
    pub fn nodes_skipped(&mut self, context: &ApplyContext, skipped: SkippedNodes) {
        let because = reason(context, &skipped.because);
        for (turn, changes) in skipped.nodes {
            self.rollout_step(context, &turn, RolloutStep::Skipped { because: because.clone() });
            let rollout = &context.plan.rollouts[turn.rollout].name;
            for change in changes {
                let result = ChangeResult::RolloutStopped { rollout: rollout.clone(), because: because.clone() };
                self.ended(context.change(change), result);
            }
        }
        for dependant in skipped.dependants {
            self.skipped(context, dependant);
        }
    }

    /// Notes that a node is out of service.
    pub fn out_of_service(&mut self, turn: &NodeTurn) {
        self.report.out_of_service.insert(turn.node.clone());
    }

    /// Notes that a node is in service.
    pub fn in_service(&mut self, turn: &NodeTurn) {
        self.report.out_of_service.remove(&turn.node);
    }

    /// Reports a node that could not be drained. Its rollout stops.
    pub fn not_drained(&mut self, context: &ApplyContext, turn: NodeTurn, address: Address, error: ProviderError) {
        self.rollout_step(context, &turn, RolloutStep::NotDrained { error: error.clone() });
        let rollout = context.plan.rollouts[turn.rollout].name.clone();
        let gate = "drain".to_owned();
        self.report.gates.push(FailedGate { rollout, node: turn.node, gate, address: Some(address), error });
    }

    /// Reports a health gate that was not passed. `stops` is true if its rollout goes no further.
    pub fn gate_failed(
        &mut self,
        context: &ApplyContext,
        turn: NodeTurn,
        gate: String,
        address: Option<Address>,
        error: ProviderError,
        stops: bool,
    ) {
        self.rollout_step(context, &turn, RolloutStep::Unhealthy { gate: gate.clone(), error: error.clone() });
        if stops {
            let rollout = context.plan.rollouts[turn.rollout].name.clone();
            self.report.gates.push(FailedGate { rollout, node: turn.node, gate, address, error });
        }
    }

    fn send_failed(&self, change: &Change, error: ProviderError) {
        self.events.send(Event::Failed { address: change.address.clone(), action: change.action, error });
    }
}

/// Returns the error of a change whose first parts alone are done, because another change did not succeed.
pub(super) fn half_done_because(context: &ApplyContext, skipped: Skipped) -> ProviderError {
    half_done(skipped.part, &not_done(&context.change(skipped.because).address))
}

/// Returns the error of a change whose first parts alone are done. `next` is the first part that is not done.
fn half_done(next: PlannedPart, why: &str) -> ProviderError {
    let first = match next.part {
        Part::Make => "the old object is destroyed, and the new one is not created",
        Part::Remove(_) => "the new object is created, and the old one is not destroyed",
    };
    ProviderError::new(Class::Failed, format!("{first}: {why}")).help("the next apply completes the change")
}

fn not_done(address: &Address) -> String {
    format!("{address} did not succeed")
}

/// Returns why a rollout stopped.
fn reason(context: &ApplyContext, because: &StopReason) -> String {
    match because {
        StopReason::Change(change) => not_done(&context.change(*change).address),
        StopReason::Gate(gate) => format!("{gate} is not healthy"),
        StopReason::Drain(node) => format!("{node} was not drained"),
        StopReason::Rollout(rollout) => format!("the rollout `{}` stopped", context.plan.rollouts[*rollout].name),
    }
}
