//! What a provider gets with an operation.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::time::Duration;

use moorfast_engine::model::Value;
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::provider::{Operation, OperationAction};
use support::Bench;

/// An item with a limit for each kind of operation.
fn item(key: &str, value: &str, material: &str) -> String {
    format!(
        "[resource.mem_item.x]\nkey = \"{key}\"\nvalue = \"{value}\"\nmaterial = \"{material}\"\n\
         timeouts = {{ create = \"1m\", update = \"2m\", delete = \"3m\" }}\n"
    )
}

/// Returns an operation as text: the action, the identity in its record, the value and the key that was observed, and its limit.
fn shown(operation: &Operation) -> String {
    let action = match &operation.action {
        OperationAction::Create(_) => "create",
        OperationAction::Update(_) => "update",
        OperationAction::Delete => "delete",
    };
    let recorded = operation.recorded.as_ref().map_or("nothing", |record| &record.identity);
    let observed = operation.observed.as_ref().map_or_else(
        || "nothing".to_owned(),
        |observed| {
            let text = |name: &str| observed.attributes[name].as_str().unwrap_or_default().to_owned();
            format!("{}={}", text("key"), text("value"))
        },
    );
    let limit = operation.timeout.map_or(0, |limit| limit.as_secs() / 60);
    format!("{action}, recorded {recorded}, observed {observed}, {limit}m")
}

/// Applies a manifest, and returns its operations.
async fn operations(bench: &Bench, manifest: &str, options: &PlanOptions) -> Vec<String> {
    bench.write(manifest);
    bench.memory.world().operations.clear();
    let report = bench.apply(options).await;
    assert!(report.outcomes.iter().all(|outcome| outcome.is_done()), "{report:?}");
    bench.memory.world().operations.iter().map(shown).collect()
}

#[tokio::test]
async fn an_operation_has_the_record_and_the_object_that_it_changes_and_its_limit() {
    let bench = Bench::default();
    let everything = PlanOptions::default();
    let made = operations(&bench, &item("a", "1", "wood"), &everything).await;
    assert_eq!(made, ["create, recorded nothing, observed nothing, 1m"]);
    let changed = operations(&bench, &item("a", "2", "wood"), &everything).await;
    assert_eq!(changed, ["update, recorded a, observed a=1, 2m"]);
    let replaced = operations(&bench, &item("a", "2", "steel"), &everything).await;
    assert_eq!(
        replaced,
        ["delete, recorded a, observed a=2, 3m", "create, recorded nothing, observed nothing, 1m"],
        "the new object has no record yet"
    );
    // An object with the new identity exists, and cannot be changed into the desired one.
    bench.memory.world().items.insert("b".to_owned(), "theirs".to_owned());
    let displaced = operations(&bench, &item("b", "2", "steel"), &everything).await;
    assert_eq!(
        displaced,
        [
            "delete, recorded a, observed a=2, 3m",
            "delete, recorded nothing, observed b=theirs, 3m",
            "create, recorded nothing, observed nothing, 1m",
        ]
    );
    // An object with the new identity exists, and becomes the desired one.
    bench.memory.world().items.insert("c".to_owned(), "theirs".to_owned());
    bench.memory.world().made.insert("c".to_owned(), ("mem_item".to_owned(), "steel".to_owned()));
    let taken = operations(&bench, &item("c", "2", "steel"), &everything).await;
    assert_eq!(taken, ["delete, recorded b, observed b=2, 3m", "update, recorded nothing, observed c=theirs, 2m"]);
    let destroy = PlanOptions { mode: PlanMode::Destroy, ..everything };
    assert_eq!(operations(&bench, &item("c", "2", "steel"), &destroy).await, ["delete, recorded c, observed c=2, 3m"]);
}

#[tokio::test]
async fn a_data_source_has_its_limit_whenever_it_is_read() {
    let bench = Bench::default();
    // The first one is read by the plan, the second one by the apply.
    bench.write(
        "[resource.mem_item.x]\nkey = \"x\"\n\
         [data.mem_item.early]\nkey = \"early\"\ntimeouts = { read = \"1m\" }\n\
         [data.mem_item.late]\nkey = \"x\"\ntimeouts = { read = \"2m\" }\ndepends_on = [\"mem_item.x\"]\n\
         [outputs.all]\nvalue = \"${data.mem_item.early.value}${data.mem_item.late.value}\"\n",
    );
    bench.memory.world().items.insert("early".to_owned(), "e".to_owned());
    let report = bench.apply(&PlanOptions::default()).await;
    assert_eq!(report.outputs["all"], Value::from("e"));
    let read: Vec<_> = bench.memory.world().data.iter().map(|data| (data.address.to_string(), data.timeout)).collect();
    let limits = [("data.mem_item.early", 60), ("data.mem_item.late", 120)];
    assert_eq!(read, limits.map(|(address, limit)| (address.to_owned(), Some(Duration::from_secs(limit)))));
}
