//! Instances with several objects: each object is planned, owned and counted by itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;

use moorfast_engine::apply::ChangeResult;
use moorfast_engine::plan::{Change, Plan, PlanMode, PlanOptions, Summary};
use moorfast_engine::provider::{Action, Consequence};
use moorfast_engine::session::Failure;
use support::Bench;

fn bundle(name: &str, items: &str) -> String {
    format!("[resource.mem_bundle.{name}]\nitems = \"{items}\"\n")
}

fn guarded(name: &str, items: &str) -> String {
    format!("{}lifecycle = {{ prevent_destroy = true }}\n", bundle(name, items))
}

/// Returns a bench with this manifest applied and an empty log.
async fn applied(manifest: &str) -> Bench {
    let bench = Bench::default();
    bench.write(manifest);
    let report = bench.apply(&PlanOptions::default()).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
    bench.memory.world().log.clear();
    bench
}

async fn planned(bench: &Bench) -> Plan {
    bench.plan(&PlanOptions::default()).await.unwrap()
}

async fn refused(bench: &Bench) -> String {
    let Err(Failure::Manifest(errors)) = bench.plan(&PlanOptions::default()).await else { panic!("it is planned") };
    errors.into_iter().map(|error| error.summary).collect::<Vec<_>>().join("\n")
}

/// Applies, and checks that exactly the planned operations were done. Returns them.
async fn log_of_apply(bench: &Bench) -> Vec<String> {
    let counts = planned(bench).await.summary();
    let report = bench.apply(&PlanOptions::default()).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
    assert_eq!(report.outcomes.iter().map(|o| o.counts).sum::<Summary>(), counts);
    assert!(!planned(bench).await.has_changes());
    std::mem::take(&mut bench.memory.world().log)
}

fn only(plan: &Plan) -> &Change {
    assert_eq!(plan.changes.len(), 1, "{:#?}", plan.changes);
    &plan.changes[0]
}

fn actions(change: &Change) -> Vec<(&str, Action)> {
    change.objects.iter().map(|object| (object.name.as_str(), object.action)).collect()
}

#[tokio::test]
async fn each_object_is_planned_counted_and_done_by_itself() {
    let bench = applied(&bundle("x", "a=1 b=1 box=1 c=1")).await;
    bench.write(&bundle("x", "a=1 b=2 box=2 d=1"));
    bench.memory.world().fixed.push("box".to_owned());
    let plan = planned(&bench).await;
    let change = only(&plan);
    let expected = [
        ("a", Action::NoOp),
        ("b", Action::Update),
        ("box", Action::Replace),
        ("d", Action::Create),
        ("c", Action::Delete),
    ];
    assert_eq!((change.action, actions(change)), (Action::Update, expected.to_vec()));
    assert_eq!(plan.summary(), Summary { add: 2, change: 1, destroy: 2, ..Summary::default() });
    assert!(change.is_dangerous() && change.removes());
    assert_eq!(change.action_names(), ["delete", "create", "update"]);
    assert_eq!(change.replace_paths().collect::<Vec<_>>(), ["objects.box.value"]);
    assert_eq!(change.consequences, [Consequence::Removal { object: "everything in box".to_owned() }]);
    assert_eq!(log_of_apply(&bench).await, ["delete box", "delete c", "update b", "create box", "create d"]);
}

#[tokio::test]
async fn an_instance_of_one_object_is_that_object() {
    let bench = applied(&bundle("x", "box=1")).await;
    bench.write(&bundle("x", "box=2"));
    bench.memory.world().fixed.push("box".to_owned());
    let plan = planned(&bench).await;
    let change = only(&plan);
    assert_eq!((change.action, change.objects.len()), (Action::Replace, 0));
    assert_eq!(change.consequences, [Consequence::Removal { object: "everything in box".to_owned() }]);
    assert_eq!(log_of_apply(&bench).await, ["delete box", "create box"]);
}

#[tokio::test]
async fn prevent_destroy_guards_every_object() {
    let bench = applied(&guarded("x", "a=1 b=1")).await;
    bench.write(&guarded("x", "a=1"));
    assert_eq!(
        refused(&bench).await,
        "b of `mem_bundle.x` would be destroyed, but lifecycle.prevent_destroy forbids it"
    );
    bench.write(&guarded("x", "a=1 b=2"));
    assert!(planned(&bench).await.has_changes());
    bench.memory.world().fixed.push("b".to_owned());
    assert_eq!(
        refused(&bench).await,
        "b of `mem_bundle.x` would be destroyed, but lifecycle.prevent_destroy forbids it"
    );
    bench.write("");
    assert!(refused(&bench).await.contains("a, b of `mem_bundle.x` would be destroyed"));
    // An object that another instance owns now is not destroyed.
    bench.write(&(guarded("x", "a=1") + &bundle("y", "b=1")));
    assert_eq!(log_of_apply(&bench).await, [""; 0]);
}

#[tokio::test]
async fn the_objects_of_a_removed_instance_are_listed_if_it_has_several_that_are_destroyed() {
    let bench = applied(&(bundle("x", "a=1 b=1") + &guarded("y", "c=1"))).await;
    bench.write("");
    assert_eq!(refused(&bench).await, "`mem_bundle.y` would be destroyed, but lifecycle.prevent_destroy forbids it");
    bench.write("[[removed]]\nfrom = \"mem_bundle.x\"\ndestroy = false\n[[removed]]\nfrom = \"mem_bundle.y\"\ndestroy = false\n");
    let plan = planned(&bench).await;
    assert!(plan.changes.iter().all(|change| change.action == Action::Forget && change.objects.is_empty()));

    let bench = applied(&(bundle("x", "a=1 b=1") + &bundle("y", "c=1"))).await;
    bench.write("");
    let plan = planned(&bench).await;
    let objects: BTreeMap<_, _> = plan.changes.iter().map(|c| (c.address.to_string(), actions(c))).collect();
    assert_eq!(objects["mem_bundle.x"], [("a", Action::Delete), ("b", Action::Delete)]);
    assert_eq!(objects["mem_bundle.y"], []);
}

#[tokio::test]
async fn an_object_has_one_owner() {
    let bench = Bench::default();
    let item = "[resource.mem_item.i]\nkey = \"b\"\n";
    for other in [item.to_owned(), bundle("y", "c=1 b=1")] {
        bench.write(&(bundle("x", "a=1 b=1") + &other));
        assert!(refused(&bench).await.ends_with("manage the same object: b on mem"));
    }
}

#[tokio::test]
async fn an_object_that_turns_out_to_belong_to_another_instance_is_not_changed() {
    let bench = Bench::default();
    let late = "[resource.mem_item.first]\nkey = \"f\"\n[resource.mem_item.late]\nkey = \"${mem_item.first.id}\"\n";
    bench.write(&(bundle("x", "a=1 id-f-=1") + late));
    let report = bench.apply(&PlanOptions::default()).await;
    let failed = report.outcomes.iter().find(|o| o.address.to_string() == "mem_item.late").unwrap();
    let ChangeResult::Failed(error) = &failed.result else { panic!("{failed:?}") };
    assert!(error.summary.contains("manage the same object: id-f-"), "{error:?}");
    assert!(!bench.memory.world().log.contains(&"update id-f-".to_owned()));
    // Once it is known the plan says so.
    assert!(refused(&bench).await.contains("manage the same object: id-f-"));
}

#[tokio::test]
async fn an_object_that_moves_to_another_instance_stays() {
    let two = bundle("x", "a=1 b=1") + &bundle("y", "c=1");
    let cases = [
        (bundle("x", "a=1") + &bundle("y", "b=1 c=1"), vec![]),
        (bundle("x", "a=1") + &bundle("y", "b=2 c=1"), vec!["update b"]),
        (bundle("y", "b=1 c=1"), vec!["delete a"]),
        (bundle("y", "c=1") + "[resource.mem_bundle.z]\nitems = \"b=1 d=1\"\n", vec!["delete a", "create d"]),
    ];
    for (manifest, expected) in cases {
        let bench = applied(&two).await;
        bench.write(&manifest);
        let mut log = log_of_apply(&bench).await;
        log.sort_by_key(|line| !line.starts_with("delete"));
        assert_eq!(log, expected, "{manifest}");
        assert!(bench.memory.world().items.contains_key("b"));
    }
}

#[tokio::test]
async fn a_forced_replacement_and_a_destroy_count_every_object() {
    let bench = applied(&bundle("x", "a=1 box=1")).await;
    let replace = PlanOptions { replace: vec!["mem_bundle.x".parse().unwrap()], ..PlanOptions::default() };
    let plan = bench.plan(&replace).await.unwrap();
    assert_eq!(plan.summary(), Summary { add: 2, destroy: 2, ..Summary::default() });
    assert_eq!(only(&plan).consequences, [Consequence::Removal { object: "everything in box".to_owned() }]);
    let destroy = PlanOptions { mode: PlanMode::Destroy, ..PlanOptions::default() };
    let plan = bench.plan(&destroy).await.unwrap();
    assert_eq!(plan.summary(), Summary { destroy: 2, ..Summary::default() });
    assert_eq!(only(&plan).consequences, [Consequence::Removal { object: "everything in box".to_owned() }]);
    let report = bench.apply(&destroy).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()));
    assert!(bench.memory.world().items.is_empty());
}

#[tokio::test]
async fn a_reviewed_plan_is_kept_object_by_object() {
    let bench = applied(&bundle("x", "a=1 b=1")).await;
    bench.write(&bundle("x", "a=1 b=2"));
    let plan = planned(&bench).await;
    // The same change of the same object must now be a replacement, which nobody reviewed.
    bench.memory.world().fixed.push("b".to_owned());
    let report = bench.apply_reviewed(plan).await;
    let stale = |result: &ChangeResult| matches!(result, ChangeResult::Stale(_));
    assert!(report.outcomes.iter().all(|o| stale(&o.result)), "{:?}", report.outcomes);
    assert!(bench.memory.world().log.is_empty());
}
