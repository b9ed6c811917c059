//! An apply of a reviewed plan skips what changed after the review, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeMap;

use moorfast_engine::apply::ChangeResult;
use moorfast_engine::plan::PlanOptions;
use support::Bench;

/// Two items, each with one that depends on it, a third one, and a data source that is read during the apply.
fn manifest(value: &str) -> String {
    let item = |name: &str, value: &str, after: &str| {
        format!("[resource.mem_item.{name}]\nkey = \"{name}\"\nvalue = \"{value}\"\ndepends_on = [{after}]\n")
    };
    item("changed", value, "")
        + &item("after_changed", value, "\"mem_item.changed\"")
        + &item("unchanged", "same", "")
        + &item("after_unchanged", value, "\"mem_item.unchanged\"")
        + &item("other", value, "")
        + "[data.mem_item.other]\nkey = \"other\"\ndepends_on = [\"mem_item.other\"]\n\
           [outputs.other]\nvalue = \"${data.mem_item.other.value}\"\n"
}

#[tokio::test]
async fn only_a_planned_change_whose_object_changed_is_skipped_with_its_dependants() {
    let bench = Bench::applied(&manifest("1")).await;
    bench.write(&manifest("2"));
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    for key in ["changed", "unchanged"] {
        bench.memory.world().items.insert(key.to_owned(), "theirs".to_owned());
    }
    bench.memory.world().log.clear();
    let report = bench.apply_reviewed(plan).await;
    let results: BTreeMap<_, _> = report.outcomes.iter().map(|o| (o.address.to_string(), &o.result)).collect();
    let ChangeResult::Stale(lines) = results["mem_item.changed"] else { panic!("{results:#?}") };
    assert_eq!(
        lines,
        &[
            "id: before \"id-changed-1\", reviewed a value known after the apply, now \"id-changed-theirs\"",
            "value: before \"1\", reviewed \"2\", now \"theirs\"",
        ]
    );
    let ChangeResult::Skipped(because) = results["mem_item.after_changed"] else { panic!("{results:#?}") };
    assert_eq!(because.to_string(), "mem_item.changed");
    assert_eq!(bench.memory.world().log, ["update other", "update after_unchanged"]);
    assert_eq!(report.outputs["other"].as_str(), Some("2"));
}

#[tokio::test]
async fn an_object_that_appears_or_disappears_after_the_review_is_skipped() {
    let bench = Bench::applied("[resource.mem_item.a]\nkey = \"a\"\nvalue = \"1\"\n").await;
    bench.write("[resource.mem_item.a]\nkey = \"a\"\nvalue = \"2\"\n[resource.mem_item.b]\nkey = \"b\"\n");
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    bench.memory.world().items.clear();
    bench.memory.world().items.insert("b".to_owned(), "theirs".to_owned());
    let report = bench.apply_reviewed(plan).await;
    let lines: BTreeMap<_, _> = report
        .outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            ChangeResult::Stale(lines) => (outcome.address.to_string(), lines.join("\n")),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(lines["mem_item.a"], "it existed at the review and does not exist any more");
    assert_eq!(lines["mem_item.b"], "it did not exist at the review and exists now");
}
