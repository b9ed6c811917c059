//! The laws of rollouts that drain nodes, tested on generated manifests.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use moorfast_engine::plan::{NodeDrain, Plan, PlanMode, PlanOptions, RolledNode};
use moorfast_engine::provider::Action;
use moorfast_engine::session::Interrupt;
use proptest::prelude::*;
use support::Bench;
use tokio_util::sync::CancellationToken;

/// Nodes with files, and a badge for each node that represents it in the cluster.
#[derive(Clone, Debug)]
struct Fleet {
    nodes: usize,
    files: usize,
    max_unavailable: usize,
}

impl Fleet {
    fn manifest(&self, value: &str) -> String {
        let nodes = (0..self.nodes).map(|n| format!("[nodes.n{n}]\ntransport = \"local\"\nroles = [\"worker\"]\n"));
        let file = |f: usize| {
            format!("[resource.mem_file.f{f}]\non = {{ role = \"worker\" }}\nkey = \"/{f}\"\nvalue = \"{value}\"\n")
        };
        let badge = "[resource.mem_badge.node]\non = { role = \"worker\" }\nkey = \"${node.name}\"\n";
        let rollout = format!(
            "[rollout.workers]\nroles = [\"worker\"]\nmax_unavailable = {}\ngates = [\"mem_badge.node\"]\ndrain = {{ resource = \"mem_badge.node\" }}\n",
            self.max_unavailable
        );
        nodes.chain((0..self.files).map(file)).collect::<String>() + badge + &rollout
    }

    /// Returns a bench whose nodes are to be changed.
    async fn to_update(&self) -> Bench {
        let bench = Bench::applied(&self.manifest("1")).await;
        bench.memory.world().log.clear();
        bench.write(&self.manifest("2"));
        bench
    }
}

fn fleets() -> impl Strategy<Value = Fleet> {
    (1usize..5, 1usize..3, 1usize..4).prop_map(|(nodes, files, max_unavailable)| Fleet {
        nodes,
        files,
        max_unavailable,
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn everything() -> PlanOptions {
    PlanOptions::default()
}

/// Checks that every change of a node is between its drain and its end, that this end comes after the health gate, and returns how many nodes were drained at the
/// same time at most. `drained` are the nodes that are drained already.
fn course(log: &[String], mut drained: BTreeSet<String>) -> usize {
    let (mut most, mut healthy) = (drained.len(), BTreeSet::new());
    for line in log {
        let (verb, key) = line.split_once(' ').unwrap();
        let node = key.split(':').next().unwrap().to_owned();
        match verb {
            "drain" => _ = drained.insert(node),
            "undrain" => {
                assert!(healthy.remove(&node), "{node} returns before its gate passed: {log:?}");
                drained.remove(&node);
            }
            "healthy" => _ = healthy.insert(node),
            "update" => assert!(drained.contains(&node), "{node} is changed in service: {log:?}"),
            _ => {}
        }
        most = most.max(drained.len());
    }
    most
}

fn node<'p>(plan: &'p Plan, name: &str) -> &'p RolledNode {
    plan.rollouts[0].nodes.iter().find(|node| node.name.0 == name).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_changed_node_is_drained_and_returns(fleet in fleets()) {
        run(async {
            let bench = fleet.to_update().await;
            let report = bench.apply(&everything()).await;
            prop_assert!(report.outcomes.iter().all(|o| o.is_done()) && report.out_of_service.is_empty(), "{report:?}");
            let world = || bench.memory.world();
            prop_assert!(course(&world().log, BTreeSet::new()) <= fleet.max_unavailable, "{:?}", world().log);
            prop_assert!(world().drained.is_empty());
            let drains = world().log.iter().filter(|line| line.starts_with("drain ")).count();
            prop_assert_eq!(drains, fleet.nodes);
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    /// A run that dies at any moment leaves nodes drained. The next plan shows them, and the next apply puts them back into service.
    #[test]
    fn a_run_that_died_leaves_no_node_drained(fleet in fleets(), after in 1usize..12, reports in any::<bool>()) {
        run(async {
            let bench = fleet.to_update().await;
            bench.apply_and_die(after, reports).await;
            let world = || bench.memory.world();
            let left: BTreeSet<String> = world().drained.keys().cloned().collect();
            prop_assert!(left.len() <= fleet.max_unavailable);
            let plan = bench.plan(&everything()).await.unwrap();
            prop_assert!(left.is_empty() || plan.has_changes());
            for name in &left {
                prop_assert!(node(&plan, name).was_drained);
            }
            world().log.clear();
            let report = bench.apply(&everything()).await;
            prop_assert!(report.outcomes.iter().all(|o| o.is_done()), "{report:?}");
            prop_assert!(course(&world().log, left) <= fleet.max_unavailable, "{:?}", world().log);
            prop_assert!(world().drained.is_empty(), "{:?}", world().log);
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    #[test]
    fn a_node_that_cannot_be_drained_is_not_changed_and_stays_in_service(fleet in fleets(), busy in any::<prop::sample::Index>()) {
        run(async {
            let bench = fleet.to_update().await;
            let busy = busy.index(fleet.nodes);
            bench.memory.world().busy.push(format!("n{busy}"));
            let report = bench.apply(&everything()).await;
            let world = || bench.memory.world();
            prop_assert_eq!(report.gates.len(), 1);
            prop_assert!(report.out_of_service.is_empty());
            prop_assert!(world().drained.is_empty(), "{:?}", world().log);
            for f in 0..fleet.files {
                prop_assert_eq!(&world().items[&format!("n{busy}:/{f}")], "1");
            }
            world().busy.clear();
            bench.apply(&everything()).await;
            bench.assert_settled().await;
            Ok(())
        })?;
    }
}

const FLEET: Fleet = Fleet { nodes: 2, files: 1, max_unavailable: 1 };

#[test]
fn a_change_in_the_cluster_alone_drains_nothing() {
    run(async {
        let bench = Bench::applied(&FLEET.manifest("1")).await;
        bench.write(&FLEET.manifest("1").replace("key = \"${node.name}\"", "key = \"${node.name}\"\nvalue = \"new\""));
        bench.memory.world().log.clear();
        let plan = bench.plan(&everything()).await.unwrap();
        assert!(plan.rollouts[0].nodes.iter().all(|node| node.drain == NodeDrain::NotNeeded && !node.returns()));
        bench.apply(&everything()).await;
        assert!(!bench.memory.world().log.iter().any(|line| line.contains("drain")));
    });
}

#[test]
fn only_the_named_resources_need_a_drained_node() {
    run(async {
        let limited = |value: &str| {
            FLEET.manifest(value).replace(
                "resource = \"mem_badge.node\" }",
                "resource = \"mem_badge.node\", resources = [\"mem_file.other\"] }",
            ) + "[resource.mem_file.other]\non = { role = \"worker\" }\nkey = \"/other\"\n"
        };
        let bench = Bench::applied(&limited("1")).await;
        bench.write(&limited("2"));
        let plan = bench.plan(&everything()).await.unwrap();
        assert!(plan.rollouts[0].nodes.iter().all(|node| node.drain == NodeDrain::NotNeeded));
    });
}

#[test]
fn a_node_that_no_rollout_puts_back_into_service_is_a_warning() {
    run(async {
        let bench = FLEET.to_update().await;
        bench.apply_and_die(2, true).await;
        let drained: Vec<String> = bench.memory.world().drained.keys().cloned().collect();
        assert_eq!(drained, ["n0"]);
        let warnings = async |manifest: String| {
            bench.write(&manifest);
            bench.plan(&everything()).await.unwrap().warnings
        };
        assert_eq!(warnings(FLEET.manifest("2")).await, Vec::<String>::new());
        let without_drain = FLEET.manifest("2").replace("drain = { resource = \"mem_badge.node\" }\n", "");
        let elsewhere = FLEET.manifest("2").replace(
            "[nodes.n0]\ntransport = \"local\"\nroles = [\"worker\"]",
            "[nodes.n0]\ntransport = \"local\"\nroles = [\"other\"]",
        );
        let elsewhere = elsewhere.replace(
            "on = { role = \"worker\" }\nkey = \"${node.name}\"",
            "on = { roles = [\"worker\", \"other\"] }\nkey = \"${node.name}\"",
        );
        for manifest in [without_drain, elsewhere] {
            let [warning] = warnings(manifest).await.try_into().unwrap();
            assert!(warning.starts_with("mem_badge.node[\"n0\"] is out of service: "), "{warning}");
        }
        let destroy = PlanOptions { mode: PlanMode::Destroy, ..everything() };
        assert_eq!(bench.plan(&destroy).await.unwrap().warnings, Vec::<String>::new());
    });
}

#[test]
fn a_node_that_is_not_in_the_cluster_is_not_drained() {
    run(async {
        let bench = FLEET.to_update().await;
        bench.memory.world().items.remove("n1");
        // Its badge is no gate, or the node would not be part of the rollout.
        bench.write(&FLEET.manifest("2").replace("gates = [\"mem_badge.node\"]\n", ""));
        let plan = bench.plan(&everything()).await.unwrap();
        assert_eq!(["n0", "n1"].map(|name| node(&plan, name).drain), [NodeDrain::Planned, NodeDrain::Absent]);
        bench.apply(&everything()).await;
        assert!(!bench.memory.world().log.contains(&"drain n1".to_owned()));
        bench.assert_settled().await;
    });
}

#[test]
fn a_node_that_another_state_drained_is_not_put_back_into_service() {
    run(async {
        let bench = FLEET.to_update().await;
        bench.memory.world().drained.insert("n0".to_owned(), "another".to_owned());
        let plan = bench.plan(&everything()).await.unwrap();
        assert!(!node(&plan, "n0").was_drained);
        bench.apply(&everything()).await;
        assert_eq!(bench.memory.world().drained["n0"], "another");
        bench.assert_settled().await;
    });
}

#[test]
fn a_failed_change_leaves_the_node_drained_and_the_next_apply_starts_with_it() {
    run(async {
        let bench = FLEET.to_update().await;
        bench.memory.world().broken.push("n0:/0".to_owned());
        let report = bench.apply(&everything()).await;
        let out: Vec<_> = report.out_of_service.iter().map(|node| node.0.as_str()).collect();
        assert_eq!(out, ["n0"]);
        bench.memory.world().broken.clear();
        let plan = bench.plan(&everything()).await.unwrap();
        assert!(node(&plan, "n0").was_drained && plan.rollouts[0].nodes[0].name.0 == "n0");
        assert!(bench.apply(&everything()).await.out_of_service.is_empty());
        bench.assert_settled().await;
    });
}

#[test]
fn an_interrupted_drain_is_undone() {
    run(async {
        let bench = FLEET.to_update().await;
        let stop = CancellationToken::new();
        bench.memory.world().stop_after = Some(("drain n0".to_owned(), stop.clone()));
        let interrupt = Interrupt { stop, ..Interrupt::default() };
        let report = bench.apply_until(&everything(), &interrupt).await;
        assert!(report.interrupted && report.out_of_service.is_empty());
        assert!(bench.memory.world().drained.is_empty());
    });
}

#[test]
fn a_resource_that_is_no_node_of_each_node_cannot_be_drained() {
    run(async {
        let error = async |from: &str, to: &str| {
            let bench = Bench::default();
            bench.write(&FLEET.manifest("1").replace(from, to));
            bench.plan(&everything()).await.unwrap_err().to_string()
        };
        let text = error("resource = \"mem_badge.node\" }", "resource = \"mem_file.f0\" }").await;
        assert!(text.contains("`mem_file` does not represent nodes of a cluster"), "{text}");
        let text =
            error("[resource.mem_badge.node]\non = { role = \"worker\" }", "[resource.mem_badge.node]\non = \"n0\"")
                .await;
        assert!(text.contains("has no instance for the node `n1`"), "{text}");
    });
}

/// Two rollouts. The second waits for the first.
#[test]
fn a_rollout_starts_after_another_one() {
    run(async {
        let manifest = |value: &str, after: &str| {
            let node = |name: &str| format!("[nodes.{name}]\ntransport = \"local\"\nroles = [\"{}\"]\n", &name[..1]);
            let nodes: String = ["a1", "a2", "b1", "b2"].map(node).concat();
            let resources = ["a", "b"].map(|role| {
                format!(
                    "[resource.mem_file.{role}]\non = {{ role = \"{role}\" }}\nkey = \"/{role}\"\nvalue = \"{value}\"\n"
                )
            });
            let rollouts = format!(
                "[rollout.a]\nroles = [\"a\"]\nafter = [{after}]\n[rollout.b]\nroles = [\"b\"]\nmax_unavailable = 2\n"
            );
            nodes + &resources.concat() + &rollouts
        };
        let bench = Bench::applied(&manifest("1", "\"rollout.b\"")).await;
        bench.write(&manifest("2", "\"rollout.b\""));
        bench.memory.world().log.clear();
        let plan = bench.plan(&everything()).await.unwrap();
        assert_eq!(plan.rollouts[0].after, ["b"]);
        assert!(plan.changes.iter().all(|change| change.action == Action::Update));
        bench.apply(&everything()).await;
        let order: Vec<_> = bench.memory.world().log.iter().map(|line| line.replace("update ", "")).collect();
        assert_eq!(order, ["b1:/b", "b2:/b", "a1:/a", "a2:/a"]);

        bench.write(&manifest("3", "\"rollout.b\""));
        bench.memory.world().broken.push("b1:/b".to_owned());
        bench.memory.world().log.clear();
        bench.apply(&everything()).await;
        assert!(!bench.memory.world().log.iter().any(|line| line.contains("/a")));

        bench.write(&manifest("3", "\"rollout.a\""));
        let error = bench.plan(&everything()).await.unwrap_err().to_string();
        assert!(error.contains("the rollout `a` comes after itself"), "{error}");
    });
}
