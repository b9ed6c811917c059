//! The schedule of an apply: what may start now, and what an outcome means for the rest. It is pure: no I/O, no clock, no records.
//!
//! [`Schedule::next`] returns one step after the other until nothing more may start. The caller reports the end of each change with [`Schedule::done`] or
//! [`Schedule::failed`] and asks again.

mod calls;
mod progress;
mod rollouts;
#[cfg(test)]
mod tests;

pub(super) use calls::{Call, Limits};
pub(super) use progress::{ChangeProgress, Skipped};
pub(super) use rollouts::{NodeTurn, StopReason};

use std::collections::{BTreeSet, VecDeque};

use self::calls::Calls;
use self::progress::Progress;
use self::rollouts::{RolloutAction, Rollouts};
use crate::plan::order::{Order, PlannedPart};
use crate::plan::{Change, PlannedRollout};

/// The schedule of an apply. A change is named by its index in the plan.
pub(super) struct Schedule {
    works: Vec<Work>,
    progress: Progress,
    rollouts: Rollouts,
    /// The actions of rollouts that were not returned yet.
    actions: VecDeque<RolloutAction>,
    /// The ready changes without an operation.
    records: BTreeSet<usize>,
    /// The ready changes that wait for the turn of their node.
    held: BTreeSet<usize>,
    /// The ready changes that wait for a call.
    calls: Calls,
    stopped: bool,
}

/// How a change is made.
#[derive(Clone, Copy, PartialEq)]
enum Work {
    /// Not at all.
    Refused,
    /// By a write of the state.
    Record,
    /// By an operation.
    Operation,
}

/// The next step of an apply.
pub(super) enum Step {
    /// End this change, which is refused.
    Refuse(usize),
    /// Record these changes, which need no operation.
    Record(BTreeSet<usize>),
    /// Call a provider with these parts, which are on one target.
    Call(Call, Vec<PlannedPart>),
    /// Drain this node of a rollout before its changes start.
    Drain(NodeTurn),
    /// It is the turn of this node of a rollout.
    StartNode(NodeTurn),
    /// Evaluate the gates of this node, and pause afterwards if another node waits.
    EvaluateGates { turn: NodeTurn, pauses: bool },
    /// These nodes are skipped, because their rollout stopped.
    SkipNodes(SkippedNodes),
}

/// The nodes of a stopped rollout that have not started.
pub(super) struct SkippedNodes {
    /// The reason why the rollout stopped.
    pub because: StopReason,
    /// The nodes, each with its changes, which ended.
    pub nodes: Vec<(NodeTurn, Vec<usize>)>,
    /// The changes elsewhere that depend on them.
    pub dependants: Vec<Skipped>,
}

impl Schedule {
    /// Returns the schedule of a plan. Changes for which `is_refused` is true are not made.
    pub fn new(
        changes: &[Change],
        rollouts: &[PlannedRollout],
        order: Order,
        limits: Limits,
        is_refused: impl Fn(usize) -> bool,
    ) -> Self {
        let work = |(i, change): (usize, &Change)| match change.action.accesses_target() {
            _ if is_refused(i) => Work::Refused,
            true => Work::Operation,
            false => Work::Record,
        };
        Self {
            works: changes.iter().enumerate().map(work).collect(),
            rollouts: Rollouts::new(rollouts, changes, &order),
            progress: Progress::new(order),
            actions: VecDeque::new(),
            records: BTreeSet::new(),
            held: BTreeSet::new(),
            calls: Calls::new(changes, limits),
            stopped: false,
        }
    }

    /// Returns the next step. Returns `None` if nothing may start before something that runs ends.
    pub fn next(&mut self) -> Option<Step> {
        if self.stopped {
            return None;
        }
        while let Some(change) = self.progress.take_ready() {
            match self.works[change] {
                Work::Refused => return Some(Step::Refuse(change)),
                Work::Record => _ = self.records.insert(change),
                Work::Operation if self.rollouts.admits(change) => self.calls.queue(change),
                Work::Operation => _ = self.held.insert(change),
            }
        }
        if !self.records.is_empty() {
            let records = std::mem::take(&mut self.records);
            records.iter().for_each(|change| self.progress.start(*change));
            return Some(Step::Record(records));
        }
        if self.actions.is_empty() {
            self.actions = self.rollouts.next(|change| self.held.contains(&change));
        }
        if let Some(action) = self.actions.pop_front() {
            return Some(self.step_of_rollout(action));
        }
        let (call, changes) = self.calls.take()?;
        changes.iter().for_each(|change| self.progress.start(*change));
        Some(Step::Call(call, changes.into_iter().map(|change| self.progress.part(change)).collect()))
    }

    /// Starts nothing more. What runs goes on.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether nothing more may start.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether a change runs: it was started, and its end was not reported.
    pub fn is_running(&self) -> bool {
        self.progress.is_running()
    }

    /// Whether nothing runs: no change, and no call. A call may go on after the ends of all of its changes were reported.
    pub fn is_idle(&self) -> bool {
        !self.progress.is_running() && !self.calls.is_running()
    }

    /// Reports that the current part of a change succeeded. If the next part is abandoned, the change failed: report that with [`Schedule::failed`].
    pub fn done(&mut self, change: usize) -> ChangeProgress {
        let progress = self.progress.done(change);
        if progress == ChangeProgress::Complete {
            self.rollouts.over(change, None);
        }
        progress
    }

    /// Reports that a change failed or is refused. Returns its dependants, which end too. A dependant that runs is finished first.
    pub fn failed(&mut self, change: usize) -> Vec<Skipped> {
        self.rollouts.over(change, Some(StopReason::Change(change)));
        self.abandon(&[change], change)
    }

    /// Reports that the result of a change could not be recorded. Its dependants keep waiting, because the run stops.
    pub fn unrecorded(&mut self, change: usize) {
        self.progress.close(change);
    }

    /// Reports that the current part of a change did not start after all.
    pub fn not_started(&mut self, change: usize) {
        self.progress.put_back(change);
        match self.works[change] {
            Work::Operation => self.calls.queue(change),
            Work::Refused | Work::Record => _ = self.records.insert(change),
        }
    }

    /// Reports that a call ended.
    pub fn call_over(&mut self, call: Call) {
        self.calls.over(call);
    }

    /// Reports that a node was drained, so that its changes may start, or that it could not be drained.
    pub fn drained(&mut self, turn: &NodeTurn, is_drained: bool) {
        let changes = self.rollouts.drained(turn, is_drained);
        self.release(changes);
    }

    /// Reports that the gates of a node were evaluated and the pause is over, with the name of the gate that was not passed.
    ///
    /// Returns whether the rollout is stopped.
    pub fn gates_evaluated(&mut self, turn: &NodeTurn, unhealthy: Option<&str>) -> bool {
        self.rollouts.gates_evaluated(turn, unhealthy.map(|gate| StopReason::Gate(gate.to_owned())));
        self.rollouts.is_stopped(turn.rollout)
    }

    /// Returns the next part of each change that has not ended. Call this once nothing runs.
    pub fn unfinished(&self) -> impl Iterator<Item = PlannedPart> {
        self.progress.unfinished()
    }

    fn step_of_rollout(&mut self, action: RolloutAction) -> Step {
        match action {
            RolloutAction::Drain(turn) => Step::Drain(turn),
            RolloutAction::Start(turn) => {
                self.release(self.rollouts.held(&turn));
                Step::StartNode(turn)
            }
            RolloutAction::EvaluateGates { turn, pauses } => Step::EvaluateGates { turn, pauses },
            RolloutAction::Skip(turns, because) => Step::SkipNodes(self.skip(turns, because)),
        }
    }

    /// Queues those of `changes` that wait only for the turn of their node.
    fn release(&mut self, changes: Vec<usize>) {
        for change in changes {
            if self.held.remove(&change) {
                self.calls.queue(change);
            }
        }
    }

    /// Ends the changes of nodes that have not started, and everything elsewhere that waits for them.
    fn skip(&mut self, turns: Vec<NodeTurn>, because: StopReason) -> SkippedNodes {
        // Read before the changes end, because the nodes of a rollout may depend on each other.
        let with_changes = |turn: NodeTurn| (self.rollouts.held(&turn), turn);
        let nodes: Vec<_> = turns.into_iter().map(with_changes).map(|(changes, turn)| (turn, changes)).collect();
        // The changes of one node do not end because of another node.
        for change in nodes.iter().flat_map(|(_, changes)| changes) {
            self.drop_ready(*change);
            self.progress.close(*change);
        }
        let by_node = nodes.iter().filter_map(|(_, changes)| Some((changes, changes.first()?)));
        let dependants = by_node.flat_map(|(changes, first)| self.abandon(changes, *first)).collect();
        SkippedNodes { because, nodes, dependants }
    }

    /// Ends changes, and everything that waits for them.
    fn abandon(&mut self, changes: &[usize], because: usize) -> Vec<Skipped> {
        changes.iter().for_each(|change| self.drop_ready(*change));
        let mut skipped = Vec::new();
        for change in self.progress.abandon(changes, because) {
            // The end of the change is reported when its running part ends.
            if self.progress.runs(change) {
                continue;
            }
            self.drop_ready(change);
            self.rollouts.over(change, Some(StopReason::Change(because)));
            skipped.push(Skipped { part: self.progress.part(change), because });
        }
        skipped
    }

    /// Takes a change out of the changes that are ready.
    fn drop_ready(&mut self, change: usize) {
        self.records.remove(&change);
        self.held.remove(&change);
        self.calls.remove(change);
    }
}
