//! Which nodes of a rollout may be worked on: a few at a time, and none any more after a failure.

use std::collections::{BTreeSet, HashMap};

use crate::model::NodeName;
use crate::plan::order::Order;
use crate::plan::{Change, PlannedRollout, arrange};
use crate::provider::Action;

/// The rollouts of an apply and how far each of their nodes is. Changes are named by their places in the plan.
pub(super) struct Rollouts {
    lanes: Vec<Lane>,
    units: Vec<Unit>,
    /// The unit whose turn a change waits for.
    held_by: HashMap<usize, usize>,
    /// The unit that is not through before a change is over: one that is held, or data that is read after these.
    part_of: HashMap<usize, usize>,
}

/// One rollout.
struct Lane {
    plan: PlannedRollout,
    /// How many nodes may be in work at once.
    limit: usize,
    /// Its units that have not begun, in their order.
    waiting: Vec<usize>,
    /// The nodes without work: looked at before the first node begins.
    settled: Settled,
    /// Why no further node begins.
    stopped: Option<String>,
}

/// How far the nodes without work are looked at.
#[derive(Clone, Copy, PartialEq)]
enum Settled {
    NotEvaluated,
    /// So many did not answer yet.
    Evaluating(usize),
    Evaluated,
}

/// The work on one node.
struct Unit {
    lane: usize,
    node: NodeName,
    /// The changes that are not over yet.
    open: BTreeSet<usize>,
    /// The units that must be through first.
    after: BTreeSet<usize>,
    state: NodeState,
    /// Did a change of it or one of its gates not come about?
    failed: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum NodeState {
    Waiting,
    Working,
    /// Its gates are nodes.
    Gates,
    Over,
}

/// What is to be done next.
#[derive(Debug, PartialEq)]
pub(super) enum RolloutAction {
    /// Ask the gates of this node, which nothing is done with.
    EvaluateUnchanged(NodeTurn),
    /// The work on this node begins.
    Start(NodeTurn),
    /// Ask the gates of this node, whose changes are all done; pause after that where another node waits.
    EvaluateGates(NodeTurn, bool),
    /// Leave what is [held](Rollouts::held) of these nodes, which have not begun, for this reason.
    Skip(Vec<NodeTurn>, String),
}

/// A node of a rollout, and why it is visited.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NodeTurn {
    /// The place of the rollout in the plan.
    pub lane: usize,
    /// The node.
    pub node: NodeName,
    /// Its work; none where there is none.
    unit: Option<usize>,
}

impl Rollouts {
    /// The rollouts of a plan.
    pub fn new(plans: &[PlannedRollout], changes: &[Change], order: &Order) -> Self {
        let places: HashMap<_, usize> = changes.iter().enumerate().map(|(i, c)| (&c.address, i)).collect();
        let mut rollouts =
            Self { lanes: Vec::new(), units: Vec::new(), held_by: HashMap::new(), part_of: HashMap::new() };
        let mut members: Vec<Vec<usize>> = Vec::new();
        for (lane, plan) in plans.iter().enumerate() {
            let mut waiting = Vec::new();
            for node in &plan.nodes {
                let work: Vec<usize> = node.changes.iter().filter_map(|address| places.get(address).copied()).collect();
                let unit = members.len();
                waiting.push(unit);
                rollouts.held_by.extend(work.iter().map(|place| (*place, unit)));
                rollouts.units.push(Unit {
                    lane,
                    node: node.name.clone(),
                    open: work.iter().copied().collect(),
                    after: BTreeSet::new(),
                    state: NodeState::Waiting,
                    failed: false,
                });
                members.push(work);
            }
            rollouts.lanes.push(Lane {
                plan: plan.clone(),
                limit: plan.max_unavailable,
                waiting,
                settled: Settled::NotEvaluated,
                stopped: None,
            });
        }
        let members: Vec<&[usize]> = members.iter().map(Vec::as_slice).collect();
        for (unit, before) in arrange(&members, order).into_iter().enumerate() {
            rollouts.units[unit].after = before.into_keys().collect();
        }
        rollouts.part_of = rollouts.held_by.clone();
        rollouts.take_in_data(&members, changes, order);
        rollouts
    }

    /// A node is not through before the data is read that waits for its changes and for those of no other node: its checks may look at it.
    fn take_in_data(&mut self, members: &[&[usize]], changes: &[Change], order: &Order) {
        let mut read_after: HashMap<usize, BTreeSet<usize>> = HashMap::new();
        for (unit, work) in members.iter().enumerate() {
            let mut seen = BTreeSet::new();
            let mut queue = work.to_vec();
            while let Some(place) = queue.pop() {
                for next in
                    order.dependants(place).iter().copied().filter(|next| seen.insert(*next)).collect::<Vec<_>>()
                {
                    if !self.held_by.contains_key(&next) {
                        read_after.entry(next).or_default().insert(unit);
                        queue.push(next);
                    }
                }
            }
        }
        for (place, units) in read_after.into_iter().filter(|(place, _)| changes[*place].action == Action::Read) {
            if let [unit] = units.into_iter().collect::<Vec<_>>()[..] {
                self.part_of.insert(place, unit);
                self.units[unit].open.insert(place);
            }
        }
    }

    /// May this change start, as far as rollouts have a say?
    pub fn admits(&self, change: usize) -> bool {
        self.held_by.get(&change).is_none_or(|unit| self.units[*unit].state == NodeState::Working)
    }

    /// A change is over; `failure` says why it did not come about.
    pub fn over(&mut self, change: usize, failure: Option<&str>) {
        let Some(unit) = self.part_of.get(&change).copied() else { return };
        self.units[unit].open.remove(&change);
        if let Some(failure) = failure {
            self.fail(unit, failure);
        }
    }

    /// The gates of a node that was worked on are passed, and the pause is over; or they are not.
    pub fn gates_evaluated(&mut self, turn: &NodeTurn, failure: Option<&str>) {
        match (turn.unit, failure) {
            (Some(unit), failure) => {
                self.units[unit].state = NodeState::Over;
                failure.into_iter().for_each(|failure| self.fail(unit, failure));
            }
            (None, failure) => self.unchanged_evaluated(turn.lane, failure),
        }
    }

    /// The changes of a node that wait for its turn.
    pub fn held(&self, turn: &NodeTurn) -> Vec<usize> {
        let open = turn.unit.into_iter().flat_map(|unit| self.units[unit].open.iter().copied());
        open.filter(|place| self.held_by.contains_key(place)).collect()
    }

    /// Does no further node of this rollout begin?
    pub fn is_stopped(&self, lane: usize) -> bool {
        self.lanes[lane].stopped.is_some()
    }

    /// What may be done next, given which changes wait for nothing but their turn.
    pub fn next(&mut self, is_queued: impl Fn(usize) -> bool) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        for unit in 0..self.units.len() {
            let Unit { open, state, failed, lane, .. } = &mut self.units[unit];
            if *state != NodeState::Working || !open.is_empty() {
                continue;
            }
            let (lane, failed) = (*lane, *failed);
            *state = if failed { NodeState::Over } else { NodeState::Gates };
            if !failed {
                let another_waits = !self.lanes[lane].waiting.is_empty() && !self.is_stopped(lane);
                actions.push(RolloutAction::EvaluateGates(self.turn(unit), another_waits));
            }
        }
        for lane in 0..self.lanes.len() {
            self.stop_behind_others(lane);
            actions.extend(self.skip_remaining(lane));
            actions.extend(self.start(lane, &is_queued));
        }
        actions
    }

    /// The rollout at this place.
    pub fn plan(&self, lane: usize) -> &PlannedRollout {
        &self.lanes[lane].plan
    }

    fn turn(&self, unit: usize) -> NodeTurn {
        NodeTurn { lane: self.units[unit].lane, node: self.units[unit].node.clone(), unit: Some(unit) }
    }

    /// No further node begins. What else is to be done on those that did goes on.
    fn fail(&mut self, unit: usize, failure: &str) {
        self.units[unit].failed = true;
        let lane = self.units[unit].lane;
        self.lanes[lane].stopped.get_or_insert_with(|| failure.to_owned());
    }

    fn unchanged_evaluated(&mut self, lane: usize, failure: Option<&str>) {
        let Lane { limit, settled, stopped, .. } = &mut self.lanes[lane];
        if let Settled::Evaluating(left) = *settled {
            *settled = if left > 1 { Settled::Evaluating(left - 1) } else { Settled::Evaluated };
        }
        if let Some(failure) = failure {
            *limit = limit.saturating_sub(1);
            if *limit == 0 {
                stopped.get_or_insert_with(|| failure.to_owned());
            }
        }
    }

    /// A rollout that waits for a node of another one stops with that one.
    fn stop_behind_others(&mut self, lane: usize) {
        if self.lanes[lane].stopped.is_some() {
            return;
        }
        let before = self.lanes[lane].waiting.first().into_iter().flat_map(|unit| &self.units[*unit].after);
        let never = |unit: &&Unit| unit.failed || (unit.state == NodeState::Waiting && self.is_stopped(unit.lane));
        let behind = before.map(|unit| &self.units[*unit]).find(never);
        let name = behind.map(|unit| self.lanes[unit.lane].plan.name.clone());
        self.lanes[lane].stopped = name.map(|name| format!("the rollout `{name}` stopped"));
    }

    fn skip_remaining(&mut self, lane: usize) -> Option<RolloutAction> {
        let why = self.lanes[lane].stopped.clone()?;
        let left = std::mem::take(&mut self.lanes[lane].waiting);
        (!left.is_empty()).then(|| RolloutAction::Skip(left.iter().map(|unit| self.turn(*unit)).collect(), why))
    }

    fn start(&mut self, lane: usize, is_queued: &impl Fn(usize) -> bool) -> Vec<RolloutAction> {
        let mut actions = Vec::new();
        while let Some(unit) = self.lanes[lane].waiting.first().copied() {
            let is_through = |before: &usize| {
                let before = &self.units[*before];
                before.state == NodeState::Over && !before.failed
            };
            let Unit { open, after, .. } = &self.units[unit];
            if !open.iter().any(|place| is_queued(*place)) || !after.iter().all(is_through) {
                break;
            }
            match self.lanes[lane].settled {
                Settled::NotEvaluated => {
                    let nodes = self.lanes[lane].plan.settled.clone();
                    let nodes = if self.lanes[lane].plan.gates.is_empty() { Vec::new() } else { nodes };
                    self.lanes[lane].settled =
                        if nodes.is_empty() { Settled::Evaluated } else { Settled::Evaluating(nodes.len()) };
                    actions.extend(
                        nodes
                            .into_iter()
                            .map(|node| RolloutAction::EvaluateUnchanged(NodeTurn { lane, node, unit: None })),
                    );
                    continue;
                }
                Settled::Evaluating(_) => break,
                Settled::Evaluated => {}
            }
            let in_work =
                |unit: &&Unit| unit.lane == lane && matches!(unit.state, NodeState::Working | NodeState::Gates);
            if self.units.iter().filter(in_work).count() >= self.lanes[lane].limit {
                break;
            }
            self.lanes[lane].waiting.remove(0);
            self.units[unit].state = NodeState::Working;
            actions.push(RolloutAction::Start(self.turn(unit)));
        }
        actions
    }
}
