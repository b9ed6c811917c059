//! Policies: the data that they see, and their messages.

#![expect(clippy::unwrap_used, reason = "a test fails by panic")]

#[path = "support/mod.rs"]
mod support;

use moorfast_engine::manifest::PolicySeverity;
use moorfast_engine::plan::{PlanMode, PlanOptions};
use moorfast_engine::session::{Events, Failure, Interrupt};
use support::Bench;

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Returns the violated policies of the plan of `bench` with their messages, and whether the plan is denied.
async fn said(bench: &Bench, options: &PlanOptions, applying: bool) -> (Vec<(String, String)>, bool) {
    let store = bench.store().await;
    let state = store.snapshot().await.unwrap();
    let (events, interrupt) = (Events::default(), Interrupt::default());
    let mut planned = bench.workspace().plan(&state, store.seal_key(), options, &events, &interrupt).await.unwrap();
    let diagnostics = planned.evaluate_policies(applying).unwrap();
    let plan = planned.close().await;
    let violated = plan.policies.iter().filter_map(|p| Some((p.name.clone(), p.violation.clone()?)));
    let violated: Vec<_> = violated.collect();
    assert_eq!(diagnostics.len(), violated.len());
    (violated, plan.is_denied())
}

const POLICIES: &str = r#"
[policy.one_restart_at_a_time]
condition = '${alltrue([for role, count in plan.restarts_at_once : count <= 1])}'
message = 'restarts ${join(", ", [for role, count in plan.restarts_at_once : "${count} of ${role}" if count > 1])} at once'

[policy.no_destroy_outside_the_window]
condition = '${!plan.applying || plan.summary.remove == 0 || contains(local.window, formatdate("EEE", timein("UTC", plan.timestamp)))}'
message = 'destroys ${join(", ", [for c in plan.changes : c.address if contains(c.actions, "delete")])} outside of the window'

[policy.many]
condition = "${length(plan.changes) < 3}"
message = "${length(plan.changes)} changes"
severity = "warn"

[locals]
window = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]
"#;

fn fleet(value: &str, more: &str) -> String {
    let node = |name: &str| format!("[nodes.{name}]\ntransport = \"local\"\nroles = [\"worker\"]\n");
    format!(
        "{}[resource.mem_item.file]\non = \"all\"\nkey = \"${{node.name}}/file\"\nvalue = \"{value}\"\n\
         [resource.mem_item.unit]\non = \"all\"\nkey = \"${{node.name}}/unit\"\nrestart_on = [\"mem_item.file\"]\n{POLICIES}\n{more}",
        ["a", "b", "c"].map(node).concat()
    )
}

#[test]
fn restarts_of_a_role_at_the_same_time_are_denied_unless_a_rollout_limits_them() {
    run(async {
        let bench = Bench::default();
        bench.write(&fleet("1", ""));
        let (violated, denied) = said(&bench, &PlanOptions::default(), true).await;
        assert!(!denied);
        assert_eq!(violated, [("policy.many".to_owned(), "6 changes".to_owned())]);
        bench.apply(&PlanOptions::default()).await;

        bench.write(&fleet("2", ""));
        let (violated, denied) = said(&bench, &PlanOptions::default(), false).await;
        assert!(denied);
        let message = "restarts 3 of worker at once".to_owned();
        assert!(violated.contains(&("policy.one_restart_at_a_time".to_owned(), message)), "{violated:?}");

        for (rollout, denied) in [
            ("roles = [\"worker\"]", false),
            ("resources = [\"mem_item.unit\"]", false),
            ("roles = [\"worker\"]\nmax_unavailable = 2", true),
            ("resources = [\"mem_item.file\"]", true),
            ("nodes = [\"a\", \"b\"]", true),
        ] {
            bench.write(&fleet("2", &format!("[rollout.x]\n{rollout}\n")));
            assert_eq!(said(&bench, &PlanOptions::default(), false).await.1, denied, "{rollout}");
        }
    });
}

#[test]
fn a_time_window_is_evaluated_at_the_time_of_the_apply() {
    run(async {
        let bench = Bench::applied(&fleet("1", "")).await;
        let closed = fleet("1", "").replace(
            "window = [",
            "window = [\"never\"]
open = [",
        );
        let destroy = PlanOptions {
            mode: PlanMode::Destroy,
            targets: vec!["mem_item.unit".parse().unwrap()],
            ..Default::default()
        };
        for (manifest, applying, denied) in
            [(&closed, false, false), (&closed, true, true), (&fleet("1", ""), true, false)]
        {
            bench.write(manifest);
            let (violated, is_denied) = said(&bench, &destroy, applying).await;
            assert_eq!(is_denied, denied, "{violated:?}");
            if denied {
                assert!(violated.iter().any(|(_, message)| message.contains("mem_item.unit[\"a\"]")));
            }
        }
    });
}

#[test]
fn an_unknown_member_of_a_plan_is_an_error_with_a_suggestion() {
    let cases = [
        ("${plan.chnages == []}", "x", "changes"),
        ("${alltrue([for c in plan.changes : c.restrat])}", "x", "restart"),
        ("${plan.summary.delete == 0}", "x", "delete"),
        ("${true}", "${plan.timstamp}", "timestamp"),
        ("${plan.mode}", "x", "true or false"),
    ];
    for (condition, message, expected) in cases {
        run(async {
            let bench = Bench::default();
            bench.write(&format!(
                "[resource.mem_item.a]\nkey = \"a\"\n[policy.p]\ncondition = '{condition}'\nmessage = '{message}'\n"
            ));
            let found = match bench.workspace().validate() {
                found if found.is_empty() => {
                    let store = bench.store().await;
                    let state = store.snapshot().await.unwrap();
                    let (options, events, interrupt) = Default::default();
                    let planned = bench.workspace().plan(&state, store.seal_key(), &options, &events, &interrupt).await;
                    match planned.unwrap().evaluate_policies(false) {
                        Err(Failure::Manifest(found)) => found,
                        other => panic!("{other:?}"),
                    }
                }
                found => found,
            };
            let text = format!("{} {}", found[0].summary, found[0].help.clone().unwrap_or_default());
            assert!(text.contains(expected), "{condition}: {text}");
            assert!(found[0].at.is_some(), "{condition}");
        });
    }
    assert_eq!(PolicySeverity::default(), PolicySeverity::Deny);
}

#[test]
fn a_restart_because_of_its_own_definition_is_a_restart_for_policies() {
    run(async {
        let bench = Bench::default();
        let manifest = |value: &str| {
            format!(
                "[nodes.a]\ntransport = \"local\"\nroles = [\"worker\"]\n\
                 [resource.mem_item.unit]\non = \"a\"\nkey = \"unit\"\nvalue = \"{value}\"\n\
                 [policy.restart]\ncondition = '${{alltrue([for c in plan.changes : !c.restart])}}'\nmessage = \"restart\"\n\
                 [policy.dangerous]\ncondition = '${{alltrue([for c in plan.changes : !c.dangerous])}}'\nmessage = \"dangerous\"\n\
                 [policy.kind]\ncondition = '${{alltrue([for c in plan.changes : alltrue([for q in c.consequences : q.kind != \"restart\"])])}}'\nmessage = \"kind\"\n\
                 [policy.at_once]\ncondition = '${{plan.restarts_at_once.worker == 0}}'\nmessage = \"at once\"\n"
            )
        };
        bench.write(&manifest("definition 1"));
        assert_eq!(said(&bench, &PlanOptions::default(), true).await.0, []);
        bench.apply(&PlanOptions::default()).await;
        bench.write(&manifest("definition 2"));
        let violated = said(&bench, &PlanOptions::default(), true).await.0;
        let names: Vec<_> = violated.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["policy.at_once", "policy.dangerous", "policy.kind", "policy.restart"]);
    });
}
