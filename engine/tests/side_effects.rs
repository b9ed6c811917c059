//! A plan shows what else the removal of an object removes.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::provider::Consequence;
use support::Bench;

const ITEM: &str = "[resource.mem_item.a]\nkey = \"a\"\nvalue = \"1\"\n";

/// Returns the consequences of the only change of the plan for `manifest`.
async fn consequences(bench: &Bench, manifest: &str, mode: PlanMode) -> Vec<Consequence> {
    bench.write(manifest);
    let plan = bench.plan(&PlanOptions { mode, ..PlanOptions::default() }).await.unwrap();
    let [change] = &plan.changes[..] else { panic!("{:#?}", plan.changes) };
    change.consequences.clone()
}

#[tokio::test]
async fn a_removal_shows_what_else_is_removed() {
    let bench = Bench::applied(ITEM).await;
    bench.memory.world().side_effects.insert("a".to_owned(), "item x".to_owned());
    let removal = [Consequence::Removal { object: "item x".to_owned() }];
    assert_eq!(consequences(&bench, ITEM, PlanMode::Destroy).await, removal);
    assert_eq!(consequences(&bench, "", PlanMode::Normal).await, removal);
    let renamed = ITEM.replace("\"a\"", "\"b\"");
    assert_eq!(consequences(&bench, &renamed, PlanMode::Normal).await, removal);
    // An object that stays or does not exist any more removes nothing.
    assert_eq!(consequences(&bench, &ITEM.replace('1', "2"), PlanMode::Normal).await, []);
    bench.memory.world().items.clear();
    assert_eq!(consequences(&bench, "", PlanMode::Normal).await, []);
}
