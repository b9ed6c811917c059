//! What an unchanged object reports about a changed one is recorded by the apply that changed it.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use moorfast_engine::model::Value;
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::provider::Action;
use support::Bench;

/// A badge that reports the version on its node, which it depends on through another file, and an item that watches the badge.
fn manifest(version: &str) -> String {
    format!(
        "[nodes.n]\ntransport = \"local\"\n\
         [resource.mem_file.kubelet]\non = \"n\"\nkey = \"version\"\nvalue = \"{version}\"\n\
         [resource.mem_file.between]\non = \"n\"\nkey = \"between\"\ndepends_on = [\"mem_file.kubelet\"]\n\
         [resource.mem_badge.node]\non = \"n\"\nkey = \"n\"\ndepends_on = [\"mem_file.between\"]\n\
         [resource.mem_item.watching]\nkey = \"watching\"\nrestart_on = [\"mem_badge.node\"]\n\
         [outputs.version]\nvalue = \"${{mem_badge.node.version}}\"\n"
    )
}

#[tokio::test]
async fn an_upgrade_records_the_version_that_others_report() {
    let bench = Bench::applied(&manifest("1")).await;
    bench.assert_settled().await;

    bench.memory.world().log.clear();
    bench.write(&manifest("2"));
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    let badge = plan.changes.iter().find(|change| change.address.to_string() == "mem_badge.node[\"n\"]").unwrap();
    assert_eq!(badge.action, Action::NoOp);
    let report = bench.apply(&PlanOptions::default()).await;
    assert_eq!(report.outputs["version"], Value::from("2"));
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    assert!(!plan.has_changes() && plan.drift.is_empty(), "{:?} {:?}", plan.drift, plan.outputs);
    assert!(!bench.memory.world().log.contains(&"restart watching".to_owned()));
}

#[tokio::test]
async fn a_change_made_outside_during_the_apply_is_still_drift() {
    let bench = Bench::applied(&manifest("1")).await;
    bench.write(&manifest("2"));
    let somebody = async {
        while !bench.memory.world().log.contains(&"update n:version".to_owned()) {
            tokio::task::yield_now().await;
        }
        bench.memory.world().items.insert("n".to_owned(), "theirs".to_owned());
    };
    let everything = PlanOptions::default();
    tokio::join!(bench.apply(&everything), somebody);
    let plan = bench.plan(&everything).await.unwrap();
    let [drift] = plan.drift.as_slice() else { panic!("{:?}", plan.drift) };
    assert_eq!(drift.before["version"], "2");
    assert_eq!((&drift.before["value"], &drift.after.as_ref().unwrap()["value"]), (&"".into(), &"theirs".into()));
}

#[tokio::test]
async fn a_reported_change_is_drift_until_a_refresh_accepts_it() {
    let badge = |key: &str| {
        format!(
            "[nodes.n]\ntransport = \"local\"\n[resource.mem_badge.node]\non = \"n\"\nkey = \"n\"\ndepends_on = [\"mem_file.other\"]\n\
             [resource.mem_file.other]\non = \"n\"\nkey = \"other\"\nvalue = \"{key}\"\n"
        )
    };
    let bench = Bench::default();
    let upgrade = |version: &str| _ = bench.memory.world().items.insert("n:version".to_owned(), version.to_owned());
    upgrade("1");
    bench.write(&badge("a"));
    bench.apply(&PlanOptions::default()).await;

    upgrade("2");
    let drift = async || bench.plan(&PlanOptions::default()).await.unwrap().drift.len();
    assert_eq!(drift().await, 1);
    // Neither an apply that changes nothing, nor one that changes what the badge depends on.
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(drift().await, 1);
    bench.write(&badge("b"));
    bench.apply(&PlanOptions::default()).await;
    assert_eq!(drift().await, 1);
    let refresh = PlanOptions { mode: PlanMode::RefreshOnly, ..PlanOptions::default() };
    assert!(bench.plan(&refresh).await.unwrap().has_changes());
    bench.apply(&refresh).await;
    assert_eq!(drift().await, 0);
    assert!(!bench.plan(&refresh).await.unwrap().has_changes());
}
