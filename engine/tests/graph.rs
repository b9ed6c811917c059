//! References that no graph can have are errors: cycles, and references to nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use moorfast_engine::model::Diagnostic;
use moorfast_engine::plan::PlanOptions;
use moorfast_engine::session::Failure;
use support::Bench;

async fn errors(bench: &Bench) -> Vec<Diagnostic> {
    match bench.plan(&PlanOptions::default()).await {
        Err(Failure::Manifest(errors)) => errors,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_error_shows_the_shortest_way_back_to_the_first_resource() {
    // Each resource with its dependencies, and the cycle in the error.
    let cases = [
        ("a: b; b: a; c: a", "a b a"),
        ("a: c; b: a; c: b", "a c b a"),
        // The second cycle, of `b` and `c`, is not shown.
        ("a: b; b: c; c: b d; d: a", "a b c d a"),
    ];
    for (resources, cycle) in cases {
        let bench = Bench::default();
        let resource = |resource: &str| {
            let (name, after) = resource.split_once(": ").unwrap();
            let after: Vec<_> = after.split(' ').map(|name| format!("mem_item.{name}")).collect();
            format!("[resource.mem_item.{name}]\nkey = \"{name}\"\ndepends_on = {after:?}\n")
        };
        bench.write(&resources.split("; ").map(resource).collect::<String>());
        let errors = errors(&bench).await;
        let names: Vec<_> = cycle.split(' ').map(|name| format!("`mem_item.{name}`")).collect();
        let expected = format!("resources form a dependency cycle: {}", names.join(" -> "));
        assert_eq!(errors.iter().map(|error| &error.summary).collect::<Vec<_>>(), [&expected]);
        // Each block of the cycle is shown once.
        assert_eq!(errors[0].related.len() + 1, names.len() - 1, "{:?}", errors[0].related);
        assert!(errors[0].at.is_some());
    }
}

#[tokio::test]
async fn a_resource_refers_neither_to_itself_nor_to_nothing() {
    let cases = [
        ("depends_on = [\"mem_item.a\"]", "`mem_item.a` refers to itself"),
        ("value = \"${mem_item.a.id}\"", "`mem_item.a` refers to itself"),
        ("depends_on = [\"mem_item.missing\"]", "the manifest has no `mem_item.missing`"),
        ("depends_on = ['mem_item.b[\"x\"]']", "unknown resource `mem_item.b[\"x\"]`"),
    ];
    for (attribute, expected) in cases {
        let bench = Bench::default();
        bench.write(&format!(
            "[resource.mem_item.a]\nkey = \"a\"\n{attribute}\n\
             [resource.mem_item.b]\nfor_each = \"${{[]}}\"\nkey = \"${{each.key}}\"\n"
        ));
        let summaries: Vec<_> = errors(&bench).await.into_iter().map(|error| error.summary).collect();
        assert_eq!(summaries, [expected]);
    }
}
