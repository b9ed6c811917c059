//! A cluster that the same manifest starts: its objects are planned before it answers, and created after it does.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use moorfast_engine::apply::ChangeResult;
use moorfast_engine::plan::{Change, Plan, PlanOptions};
use moorfast_engine::provider::{Action, Class};
use moorfast_engine::session::Failure;
use support::Bench;

/// The cluster answers after `api` was created on the node.
const BRINGS_UP: &str = r#"
[nodes.m]
transport = "local"

[providers.mem.cluster]
depends_on = ["mem_file.api"]

[resource.mem_file.api]
on  = "all"
key = "api"

[resource.mem_item.object]
provider = "mem.cluster"
key      = "object"

[resource.mem_item.after]
provider = "mem.cluster"
key      = "after"
value    = "${mem_item.object.id}"

[data.mem_item.object]
provider   = "mem.cluster"
key        = "object"
depends_on = ["mem_item.object"]

[outputs.seen]
value = "${data.mem_item.object.value}"
"#;

/// An object whose key is known only after the cluster started, so that it is not read before it is planned, and an instance of two objects.
const NAMED_LATER: &str = r#"
[resource.mem_item.named_later]
provider = "mem.cluster"
key      = "${mem_file.api.id}"

[resource.mem_bundle.two]
provider = "mem.cluster"
items    = "one=1 two=2"
"#;

fn bench(manifest: &str) -> Bench {
    let bench = Bench::default();
    bench.write(manifest);
    bench.memory.world().answers_once = Some("m:api".to_owned());
    bench
}

fn everything() -> PlanOptions {
    PlanOptions::default()
}

fn change<'p>(plan: &'p Plan, address: &str) -> &'p Change {
    plan.changes.iter().find(|change| change.address.to_string() == address).unwrap()
}

#[tokio::test]
async fn objects_are_planned_before_their_cluster_answers() {
    let bench = bench(BRINGS_UP);
    let plan = bench.plan(&everything()).await.unwrap();
    for address in ["mem_item.object", "mem_item.after"] {
        let change = change(&plan, address);
        assert_eq!(change.action, Action::Create);
        assert_eq!(change.notes, ["provisional: mem.cluster does not answer yet; this plan starts it"]);
    }
    assert_eq!(change(&plan, "data.mem_item.object").action, Action::Read);

    let report = bench.apply(&everything()).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
    assert_eq!(bench.memory.world().log, ["create m:api", "create object", "create after"]);
    let plan = bench.plan(&everything()).await.unwrap();
    assert!(!plan.has_changes(), "{:#?}", plan.changes);
}

#[tokio::test]
async fn an_object_that_cannot_be_read_yet_is_planned_before_its_cluster_answers() {
    let bench = bench(&format!("{BRINGS_UP}{NAMED_LATER}"));
    let plan = bench.plan(&everything()).await.unwrap();
    let planned = change(&plan, "mem_item.named_later");
    assert_eq!(planned.action, Action::Create);
    assert_eq!(planned.notes, ["provisional: mem.cluster does not answer yet; this plan starts it"]);
    let objects = change(&plan, "mem_bundle.two").objects.iter().map(|object| (object.name.as_str(), object.action));
    assert_eq!(objects.collect::<Vec<_>>(), [("one", Action::Create), ("two", Action::Create)]);
    let report = bench.apply(&everything()).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
    bench.assert_settled().await;

    // The same without a cluster that starts.
    let bench = self::bench(&format!("{BRINGS_UP}{NAMED_LATER}").replace("depends_on = [\"mem_file.api\"]", ""));
    let Err(Failure::Providers(failures)) = bench.plan(&everything()).await else { panic!("it is planned") };
    assert!(failures.iter().any(|(address, _)| address.to_string() == "mem_item.named_later"), "{failures:?}");
}

#[tokio::test]
async fn a_cluster_that_nothing_starts_fails_the_plan() {
    let bench = bench(&BRINGS_UP.replace("depends_on = [\"mem_file.api\"]", ""));
    let Err(Failure::Providers(failures)) = bench.plan(&everything()).await else { panic!("it is planned") };
    assert!(failures.iter().all(|(_, error)| error.class == Class::Unreachable), "{failures:?}");
    // An existing cluster is not about to start.
    let bench = self::bench(BRINGS_UP);
    bench.apply(&everything()).await;
    bench.memory.world().answers_once = Some("never".to_owned());
    assert!(matches!(bench.plan(&everything()).await, Err(Failure::Providers(_))));
}

#[tokio::test]
async fn a_cluster_that_does_not_answer_is_waited_for_again() {
    let bench = bench(BRINGS_UP);
    bench.memory.world().answers_once = Some("never".to_owned());
    let report = bench.apply(&everything()).await;
    let failed = report.outcomes.iter().find(|o| o.address.to_string() == "mem_item.object").unwrap();
    assert!(matches!(&failed.result, ChangeResult::Failed(error) if error.class == Class::Unreachable));
    assert_eq!(bench.memory.world().log, ["create m:api"]);

    // The same again, after the unit was removed.
    bench.memory.world().items.clear();
    bench.memory.world().answers_once = Some("m:api".to_owned());
    let report = bench.apply(&everything()).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
    bench.assert_settled().await;
}

#[tokio::test]
async fn objects_in_a_cluster_are_destroyed_before_the_cluster() {
    let bench = bench(BRINGS_UP);
    bench.apply(&everything()).await;
    bench.memory.world().log.clear();
    let destroy = PlanOptions { mode: moorfast_engine::plan::PlanMode::Destroy, ..everything() };
    let report = bench.apply(&destroy).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()), "{:?}", report.outcomes);
    assert_eq!(bench.memory.world().log, ["delete after", "delete object", "delete m:api"]);
}

#[tokio::test]
async fn a_provider_cannot_depend_on_its_own_objects() {
    let bench = bench(&BRINGS_UP.replace("[\"mem_file.api\"]", "[\"mem_item.object\"]"));
    let Err(Failure::Manifest(errors)) = bench.plan(&everything()).await else { panic!("it is planned") };
    let summaries: Vec<_> = errors.iter().map(|error| error.summary.as_str()).collect();
    assert_eq!(summaries, ["the provider `mem.cluster` depends on `mem_item.object`, which it manages itself"]);
}
