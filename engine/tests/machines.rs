//! The laws of nodes and machines: a new machine gets all objects again if it is approved, and nothing otherwise. Other nodes are not affected.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;

use moorfast_engine::apply::{ChangeOutcome, ChangeResult};
use moorfast_engine::model::{NodeChangeKind, NodeName, Replacement};
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::{Action, Class};
use moorfast_engine::session::Failure;
use proptest::prelude::*;
use support::Bench;

const NODES: [&str; 3] = ["n0", "n1", "n2"];

/// A badge on each node, and files that depend on earlier files and on the badge.
#[derive(Clone, Debug)]
struct Shape(Vec<BTreeSet<usize>>);

impl Shape {
    fn manifest(&self, value: &str) -> String {
        let nodes: String =
            NODES.iter().map(|n| format!("[nodes.{n}]\naddress = \"{n}\"\nroles = [\"all\"]\n\n")).collect();
        let badge = "[resource.mem_badge.own]\non = { role = \"all\" }\nkey = \"badge-${node.name}\"\n\n";
        let file = |(i, dependencies): (usize, &BTreeSet<usize>)| {
            let names: Vec<_> = dependencies.iter().map(|d| format!("\"mem_file.f{d}\"")).collect();
            format!(
                "[resource.mem_file.f{i}]\non = {{ role = \"all\" }}\nkey = \"f{i}\"\nvalue = \"{value}${{mem_badge.own.id}}\"\ndepends_on = [{}]\n\n",
                names.join(", ")
            )
        };
        nodes + badge + &self.0.iter().enumerate().map(file).collect::<String>()
    }

    /// Returns the objects of a node after the manifest was applied.
    fn places(&self, node: &str) -> BTreeSet<String> {
        let files = (0..self.0.len()).map(|i| format!("{node}:f{i}"));
        files.chain([format!("badge-{node}")]).collect()
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let files = proptest::collection::vec(proptest::collection::btree_set(0usize..6, 0..3), 1..6);
    files.prop_map(|files| {
        let earlier = |(i, on): (usize, BTreeSet<usize>)| on.into_iter().filter(|d| *d < i).collect();
        Shape(files.into_iter().enumerate().map(earlier).collect())
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn approving(node: &str) -> PlanOptions {
    let replacement = Replacement { node: NodeName(node.to_owned()), host_key: None };
    PlanOptions { replace_nodes: vec![replacement], ..PlanOptions::default() }
}

fn kinds(plan: &Plan) -> Vec<(String, NodeChangeKind)> {
    plan.nodes.iter().map(|change| (change.node.0.clone(), change.kind)).collect()
}

/// Returns the log without the operations on `node`.
fn elsewhere(log: &[String], node: &str) -> Vec<String> {
    log.iter().filter(|line| !line.contains(node)).cloned().collect()
}

#[test]
fn a_change_names_the_node_it_is_bound_to_and_not_one_that_its_key_names() {
    let manifest = |value: &str| {
        let nodes = Shape(vec![BTreeSet::new()]).manifest(value);
        format!(
            "{nodes}[resource.mem_item.each]\nfor_each = \"${{nodes}}\"\nkey = \"of-${{each.key}}\"\nvalue = \"{value}\"\n"
        )
    };
    run(async {
        let bench = Bench::applied(&manifest("v")).await;
        bench.memory.swap("n1", "key-new", "id-new");
        bench.write(&manifest("w"));
        let plan = bench.plan(&PlanOptions::default()).await.unwrap();
        let node = |address: &str| {
            let change = plan.changes.iter().find(|change| change.address.to_string() == address).unwrap();
            change.node.as_ref().map(|node| node.0.clone())
        };
        assert_eq!(node("mem_file.f0[\"n1\"]").as_deref(), Some("n1"), "it lives there");
        assert_eq!(node("mem_badge.own[\"n1\"]").as_deref(), Some("n1"), "`on` says so");
        assert_eq!(node("mem_item.each[\"n1\"]"), None);
        // Nobody approved the machine: its changes wait, and all others are made.
        bench.memory.world().log.clear();
        bench.apply(&PlanOptions::default()).await;
        assert!(bench.memory.world().log.contains(&"update of-n1".to_owned()), "{:?}", bench.memory.world().log);
    });
}

#[test]
fn data_of_an_unapproved_machine_are_not_read() {
    let manifest = Shape(vec![BTreeSet::new()]).manifest("v");
    let data = "[data.mem_file.seen]\non = { role = \"all\" }\nkey = \"f0\"\n";
    run(async {
        let bench = Bench::applied(&manifest).await;
        bench.write(&format!("{manifest}{data}"));
        bench.memory.swap("n1", "key-new", "id-new");
        let plan = bench.plan(&PlanOptions::default()).await.unwrap();
        let deferred: Vec<_> = plan.changes.iter().filter(|change| change.action == Action::Read).collect();
        assert_eq!(
            deferred.iter().map(|change| change.address.to_string()).collect::<Vec<_>>(),
            ["data.mem_file.seen[\"n1\"]"]
        );
        let read: Vec<_> = bench.memory.world().data.iter().map(|data| data.address.to_string()).collect();
        assert_eq!(read, ["data.mem_file.seen[\"n0\"]", "data.mem_file.seen[\"n2\"]"]);
    });
}

#[test]
fn an_import_is_refused_on_the_node_whose_machine_changed_and_on_no_other() {
    let shape = Shape(vec![BTreeSet::new(), BTreeSet::new()]);
    run(async {
        let bench = Bench::applied(&Shape(vec![BTreeSet::new()]).manifest("v")).await;
        bench.memory.swap("n1", "key-new", "id-new");
        bench.memory.world().trusted.push("key-new".to_owned());
        bench.write(&shape.manifest("v"));
        for node in ["n0", "n1"] {
            bench.memory.world().items.insert(format!("{node}:f1"), "there".to_owned());
        }
        assert_eq!(bench.plan(&PlanOptions::default()).await.unwrap().mismatches(), 1);
        let imported = bench.import("mem_file.f1[\"n0\"]").await.unwrap();
        assert_eq!(imported.iter().map(ToString::to_string).collect::<Vec<_>>(), ["mem_file.f1[\"n0\"]"]);
        let Err(Failure::Providers(failures)) = bench.import("mem_file.f1[\"n1\"]").await else { panic!("imported") };
        let errors: Vec<_> = failures.iter().map(|(_, error)| (error.class, error.summary.as_str())).collect();
        assert_eq!(errors, [(Class::Identity, "another machine answers as the node `n1`")]);
        // Its machine is the recorded one again.
        bench.memory.world().machines.clear();
        assert_eq!(bench.plan(&PlanOptions::default()).await.unwrap().mismatches(), 0);
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn an_approved_machine_gets_all_objects_and_other_nodes_are_not_affected(
        shape in shapes(),
        node in prop::sample::select(&NODES[..]),
        same_keys in any::<bool>(),
    ) {
        run(async {
            let bench = Bench::applied(&shape.manifest("v")).await;
            let key = if same_keys { format!("key-{node}") } else { "key-new".to_owned() };
            bench.memory.swap(node, &key, "id-new");
            bench.memory.world().log.clear();

            let kind = if same_keys { NodeChangeKind::Reimaged } else { NodeChangeKind::Replaced };
            prop_assert_eq!(kinds(&bench.plan(&PlanOptions::default()).await.unwrap()), [(node.to_owned(), kind)]);
            let report = bench.apply(&PlanOptions::default()).await;
            prop_assert!(report.outcomes.iter().all(|o| matches!(o.result, ChangeResult::Unapproved(_))));
            prop_assert_eq!(report.outcomes.len(), shape.places(node).len());
            prop_assert_eq!(&bench.memory.world().log, &Vec::<String>::new());

            bench.apply(&approving(node)).await;
            let log = bench.memory.world().log.clone();
            prop_assert_eq!(&log[0], &format!("delete badge-{node}"));
            let gone: Vec<_> = bench.memory.world().operations.iter().map(|operation| operation.machine_gone).collect();
            prop_assert_eq!(gone.iter().filter(|gone| **gone).count(), 1, "only the old badge");
            prop_assert_eq!(elsewhere(&log, node), Vec::<String>::new());
            let made = log.iter().filter_map(|line| line.strip_prefix("create ")).map(str::to_owned);
            prop_assert_eq!(made.collect::<BTreeSet<_>>(), shape.places(node));
            let plan = bench.plan(&PlanOptions::default()).await.unwrap();
            prop_assert!(!plan.has_changes() && plan.nodes.is_empty());
            Ok(())
        })?;
    }

    /// After the approval, plain applies complete the manifest, whatever fails meanwhile.
    #[test]
    fn an_approved_machine_needs_no_second_approval(
        shape in shapes(),
        node in prop::sample::select(&NODES[..]),
        breaks in any::<prop::sample::Index>(),
    ) {
        run(async {
            let bench = Bench::applied(&shape.manifest("v")).await;
            bench.memory.swap(node, "key-new", "id-new");
            let places: Vec<_> = shape.places(node).into_iter().collect();
            bench.memory.world().broken = vec![breaks.get(&places).clone()];
            bench.apply(&approving(node)).await;

            bench.memory.world().broken.clear();
            bench.memory.world().log.clear();
            bench.apply(&PlanOptions::default()).await;
            let log = bench.memory.world().log.clone();
            prop_assert_eq!(elsewhere(&log, node), Vec::<String>::new());
            bench.assert_settled().await;
            let there: BTreeSet<_> = bench.memory.world().items.keys().cloned().collect();
            let wanted: BTreeSet<_> = NODES.iter().flat_map(|node| shape.places(node)).collect();
            prop_assert_eq!(there, wanted);
            Ok(())
        })?;
    }

    /// A reviewed plan approves the observed machine only. A third machine is not approved, whatever host keys it has.
    #[test]
    fn a_machine_that_was_not_reviewed_is_not_recorded(
        shape in shapes(),
        node in prop::sample::select(&NODES[..]),
        same_keys in any::<bool>(),
    ) {
        run(async {
            let bench = Bench::applied(&shape.manifest("v")).await;
            let key = if same_keys { format!("key-{node}") } else { "key-new".to_owned() };
            bench.memory.swap(node, &key, "id-reviewed");
            let reviewed = bench.plan(&approving(node)).await.unwrap();
            bench.memory.swap(node, &key, "id-another");
            bench.memory.world().log.clear();

            let report = bench.apply_reviewed(reviewed).await;
            let is_left = |o: &ChangeOutcome| matches!(o.result, ChangeResult::Stale(_) | ChangeResult::Skipped(_));
            prop_assert!(report.outcomes.iter().all(is_left), "{:?}", report.outcomes);
            prop_assert_eq!(report.outcomes.len(), shape.places(node).len());
            let known = bench.store().await.snapshot().await.unwrap().nodes;
            prop_assert_eq!(&known[node]["machine_id"], &format!("id-{node}"));
            prop_assert_eq!(bench.plan(&PlanOptions::default()).await.unwrap().nodes.len(), 1);
            let report = bench.apply(&PlanOptions::default()).await;
            prop_assert!(report.outcomes.iter().all(|o| matches!(o.result, ChangeResult::Unapproved(_))));
            prop_assert_eq!(&bench.memory.world().log, &Vec::<String>::new());

            bench.apply(&approving(node)).await;
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    #[test]
    fn the_records_of_a_replaced_machine_are_removed_with_its_node(shape in shapes()) {
        run(async {
            let bench = Bench::applied(&shape.manifest("v")).await;
            bench.memory.swap("n1", "key-new", "id-new");
            bench.memory.world().log.clear();
            let destroy = PlanOptions { mode: moorfast_engine::plan::PlanMode::Destroy, ..PlanOptions::default() };
            let report = bench.apply(&destroy).await;
            prop_assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
            prop_assert!(bench.memory.world().log.iter().all(|line| !line.contains("n1:")));
            prop_assert!(bench.memory.world().items.is_empty());
            prop_assert!(bench.store().await.snapshot().await.unwrap().is_empty());
            Ok(())
        })?;
    }
}
