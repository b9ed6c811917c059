//! The laws of planner and executor, tested on generated manifests.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use moorfast_engine::apply::{ApplyOptions, ChangeOutcome, ChangeResult};
use moorfast_engine::model::{CheckStatus, error_codes};
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::provider::{Action, Class, Operation, ProviderError};
use moorfast_engine::session::{Events, Failure, Interrupt};
use moorfast_engine::state::{Intent, LockRequest, StateError};
use proptest::prelude::*;
use support::Bench;

/// Items with their values. Each item depends on some of the items before it. The second list tells for each item whether it is in a module of its own.
#[derive(Clone, Debug)]
struct Shape(Vec<(String, BTreeSet<usize>)>, Vec<bool>);

impl Shape {
    fn manifest(&self) -> String {
        let item = |(i, (value, dependencies)): (usize, &(String, BTreeSet<usize>))| {
            // Even dependencies are references, odd ones are in `depends_on`.
            let (references, written): (Vec<&usize>, Vec<&usize>) = dependencies.iter().partition(|d| *d % 2 == 0);
            let name = |d: usize| if self.1[d] { format!("module.m{d}") } else { format!("mem_item.r{d}") };
            let ids: String = references.iter().map(|d| format!("${{{}.id}}", name(**d))).collect();
            let names: Vec<_> = written.iter().map(|d| format!("\"{}\"", name(**d))).collect();
            let [header, inputs] = match self.1[i] {
                true => [format!("[module.m{i}]\nsource = \"item\""), "inputs.".to_owned()],
                false => [format!("[resource.mem_item.r{i}]"), String::new()],
            };
            format!(
                "{header}\n{inputs}key = \"k{i}\"\n{inputs}value = \"{value}{ids}\"\ndepends_on = [{}]\n\n",
                names.join(", ")
            )
        };
        self.0.iter().enumerate().map(item).collect()
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let item = |i: usize| ("[a-c]", proptest::collection::btree_set(0..i.max(1), 0..3.min(i + 1)));
    let items = (1usize..12).prop_flat_map(move |n| (0..n).map(item).collect::<Vec<_>>());
    (items, proptest::collection::vec(any::<bool>(), 12)).prop_map(|(items, in_modules)| {
        let earlier = |(i, (value, dependencies)): (usize, (String, BTreeSet<usize>))| {
            (value, dependencies.into_iter().filter(|d| *d < i).collect())
        };
        Shape(items.into_iter().enumerate().map(earlier).collect(), in_modules)
    })
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Asserts that the watched item does not change, and that the next apply restarts the unit that watches it.
async fn assert_restart_is_pending(bench: &Bench, watched: &str) {
    let plan = bench.plan(&everything()).await.unwrap();
    assert_eq!(action_of(&plan, watched), Some(Action::NoOp));
    assert_eq!(action_of(&plan, "mem_item.unit"), Some(Action::Update));
    bench.apply(&everything()).await;
    assert!(place(&bench.memory.world().log, "restart unit").is_some());
    bench.assert_settled().await;
}

fn everything() -> PlanOptions {
    PlanOptions::default()
}

fn destroy() -> PlanOptions {
    PlanOptions { mode: PlanMode::Destroy, ..PlanOptions::default() }
}

fn place(log: &[String], entry: &str) -> Option<usize> {
    log.iter().position(|line| line == entry)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_plan_of_an_applied_manifest_is_empty(shape in shapes()) {
        run(async {
            let bench = Bench::default();
            bench.write(&shape.manifest());
            let report = bench.apply(&everything()).await;
            prop_assert_eq!(report.outcomes.len(), shape.0.len());
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    #[test]
    fn apply_follows_the_graph_and_destroy_reverses_it(shape in shapes()) {
        run(async {
            let bench = Bench::applied(&shape.manifest()).await;
            bench.apply(&destroy()).await;
            let world = bench.memory.world();
            for (i, (_, dependencies)) in shape.0.iter().enumerate() {
                for d in dependencies {
                    let [create, delete] = ["create", "delete"].map(|verb| move |i: usize| format!("{verb} k{i}"));
                    prop_assert!(place(&world.log, &create(*d)) < place(&world.log, &create(i)));
                    prop_assert!(place(&world.log, &delete(i)) < place(&world.log, &delete(*d)));
                }
            }
            prop_assert!(world.items.is_empty());
            Ok(())
        })?;
    }

    #[test]
    fn apply_gets_from_any_manifest_to_any_other(before in shapes(), after in shapes()) {
        run(async {
            let bench = Bench::applied(&before.manifest()).await;
            bench.write(&after.manifest());
            bench.apply(&everything()).await;
            let keys: Vec<_> = (0..after.0.len()).map(|i| format!("k{i}")).collect();
            let mut found: Vec<_> = bench.memory.world().items.keys().cloned().collect();
            found.sort_by_key(|k| k[1..].parse::<usize>().unwrap());
            prop_assert_eq!(found, keys);
            bench.assert_settled().await;
            Ok(())
        })?;
    }

    #[test]
    fn a_failure_stops_its_dependants_only_and_can_be_resumed(shape in shapes(), broken in any::<prop::sample::Index>()) {
        run(async {
            let bench = Bench::default();
            bench.write(&shape.manifest());
            let broken = broken.index(shape.0.len());
            bench.memory.world().broken.push(format!("k{broken}"));
            let report = bench.apply(&everything()).await;
            let mut affected = BTreeSet::from([broken]);
            for (i, (_, dependencies)) in shape.0.iter().enumerate() {
                if dependencies.iter().any(|d| affected.contains(d)) {
                    affected.insert(i);
                }
            }
            let undone = report.outcomes.iter().filter(|o| !matches!(o.result, ChangeResult::Done));
            prop_assert_eq!(undone.count(), affected.len());
            prop_assert_eq!(bench.memory.world().items.len(), shape.0.len() - affected.len());

            bench.memory.world().broken.clear();
            bench.apply(&everything()).await;
            prop_assert_eq!(bench.memory.world().items.len(), shape.0.len());
            bench.assert_settled().await;
            Ok(())
        })?;
    }
}

fn action_of(plan: &moorfast_engine::plan::Plan, address: &str) -> Option<Action> {
    plan.changes.iter().find(|c| c.address.to_string() == address).map(|c| c.action)
}

const PAIR: &str = r#"
[resource.mem_item.file]
key = "file"
value = "VALUE"

[resource.mem_item.unit]
key = "unit"
restart_on = ["mem_item.file"]
"#;

#[test]
fn a_restart_that_was_pending_when_a_run_died_is_still_pending() {
    run(async {
        let bench = Bench::applied(&PAIR.replace("VALUE", "1")).await;
        bench.write(&PAIR.replace("VALUE", "2"));
        // The run that changes the file dies before it restarts the unit.
        bench.memory.world().broken.push("unit".to_owned());
        bench.apply(&everything()).await;
        bench.memory.world().broken.clear();

        assert_restart_is_pending(&bench, "mem_item.file").await;
    });
}

/// A run that dies leaves the record from before the operation. An operation that fails without private data leaves the same record.
#[test]
fn initial_private_data_is_recorded_before_the_first_operation() {
    run(async {
        let bench = Bench::default();
        let item = |key: &str| format!("[resource.mem_item.{key}]\nkey = \"{key}\"\nvalue = \"new\"\n");
        bench.memory.world().items.insert("there".to_owned(), "old".to_owned());
        bench.write(&["absent", "there", "gone"].map(item).concat());
        bench.memory.world().broken.extend(["absent", "there"].map(str::to_owned));
        bench.apply(&everything()).await;
        // An object that is created again gets new private data.
        bench.memory.world().items.remove("gone");
        bench.memory.world().broken.push("gone".to_owned());
        bench.apply(&everything()).await;
        let records = bench.store().await.snapshot().await.unwrap().records;
        for (key, found) in [("absent", None), ("there", Some("old")), ("gone", None)] {
            let record = &records[&format!("mem_item.{key}")];
            assert!(record.incomplete, "{key}");
            assert_eq!(record.private, serde_json::json!({ "found": found }), "{key}");
        }
    });
}

#[test]
fn private_data_of_a_partial_operation_is_recorded() {
    run(async {
        let bench = Bench::default();
        bench.write("[resource.mem_item.a]\nkey = \"a\"\n");
        bench.memory.world().late.push("a".to_owned());
        bench.apply(&everything()).await;
        let records = bench.store().await.snapshot().await.unwrap().records;
        let record = &records["mem_item.a"];
        assert!(record.incomplete);
        assert_eq!(record.private, serde_json::json!({ "made": true }));
    });
}

/// The run changes the file and dies before it records the change. The next run finds the file as the manifest declares it.
#[test]
fn a_restart_is_pending_even_if_the_change_is_not_recorded() {
    run(async {
        let bench = Bench::applied(&PAIR.replace("VALUE", "1")).await;
        bench.write(&PAIR.replace("VALUE", "2"));
        bench.memory.world().items.insert("file".to_owned(), "2".to_owned());

        assert_restart_is_pending(&bench, "mem_item.file").await;
    });
}

#[test]
fn a_pending_restart_stays_pending_if_the_watched_instance_is_renamed() {
    let moved = "[[moved]]\nfrom = \"mem_item.file\"\nto = \"mem_item.config\"\n";
    // An object is found under its new address even without a `[[moved]]`.
    for moved in [moved, ""] {
        run(async {
            let bench = Bench::applied(&PAIR.replace("VALUE", "1")).await;
            bench.write(&PAIR.replace("VALUE", "2"));
            let targets = vec!["mem_item.file".parse().unwrap()];
            bench.apply(&PlanOptions { targets, ..everything() }).await;
            bench.write(&(PAIR.replace("VALUE", "2").replace("mem_item.file", "mem_item.config") + moved));

            assert_restart_is_pending(&bench, "mem_item.config").await;
        });
    }
}

#[test]
fn an_existing_object_is_adopted_and_a_rename_destroys_nothing() {
    run(async {
        let bench = Bench::default();
        bench.memory.world().items.insert("a".to_owned(), "1".to_owned());
        bench.write("[resource.mem_item.old]\nkey = \"a\"\nvalue = \"1\"\n");
        assert_eq!(action_of(&bench.plan(&everything()).await.unwrap(), "mem_item.old"), Some(Action::Adopt));
        bench.apply(&everything()).await;
        bench.write("[resource.mem_item.new]\nkey = \"a\"\nvalue = \"1\"\n");
        bench.apply(&everything()).await;
        assert!(bench.memory.world().log.is_empty());
        bench.assert_settled().await;
    });
}

#[test]
fn another_identity_under_the_same_address_is_a_replacement() {
    run(async {
        let bench = Bench::applied("[resource.mem_item.it]\nkey = \"a\"\n").await;
        bench.write("[resource.mem_item.it]\nkey = \"b\"\n");
        let plan = bench.plan(&everything()).await.unwrap();
        assert_eq!(action_of(&plan, "mem_item.it"), Some(Action::Replace));
        bench.apply(&everything()).await;
        assert_eq!(bench.memory.world().log, ["create a", "delete a", "create b"]);
        bench.assert_settled().await;
    });
}

/// A failed replacement under a new identity is recorded, so its object is removed even if the manifest changes again.
#[test]
fn the_new_object_of_a_failed_replacement_is_removed() {
    let item = |key: &str| format!("[resource.mem_item.it]\nkey = \"{key}\"\n");
    let moves_first = "[resource.mem_item.it.lifecycle]\ncreate_before_destroy = true\n";
    let claimed = "[resource.mem_item.other]\nkey = \"b\"\n".to_owned();
    let ends: [(String, &[&str]); 5] =
        [(item("a"), &["a"]), (item("b"), &["b"]), (item("c"), &["c"]), (claimed, &["b"]), (String::new(), &[])];
    for (end, expected) in ends {
        for lifecycle in ["", moves_first] {
            run(async {
                let bench = Bench::applied(&(item("a") + lifecycle)).await;
                bench.write(&(item("b") + lifecycle));
                bench.memory.world().late.push("b".to_owned());
                assert!(!bench.apply(&everything()).await.outcomes[0].is_done());
                bench.memory.world().late.clear();
                bench.write(&end);
                bench.apply(&everything()).await;
                assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), expected, "{end}{lifecycle}");
                let plan = bench.plan(&everything()).await.unwrap();
                assert!(!plan.has_changes(), "{end}{lifecycle} {:?}", plan.changes);
            });
        }
    }
}

#[test]
fn the_new_objects_of_several_failed_replacements_are_removed() {
    run(async {
        let bench = Bench::applied("[resource.mem_item.it]\nkey = \"a\"\n").await;
        bench.memory.world().late.extend(["b", "c"].map(str::to_owned));
        for key in ["b", "c", "b"] {
            bench.write(&format!("[resource.mem_item.it]\nkey = \"{key}\"\n"));
            assert!(!bench.apply(&everything()).await.outcomes[0].is_done());
        }
        bench.apply(&destroy()).await;
        assert!(bench.memory.world().items.is_empty());
        assert!(bench.store().await.snapshot().await.unwrap().records.is_empty());
    });
}

#[test]
fn an_object_that_changed_its_owner_half_way_is_removed() {
    run(async {
        let bench = Bench::applied("[resource.mem_item.a]\nkey = \"x\"\n[resource.mem_item.b]\nkey = \"y\"\n").await;
        bench.write("[resource.mem_item.b]\nkey = \"x\"\n");
        bench.memory.world().broken.push("x".to_owned());
        assert!(!bench.apply(&everything()).await.outcomes.iter().all(ChangeOutcome::is_done));
        bench.memory.world().broken.clear();
        bench.write("");
        bench.apply(&everything()).await;
        assert!(bench.memory.world().items.is_empty());
    });
}

/// The object existed before, so moorfast must not remove it.
#[test]
fn an_object_that_existed_before_a_failed_replacement_is_kept() {
    run(async {
        let bench = Bench::applied("[resource.mem_item.it]\nkey = \"a\"\n").await;
        bench.memory.world().items.insert("b".to_owned(), "by hand".to_owned());
        bench.memory.world().broken.push("b".to_owned());
        bench.write("[resource.mem_item.it]\nkey = \"b\"\nvalue = \"1\"\n");
        assert!(!bench.apply(&everything()).await.outcomes[0].is_done());
        bench.memory.world().broken.clear();
        bench.write("");
        bench.apply(&everything()).await;
        assert_eq!(bench.memory.world().items, [("b".to_owned(), "by hand".to_owned())].into());
    });
}

#[test]
fn drift_is_detected_reported_and_corrected() {
    run(async {
        let bench =
            Bench::applied("[resource.mem_item.a]\nkey = \"a\"\nvalue = \"1\"\n[resource.mem_item.b]\nkey = \"b\"\n")
                .await;
        bench.memory.world().items.insert("a".to_owned(), "by hand".to_owned());
        bench.memory.world().items.remove("b");
        let refresh = PlanOptions { mode: PlanMode::RefreshOnly, ..PlanOptions::default() };
        let plan = bench.plan(&refresh).await.unwrap();
        let drifted: Vec<_> = plan.drift.iter().map(|d| (d.address.to_string(), d.after.is_some())).collect();
        assert_eq!(drifted, [("mem_item.a".to_owned(), true), ("mem_item.b".to_owned(), false)]);
        bench.apply(&everything()).await;
        assert_eq!(bench.memory.world().items["a"], "1");
        assert!(bench.plan(&refresh).await.unwrap().drift.is_empty());
    });
}

#[test]
fn two_instances_that_swap_their_objects_keep_both() {
    run(async {
        let bench = Bench::default();
        let pair = |a: &str, b: &str| {
            format!(
                "[resource.mem_item.a]\nkey = \"{a}\"\nvalue = \"A\"\n[resource.mem_item.b]\nkey = \"{b}\"\nvalue = \"B\"\n"
            )
        };
        bench.write(&pair("x", "y"));
        bench.apply(&everything()).await;
        bench.write(&pair("y", "x"));
        bench.apply(&everything()).await;
        let items = bench.memory.world().items.clone();
        assert_eq!(items, [("x".to_owned(), "B".to_owned()), ("y".to_owned(), "A".to_owned())].into());
        bench.assert_settled().await;
    });
}

#[test]
fn an_object_that_moves_to_another_instance_is_not_removed_with_the_first() {
    run(async {
        let bench = Bench::applied("[resource.mem_item.a]\nkey = \"x\"\n[resource.mem_item.b]\nkey = \"y\"\n").await;
        bench.write("[resource.mem_item.b]\nkey = \"x\"\n");
        bench.apply(&everything()).await;
        assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), ["x"]);
        bench.assert_settled().await;
    });
}

#[test]
fn moved_records_are_found_by_a_destroy_and_through_chains() {
    run(async {
        let bench = Bench::applied("[resource.mem_item.a]\nkey = \"x\"\n").await;
        let moved = "[[moved]]\nfrom = \"mem_item.a\"\nto = \"mem_item.b\"\n[[moved]]\nfrom = \"mem_item.b\"\nto = \"mem_item.c\"\n";
        bench.write(&format!("[resource.mem_item.c]\nkey = \"x\"\n{moved}"));
        let report = bench.apply(&destroy()).await;
        assert!(report.state_error.is_none(), "{:?}", report.state_error);
        assert!(bench.memory.world().items.is_empty());
        assert!(bench.store().await.snapshot().await.unwrap().records.is_empty());
    });
}

/// Each record moves to the old address of another, in whatever order the plan has them.
#[test]
fn records_that_move_up_one_after_the_other_all_arrive() {
    run(async {
        let bench = Bench::default();
        let manifest = |elements: &str, moved: &str| {
            format!("[resource.mem_item.x]\nfor_each = {{ {elements} }}\nkey = \"${{each.value}}\"\n{moved}")
        };
        bench.write(&manifest("a = \"1\", b = \"2\", d = \"3\"", ""));
        bench.apply(&everything()).await;
        bench.memory.world().log.clear();
        // The record at "a" has no `[[moved]]`: it is the same object under another address.
        let moved = "[[moved]]\nfrom = 'mem_item.x[\"b\"]'\nto = 'mem_item.x[\"c\"]'\n";
        bench.write(&manifest("b = \"1\", c = \"2\", e = \"3\"", moved));
        let report = bench.apply(&everything()).await;
        assert!(report.state_error.is_none(), "{:?}", report.state_error);
        assert!(bench.memory.world().log.is_empty(), "{:?}", bench.memory.world().log);
        let records = bench.store().await.snapshot().await.unwrap().records;
        let found: Vec<_> = records.values().map(|r| (r.address.as_str(), r.identity.as_str())).collect();
        assert_eq!(found, [("mem_item.x[\"b\"]", "1"), ("mem_item.x[\"c\"]", "2"), ("mem_item.x[\"e\"]", "3")]);
        bench.assert_settled().await;
    });
}

/// Returns the number of transactions in the log of the state. The last frame of a transaction contains the size of the database.
fn transactions(bench: &Bench) -> usize {
    let log = std::fs::read(bench.path().join(".moorfast/state.db-wal")).unwrap();
    let page = u32::from_be_bytes(log[8..12].try_into().unwrap()) as usize;
    log[32..].chunks_exact(24 + page).filter(|frame| frame[4..8] != [0; 4]).count()
}

/// On a slow connection, separate writes would take long.
#[test]
fn open_intents_are_resolved_in_few_writes() {
    run(async {
        let bench = Bench::default();
        let keys: Vec<_> = (0..100).map(|i| format!("k{i}")).collect();
        bench.write(&format!("[resource.mem_item.x]\nfor_each = {keys:?}\nkey = \"${{each.key}}\"\n"));
        bench.apply(&everything()).await;
        let store = bench.store().await;
        let lock = store.lock(LockRequest::new("apply"), Duration::ZERO).await.unwrap();
        let open = |key: &String| Intent {
            id: Intent::new_id(),
            address: format!("mem_item.x[\"{key}\"]"),
            action: "update".to_owned(),
            resource_type: "mem_item".to_owned(),
            provider: "mem".to_owned(),
            target: "mem".to_owned(),
            identity: Some(key.clone()),
            started_at: jiff::Timestamp::now(),
            run: "died".to_owned(),
        };
        lock.begin(keys.iter().map(open).collect()).await.unwrap();
        lock.release().await.unwrap();

        let before = transactions(&bench);
        bench.apply(&everything()).await;
        let took = transactions(&bench) - before;
        assert!(took < keys.len() / 2, "{took} transactions");
        assert!(store.snapshot().await.unwrap().intents.is_empty());
        bench.assert_settled().await;
    });
}

#[test]
fn a_destroy_keeps_the_dependencies_of_an_excluded_instance() {
    run(async {
        let bench = Bench::applied(
            "[resource.mem_item.base]\nkey = \"base\"\n[resource.mem_item.kept]\nkey = \"kept\"\ndepends_on = [\"mem_item.base\"]\n\
             [resource.mem_item.other]\nkey = \"other\"\n",
        ).await;
        let exclude = vec!["mem_item.kept".parse().unwrap()];
        bench.apply(&PlanOptions { exclude, ..destroy() }).await;
        assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), ["base", "kept"]);
        let targets = vec!["mem_item.base".parse().unwrap()];
        bench.apply(&PlanOptions { targets, ..destroy() }).await;
        assert!(bench.memory.world().items.is_empty());
    });
}

#[test]
fn a_refresh_keeps_pending_restarts() {
    run(async {
        let bench = Bench::applied(&PAIR.replace("VALUE", "1")).await;
        bench.write(&PAIR.replace("VALUE", "2"));
        let targets = vec!["mem_item.file".parse().unwrap()];
        bench.apply(&PlanOptions { targets, ..everything() }).await;
        bench.apply(&PlanOptions { mode: PlanMode::RefreshOnly, ..everything() }).await;
        let plan = bench.plan(&everything()).await.unwrap();
        assert_eq!(action_of(&plan, "mem_item.unit"), Some(Action::Update));
    });
}

#[test]
fn a_data_source_that_cannot_be_read_during_an_apply_fails_alone() {
    run(async {
        let bench = Bench::default();
        bench.write(
            "[resource.mem_item.a]\nkey = \"a\"\n[data.mem_item.missing]\nkey = \"nowhere\"\ndepends_on = [\"mem_item.a\"]\n\
             [resource.mem_item.after]\nkey = \"after\"\nvalue = \"${data.mem_item.missing.value}\"\n\
             [resource.mem_item.free]\nkey = \"free\"\ndepends_on = [\"mem_item.a\"]\n",
        );
        let report = bench.apply(&everything()).await;
        assert!(report.state_error.is_none(), "{:?}", report.state_error);
        assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), ["a", "free"]);
    });
}

#[tokio::test]
async fn a_data_source_is_not_validated_by_the_resource_type_with_its_name() {
    let bench = Bench::default();
    bench.memory.world().items.insert("folder/".to_owned(), "seen".to_owned());
    bench.write(
        "[data.mem_item.folder]\nkey = \"folder/\"\n[outputs.seen]\nvalue = \"${data.mem_item.folder.value}\"\n",
    );
    let plan = bench.plan(&everything()).await.unwrap();
    assert_eq!(plan.outputs["seen"].after, Some("seen".into()));
    bench.write("[resource.mem_item.folder]\nkey = \"folder/\"\n");
    assert!(bench.plan(&everything()).await.is_err());
}

#[tokio::test]
async fn a_sensitive_value_stays_sensitive_until_it_is_overwritten() {
    let bench = Bench::default();
    let manifest = |value: &str| {
        format!("[locals]\npassword = \"hunter2\"\n[resource.mem_item.x]\nkey = \"x\"\nvalue = '{value}'\n")
    };
    bench.write(&manifest("${sensitive(local.password)}"));
    bench.apply(&everything()).await;
    bench.write(&manifest("see the vault"));
    let refresh = PlanOptions { mode: PlanMode::RefreshOnly, ..everything() };
    for options in [everything(), refresh] {
        let plan = bench.plan(&options).await.unwrap();
        assert!(plan.drift.is_empty(), "{:?}", plan.drift);
        assert!(plan.changes[0].before.as_ref().unwrap()["value"]["$sensitive"].is_string());
    }
    let report = bench.apply(&everything()).await;
    assert!(report.outcomes.iter().all(|o| o.is_done()));
    let plan = bench.plan(&everything()).await.unwrap();
    assert!(!plan.has_changes());
    assert_eq!(plan.changes[0].after.as_ref().unwrap()["value"], "see the vault");
}

#[tokio::test]
async fn changes_that_are_not_started_because_the_state_failed_are_reported_as_not_started() {
    let bench = Bench::default();
    bench.write("[resource.mem_item.a]\nkey = \"a\"\n[resource.mem_item.b]\nkey = \"b\"\n");
    let store = bench.store().await;
    let lock = store.lock(LockRequest::new("apply"), Duration::ZERO).await.unwrap();
    let state = store.snapshot().await.unwrap();
    let quiet = (Events::default(), Interrupt::default());
    let planned = bench.workspace().plan(&state, store.seal_key(), &everything(), &quiet.0, &quiet.1).await.unwrap();
    store.force_unlock(&lock.info().id).await.unwrap();
    let how = ApplyOptions { run: "test".to_owned(), parallelism: 10, per_target: 4, verify: false };
    let report = planned.apply(&lock, how, &quiet.0, &quiet.1).await;
    assert!(report.state_error.is_some());
    let mut reported: Vec<_> =
        report.outcomes.iter().map(|o| (o.address.to_string(), format!("{:?}", o.result))).collect();
    reported.sort();
    let not_started = |address: &str| (address.to_owned(), "NotStarted".to_owned());
    assert_eq!(reported, ["mem_item.a", "mem_item.b"].map(not_started));
}

/// Another run took the lock away while the operations ran.
#[tokio::test]
async fn operations_whose_results_cannot_be_recorded_are_reported_once_and_nothing_follows_them() {
    let bench = Bench::default();
    bench.write(
        "[resource.mem_item.broken]\nkey = \"broken\"\n[resource.mem_item.made]\nkey = \"made\"\n\
         [resource.mem_item.next]\nkey = \"next\"\ndepends_on = [\"mem_item.made\"]\n",
    );
    let store = bench.store().await;
    let lock = store.lock(LockRequest::new("apply"), Duration::ZERO).await.unwrap();
    let state = store.snapshot().await.unwrap();
    let quiet = (Events::default(), Interrupt::default());
    let planned = bench.workspace().plan(&state, store.seal_key(), &everything(), &quiet.0, &quiet.1).await.unwrap();
    bench.memory.world().broken.push("broken".to_owned());
    bench.memory.world().takes_lock = Some(("create made".to_owned(), store, lock.info().id.clone()));
    let how = ApplyOptions { run: "test".to_owned(), parallelism: 10, per_target: 1, verify: false };
    let report = planned.apply(&lock, how, &quiet.0, &quiet.1).await;
    assert!(matches!(report.state_error, Some(StateError::LockLost { .. })), "{:?}", report.state_error);
    assert!(!report.interrupted);
    let mut reported: Vec<_> = report
        .outcomes
        .iter()
        .map(|outcome| match &outcome.result {
            ChangeResult::Failed(error) => (outcome.address.to_string(), error.summary.clone()),
            other => (outcome.address.to_string(), format!("{other:?}")),
        })
        .collect();
    reported.sort();
    let expected = [("broken", "broken is broken"), ("made", "Unrecorded"), ("next", "NotStarted")];
    assert_eq!(reported, expected.map(|(key, result)| (format!("mem_item.{key}"), result.to_owned())));
    // The next run finds what was made.
    bench.memory.world().broken.clear();
    bench.apply(&everything()).await;
    assert_eq!(bench.memory.world().log, ["create made", "create broken", "update made", "create next"]);
    bench.assert_settled().await;
}

#[tokio::test]
async fn an_apply_reports_a_failed_maintenance_with_its_code_and_its_help() {
    let bench = Bench::default();
    bench.write("[resource.mem_item.x]\nkey = \"x\"\n");
    let full =
        ProviderError::new(Class::Failed, "the store is full").help("make room").code(error_codes::INVALID_VALUE);
    bench.memory.world().maintenance = Some(full);
    let report = bench.apply(&everything()).await;
    let errors: Vec<_> = report.errors.iter().map(|e| (e.summary.as_str(), e.code, e.help.as_deref())).collect();
    assert_eq!(errors, [("the store is full", Some(error_codes::INVALID_VALUE), Some("make room"))]);
    assert_eq!(bench.memory.world().log, ["create x"]);
    // A destroy maintains nothing.
    let report = bench.apply(&PlanOptions { mode: PlanMode::Destroy, ..everything() }).await;
    assert!(report.errors.is_empty(), "{:?}", report.errors);
}

#[tokio::test]
async fn an_identity_must_not_be_sensitive() {
    let bench = Bench::default();
    bench.write("[resource.mem_item.x]\nkey = 'of-${sensitive(\"s3cr3t\")}'\n");
    let Err(Failure::Manifest(errors)) = bench.plan(&everything()).await else { panic!("it is planned") };
    let summaries: Vec<_> = errors.iter().map(|error| error.summary.as_str()).collect();
    assert_eq!(
        summaries,
        ["`key` of mem_item.x is sensitive, but it is part of the identity, which plans and the state show"]
    );
    // A text that happens to be in the name does not make it.
    bench.write("[resource.mem_item.x]\nkey = \"x\"\nvalue = '${sensitive(\"x\")}'\n");
    bench.plan(&everything()).await.unwrap();
}

/// Returns the identity of the record of an operation, and that of its observed object.
fn identities(operation: &Operation) -> [Option<String>; 2] {
    let observed = operation.observed.as_ref().and_then(|observed| observed.attributes["key"].as_str());
    [operation.recorded.as_ref().map(|record| record.identity.clone()), observed.map(str::to_owned)]
}

/// The new object of a replacement is recorded, even if the run is interrupted before the old object is destroyed.
#[tokio::test]
async fn a_run_that_is_interrupted_within_a_replacement_leaves_no_orphan() {
    let bench = Bench::default();
    let manifest =
        |key: &str| format!("[resource.mem_item.x]\nkey = \"{key}\"\nlifecycle = {{ create_before_destroy = true }}\n");
    bench.write(&manifest("a"));
    bench.apply(&everything()).await;
    bench.write(&manifest("b"));
    let interrupt = Interrupt::default();
    bench.memory.world().stop_after = Some(("create b".to_owned(), interrupt.stop.clone()));
    let report = bench.apply_until(&everything(), &interrupt).await;
    assert!(report.interrupted);
    assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), ["a", "b"]);

    bench.memory.world().stop_after = None;
    bench.memory.world().operations.clear();
    bench.write("");
    bench.apply(&everything()).await;
    assert_eq!(bench.memory.world().items.keys().collect::<Vec<_>>(), Vec::<&str>::new());
    // The provider gets each object with its own record.
    let removed: Vec<_> = bench.memory.world().operations.iter().map(identities).collect();
    assert_eq!(removed, [["a", "a"], ["b", "b"]].map(|pair| pair.map(|key| Some(key.to_owned()))));
}

#[tokio::test]
async fn a_move_from_or_to_what_does_not_exist_is_an_error() {
    let bench = Bench::applied("[resource.mem_item.old]\nkey = \"a\"\n[resource.mem_item.stays]\nkey = \"s\"\n").await;
    let manifest = |from: &str, to: &str| {
        format!(
            "[resource.mem_item.stays]\nkey = \"s\"\n[resource.mem_item.new]\nfor_each = [\"x\", \"y\"]\nkey = \"${{each.key}}\"\n[[moved]]\nfrom = '{from}'\nto = '{to}'\n"
        )
    };
    let cases = [
        ("mem_item.odl", "mem_item.new[\"x\"]", "the state has no resource `mem_item.odl`"),
        ("mem_item.old", "mem_item.new[\"z\"]", "the manifest has no instance `mem_item.new[\"z\"]`"),
        ("mem_item.old[\"x\"]", "mem_item.new[\"x\"]", "the state has no resource `mem_item.old[\"x\"]`"),
    ];
    for (from, to, expected) in cases {
        bench.write(&manifest(from, to));
        let Err(Failure::Manifest(errors)) = bench.plan(&everything()).await else {
            panic!("{from} to {to} is planned")
        };
        assert_eq!(errors.iter().map(|e| e.summary.as_str()).collect::<Vec<_>>(), [expected]);
    }
    // One instance becomes one of several.
    bench.write(&manifest("mem_item.old", "mem_item.new[\"x\"]"));
    let plan = bench.plan(&everything()).await.unwrap();
    let moved = plan.changes.iter().find(|c| c.moved_from.is_some()).unwrap();
    assert_eq!(moved.address.to_string(), "mem_item.new[\"x\"]");
    bench.apply(&everything()).await;
    // The block stays in the manifest, also for an empty state.
    bench.assert_settled().await;
    let fresh = Bench::default();
    fresh.write(&manifest("mem_item.old", "mem_item.new[\"x\"]"));
    fresh.plan(&everything()).await.unwrap();
}

#[tokio::test]
async fn an_import_of_a_resource_records_all_instances_as_an_adoption_does() {
    let nodes = "[nodes.n1]\nroles = [\"web\"]\n[nodes.n2]\nroles = [\"web\"]\n";
    let files = "[resource.mem_file.conf]\non = { role = \"web\" }\nkey = \"conf\"\nvalue = \"1\"\n[resource.mem_badge.badge]\non = { role = \"web\" }\nkey = '${node.name}-badge'\nvalue = \"1\"\n";
    let there = ["n1:conf", "n2:conf", "n1-badge", "n2-badge"];
    let prepared = || {
        let bench = Bench::default();
        bench.write(&format!("{nodes}{files}"));
        bench.memory.world().items.extend(there.map(|key| (key.to_owned(), "1".to_owned())));
        bench
    };
    let records = async |bench: &Bench| {
        let mut records = bench.store().await.snapshot().await.unwrap().records;
        records.values_mut().for_each(|record| Arc::make_mut(record).updated_at = jiff::Timestamp::UNIX_EPOCH);
        records
    };
    let adopted = prepared();
    adopted.apply(&everything()).await;
    let imported = prepared();
    assert_eq!(imported.import("mem_file.conf[\"n1\"]").await.unwrap().len(), 1);
    assert_eq!(imported.import("mem_file.conf").await.unwrap()[0].to_string(), "mem_file.conf[\"n2\"]");
    assert_eq!(imported.import("mem_badge.badge").await.unwrap().len(), 2);
    let expected = records(&adopted).await;
    assert!(expected["mem_badge.badge[\"n1\"]"].machine.is_some());
    assert!(expected.values().all(|record| record.private == serde_json::json!("seen")));
    assert_eq!(records(&imported).await, expected);
    assert!(!imported.plan(&everything()).await.unwrap().has_changes());

    let Err(Failure::Manifest(errors)) = imported.import("mem_file.conf[\"n3\"]").await else { panic!("imported") };
    assert_eq!(errors[0].summary, "`mem_file.conf[\"n3\"]` is not in the manifest");
    assert!(errors[0].help.as_ref().unwrap().contains("mem_file.conf[\"n1\"]"), "{:?}", errors[0].help);
}

#[tokio::test]
async fn a_refresh_evaluates_checks_of_what_drifted_and_of_data() {
    let item = |name: &str| format!("[resource.mem_item.{name}]\nkey = \"{name}\"\nvalue = \"1\"\n");
    let data = |name: &str, key: &str| {
        format!(
            "[data.mem_item.{name}]\nkey = \"{key}\"\ndepends_on = [\"mem_item.x\"]\n[check.{name}]\n\
            assert = [{{ condition = '${{data.mem_item.{name}.value == \"2\"}}', error_message = \"wrong\" }}]\n"
        )
    };
    let bench = Bench::applied(&item("x")).await;
    bench.memory.world().items.insert("x".to_owned(), "2".to_owned());
    bench.write(
        &(item("x")
            + &data("x", "x")
            + &data("nothing", "nothing")
            + &item("new")
            + &data("new", "${mem_item.new.id}")),
    );
    let checks = async |mode| {
        let plan = bench.plan(&PlanOptions { mode, ..PlanOptions::default() }).await.unwrap();
        assert_eq!(plan.changes.iter().any(|change| change.action == Action::Read), mode == PlanMode::Normal);
        let statuses = plan.checks.iter().map(|check| (check.name.clone(), check.status)).collect::<Vec<_>>();
        (statuses, plan.warnings)
    };
    let of = |x| [("new", CheckStatus::Unknown), ("nothing", CheckStatus::Unknown), ("x", x)];
    let named =
        |statuses: [(&str, CheckStatus); 3]| statuses.map(|(name, status)| (format!("check.{name}"), status)).to_vec();

    // An apply reads them after it has changed `x`.
    assert_eq!(checks(PlanMode::Normal).await, (named(of(CheckStatus::Unknown)), vec![]));
    let unread =
        "`data.mem_item.nothing` was not read, so the checks that refer to it are unknown: there is no nothing";
    assert_eq!(checks(PlanMode::RefreshOnly).await, (named(of(CheckStatus::Pass)), vec![unread.to_owned()]));
}

#[tokio::test]
async fn an_import_evaluates_no_checks() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let bench = Bench::default();
    bench.write(&format!(
        "[resource.mem_item.x]\nkey = \"x\"\n\n[check.web]\nhttp = {{ url = \"http://{address}/\", timeout = \"1s\" }}\n"
    ));
    bench.memory.world().items.insert("x".to_owned(), String::new());
    bench.import("mem_item.x").await.unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
}

#[tokio::test]
async fn an_import_records_nothing_if_one_object_does_not_exist() {
    let bench = Bench::default();
    bench.write("[resource.mem_item.x]\nfor_each = [\"a\", \"b\"]\nkey = \"${each.key}\"\n");
    bench.memory.world().items.insert("a".to_owned(), String::new());
    let Err(Failure::Providers(errors)) = bench.import("mem_item.x").await else { panic!("imported") };
    assert_eq!(errors.iter().map(|(address, _)| address.to_string()).collect::<Vec<_>>(), ["mem_item.x[\"b\"]"]);
    assert!(bench.store().await.snapshot().await.unwrap().records.is_empty());
}

#[tokio::test]
async fn a_plan_reports_all_instances_that_fail_but_not_their_dependants() {
    let bench = Bench::default();
    bench.write(
        r#"
[resource.mem_item.first]
key = "first"

[resource.mem_item.dependant]
key        = "dependant"
depends_on = ["mem_item.first"]

[resource.mem_item.created_after]
key        = "created_after"
depends_on = ["mem_item.first"]

[resource.mem_item.healthy]
key = "healthy"

[resource.mem_item.later]
key        = "later"
depends_on = ["mem_item.healthy"]

[[import]]
to = "mem_item.first"

[[import]]
to = "mem_item.dependant"

[[import]]
to = "mem_item.later"
"#,
    );
    let Err(Failure::Providers(errors)) = bench.plan(&PlanOptions::default()).await else { panic!("planned") };
    let failed: Vec<_> = errors.iter().map(|(address, _)| address.to_string()).collect();
    assert_eq!(failed, ["mem_item.first", "mem_item.later"]);
    // A dependant could wait for the same target, for nothing.
    assert_eq!(bench.memory.world().proposed, ["mem_item.healthy"]);
}

#[tokio::test]
async fn the_reason_for_a_removal_is_reported() {
    let nodes = |second: &str| format!("[nodes.n1]\nroles = [\"web\"]\n[nodes.n2]\nroles = [\"{second}\"]\n");
    let all = "[resource.mem_file.f]\non = { role = \"web\" }\nfor_each = [\"a\", \"b\"]\nkey = \"${each.key}\"\n[resource.mem_item.i]\nfor_each = [\"a\", \"b\"]\nkey = \"${each.key}\"\n[resource.mem_item.gone]\nkey = \"gone\"\n[resource.mem_item.one]\nkey = \"one\"\n";
    let less = "[resource.mem_file.f]\non = { role = \"web\" }\nfor_each = [\"a\"]\nkey = \"${each.key}\"\n[resource.mem_item.i]\nfor_each = [\"a\"]\nkey = \"${each.key}\"\n[resource.mem_item.one]\nfor_each = [\"x\"]\nkey = \"${each.key}\"\n";
    let bench = Bench::applied(&(nodes("web") + all)).await;
    bench.write(&(nodes("db") + less));
    let plan = bench.plan(&everything()).await.unwrap();
    let why: Vec<_> = plan
        .changes
        .iter()
        .filter(|c| c.action == Action::Delete)
        .map(|c| format!("{}: {}", c.address, serde_json::to_string(&c.reasons[0]).unwrap()))
        .collect();
    let mut why = why;
    why.sort();
    let expected = [
        "mem_file.f[\"n1/b\"]: {\"kind\":\"deselected\",\"by\":\"for_each\"}",
        "mem_file.f[\"n2/a\"]: {\"kind\":\"deselected\",\"by\":\"on\"}",
        "mem_file.f[\"n2/b\"]: {\"kind\":\"deselected\",\"by\":\"on\"}",
        "mem_item.gone: {\"kind\":\"removed\"}",
        "mem_item.i[\"b\"]: {\"kind\":\"deselected\",\"by\":\"for_each\"}",
        "mem_item.one: {\"kind\":\"deselected\",\"by\":\"keys\"}",
    ];
    assert_eq!(why, expected);
}

#[tokio::test]
async fn a_selection_that_matches_nothing_is_an_error_or_a_warning() {
    let bench = Bench::default();
    let file = |on: &str| format!("[nodes.n1]\nroles = [\"web\"]\n[resource.mem_file.f]\non = {on}\nkey = \"f\"\n");
    bench.write(&file("{ role = \"wbe\" }"));
    let errors = bench.workspace().validate();
    assert_eq!(errors[0].summary, "no node has the role `wbe`");
    assert!(errors[0].help.as_ref().unwrap().starts_with("did you mean `web`?"), "{:?}", errors[0].help);
    assert!(bench.plan(&everything()).await.is_err());
    bench.write(&file("{ role = \"wbe\", allow_empty = true }"));
    assert_eq!(bench.workspace().validate(), []);
    bench.write(&file("[]"));
    let warning = "`mem_file.f`: `on` selects no nodes, so the block has no instances";
    assert_eq!(bench.workspace().validate()[0].summary, warning);
    assert_eq!(bench.plan(&everything()).await.unwrap().warnings, [warning]);
}
