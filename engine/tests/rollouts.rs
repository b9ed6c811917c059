//! The laws of rollouts, tested on generated manifests.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use moorfast_engine::apply::{ChangeOutcome, ChangeResult, Report};
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::session::{Failure, Interrupt};
use proptest::prelude::*;
use support::Bench;

/// Nodes with the same resources. Each resource depends on some of the resources before it.
#[derive(Clone, Debug)]
struct Fleet {
    nodes: usize,
    resources: Vec<BTreeSet<usize>>,
    max_unavailable: usize,
    /// The last resource of every node depends on the first resource of this node.
    first: Option<usize>,
    /// The last resource of every node depends on an object without a node.
    shared: bool,
}

impl Fleet {
    fn manifest(&self, value: &str) -> String {
        let mut text = String::new();
        for node in 0..self.nodes {
            text += &format!("[nodes.n{node}]\ntransport = \"local\"\nroles = [\"worker\"]\n");
        }
        text += &format!("[resource.mem_item.shared]\nkey = \"shared\"\nvalue = \"{value}\"\n");
        for (r, before) in self.resources.iter().enumerate() {
            let mut after: Vec<String> = before.iter().map(|b| format!("mem_item.r{b}")).collect();
            if r + 1 == self.resources.len() {
                after.extend(self.first.filter(|_| r > 0).map(|node| format!("mem_item.r0[\"n{node}\"]")));
                after.extend(self.shared.then(|| "mem_item.shared".to_owned()));
            }
            text += &format!(
                "[resource.mem_item.r{r}]\non = {{ role = \"worker\" }}\nkey = \"${{node.name}}/{r}\"\nvalue = \"{value}\"\ndepends_on = {after:?}\n"
            );
        }
        text + &format!(
            "[rollout.workers]\nroles = [\"worker\"]\nmax_unavailable = {}\ngates = [\"mem_item.r0\"]\n",
            self.max_unavailable
        )
    }

    /// Returns the expected order of the nodes.
    fn order(&self) -> Vec<usize> {
        let first = self.first.filter(|_| self.resources.len() > 1);
        first.into_iter().chain((0..self.nodes).filter(|node| Some(*node) != first)).collect()
    }
}

fn fleets() -> impl Strategy<Value = Fleet> {
    let resource = |r: usize| proptest::collection::btree_set(0..r.max(1), 0..2.min(r + 1));
    let resources = (1usize..5).prop_flat_map(move |n| (0..n).map(resource).collect::<Vec<_>>());
    (2usize..6, resources, 1usize..4, proptest::option::of(0usize..5), any::<bool>()).prop_map(
        |(nodes, resources, max_unavailable, first, shared)| Fleet {
            nodes,
            resources: resources
                .into_iter()
                .enumerate()
                .map(|(r, before)| before.into_iter().filter(|b| *b < r).collect())
                .collect(),
            max_unavailable,
            first: first.filter(|node| *node < nodes),
            shared,
        },
    )
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn everything() -> PlanOptions {
    PlanOptions::default()
}

/// Returns the node and the action of a line of the log.
fn at_node(line: &str) -> Option<(usize, &str)> {
    let (verb, key) = line.split_once(' ')?;
    let (node, _) = key.strip_prefix('n')?.split_once('/')?;
    Some((node.parse().ok()?, verb))
}

/// Returns the nodes in the order in which they started, and how many of them were changed at the same time at most.
fn course(log: &[String]) -> (Vec<usize>, usize) {
    let (mut started, mut open, mut most) = (Vec::new(), BTreeSet::new(), 0);
    for (node, verb) in log.iter().filter_map(|line| at_node(line)) {
        if verb == "healthy" || verb == "sick" {
            open.remove(&node);
            continue;
        }
        if !started.contains(&node) {
            started.push(node);
        }
        open.insert(node);
        most = most.max(open.len());
    }
    (started, most)
}

async fn prepare_update(bench: &Bench, fleet: &Fleet) {
    bench.write(&fleet.manifest("1"));
    bench.apply(&everything()).await;
    bench.memory.world().log.clear();
    bench.write(&fleet.manifest("2"));
}

fn skipped_by_rollout(report: &Report) -> usize {
    report.outcomes.iter().filter(|o| matches!(o.result, ChangeResult::RolloutStopped { .. })).count()
}

/// Whether every operation has exactly one outcome.
fn each_reported_once(report: &Report) -> bool {
    let mut seen = BTreeSet::new();
    report.outcomes.iter().all(|o| seen.insert(o.address.to_string()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn at_most_max_unavailable_nodes_are_changed_at_once_and_all_are_changed(fleet in fleets()) {
        run(async {
            let bench = Bench::default();
            prepare_update(&bench, &fleet).await;
            let plan = bench.plan(&everything()).await.unwrap();
            let planned: Vec<_> = plan.rollouts[0].nodes.iter().map(|node| node.name.0.clone()).collect();
            let order = fleet.order();
            prop_assert_eq!(planned, order.iter().map(|node| format!("n{node}")).collect::<Vec<_>>());
            let report = bench.apply(&everything()).await;
            prop_assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
            let (taken, most) = course(&bench.memory.world().log);
            prop_assert!(most <= fleet.max_unavailable, "{:?}", bench.memory.world().log);
            if fleet.max_unavailable == 1 {
                prop_assert_eq!(taken, order);
            }
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    #[test]
    fn a_failure_stops_the_rollout_and_the_next_apply_completes_it(
        fleet in fleets(), node in any::<prop::sample::Index>(), resource in any::<prop::sample::Index>(), gate in any::<bool>(),
    ) {
        run(async {
            let bench = Bench::default();
            prepare_update(&bench, &fleet).await;
            let (node, resource) = (node.index(fleet.nodes), resource.index(fleet.resources.len()));
            match gate {
                true => bench.memory.world().sick.push(format!("n{node}/0")),
                false => bench.memory.world().broken.push(format!("n{node}/{resource}")),
            }
            let report = bench.apply(&everything()).await;
            prop_assert!(each_reported_once(&report), "{:?}", report.outcomes);
            prop_assert_eq!(report.gates.len(), usize::from(gate));
            let world = || bench.memory.world();
            let (taken, most) = course(&world().log);
            prop_assert!(most <= fleet.max_unavailable);
            let place = fleet.order().iter().position(|n| *n == node).unwrap();
            // If several nodes are changed at the same time, others may complete before the failure.
            let whole = fleet.max_unavailable > 1;
            prop_assert!(whole || taken.iter().all(|n| fleet.order()[..=place].contains(n)), "{:?}", world().log);
            let untouched: Vec<_> = (0..fleet.nodes).filter(|n| *n != node && !taken.contains(n)).collect();
            for other in &untouched {
                for r in 0..fleet.resources.len() {
                    prop_assert_eq!(&world().items[&format!("n{other}/{r}")], "1");
                }
            }
            // A dependant of the failed resource is skipped for that reason, even before its turn.
            let skipped = usize::from(!gate && resource == 0 && fleet.resources.len() > 1 && fleet.first == Some(node));
            prop_assert_eq!(skipped_by_rollout(&report), untouched.len() * (fleet.resources.len() - skipped));
            let is_skipped = |n: &&usize| {
                let last = format!("mem_item.r{}[\"n{n}\"]", fleet.resources.len() - 1);
                let of_last = |o: &&ChangeOutcome| o.address.to_string() == last;
                report.outcomes.iter().find(of_last).is_some_and(|o| matches!(o.result, ChangeResult::Skipped(_)))
            };
            prop_assert_eq!(untouched.iter().filter(is_skipped).count(), untouched.len() * skipped);
            // Changes outside of the rollout go on.
            prop_assert_eq!(&world().items["shared"], "2");

            world().broken.clear();
            world().sick.clear();
            world().log.clear();
            let report = bench.apply(&everything()).await;
            prop_assert!(report.outcomes.iter().all(|o| o.is_done()));
            prop_assert!(course(&world().log).1 <= fleet.max_unavailable);
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    /// A run was killed after the changes of a node and before its gates. The next run does not go on past an unhealthy node.
    #[test]
    fn an_unhealthy_node_without_changes_counts_as_unavailable(fleet in fleets(), sick in any::<prop::sample::Index>()) {
        run(async {
            let bench = Bench::default();
            prepare_update(&bench, &fleet).await;
            let sick = sick.index(fleet.nodes);
            for r in 0..fleet.resources.len() {
                bench.memory.world().items.insert(format!("n{sick}/{r}"), "2".to_owned());
            }
            bench.memory.world().sick.push(format!("n{sick}/0"));
            let report = bench.apply(&everything()).await;
            let (taken, most) = course(&bench.memory.world().log);
            prop_assert!(most < fleet.max_unavailable.max(1));
            prop_assert_eq!(taken.is_empty(), fleet.max_unavailable == 1);
            prop_assert!(each_reported_once(&report), "{:?}", report.outcomes);
            prop_assert_eq!(skipped_by_rollout(&report), if taken.is_empty() { (fleet.nodes - 1) * fleet.resources.len() } else { 0 });
            prop_assert_eq!(report.gates.len(), usize::from(fleet.max_unavailable == 1));
            Ok(())
        })?;
    }

    #[test]
    fn a_rollout_that_was_interrupted_goes_on_with_the_remaining_nodes(fleet in fleets()) {
        run(async {
            let bench = Bench::default();
            prepare_update(&bench, &fleet).await;
            let interrupt = Interrupt::default();
            let (stop, world) = (interrupt.stop.clone(), bench.memory.0.clone());
            let watch = tokio::spawn(async move {
                while !world.lock().unwrap().log.iter().any(|line| line.starts_with("healthy")) {
                    tokio::task::yield_now().await;
                }
                stop.cancel();
            });
            let report = bench.apply_until(&everything(), &interrupt).await;
            watch.await.unwrap();
            prop_assert_eq!(skipped_by_rollout(&report), 0);
            prop_assert!(each_reported_once(&report), "{:?}", report.outcomes);
            bench.apply(&everything()).await;
            let values: BTreeSet<_> = bench.memory.world().items.values().cloned().collect();
            prop_assert_eq!(values, BTreeSet::from(["2".to_owned()]));
            prop_assert!(course(&bench.memory.world().log).1 <= fleet.max_unavailable);
            Ok(())
        })?;
    }
}

const TWO: &str = "[nodes.a]\ntransport = \"local\"\n[nodes.b]\ntransport = \"local\"\n";

fn summaries(failure: Failure) -> String {
    match failure {
        Failure::Manifest(errors) => {
            errors.iter().map(|e| format!("{}\n  help: {}\n", e.summary, e.help.clone().unwrap_or_default())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nodes_that_depend_on_each_other_are_an_error() {
    run(async {
        let bench = Bench::default();
        let manifest = |value: &str| {
            format!(
                "{TWO}[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n\
                 [resource.mem_item.all]\nkey = \"all\"\nvalue = '{value}${{join(\",\", [for x in mem_item.x : x.id])}}'\n\
                 [resource.mem_item.y]\non = \"all\"\nkey = \"${{node.name}}/y\"\nvalue = \"${{mem_item.all.id}}\"\n\
                 [rollout.every]\nnodes = [\"a\", \"b\"]\n"
            )
        };
        bench.write(&manifest("1"));
        bench.apply(&everything()).await;
        bench.write(&manifest("2"));
        let text = summaries(bench.plan(&everything()).await.unwrap_err());
        insta::assert_snapshot!(text);
    });
}

#[test]
fn nodes_of_different_rollouts_wait_for_each_other_without_a_deadlock() {
    run(async {
        let bench = Bench::default();
        let manifest = |value: &str| {
            let node = |name: &str| format!("[nodes.{name}]\ntransport = \"local\"\n");
            let item = |name: &str, after: &str| {
                format!(
                    "[resource.mem_item.{name}]\non = \"{name}\"\nkey = \"{name}/0\"\nvalue = \"{value}\"\ndepends_on = [{after}]\n"
                )
            };
            ["a", "b", "c", "d"].map(node).concat()
                + &item("a", "\"mem_item.d\"")
                + &item("b", "")
                + &item("c", "\"mem_item.b\"")
                + &item("d", "")
                + "[rollout.one]\nnodes = [\"a\", \"b\"]\n[rollout.two]\nnodes = [\"c\", \"d\"]\n"
        };
        bench.write(&manifest("1"));
        bench.apply(&everything()).await;
        bench.write(&manifest("2"));
        let report = bench.apply(&everything()).await;
        assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
        assert_eq!(report.outcomes.len(), 4);

        bench.write(&manifest("3"));
        bench.memory.world().broken.push("b/0".to_owned());
        let report = bench.apply(&everything()).await;
        let left: BTreeMap<_, _> =
            report.outcomes.iter().map(|o| (o.address.to_string(), format!("{:?}", o.result))).collect();
        assert!(each_reported_once(&report), "{left:#?}");
        assert!(left["mem_item.a[\"a\"]"].contains("mem_item.b[\\\"b\\\"] did not succeed"), "{left:#?}");
    });
}

/// Nothing else runs at that time. The remaining nodes are still reported as skipped.
#[test]
fn a_node_that_fails_before_its_provider_is_called_stops_the_rollout() {
    run(async {
        let bench = Bench::default();
        let manifest = |value: &str| {
            format!(
                "{TWO}[nodes.c]\ntransport = \"local\"\n[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n\
                 precondition = [{{ condition = '${{node.name == \"a\" || mem_item.first.id != \"id-first-2\"}}', error_message = \"first is 2\" }}]\n\
                 [resource.mem_item.first]\nkey = \"first\"\nvalue = \"{value}\"\n[rollout.every]\nnodes = [\"a\", \"b\", \"c\"]\ngates = [\"mem_item.x\"]\n"
            )
        };
        bench.write(&manifest("1"));
        bench.apply(&everything()).await;
        bench.write(&manifest("2"));
        let report = bench.apply(&everything()).await;
        let results: BTreeMap<_, _> = report.outcomes.iter().map(|o| (o.address.to_string(), &o.result)).collect();
        assert!(matches!(results["mem_item.x[\"a\"]"], ChangeResult::Done), "{results:#?}");
        assert!(matches!(results["mem_item.x[\"b\"]"], ChangeResult::Failed(_)), "{results:#?}");
        assert!(matches!(results["mem_item.x[\"c\"]"], ChangeResult::RolloutStopped { .. }), "{results:#?}");
        assert!(!report.interrupted);
    });
}

fn planned(plan: &Plan) -> Vec<(String, Vec<String>, Vec<String>)> {
    let names = |nodes: &[moorfast_engine::model::NodeName]| nodes.iter().map(|n| n.0.clone()).collect();
    let rollout = |r: &moorfast_engine::plan::PlannedRollout| {
        (r.name.clone(), r.nodes.iter().map(|n| n.name.0.clone()).collect(), names(&r.settled))
    };
    plan.rollouts.iter().map(rollout).collect()
}

#[test]
fn new_nodes_are_not_held_back_and_resources_limit_a_rollout() {
    run(async {
        let bench = Bench::default();
        let manifest = |nodes: &str, value: &str| {
            format!(
                "{nodes}[resource.mem_item.file]\non = \"all\"\nkey = \"${{node.name}}/file\"\nvalue = \"{value}\"\n\
                 [resource.mem_item.unit]\non = \"all\"\nkey = \"${{node.name}}/unit\"\nrestart_on = [\"mem_item.file\"]\n\
                 [rollout.units]\nresources = [\"mem_item.unit\"]\n"
            )
        };
        bench.write(&manifest(TWO, "1"));
        assert_eq!(planned(&bench.plan(&everything()).await.unwrap()), []);
        bench.apply(&everything()).await;
        assert_eq!(planned(&bench.plan(&everything()).await.unwrap()), []);

        let three = format!("{TWO}[nodes.c]\ntransport = \"local\"\n");
        bench.write(&manifest(&three, "2"));
        let plan = bench.plan(&everything()).await.unwrap();
        let of = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        assert_eq!(planned(&plan), [("units".to_owned(), of(&["a", "b"]), of(&[]))]);
        assert_eq!(plan.rollouts[0].nodes[0].changes.len(), 1);
        bench.apply(&everything()).await;
        let log = bench.memory.world().log.clone();
        let place = |line: &str| log.iter().rposition(|l| l == line).unwrap();
        assert!(place("update b/file") < place("restart a/unit"), "{log:?}");
        assert!(place("restart a/unit") < place("restart b/unit"), "{log:?}");
    });
}

#[test]
fn nodes_are_changed_in_the_order_of_the_manifest() {
    let inventory = ["gpu10", "gpu2", "canary", "gpu1"];
    let cases: [(&str, [&str; 4]); 4] = [
        ("roles = [\"worker\"]", inventory),
        ("resources = [\"mem_item.x\"]", inventory),
        ("nodes = [\"gpu1\", \"canary\", \"gpu10\", \"gpu2\"]", ["gpu1", "canary", "gpu10", "gpu2"]),
        ("nodes = [\"canary\"]\nroles = [\"worker\"]", ["canary", "gpu10", "gpu2", "gpu1"]),
    ];
    for (selector, expected) in cases {
        run(async {
            let bench = Bench::default();
            let node = |name: &str| format!("[nodes.{name}]\ntransport = \"local\"\nroles = [\"worker\"]\n");
            let manifest = |value: &str| {
                inventory.map(node).concat()
                    + &format!(
                        "[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n[rollout.every]\n{selector}\n"
                    )
            };
            bench.write(&manifest("1"));
            bench.apply(&everything()).await;
            bench.write(&manifest("2"));
            bench.memory.world().log.clear();
            let plan = bench.plan(&everything()).await.unwrap();
            assert_eq!(planned(&plan)[0].1, expected, "{selector}");
            bench.apply(&everything()).await;
            assert_eq!(bench.memory.world().log, expected.map(|node| format!("update {node}/x")), "{selector}");
        });
    }
}

/// Three nodes, each with an item, another item whose key is known only after the first, and a check.
fn checked(value: &str, gate: &str) -> String {
    format!(
        "{TWO}[nodes.c]\ntransport = \"local\"\n\
         [resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n\
         [resource.mem_item.y]\non = \"all\"\nkey = \"${{node.name}}/${{mem_item.x.id}}\"\n\
         [check.x]\non = \"all\"\nassert = [{{ condition = '${{mem_item.x.value != \"sick\"}}', error_message = \"it is sick\" }}]\n\
         [check.y]\non = \"all\"\nassert = [{{ condition = '${{mem_item.y.id != \"\"}}', error_message = \"it has no id\" }}]\n\
         [rollout.every]\nresources = [\"mem_item.x\"]\ngates = [\"{gate}\"]\ntimeout = \"3s\"\n"
    )
}

fn only(addresses: &[&str]) -> PlanOptions {
    PlanOptions { targets: addresses.iter().map(|a| a.parse().unwrap()).collect(), ..everything() }
}

#[test]
fn an_excluded_node_counts_and_its_gates_are_evaluated() {
    for (of_c, done) in [("1", true), ("sick", false)] {
        run(async {
            let bench = Bench::applied(&checked("1", "check.x")).await;
            bench.write(&checked("2", "check.x"));
            bench.memory.world().items.insert("c/x".to_owned(), of_c.to_owned());
            let exclude = ["mem_item.x[\"c\"]".parse().unwrap()].into();
            for options in [only(&["mem_item.x[\"a\"]", "mem_item.x[\"b\"]"]), PlanOptions { exclude, ..everything() }]
            {
                assert_eq!(planned(&bench.plan(&options).await.unwrap())[0].2, ["c"]);
                let report = bench.apply(&options).await;
                assert_eq!(report.gates.is_empty(), done, "{report:#?}");
                assert_eq!(skipped_by_rollout(&report), if done { 0 } else { 2 });
                bench.memory.world().items.insert("a/x".to_owned(), "1".to_owned());
                bench.memory.world().items.insert("b/x".to_owned(), "1".to_owned());
            }
            assert_eq!(bench.memory.world().items["c/x"], of_c);
        });
    }
}

/// The gate does not wait for a value that never becomes known.
#[test]
fn a_gate_on_an_unknown_value_fails_immediately() {
    run(async {
        let bench = Bench::applied(&checked("1", "check.y").replace("3s", "1h")).await;
        bench.write(&checked("2", "check.y").replace("3s", "1h"));
        let options = only(&["mem_item.x[\"a\"]", "mem_item.x[\"b\"]"]);
        let report = tokio::time::timeout(Duration::from_secs(60), bench.apply(&options)).await.unwrap();
        let gate = &report.gates[0];
        insta::assert_snapshot!(format!(
            "{}: {}\nhelp: {}",
            gate.gate,
            gate.error.summary,
            gate.error.help.clone().unwrap()
        ));
        assert_eq!(skipped_by_rollout(&report), 2);
    });
}

/// Returns the error of the first gate that stopped a rollout of the nodes `a` and `b`.
async fn stopped_gate(bench: &Bench, options: &PlanOptions) -> Option<String> {
    let report = tokio::time::timeout(Duration::from_secs(60), bench.apply(options)).await.unwrap();
    report.gates.first().map(|gate| format!("{}: {}", gate.gate, gate.error.summary))
}

#[test]
fn a_gate_names_the_later_changes_whose_values_it_needs() {
    run(async {
        let manifest = |value: &str| {
            format!(
                "{TWO}[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n\
                 [resource.mem_item.late]\nkey = \"late\"\nvalue = \"{value}\"\ndepends_on = [\"mem_item.x\"]\n\
                 [check.late]\nassert = [{{ condition = '${{mem_item.late.id != \"\"}}', error_message = \"it has no id\" }}]\n\
                 [rollout.every]\nresources = [\"mem_item.x\"]\ngates = [\"check.late\"]\ntimeout = \"1h\"\n"
            )
        };
        let bench = Bench::applied(&manifest("1")).await;
        bench.write(&manifest("2"));
        let stopped = stopped_gate(&bench, &everything()).await;
        assert_eq!(stopped.as_deref(), Some("check.late: it depends on unknown values of mem_item.late"));
    });
}

#[test]
fn a_gate_reads_unselected_data_sources_whose_arguments_are_known() {
    // The condition of the check, and the gate that stops the rollout.
    let cases = [
        ("data.mem_item.known.value == \\\"flag\\\"", None),
        (
            "data.mem_item.known.value != \\\"flag\\\"",
            Some("check.flag: check.flag does not pass: assertion: it is set"),
        ),
        (
            "data.mem_item.unknown.value == \\\"flag\\\"",
            Some("check.flag: it depends on unknown values of data.mem_item.unknown"),
        ),
    ];
    for (condition, stopped) in cases {
        run(async {
            let manifest = |value: &str| {
                format!(
                    "{TWO}[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n\
                     [resource.mem_item.flag]\nkey = \"flag\"\nvalue = \"flag\"\n\
                     [data.mem_item.known]\nkey = \"flag\"\ndepends_on = [\"mem_item.flag\"]\n\
                     [data.mem_item.unknown]\nkey = \"${{mem_item.flag.id}}\"\n\
                     [check.flag]\nassert = [{{ condition = \"${{{condition}}}\", error_message = \"it is set\" }}]\n\
                     [rollout.every]\nresources = [\"mem_item.x\"]\ngates = [\"check.flag\"]\ntimeout = \"1s\"\n"
                )
            };
            let bench = Bench::default();
            bench.memory.world().items.insert("id-flag-flag".to_owned(), "flag".to_owned());
            bench.write(&manifest("1"));
            bench.apply(&everything()).await;
            bench.write(&manifest("2"));
            let only_items = only(&["mem_item.x[\"a\"]", "mem_item.x[\"b\"]"]);
            assert_eq!(stopped_gate(&bench, &only_items).await.as_deref(), stopped, "{condition}");
        });
    }
}

#[test]
fn a_gate_waits_for_objects_outside_of_the_rollout() {
    run(async {
        let bench = Bench::default();
        let manifest = |value: &str| {
            format!(
                "{TWO}[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\nvalue = \"{value}\"\n\
                 [resource.mem_item.shared]\nkey = \"shared\"\nvalue = \"{value}\"\n\
                 [check.x]\non = \"all\"\nassert = [{{ condition = '${{mem_item.shared.id == \"id-shared-{value}\"}}', error_message = \"it is old\" }}]\n\
                 [rollout.every]\nnodes = [\"a\", \"b\"]\ngates = [\"check.x\"]\ntimeout = \"1s\"\n"
            )
        };
        bench.write(&manifest("1"));
        bench.apply(&everything()).await;
        bench.write(&manifest("2"));
        bench.memory.world().items.insert("b/x".to_owned(), "2".to_owned());
        let report = bench.apply(&everything()).await;
        assert!(report.gates.is_empty() && report.outcomes.iter().all(|o| o.is_done()), "{report:#?}");
        assert_eq!(report.outcomes.len(), 2);
    });
}

#[test]
fn a_destroy_ignores_rollouts() {
    run(async {
        let bench = Bench::applied(&format!(
            "{TWO}[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\n[rollout.all]\nnodes = [\"a\", \"b\"]\ngates = [\"mem_item.x\"]\n"
        )).await;
        let destroy = PlanOptions { mode: moorfast_engine::plan::PlanMode::Destroy, ..everything() };
        let report = bench.apply(&destroy).await;
        assert!(report.outcomes.iter().all(|o| o.is_done()));
        assert!(bench.memory.world().items.is_empty());
    });
}

#[test]
fn an_impossible_rollout_is_an_error_before_anything_is_read() {
    let cases = [
        ("roles = [\"wroker\"]", "no node has the role `wroker`"),
        ("resources = [\"mem_item.free\"]", "`mem_item.free` has no instance for each node"),
        ("roles = [\"worker\"]\ngates = [\"mem_item.one\"]", "`mem_item.one` has no instance for the node `b`"),
        ("nodes = [\"a\"]\n[rollout.other]\nresources = [\"mem_item.x\"]", "is in two rollouts"),
    ];
    for (rollout, expected) in cases {
        run(async {
            let bench = Bench::default();
            let nodes = TWO.replace("\"local\"", "\"local\"\nroles = [\"worker\"]");
            bench.write(&format!(
                "{nodes}[resource.mem_item.x]\non = \"all\"\nkey = \"${{node.name}}/x\"\n[resource.mem_item.free]\nkey = \"free\"\n\
                 [resource.mem_item.one]\non = \"a\"\nkey = \"one\"\n[rollout.workers]\n{rollout}\n"
            ));
            let said = bench.workspace().validate();
            assert!(said.iter().any(|d| d.summary.contains(expected)), "{expected}: {said:#?}");
        });
    }
}
