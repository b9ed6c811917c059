//! Nodes that leave the inventory: their objects are destroyed over the connection that the state remembers, released, or given up with a dead machine.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use moorfast_engine::model::{Departure, NodeName};
use moorfast_engine::plan::{Plan, PlanMode, PlanOptions, Reason};
use moorfast_engine::provider::Action;
use support::Bench;

/// Returns a manifest with these nodes. Each has a file, which the badge of the node in the cluster depends on, and a membership that other nodes know.
fn manifest(nodes: &[&str]) -> String {
    let node = |name: &&str| format!("[nodes.{name}]\ntransport = \"local\"\nroles = [\"worker\"]\n");
    let nodes: String = nodes.iter().map(node).collect();
    nodes
        + "[resource.mem_file.unit]\non = { role = \"worker\" }\nkey = \"/unit\"\n\
           [resource.mem_member.etcd]\non = { role = \"worker\" }\nkey = \"member\"\ndepends_on = [\"mem_file.unit\"]\n\
           [resource.mem_badge.node]\non = { role = \"worker\" }\nkey = \"${node.name}\"\ndepends_on = [\"mem_file.unit\"]\n"
}

fn everything() -> PlanOptions {
    PlanOptions::default()
}

fn dead(node: &str) -> PlanOptions {
    PlanOptions { dead_nodes: vec![NodeName(node.to_owned())], ..everything() }
}

/// Returns a bench with two nodes. The second leaves.
async fn leaving() -> Bench {
    let bench = Bench::applied(&manifest(&["n0", "n1"])).await;
    bench.memory.world().log.clear();
    bench.write(&manifest(&["n0"]));
    bench
}

fn items(bench: &Bench) -> Vec<String> {
    bench.memory.world().items.keys().cloned().collect()
}

/// Returns the changes of the plan, and asserts that all of them are of `n1`.
fn changes(plan: &Plan) -> Vec<(String, Action)> {
    let changed = plan.changes.iter().filter(|change| change.action.is_change());
    changed
        .map(|change| {
            assert_eq!(change.node, Some(NodeName("n1".to_owned())), "{change:?}");
            (change.address.resource.resource_type.clone(), change.action)
        })
        .collect()
}

async fn assert_forgotten(bench: &Bench) {
    bench.assert_settled().await;
    let snapshot = bench.store().await.snapshot().await.unwrap();
    assert!(snapshot.records.keys().all(|address| !address.contains("n1")), "{:?}", snapshot.records.keys());
    assert!(!snapshot.nodes.contains_key("n1"));
}

#[tokio::test]
async fn what_was_made_on_it_is_destroyed_after_its_objects_in_the_cluster() {
    let bench = leaving().await;
    let plan = bench.plan(&everything()).await.unwrap();
    assert_eq!(plan.leaving.iter().map(|node| node.departure).collect::<Vec<_>>(), [Departure::Destroyed]);
    assert!(changes(&plan).iter().all(|(_, action)| *action == Action::Delete), "{:?}", changes(&plan));
    let report = bench.apply(&everything()).await;
    assert!(report.outcomes.iter().all(|outcome| outcome.is_done()), "{report:?}");
    let log = bench.memory.world().log.clone();
    assert_eq!(log.last().unwrap(), "delete n1:/unit", "{log:?}");
    assert!(bench.memory.world().operations.iter().all(|operation| !operation.machine_gone));
    assert_eq!(items(&bench), ["n0", "n0:/unit", "n0:member"]);
    assert_forgotten(&bench).await;
}

/// Its workloads need the routes of the other nodes until they are gone.
#[tokio::test]
async fn the_other_nodes_change_after_its_objects_in_the_cluster() {
    let with_routes = |nodes: &[&str]| {
        let routes = "[resource.mem_file.routes]\non = { role = \"worker\" }\nkey = \"/routes\"\nvalue = '${join(\",\", [for name, node in nodes : name])}'\n";
        manifest(nodes).replace("[\"mem_file.unit\"]", "[\"mem_file.unit\", \"mem_file.routes\"]") + routes
    };
    let bench = Bench::applied(&with_routes(&["n0", "n1"])).await;
    bench.memory.world().log.clear();
    bench.write(&with_routes(&["n0"]));
    bench.apply(&everything()).await;
    let log = bench.memory.world().log.clone();
    let place = |line: &str| log.iter().position(|logged| logged == line).unwrap();
    assert!(place("delete n1") < place("update n0:/routes"), "{log:?}");
    assert_forgotten(&bench).await;
}

#[tokio::test]
async fn its_node_is_drained_with_the_options_of_the_rollout() {
    let rollout =
        "[rollout.workers]\nroles = [\"worker\"]\ndrain = { resource = \"mem_badge.node\", timeout = \"90s\" }\n";
    let with_rollout = |nodes: &[&str]| manifest(nodes) + rollout;
    let bench = Bench::applied(&with_rollout(&["n0", "n1"])).await;
    bench.write(&with_rollout(&["n0"]));
    bench.apply(&everything()).await;
    let log = bench.memory.world().log.clone();
    assert!(log.contains(&"evict n1 within 90s".to_owned()), "{log:?}");
    assert_forgotten(&bench).await;

    // A destroy moves nothing elsewhere.
    bench.memory.world().log.clear();
    bench.apply(&PlanOptions { mode: PlanMode::Destroy, ..everything() }).await;
    let log = bench.memory.world().log.clone();
    assert!(log.contains(&"delete n0".to_owned()) && !log.iter().any(|line| line.starts_with("evict")), "{log:?}");
}

#[tokio::test]
async fn a_reviewed_plan_is_applied() {
    let bench = leaving().await;
    let plan = bench.plan(&everything()).await.unwrap();
    let stored: Plan = serde_json::from_str(&serde_json::to_string(&plan).unwrap()).unwrap();
    assert!(bench.apply_reviewed(stored).await.outcomes.iter().all(|outcome| outcome.is_done()));
    assert_forgotten(&bench).await;
}

#[tokio::test]
async fn another_machine_that_answers_is_not_changed() {
    let bench = leaving().await;
    bench.memory.swap("n1", "other", "other");
    bench.memory.world().items.insert("n1:/unit".to_owned(), "theirs".to_owned());
    bench.apply(&everything()).await;
    assert!(!bench.memory.world().log.contains(&"delete n1:/unit".to_owned()));
    assert_eq!(bench.memory.world().items["n1:/unit"], "theirs");
}

#[tokio::test]
async fn a_renamed_node_keeps_its_objects() {
    let bench = leaving().await;
    bench.write(&manifest(&["n0", "n2"]));
    bench.memory.world().machines.insert("n2".to_owned(), ("key-n2".to_owned(), "id-n1".to_owned()));
    let plan = bench.plan(&everything()).await.unwrap();
    assert_eq!(plan.leaving[0].departure, Departure::Renamed);
    assert_eq!(plan.drift, []);
    bench.apply(&everything()).await;
    assert!(!bench.memory.world().log.contains(&"delete n1:/unit".to_owned()));
    assert!(bench.memory.world().items.contains_key("n1:/unit"));
    // Its registration has another name now.
    assert!(bench.memory.world().log.contains(&"delete n1".to_owned()));
    assert_forgotten(&bench).await;
}

#[tokio::test]
async fn a_released_node_is_neither_read_nor_changed() {
    let bench = leaving().await;
    bench.write(&(manifest(&["n0"]) + "[[removed]]\nfrom = \"nodes.n1\"\ndestroy = false\n"));
    bench.memory.world().dead.push("n1".to_owned());
    let before = items(&bench);
    let plan = bench.plan(&everything()).await.unwrap();
    assert_eq!(plan.leaving[0].departure, Departure::Released);
    assert_eq!(plan.drift, []);
    assert!(changes(&plan).iter().all(|(_, action)| *action == Action::Forget), "{:?}", changes(&plan));
    bench.apply(&everything()).await;
    assert_eq!(items(&bench), before);
    assert_forgotten(&bench).await;
}

#[tokio::test]
async fn a_mistyped_node_that_is_to_be_kept_is_an_error() {
    let bench = leaving().await;
    bench.write(&(manifest(&["n0"]) + "[[removed]]\nfrom = \"nodes.n11\"\ndestroy = false\n"));
    let error = format!("{:?}", bench.plan(&everything()).await.unwrap_err());
    assert!(error.contains("the node `n11` is not in the state") && error.contains("the node `n1` leaves"), "{error}");
    // The block of a node that left earlier is no error.
    bench.write(&(manifest(&["n0"]) + "[[removed]]\nfrom = \"nodes.gpu07\"\ndestroy = false\n"));
    bench.plan(&everything()).await.unwrap();
}

#[tokio::test]
async fn a_dead_machine_needs_the_option() {
    let bench = leaving().await;
    bench.memory.world().dead.push("n1".to_owned());
    let error = format!("{:?}", bench.plan(&everything()).await.unwrap_err());
    assert!(error.contains("--dead-node n1"), "{error}");

    let plan = bench.plan(&dead("n1")).await.unwrap();
    assert_eq!(plan.leaving[0].departure, Departure::Dead);
    assert_eq!(plan.drift, []);
    let mut changed = changes(&plan);
    changed.sort_by(|(one, _), (other, _)| one.cmp(other));
    let expected = [("mem_badge", Action::Delete), ("mem_file", Action::Forget), ("mem_member", Action::Delete)];
    assert_eq!(changed, expected.map(|(name, action)| (name.to_owned(), action)));
    let of_file = plan.changes.iter().find(|c| c.address.to_string() == "mem_file.unit[\"n1\"]").unwrap();
    assert_eq!(of_file.reasons, [Reason::NodeLeaves { how: Departure::Dead }]);
    let report = bench.apply(&dead("n1")).await;
    assert!(report.outcomes.iter().all(|outcome| outcome.is_done()), "{report:?}");
    assert!(bench.memory.world().operations.iter().rev().take(2).all(|operation| operation.machine_gone));
    // The file was lost with its machine.
    assert_eq!(items(&bench), ["n0", "n0:/unit", "n0:member", "n1:/unit"]);
    assert_forgotten(&bench).await;
}

#[tokio::test]
async fn a_destroy_goes_on_without_a_dead_machine() {
    let bench = Bench::applied(&manifest(&["n0", "n1"])).await;
    bench.memory.world().dead.push("n1".to_owned());
    let options = PlanOptions { mode: PlanMode::Destroy, ..dead("n1") };
    let plan = bench.plan(&options).await.unwrap();
    let reasons = |node: &str| {
        let of_file = plan.changes.iter().find(|c| c.address.to_string() == format!("mem_file.unit[\"{node}\"]"));
        of_file.unwrap().reasons.clone()
    };
    assert_eq!(reasons("n0"), [Reason::Destroy]);
    assert_eq!(reasons("n1"), [Reason::NodeLeaves { how: Departure::Dead }]);
    let report = bench.apply(&options).await;
    assert!(report.outcomes.iter().all(|outcome| outcome.is_done()), "{report:?}");
    assert_eq!(items(&bench), ["n1:/unit"]);
}

#[tokio::test]
async fn a_node_that_does_not_leave_is_an_error() {
    let bench = Bench::applied(&manifest(&["n0", "n1"])).await;
    let error = bench.plan(&dead("n1")).await.unwrap_err().to_string();
    assert!(error.contains("the node `n1` is still in the inventory"), "{error}");
    let error = bench.plan(&dead("n2")).await.unwrap_err().to_string();
    assert!(error.contains("the node `n2` is not in the state"), "{error}");
    bench.write(&(manifest(&["n0", "n1"]) + "[[removed]]\nfrom = \"nodes.n1\"\ndestroy = false\n"));
    let error = bench.plan(&everything()).await.unwrap_err().to_string();
    assert!(error.contains("the node `n1` is still in the inventory"), "{error}");
}
