//! The progress of rollouts: a few nodes at a time, and no further node after a failure.

use std::collections::{BTreeSet, VecDeque};

use crate::model::NodeName;
use crate::model::hash::HashMap;
use crate::plan::order::Order;
use crate::plan::{Change, NodeDrain, PlannedRollout, arrange};
use crate::provider::Action;

/// The rollouts of an apply, and the progress of each node. A change is named by its index in the plan.
pub(super) struct Rollouts {
    states: Vec<RolloutState>,
    groups: Vec<Group>,
    /// The group that each change waits for.
    held_by: HashMap<usize, usize>,
    /// The group that is not complete before each change: a change of the group, or data that is read after it.
    part_of: HashMap<usize, usize>,
}

/// One rollout.
struct RolloutState {
    /// How many nodes may be changed at the same time.
    limit: usize,
    /// The groups that have not started, in their order.
    waiting: VecDeque<usize>,
    /// Whether the gates of the unchanged nodes are evaluated. They are evaluated before the first node starts.
    unchanged: UnchangedNodes,
    /// The reason why no further node starts.
    stopped: Option<StopReason>,
}

/// The progress of the gates of unchanged nodes.
enum UnchangedNodes {
    /// These nodes are to be evaluated.
    NotEvaluated(Vec<NodeName>),
    /// The number of nodes whose gates are being evaluated.
    Evaluating(usize),
    Evaluated,
}

/// The reason why a rollout stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::apply) enum StopReason {
    /// This change did not succeed.
    Change(usize),
    /// The gate with this name is not healthy.
    Gate(String),
    /// The rollout with this index stopped, and one of its nodes comes before the next node.
    Rollout(usize),
    /// This node could not be drained.
    Drain(NodeName),
}

/// The changes of one node.
struct Group {
    rollout: usize,
    node: NodeName,
    /// The changes that are not complete yet.
    open: BTreeSet<usize>,
    /// The groups that must be complete first.
    after: BTreeSet<usize>,
    /// Whether the node is drained before its changes.
    is_drained: bool,
    state: NodeState,
    /// Whether one of its changes or gates failed.
    failed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum NodeState {
    Waiting,
    Draining,
    Working,
    /// Its gates are being evaluated.
    Gates,
    Over,
}

/// The next action of a rollout.
pub(super) enum RolloutAction {
    /// Drain this node. Its changes start after that.
    Drain(NodeTurn),
    /// Start the changes of this node.
    Start(NodeTurn),
    /// Evaluate the gates of this node, whose changes are complete. Pause afterwards if another node waits.
    EvaluateGates { turn: NodeTurn, pauses: bool },
    /// Skip the [held](Rollouts::held) changes of these nodes, which have not started.
    Skip(Vec<NodeTurn>, StopReason),
}

/// A node of a rollout whose turn it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::apply) struct NodeTurn {
    /// The index of the rollout in the plan.
    pub rollout: usize,
    /// The node.
    pub node: NodeName,
    /// The group with its changes. `None` for an unchanged node.
    group: Option<usize>,
}

impl Rollouts {
    /// Returns the rollouts of a plan.
    pub fn new(plans: &[PlannedRollout], changes: &[Change], order: &Order) -> Self {
        let places: HashMap<_, usize> = changes.iter().enumerate().map(|(i, c)| (&c.address, i)).collect();
        let mut rollouts =
            Self { states: Vec::new(), groups: Vec::new(), held_by: HashMap::default(), part_of: HashMap::default() };
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (rollout, plan) in plans.iter().enumerate() {
            let mut waiting = VecDeque::new();
            for node in &plan.nodes {
                let work: Vec<usize> = node.changes.iter().filter_map(|address| places.get(address).copied()).collect();
                let group = members.len();
                waiting.push_back(group);
                rollouts.held_by.extend(work.iter().map(|place| (*place, group)));
                rollouts.groups.push(Group {
                    rollout,
                    node: node.name.clone(),
                    open: work.iter().copied().collect(),
                    after: BTreeSet::new(),
                    is_drained: node.drain == NodeDrain::Planned,
                    state: NodeState::Waiting,
                    failed: false,
                });
                members.push(work);
            }
            let unchanged = if plan.gates.is_empty() { Vec::new() } else { plan.settled.clone() };
            rollouts.states.push(RolloutState {
                limit: plan.max_unavailable,
                waiting,
                unchanged: UnchangedNodes::NotEvaluated(unchanged),
                stopped: None,
            });
        }
        let members: Vec<&[usize]> = members.iter().map(Vec::as_slice).collect();
        for (group, before) in arrange(&members, order).into_iter().enumerate() {
            let first = &plans[rollouts.groups[group].rollout].after;
            let is_first = |other: &Group| first.contains(&plans[other.rollout].name);
            let of_rollouts = rollouts.groups.iter().enumerate().filter(|(_, other)| is_first(other));
            let of_rollouts: Vec<usize> = of_rollouts.map(|(other, _)| other).collect();
            rollouts.groups[group].after = before.into_keys().chain(of_rollouts).collect();
        }
        rollouts.part_of = rollouts.held_by.clone();
        rollouts.take_in_data(&members, changes, order);
        rollouts
    }

    /// Adds data to groups: a group is complete only after the data that depends on its changes alone was read, because its checks may use the data.
    fn take_in_data(&mut self, members: &[&[usize]], changes: &[Change], order: &Order) {
        let mut read_after: HashMap<usize, BTreeSet<usize>> = HashMap::default();
        for (group, work) in members.iter().enumerate() {
            let mut seen = BTreeSet::new();
            let mut queue = work.to_vec();
            while let Some(place) = queue.pop() {
                for next in
                    order.dependants(place).iter().copied().filter(|next| seen.insert(*next)).collect::<Vec<_>>()
                {
                    if !self.held_by.contains_key(&next) {
                        read_after.entry(next).or_default().insert(group);
                        queue.push(next);
                    }
                }
            }
        }
        for (place, groups) in read_after.into_iter().filter(|(place, _)| changes[*place].action == Action::Read) {
            if let [group] = groups.into_iter().collect::<Vec<_>>()[..] {
                self.part_of.insert(place, group);
                self.groups[group].open.insert(place);
            }
        }
    }

    /// Whether the rollouts permit this change to start.
    pub fn admits(&self, change: usize) -> bool {
        self.held_by.get(&change).is_none_or(|group| self.groups[*group].state == NodeState::Working)
    }

    /// Records that a change ended, with the reason if it failed.
    pub fn over(&mut self, change: usize, failure: Option<StopReason>) {
        let Some(group) = self.part_of.get(&change).copied() else { return };
        self.groups[group].open.remove(&change);
        if let Some(failure) = failure {
            self.fail(group, failure);
        }
    }

    /// Records that a node was drained, or that it could not be. Returns the changes that may start.
    pub fn drained(&mut self, turn: &NodeTurn, is_drained: bool) -> Vec<usize> {
        let Some(group) = turn.group else { return Vec::new() };
        if is_drained {
            self.groups[group].state = NodeState::Working;
            return self.held(turn);
        }
        // It has not started, so it is skipped with the nodes after it.
        self.groups[group].state = NodeState::Waiting;
        self.states[turn.rollout].waiting.push_front(group);
        self.fail(group, StopReason::Drain(turn.node.clone()));
        Vec::new()
    }

    /// Records that the gates of a node were evaluated and the pause is over, with the reason if a gate failed.
    pub fn gates_evaluated(&mut self, turn: &NodeTurn, failure: Option<StopReason>) {
        match (turn.group, failure) {
            (Some(group), failure) => {
                self.groups[group].state = NodeState::Over;
                if let Some(failure) = failure {
                    self.fail(group, failure);
                }
            }
            (None, failure) => self.unchanged_evaluated(turn.rollout, failure),
        }
    }

    /// Returns the changes of a node that wait for its turn.
    pub fn held(&self, turn: &NodeTurn) -> Vec<usize> {
        let open = turn.group.into_iter().flat_map(|group| self.groups[group].open.iter().copied());
        open.filter(|place| self.held_by.contains_key(place)).collect()
    }

    /// Whether no further node of this rollout starts.
    pub fn is_stopped(&self, rollout: usize) -> bool {
        self.states[rollout].stopped.is_some()
    }

    /// Returns the next actions. `is_held` is true for changes that wait only for the turn of their node.
    pub fn next(&mut self, is_held: impl Fn(usize) -> bool) -> VecDeque<RolloutAction> {
        let mut actions = VecDeque::new();
        for group in 0..self.groups.len() {
            let Group { open, state, failed, rollout, .. } = &mut self.groups[group];
            if *state != NodeState::Working || !open.is_empty() {
                continue;
            }
            let (rollout, failed) = (*rollout, *failed);
            *state = if failed { NodeState::Over } else { NodeState::Gates };
            if !failed {
                let pauses = !self.states[rollout].waiting.is_empty() && !self.is_stopped(rollout);
                actions.push_back(RolloutAction::EvaluateGates { turn: self.turn(group), pauses });
            }
        }
        for rollout in 0..self.states.len() {
            self.stop_behind_others(rollout);
            actions.extend(self.skip_remaining(rollout));
            actions.extend(self.start(rollout, &is_held));
        }
        actions
    }

    fn turn(&self, group: usize) -> NodeTurn {
        NodeTurn { rollout: self.groups[group].rollout, node: self.groups[group].node.clone(), group: Some(group) }
    }

    /// Stops the rollout of a group. The changes of nodes that have started go on.
    fn fail(&mut self, group: usize, failure: StopReason) {
        self.groups[group].failed = true;
        let rollout = self.groups[group].rollout;
        self.states[rollout].stopped.get_or_insert(failure);
    }

    fn unchanged_evaluated(&mut self, rollout: usize, failure: Option<StopReason>) {
        let RolloutState { limit, unchanged, stopped, .. } = &mut self.states[rollout];
        if let UnchangedNodes::Evaluating(left) = *unchanged {
            *unchanged = if left > 1 { UnchangedNodes::Evaluating(left - 1) } else { UnchangedNodes::Evaluated };
        }
        if let Some(failure) = failure {
            *limit = limit.saturating_sub(1);
            if *limit == 0 {
                stopped.get_or_insert(failure);
            }
        }
    }

    /// Stops a rollout that waits for a node of another stopped rollout.
    fn stop_behind_others(&mut self, rollout: usize) {
        if self.states[rollout].stopped.is_some() {
            return;
        }
        let before = self.states[rollout].waiting.front().into_iter().flat_map(|group| &self.groups[*group].after);
        let never =
            |group: &&Group| group.failed || (group.state == NodeState::Waiting && self.is_stopped(group.rollout));
        let behind = before.map(|group| &self.groups[*group]).find(never);
        self.states[rollout].stopped = behind.map(|group| StopReason::Rollout(group.rollout));
    }

    fn skip_remaining(&mut self, rollout: usize) -> Option<RolloutAction> {
        let why = self.states[rollout].stopped.clone()?;
        let left = std::mem::take(&mut self.states[rollout].waiting);
        (!left.is_empty()).then(|| RolloutAction::Skip(left.iter().map(|group| self.turn(*group)).collect(), why))
    }

    fn start(&mut self, rollout: usize, is_held: &impl Fn(usize) -> bool) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        while let Some(group) = self.states[rollout].waiting.front().copied() {
            let is_complete = |before: &usize| {
                let before = &self.groups[*before];
                before.state == NodeState::Over && !before.failed
            };
            let Group { open, after, .. } = &self.groups[group];
            // A node without changes is only put back into service.
            let is_ready = open.is_empty() || open.iter().any(|place| is_held(*place));
            if !is_ready || !after.iter().all(is_complete) {
                break;
            }
            let unchanged = &mut self.states[rollout].unchanged;
            match unchanged {
                UnchangedNodes::NotEvaluated(nodes) if !nodes.is_empty() => {
                    let nodes = std::mem::take(nodes);
                    *unchanged = UnchangedNodes::Evaluating(nodes.len());
                    actions.extend(nodes.into_iter().map(|node| {
                        let turn = NodeTurn { rollout, node, group: None };
                        RolloutAction::EvaluateGates { turn, pauses: false }
                    }));
                    break;
                }
                UnchangedNodes::Evaluating(_) => break,
                UnchangedNodes::NotEvaluated(_) | UnchangedNodes::Evaluated => {}
            }
            let is_active = |group: &&Group| {
                group.rollout == rollout && !matches!(group.state, NodeState::Waiting | NodeState::Over)
            };
            if self.groups.iter().filter(is_active).count() >= self.states[rollout].limit {
                break;
            }
            self.states[rollout].waiting.pop_front();
            let is_drained = self.groups[group].is_drained;
            self.groups[group].state = if is_drained { NodeState::Draining } else { NodeState::Working };
            let turn = self.turn(group);
            actions.push(if is_drained { RolloutAction::Drain(turn) } else { RolloutAction::Start(turn) });
        }
        actions
    }
}
