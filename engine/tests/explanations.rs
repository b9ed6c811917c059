//! Explanations of failures, by the objects that the failed operation depends on.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use moorfast_engine::apply::ChangeResult;
use moorfast_engine::plan::PlanOptions;
use support::Bench;

/// `broken` depends on an object on a node, which can explain its failure. The other objects have nothing to do with it.
const MANIFEST: &str = r#"
[nodes.m]
transport = "local"

[resource.mem_file.base]
on  = "all"
key = "base"

[resource.mem_item.broken]
key        = "broken"
depends_on = ["mem_file.base"]

[resource.mem_item.before]
key        = "before"
depends_on = ["mem_file.base"]

[resource.mem_item.after]
key        = "after"
depends_on = ["mem_item.before"]
"#;

#[tokio::test]
async fn an_explanation_does_not_stop_other_operations() {
    let bench = Bench::default();
    bench.write(MANIFEST);
    {
        let mut world = bench.memory.world();
        world.broken = vec!["broken".to_owned()];
        // The explanation waits for an operation that starts only after the result of another one is recorded.
        world.explains_once = Some("create after".to_owned());
    }
    let report = bench.apply(&PlanOptions::default()).await;
    let failures = report.outcomes.iter().filter_map(|outcome| match &outcome.result {
        ChangeResult::Failed(error) => Some((outcome.address.to_string(), error.detail.clone())),
        _ => None,
    });
    let explanation = r#"mem_file.base["m"] saw it fail"#.to_owned();
    assert_eq!(failures.collect::<Vec<_>>(), [("mem_item.broken".to_owned(), vec![explanation])]);
}
