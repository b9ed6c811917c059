//! One apply gets from any manifest to any other, although containers are not deleted before their contents, and nothing is created without its container.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use moorfast_engine::apply::Report;
use moorfast_engine::plan::{Plan, PlanOptions};
use moorfast_engine::provider::Action;
use moorfast_engine::session::Interrupt;
use proptest::prelude::*;
use support::Bench;

/// A generated resource. One that does not fit the others is left out of the manifest.
#[derive(Clone, Debug)]
struct Drawn {
    is_there: bool,
    kind: usize,
    parent: Option<prop::sample::Index>,
    leaf: usize,
    material: usize,
    value: usize,
    creates_first: bool,
    after: BTreeSet<usize>,
}

/// A resource of a manifest.
#[derive(Clone, Debug)]
struct Item {
    address: String,
    path: String,
    value: String,
    before: BTreeSet<String>,
}

/// A manifest and the objects after its apply.
#[derive(Clone, Debug)]
struct Scene {
    text: String,
    items: Vec<Item>,
}

impl Scene {
    fn of(drawn: &[Drawn]) -> Self {
        let mut text = String::new();
        let mut items: Vec<Item> = Vec::new();
        let mut numbers: BTreeMap<usize, String> = BTreeMap::new();
        for (i, drawn) in drawn.iter().enumerate().filter(|(_, drawn)| drawn.is_there) {
            let parent =
                drawn.parent.filter(|_| !items.is_empty()).map(|index| items[index.index(items.len())].clone());
            let mut leaf = ["a", "b", "c"][drawn.leaf].to_owned();
            let path = |leaf: &str| parent.as_ref().map_or(leaf.to_owned(), |parent| format!("{}>{leaf}", parent.path));
            while items.iter().any(|item| item.path == path(&leaf)) {
                leaf.push('x');
            }
            let address = format!("mem_{}.r{i}", ["item", "box"][drawn.kind]);
            let (inside, id) = match &parent {
                Some(Item { address, .. }) => (format!("${{{address}.key}}>"), format!("${{{address}.id}}")),
                None => (String::new(), String::new()),
            };
            let after: Vec<String> = drawn.after.iter().filter_map(|other| numbers.get(other).cloned()).collect();
            let value = drawn.value.to_string();
            text += &format!(
                "[resource.{address}]\nkey = \"{inside}{leaf}\"\nmaterial = \"{}{id}\"\nvalue = \"{value}\"\ndepends_on = {after:?}\nlifecycle = {{ create_before_destroy = {} }}\n\n",
                drawn.material, drawn.creates_first
            );
            numbers.insert(i, address.clone());
            let before = after.into_iter().chain(parent.as_ref().map(|parent| parent.address.clone())).collect();
            let path = path(&leaf);
            items.push(Item { address, path, value, before });
        }
        Self { text, items }
    }

    fn world(&self) -> BTreeMap<String, String> {
        self.items.iter().map(|item| (item.path.clone(), item.value.clone())).collect()
    }

    fn path_of(&self, address: &str) -> Option<&str> {
        self.items.iter().find(|item| item.address == address).map(|item| item.path.as_str())
    }
}

fn scenes() -> impl Strategy<Value = Scene> {
    let drawn = |i: usize| {
        let parent = prop::option::weighted(0.7, any::<prop::sample::Index>());
        let after = proptest::collection::btree_set(0..i.max(1), 0..2);
        (prop::bool::weighted(0.8), 0..2usize, parent, 0..3usize, 0..2usize, 0..2usize, any::<bool>(), after).prop_map(
            |(is_there, kind, parent, leaf, material, value, creates_first, after)| Drawn {
                is_there,
                kind,
                parent,
                leaf,
                material,
                value,
                creates_first,
                after,
            },
        )
    };
    (1usize..7).prop_flat_map(move |n| (0..n).map(drawn).collect::<Vec<_>>()).prop_map(|drawn| Scene::of(&drawn))
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn failures(report: &Report) -> Vec<String> {
    let failed = report.outcomes.iter().filter(|outcome| !outcome.is_done());
    failed.map(|outcome| format!("{}: {:?}", outcome.address, outcome.result)).collect()
}

async fn arrived(bench: &Bench, scene: &Scene) -> Result<(), TestCaseError> {
    prop_assert_eq!(&bench.memory.world().items, &scene.world());
    let plan = bench.plan(&PlanOptions::default()).await.unwrap();
    prop_assert!(!plan.has_changes(), "{:#?}", plan.changes);
    Ok(())
}

/// Whether the log contains both lines in this order.
fn in_turn(log: &[String], first: &str, second: &str) -> bool {
    let place = |entry: &str| log.iter().position(|line| line == entry);
    match (place(first), place(second)) {
        (Some(first), Some(second)) => first < second,
        _ => true,
    }
}

/// The order in which objects were destroyed and created.
fn order_held(before: &Scene, after: &Scene, plan: &Plan, log: &[String]) -> Result<(), TestCaseError> {
    for item in &before.items {
        for other in item.before.iter().filter_map(|address| before.path_of(address)) {
            let (dependant, other) = (format!("delete {}", item.path), format!("delete {other}"));
            prop_assert!(in_turn(log, &dependant, &other), "{dependant} after {other}: {log:#?}");
        }
    }
    for item in &after.items {
        for other in item.before.iter().filter_map(|address| after.path_of(address)) {
            let (dependant, other) = (format!("create {}", item.path), format!("create {other}"));
            prop_assert!(in_turn(log, &other, &dependant), "{dependant} before {other}: {log:#?}");
        }
    }
    for change in plan.changes.iter().filter(|change| change.action.is_replacement()) {
        let address = change.address.to_string();
        let (Some(old), Some(new)) = (before.path_of(&address), after.path_of(&address)) else { continue };
        // Another instance may own the old object now.
        if after.items.iter().any(|item| item.path == old && item.address != address) {
            continue;
        }
        let (delete, create) = (format!("delete {old}"), format!("create {new}"));
        let (first, second) = match change.action {
            Action::ReplaceCreateFirst => (create, delete),
            _ => (delete, create),
        };
        prop_assert!(in_turn(log, &first, &second), "{address}: {second} before {first}: {log:#?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn one_apply_gets_from_any_manifest_to_any_other(before in scenes(), after in scenes()) {
        run(async {
            let bench = Bench::default();
            bench.write(&before.text);
            let report = bench.apply(&PlanOptions::default()).await;
            prop_assert_eq!(failures(&report), Vec::<String>::new());
            arrived(&bench, &before).await?;
            bench.memory.world().log.clear();
            bench.write(&after.text);
            let plan = bench.plan(&PlanOptions::default()).await.unwrap();
            let report = bench.apply(&PlanOptions::default()).await;
            let log = bench.memory.world().log.clone();
            prop_assert_eq!(failures(&report), Vec::<String>::new(), "{}\n{}\n{:#?}", before.text, after.text, log);
            arrived(&bench, &after).await?;
            order_held(&before, &after, &plan, &log)
        })?;
    }

    #[test]
    fn the_next_apply_completes_a_run_that_died_or_was_interrupted(
        before in scenes(), after in scenes(), ends in 1usize..8, how in 0usize..3
    ) {
        run(async {
            let bench = Bench::applied(&before.text).await;
            bench.memory.world().log.clear();
            bench.write(&after.text);
            match how {
                2 => {
                    let interrupt = Interrupt::default();
                    bench.memory.world().stops = Some((ends, interrupt.stop.clone()));
                    bench.apply_until(&PlanOptions::default(), &interrupt).await;
                    bench.memory.world().stops = None;
                }
                how => bench.apply_and_die(ends, how == 1).await,
            }
            let log = bench.memory.world().log.clone();
            let report = bench.apply(&PlanOptions::default()).await;
            prop_assert_eq!(failures(&report), Vec::<String>::new(), "{}\n{}\n{:#?}", before.text, after.text, log);
            arrived(&bench, &after).await
        })?;
    }

    #[test]
    fn the_next_apply_completes_a_run_that_failed(
        before in scenes(), after in scenes(), broken in any::<prop::sample::Index>(), late in any::<bool>()
    ) {
        run(async {
            let bench = Bench::applied(&before.text).await;
            bench.write(&after.text);
            let paths: Vec<String> = before.items.iter().chain(&after.items).map(|item| item.path.clone()).collect();
            if !paths.is_empty() {
                let path = paths[broken.index(paths.len())].clone();
                let mut world = bench.memory.world();
                if late { world.late.push(path) } else { world.broken.push(path) }
            }
            bench.apply(&PlanOptions::default()).await;
            {
                let mut world = bench.memory.world();
                world.late.clear();
                world.broken.clear();
            }
            let report = bench.apply(&PlanOptions::default()).await;
            prop_assert_eq!(failures(&report), Vec::<String>::new(), "{}\n{}", before.text, after.text);
            arrived(&bench, &after).await
        })?;
    }
}

/// Returns a manifest with these resources: address, key, material, value.
fn manifest(resources: &[(&str, &str, &str, &str)]) -> String {
    let resource = |(address, key, material, value): &(&str, &str, &str, &str)| {
        format!("[resource.{address}]\nkey = \"{key}\"\nmaterial = \"{material}\"\nvalue = \"{value}\"\n")
    };
    resources.iter().map(resource).collect()
}

/// The object `a` gets another owner and is replaced, and its contents are destroyed. The first run fails at the contents.
#[tokio::test]
async fn an_object_with_another_owner_is_removed_after_its_contents_also_in_the_next_run() {
    let contents = ("mem_box.r1", "${mem_item.r0.key}>a", "${mem_item.r0.id}", "0");
    let cases = [
        // The old owner gets another object, or is destroyed, or another replaced resource is the new owner.
        (vec![("mem_item.r0", "b", "0", "0"), ("mem_item.r3", "a", "1", "0")], "mem_item.r3"),
        (vec![("mem_item.r3", "a", "1", "0")], "mem_item.r3"),
        (vec![("mem_item.r2", "a", "1", "0")], "mem_item.r2"),
    ];
    for (after, owner) in cases {
        let bench =
            Bench::applied(&manifest(&[("mem_item.r0", "a", "0", "0"), contents, ("mem_item.r2", "c", "0", "0")]))
                .await;
        bench.write(&manifest(&after));
        bench.memory.world().broken.push("a>a".to_owned());
        assert!(!failures(&bench.apply(&PlanOptions::default()).await).is_empty());
        bench.memory.world().broken.clear();
        assert_eq!(failures(&bench.apply(&PlanOptions::default()).await), Vec::<String>::new(), "{owner}");
        let expected: BTreeMap<String, String> =
            after.iter().map(|(_, key, _, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(bench.memory.world().items, expected, "{owner}");
    }
}
