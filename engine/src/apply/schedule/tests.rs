//! The laws of the schedule, tested on generated plans and generated courses of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use petgraph::algo::toposort;
use petgraph::graph::DiGraph;
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;

use super::*;
use crate::model::hash::HashMap;
use crate::model::{Address, NodeName, Recorded};
use crate::plan::sequence::{OldObject, Part};
use crate::plan::{Item, NodeDrain, RolledNode, arrange};
use crate::provider::{Action, Observed};

const NODES: usize = 3;

/// A change of a generated plan.
#[derive(Clone, Debug)]
struct Sketch {
    action: Action,
    /// The index of its node. `None` for an object of a cluster.
    node: Option<usize>,
    /// The changes before it that it depends on.
    dependencies: BTreeSet<usize>,
    is_refused: bool,
}

/// A generated plan.
#[derive(Clone, Debug)]
struct Fleet {
    sketches: Vec<Sketch>,
    /// The limit of the rollout of all nodes. `None` if there is no rollout.
    max_unavailable: Option<usize>,
    has_gates: bool,
    /// The nodes that are drained before their changes.
    drained: BTreeSet<usize>,
    /// The nodes that an earlier run left drained.
    left_drained: BTreeSet<usize>,
    limits: Limits,
}

/// What a schedule is made of.
struct Input {
    changes: Vec<Change>,
    items: HashMap<Address, Box<Item>>,
    rollout: Option<PlannedRollout>,
    limits: Limits,
    refused: Vec<bool>,
}

impl Sketch {
    fn new(action: Action, node: Option<usize>, dependencies: &[usize]) -> Self {
        Self { action, node, dependencies: dependencies.iter().copied().collect(), is_refused: false }
    }

    fn change(&self, i: usize) -> Change {
        let node = self.node.map(node_name);
        Change {
            address: address(i),
            moved_from: None,
            resource_type: "mem_item".to_owned(),
            provider: if node.is_some() { "ssh" } else { "kubernetes" }.to_owned(),
            target: node.as_ref().map_or_else(|| "kubernetes".to_owned(), |node| node.0.clone()),
            node,
            identity: Some(format!("new-{i}")),
            action: self.action,
            reasons: Vec::new(),
            before: None,
            after: (self.action != Action::Delete).then(Default::default),
            dependencies: self.dependencies.iter().copied().map(address).collect(),
            observed: None,
            objects: Vec::new(),
            consequences: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The recorded and observed object, if one exists. It has the same dependencies as the new object.
    fn item(&self, i: usize) -> Item {
        if matches!(self.action, Action::Create | Action::Read) {
            return Item::default();
        }
        let dependencies: Vec<_> = self.dependencies.iter().map(|d| address(*d).to_string()).collect();
        let record = json!({
            "address": address(i), "resource_type": "mem_item", "provider": "p", "target": self.change(i).target, "attributes": {},
            "identity": format!("old-{i}"), "dependencies": dependencies, "updated_at": "2026-01-01T00:00:00Z",
        });
        let object = Observed::default();
        Item {
            recorded: Some(Recorded::from(serde_json::from_value::<moorfast_state::Record>(record).unwrap())),
            observed: Some(object.clone()),
            former: Some(object),
            ..Item::default()
        }
    }
}

impl Fleet {
    /// Changes without a rollout, with one call at a time.
    fn of(sketches: Vec<Sketch>) -> Self {
        Self {
            sketches,
            max_unavailable: None,
            has_gates: false,
            drained: BTreeSet::new(),
            left_drained: BTreeSet::new(),
            limits: Limits { parallelism: 1, per_node: 1 },
        }
    }

    fn input(&self) -> Input {
        let changes: Vec<Change> = self.sketches.iter().enumerate().map(|(i, sketch)| sketch.change(i)).collect();
        let items =
            self.sketches.iter().enumerate().map(|(i, sketch)| (address(i), Box::new(sketch.item(i)))).collect();
        let rollout = self.rollout(&changes, &Order::new(&changes, &items));
        let refused = self.sketches.iter().map(|sketch| sketch.is_refused).collect();
        Input { changes, items, rollout, limits: self.limits, refused }
    }

    /// Returns the rollout of all nodes. `None` if the dependencies permit no order of the nodes.
    fn rollout(&self, changes: &[Change], order: &Order) -> Option<PlannedRollout> {
        let is_rolled = |i: &usize| changes[*i].action.accesses_target() && changes[*i].action != Action::Read;
        let of_node = |node| (0..changes.len()).filter(is_rolled).filter(move |i| self.sketches[*i].node == Some(node));
        let members: Vec<Vec<usize>> = (0..NODES).map(|node| of_node(node).collect()).collect();
        let mut graph: DiGraph<(), ()> = DiGraph::new();
        let nodes: Vec<_> = (0..NODES).map(|_| graph.add_node(())).collect();
        for (node, before) in arrange(&members.iter().map(Vec::as_slice).collect::<Vec<_>>(), order).iter().enumerate()
        {
            before.keys().for_each(|before| _ = graph.add_edge(nodes[*before], nodes[node], ()));
        }
        let sorted = toposort(&graph, None).ok()?.into_iter().map(|node| node.index());
        let (rolled, settled): (Vec<usize>, Vec<usize>) =
            sorted.partition(|node| !members[*node].is_empty() || self.left_drained.contains(node));
        let addresses = |node: usize| members[node].iter().copied().map(address).collect();
        Some(PlannedRollout {
            name: "all".to_owned(),
            max_unavailable: self.max_unavailable?,
            gates: self.has_gates.then(|| "check.health".to_owned()).into_iter().collect(),
            timeout: Duration::ZERO,
            pause: Duration::ZERO,
            after: Vec::new(),
            drain: None,
            nodes: rolled
                .into_iter()
                .map(|node| RolledNode {
                    name: node_name(node),
                    changes: addresses(node),
                    drain: match self.drained.contains(&node) && !members[node].is_empty() {
                        true => NodeDrain::Planned,
                        false => NodeDrain::NotNeeded,
                    },
                    was_drained: self.left_drained.contains(&node),
                })
                .collect(),
            settled: settled.into_iter().map(node_name).collect(),
        })
    }
}

impl Input {
    fn order(&self) -> Order {
        Order::new(&self.changes, &self.items)
    }

    fn schedule(&self) -> Schedule {
        Schedule::new(&self.changes, self.rollout.as_slice(), self.order(), self.limits, |i| self.refused[i])
    }
}

fn address(i: usize) -> Address {
    format!("mem_item.r{i}").parse().unwrap()
}

fn node_name(node: usize) -> NodeName {
    NodeName(format!("n{node}"))
}

fn fleets() -> impl Strategy<Value = Fleet> {
    let actions = [
        Action::NoOp,
        Action::Create,
        Action::Update,
        Action::Replace,
        Action::ReplaceCreateFirst,
        Action::Delete,
        Action::Forget,
        Action::Read,
    ];
    let sketch = move |i: usize| {
        let dependencies = prop::collection::btree_set(0..i.max(1), 0..3.min(i + 1));
        (prop::sample::select(actions.to_vec()), prop::option::of(0..NODES), dependencies, prop::bool::weighted(0.05))
            .prop_map(move |(action, node, dependencies, is_refused)| {
                let dependencies = dependencies.into_iter().filter(|d| *d < i).collect();
                Sketch { action, node, dependencies, is_refused }
            })
    };
    let sketches = (1usize..14).prop_flat_map(move |n| (0..n).map(sketch).collect::<Vec<_>>());
    let nodes = || prop::collection::btree_set(0..NODES, 0..=NODES);
    (sketches, prop::option::of(1usize..=NODES), any::<bool>(), nodes(), nodes(), 1usize..4, 1usize..3).prop_map(
        |(sketches, max_unavailable, has_gates, drained, left_drained, parallelism, per_node)| Fleet {
            sketches,
            max_unavailable,
            has_gates,
            drained,
            left_drained,
            limits: Limits { parallelism, per_node },
        },
    )
}

/// How a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    Refused,
    /// Because of this change.
    Skipped(usize),
    RolloutStopped,
    NotStarted,
}

/// A simulated run, which checks the laws at each step.
struct Run<'i> {
    input: &'i Input,
    order: Order,
    schedule: Schedule,
    running: Vec<PlannedPart>,
    calls: Vec<(Call, Vec<PlannedPart>)>,
    gates: Vec<NodeTurn>,
    drains: Vec<NodeTurn>,
    /// The nodes that were drained.
    drained: BTreeSet<NodeName>,
    /// The nodes whose turn began and whose gates were not passed yet.
    unavailable: BTreeSet<NodeName>,
    /// The unchanged nodes that are not healthy.
    unhealthy: usize,
    /// Whether a change or a gate of the rollout failed.
    rollout_failed: bool,
    /// Whether data could not be read, which may be part of the rollout.
    data_failed: bool,
    done: Vec<PlannedPart>,
    ends: BTreeMap<usize, End>,
    /// The changes in the order of their steps, for examples.
    log: Vec<String>,
}

impl<'i> Run<'i> {
    fn new(input: &'i Input) -> Self {
        Self {
            input,
            order: input.order(),
            schedule: input.schedule(),
            running: Vec::new(),
            calls: Vec::new(),
            gates: Vec::new(),
            drains: Vec::new(),
            drained: BTreeSet::new(),
            unavailable: BTreeSet::new(),
            unhealthy: 0,
            rollout_failed: false,
            data_failed: false,
            done: Vec::new(),
            ends: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// Takes all steps that are possible now.
    fn advance(&mut self) {
        while let Some(step) = self.schedule.next() {
            assert!(!self.schedule.is_stopped(), "a step after the stop");
            self.take(step);
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Refuse(change) => {
                assert!(self.input.refused[change]);
                self.end(change, End::Refused);
                self.fail(change);
            }
            Step::Record(changes) => {
                for change in changes {
                    let parts = self.order.parts_of(change);
                    let part = parts.map(|part| self.order.parts[part]).find(|part| !self.done.contains(part)).unwrap();
                    self.start(part);
                    self.succeed(part);
                }
            }
            Step::Call(call, parts) => {
                parts.iter().for_each(|part| self.start(*part));
                self.log.push(format!("call {:?}", parts.iter().map(|part| part.change).collect::<Vec<_>>()));
                self.calls.push((call, parts));
                self.check_limits();
            }
            Step::Drain(turn) => {
                self.start_node(&turn);
                self.drains.push(turn);
            }
            Step::StartNode(turn) => self.start_node(&turn),
            Step::EvaluateGates { turn, .. } => self.gates.push(turn),
            Step::SkipNodes(skipped) => {
                assert!(self.rollout_failed || self.data_failed);
                for (turn, changes) in skipped.nodes {
                    assert!(!self.unavailable.contains(&turn.node), "a node that started is skipped");
                    changes.into_iter().for_each(|change| self.end(change, End::RolloutStopped));
                }
                self.skip(skipped.dependants);
            }
        }
    }

    fn start_node(&mut self, turn: &NodeTurn) {
        assert!(!self.rollout_failed, "a node starts after a failure");
        self.unavailable.insert(turn.node.clone());
        let limit = self.input.rollout.as_ref().map_or(0, |rollout| rollout.max_unavailable);
        assert!(self.unavailable.len() + self.unhealthy <= limit, "more nodes than permitted");
    }

    fn end_drain(&mut self, turn: &NodeTurn, is_drained: bool) {
        match is_drained {
            true => _ = self.drained.insert(turn.node.clone()),
            false => {
                self.unavailable.remove(&turn.node);
                self.rollout_failed = true;
            }
        }
        self.schedule.drained(turn, is_drained);
    }

    fn start(&mut self, part: PlannedPart) {
        let change = part.change;
        assert!(!self.ends.contains_key(&change), "a change starts after its end");
        let place = self.order.parts_of(change).find(|place| self.order.parts[*place] == part).unwrap();
        let before = (0..self.order.parts.len()).filter(|before| self.order.after[*before].contains(&place));
        for before in before {
            assert!(self.done.contains(&self.order.parts[before]), "a part starts before a part that it waits for");
        }
        let rolled = self.input.rollout.iter().flat_map(|rollout| &rollout.nodes);
        for node in rolled.filter(|node| node.changes.contains(&address(change))) {
            assert!(self.unavailable.contains(&node.name), "a change starts before the turn of its node");
            let is_ready = node.drain != NodeDrain::Planned || self.drained.contains(&node.name);
            assert!(is_ready, "a change starts before its node is drained");
        }
        self.running.push(part);
    }

    fn check_limits(&self) {
        assert!(self.calls.len() <= self.input.limits.parallelism);
        let targets = self.calls.iter().map(|(_, parts)| &self.input.changes[parts[0].change].target);
        for node in (0..NODES).map(node_name) {
            assert!(targets.clone().filter(|target| **target == node.0).count() <= self.input.limits.per_node);
        }
    }

    fn succeed(&mut self, part: PlannedPart) {
        self.running.retain(|running| *running != part);
        self.done.push(part);
        match self.schedule.done(part.change) {
            ChangeProgress::Complete => self.end(part.change, End::Done),
            ChangeProgress::NextPart => assert!(!part.is_last),
            ChangeProgress::Abandoned(Skipped { part: next, because }) => {
                assert!(!next.is_first && !self.done.contains(&next));
                self.end(part.change, End::Skipped(because));
                self.fail(part.change);
            }
        }
    }

    fn fail(&mut self, change: usize) {
        self.running.retain(|running| running.change != change);
        self.note_failure_in_rollout(change);
        let skipped = self.schedule.failed(change);
        self.skip(skipped);
    }

    fn skip(&mut self, skipped: Vec<Skipped>) {
        for Skipped { part, because } in skipped {
            assert!(self.running.iter().all(|running| running.change != part.change), "a running change is skipped");
            assert!(part.is_first || self.done.iter().any(|done| done.change == part.change));
            self.note_failure_in_rollout(part.change);
            self.end(part.change, End::Skipped(because));
        }
    }

    fn note_failure_in_rollout(&mut self, change: usize) {
        let mut rolled = self.input.rollout.iter().flat_map(|rollout| &rollout.nodes);
        self.rollout_failed |= rolled.any(|node| node.changes.contains(&address(change)));
        self.data_failed |= self.input.changes[change].action == Action::Read;
    }

    fn end(&mut self, change: usize, end: End) {
        let other = self.ends.insert(change, end);
        assert_eq!(other, None, "the change {change} ends twice");
    }

    fn gates_evaluated(&mut self, turn: &NodeTurn, is_healthy: bool) {
        let is_changed = self.unavailable.contains(&turn.node);
        let limit = self.input.rollout.as_ref().map_or(0, |rollout| rollout.max_unavailable);
        match is_healthy {
            true => _ = self.unavailable.remove(&turn.node),
            false => {
                self.unhealthy += usize::from(!is_changed);
                self.rollout_failed |= is_changed || self.unhealthy >= limit;
            }
        }
        let is_stopped = self.schedule.gates_evaluated(turn, (!is_healthy).then_some("check.health"));
        assert!(is_stopped || !self.rollout_failed);
        assert!(!is_stopped || self.rollout_failed || self.data_failed);
    }

    /// Ends something that runs: a part, a call whose parts ended, or the evaluation of gates. Returns whether there was something.
    fn end_something(&mut self, which: Index, fails: bool) -> bool {
        let is_over = |(_, parts): &(Call, Vec<PlannedPart>)| parts.iter().all(|part| !self.running.contains(part));
        let over: Vec<usize> = (0..self.calls.len()).filter(|call| is_over(&self.calls[*call])).collect();
        let all = self.running.len() + over.len() + self.gates.len() + self.drains.len();
        if all == 0 {
            return false;
        }
        let which = which.index(all);
        if which >= all - self.drains.len() {
            let turn = self.drains.remove(all - 1 - which);
            self.end_drain(&turn, !fails);
            return true;
        }
        if which < self.running.len() {
            let part = self.running[which];
            match (fails, self.schedule.is_stopped()) {
                (false, _) => self.succeed(part),
                // The provider noticed the stop.
                (true, true) => {
                    self.running.remove(which);
                    self.schedule.not_started(part.change);
                }
                (true, false) => {
                    self.end(part.change, End::Failed);
                    self.fail(part.change);
                }
            }
        } else if let Some(call) = over.get(which - self.running.len()) {
            let (call, _) = self.calls.remove(*call);
            self.schedule.call_over(call);
        } else {
            let turn = self.gates.remove(which - self.running.len() - over.len());
            self.gates_evaluated(&turn, !fails);
        }
        true
    }

    /// Runs to the end. One step in `fails` fails, and the run stops after `stop` steps.
    fn finish(&mut self, choices: &[(Index, bool)], stop: Option<usize>) {
        for (step, (which, fails)) in choices.iter().cycle().enumerate() {
            assert!(step < 1000, "the run does not end");
            self.advance();
            if stop == Some(step) {
                self.schedule.stop();
            }
            if !self.end_something(*which, *fails) && self.schedule.is_idle() {
                break;
            }
        }
        assert!(self.running.is_empty() && self.calls.is_empty());
        let unfinished: Vec<_> = self.schedule.unfinished().collect();
        for part in unfinished {
            assert_eq!(part.is_first, !self.done.iter().any(|done| done.change == part.change));
            self.end(part.change, End::NotStarted);
        }
    }

    /// Returns the changes that wait for `change`, directly or indirectly.
    fn waits_for(&self, change: usize) -> BTreeSet<usize> {
        let (mut found, mut queue) = (BTreeSet::new(), vec![change]);
        while let Some(change) = queue.pop() {
            queue.extend(self.order.dependants(change).iter().filter(|next| found.insert(**next)));
        }
        found
    }
}

fn courses() -> impl Strategy<Value = Vec<(Index, bool)>> {
    prop::collection::vec((any::<Index>(), prop::bool::weighted(0.1)), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// The order, the limits and the turns of nodes are checked at each step.
    #[test]
    fn every_change_ends_exactly_once(fleet in fleets(), course in courses(), stop in prop::option::of(0usize..30)) {
        let input = fleet.input();
        let mut run = Run::new(&input);
        run.finish(&course, stop);
        prop_assert_eq!(run.ends.len(), input.changes.len());
    }

    #[test]
    fn without_a_failure_every_change_is_made(fleet in fleets(), course in courses()) {
        let sketches = fleet.sketches.into_iter().map(|sketch| Sketch { is_refused: false, ..sketch }).collect();
        let input = Fleet { sketches, ..fleet }.input();
        let mut run = Run::new(&input);
        let course: Vec<_> = course.into_iter().map(|(which, _)| (which, false)).collect();
        run.finish(&course, None);
        prop_assert!(run.ends.values().all(|end| *end == End::Done), "{:?}", run.ends);
        prop_assert_eq!(run.done.len(), run.order.parts.len());
    }

    #[test]
    fn a_failure_skips_exactly_its_dependants(fleet in fleets(), course in courses()) {
        let input = Fleet { max_unavailable: None, ..fleet }.input();
        let mut run = Run::new(&input);
        run.finish(&course, None);
        let failed = run.ends.iter().filter(|(_, end)| matches!(end, End::Failed | End::Refused));
        let failed: BTreeSet<usize> = failed.map(|(change, _)| *change).collect();
        for (change, end) in &run.ends {
            match end {
                End::Done | End::Failed | End::Refused => {}
                End::Skipped(because) => {
                    prop_assert!(run.waits_for(*because).contains(change));
                    prop_assert!(failed.iter().any(|failed| run.waits_for(*failed).contains(change)));
                }
                End::RolloutStopped | End::NotStarted => prop_assert!(false, "{change} {end:?}"),
            }
        }
        // A change with several parts may have failed after the part that a dependant waits for.
        for change in failed.iter().filter(|change| run.order.parts_of(**change).len() == 1) {
            prop_assert!(run.order.dependants(*change).iter().all(|next| run.ends[next] != End::Done), "{:?}", run.ends);
        }
    }
}

fn part(change: usize, part: Part, is_first: bool, is_last: bool) -> PlannedPart {
    PlannedPart { change, part, is_first, is_last }
}

#[test]
fn what_is_ready_on_a_target_is_one_call() {
    let create = |node, dependencies: &[usize]| Sketch::new(Action::Create, node, dependencies);
    let sketches = vec![create(Some(0), &[]), create(Some(0), &[]), create(Some(0), &[0]), create(Some(1), &[])];
    let input = Fleet { limits: Limits { parallelism: 2, per_node: 1 }, ..Fleet::of(sketches) }.input();
    let mut run = Run::new(&input);
    run.advance();
    assert_eq!(run.log, ["call [0, 1]", "call [3]"]);
    run.succeed(part(0, Part::Make, true, true));
    run.advance();
    // The call on the node is still running.
    assert_eq!(run.log.len(), 2);
    run.succeed(part(1, Part::Make, true, true));
    let (call, _) = run.calls.remove(0);
    run.schedule.call_over(call);
    run.advance();
    assert_eq!(run.log[2..], ["call [2]"]);
}

/// A destroyed object whose new object is not created is reported when the destroy ends, and only once.
#[test]
fn a_running_part_of_a_dependant_is_finished_first() {
    let replaced = Sketch::new(Action::Replace, None, &[0]);
    let input = Fleet::of(vec![Sketch::new(Action::Create, None, &[]), replaced]).input();
    let mut run = Run::new(&input);
    run.advance();
    assert_eq!(run.log, ["call [0, 1]"]);
    run.end(0, End::Failed);
    run.fail(0);
    assert_eq!(run.ends, [(0, End::Failed)].into());
    run.succeed(part(1, Part::Remove(OldObject::Own), true, false));
    assert_eq!(run.ends, [(0, End::Failed), (1, End::Skipped(0))].into());
}

#[test]
fn a_part_that_did_not_start_is_unfinished() {
    let input = Fleet::of(vec![Sketch::new(Action::Create, None, &[])]).input();
    let mut run = Run::new(&input);
    run.advance();
    run.schedule.stop();
    run.schedule.not_started(0);
    assert!(run.schedule.next().is_none());
    assert_eq!(run.schedule.unfinished().collect::<Vec<_>>(), [part(0, Part::Make, true, true)]);
    assert!(!run.schedule.is_running());
}
