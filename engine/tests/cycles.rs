//! Resources that depend on each other are an error that shows one cycle.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use moorfast_engine::plan::PlanOptions;
use moorfast_engine::session::Failure;
use support::Bench;

#[tokio::test]
async fn the_error_shows_the_shortest_way_back_to_the_first_resource() {
    // What each resource depends on, and the cycle in the error.
    let cases: [(&[(&str, &[&str])], &[&str]); 3] = [
        (&[("a", &["b"]), ("b", &["a"]), ("c", &["a"])], &["a", "b", "a"]),
        (&[("a", &["c"]), ("b", &["a"]), ("c", &["b"])], &["a", "c", "b", "a"]),
        // `c` is in a second cycle, of `b` and `c`, which is not shown.
        (&[("a", &["b"]), ("b", &["c"]), ("c", &["b", "d"]), ("d", &["a"])], &["a", "b", "c", "d", "a"]),
    ];
    for (resources, cycle) in cases {
        let bench = Bench::default();
        let resource = |(name, after): &(&str, &[&str])| {
            let after: Vec<_> = after.iter().map(|name| format!("mem_item.{name}")).collect();
            format!("[resource.mem_item.{name}]\nkey = \"{name}\"\ndepends_on = {after:?}\n")
        };
        bench.write(&resources.iter().map(resource).collect::<String>());
        let Err(Failure::Manifest(errors)) = bench.plan(&PlanOptions::default()).await else { panic!("{cycle:?}") };
        let names: Vec<_> = cycle.iter().map(|name| format!("`mem_item.{name}`")).collect();
        let expected = format!("resources form a dependency cycle: {}", names.join(" -> "));
        assert_eq!(errors.iter().map(|error| &error.summary).collect::<Vec<_>>(), [&expected]);
        // Each block of the cycle is shown once.
        assert_eq!(errors[0].related.len() + 1, cycle.len() - 1, "{:?}", errors[0].related);
        assert!(errors[0].at.is_some());
    }
}
