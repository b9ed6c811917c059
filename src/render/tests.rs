//! Snapshots of the rendered texts.

use moorfast_engine::apply::{ChangeOutcome, ChangeResult, FailedGate, Report};
use moorfast_engine::model::{NodeName, Value};
use moorfast_engine::plan::Plan;
use moorfast_engine::provider::{Action, Class, ProviderError};
use moorfast_engine::session::Failure;
use std::time::Duration;

use super::samples::{DERIVED, width};
use super::terminal::{Terminal, plain};
use super::{TextOptions, drift, failure, html, json, markdown, plan, report, samples, unsuccessful};
use crate::error::Error;

const COLORED: Terminal = Terminal { width: 100, colors: true };

fn shown(sample: &Plan) -> String {
    plain(plan::plan(sample, width(100)))
}

#[test]
fn plans() {
    insta::assert_snapshot!("nothing", shown(&samples::nothing()));
    insta::assert_snapshot!("creates", shown(&samples::creates()));
    insta::assert_snapshot!("updates", shown(&samples::updates()));
    insta::assert_snapshot!("rolled", shown(&samples::rolled()));
    insta::assert_snapshot!("dangers", shown(&samples::dangers()));
    insta::assert_snapshot!("objects", shown(&samples::objects()));
    insta::assert_snapshot!("differing", shown(&samples::differing()));
    insta::assert_snapshot!("refresh", shown(&samples::refresh()));
    insta::assert_snapshot!("destroy", shown(&samples::destroy()));
}

#[test]
fn the_same_change_on_fifty_nodes_is_one_entry() {
    insta::assert_snapshot!("fleet", shown(&samples::fleet()));
    insta::assert_snapshot!("fleet_moved", shown(&samples::moved_fleet()));
    insta::assert_snapshot!("fleet_destroyed", shown(&samples::destroyed_fleet()));
    insta::assert_snapshot!("fleet_drifted", shown(&samples::drifted_fleet()));
    insta::assert_snapshot!(
        "fleet_drift",
        plain(drift::drift(&samples::drifted_fleet(), drift::Omitted::default(), width(100)))
    );
    let samples = [
        (samples::fleet(), 4),
        (samples::moved_fleet(), 2),
        (samples::destroyed_fleet(), 2),
        (samples::drifted_fleet(), 2),
    ];
    for (sample, entries) in samples {
        let page = html::plan(&sample, &DERIVED);
        assert_eq!(page.matches("<details class=\"item").count(), entries, "{page}");
        assert!(page.lines().filter(|line| line.contains("gpu4")).count() < 20, "{page}");
        let page = markdown::plan(&sample, markdown::GITHUB, &DERIVED);
        assert!(page.lines().count() < 100 && !page.contains("**Cut"), "{page}");
    }
}

#[test]
fn a_restart_after_a_changed_definition_is_shown_in_every_format() {
    let sample = samples::redefined();
    let text = shown(&sample);
    assert!(text.contains("will be updated in place and restarted"), "{text}");
    assert!(text.contains("#   restart: its definition changes"), "{text}");
    let page = markdown::plan(&sample, markdown::GITHUB, &DERIVED);
    // Once in the list of dangerous changes, and once as the title of the change.
    assert_eq!(page.matches("<b>will be updated in place and restarted</b>").count(), 2, "{page}");
    let page = html::plan(&sample, &DERIVED);
    assert!(page.contains("Review these changes first") && page.contains("<b>1</b> restart</button>"), "{page}");
    let change = &json::plan(&sample)["resource_changes"][0];
    assert_eq!(change["consequences"][0]["kind"], "restart");
    assert!(sample.changes[0].restarts() && sample.changes[0].is_dangerous());
}

#[test]
fn differences_between_nodes_are_shown_for_each_node() {
    let change = |node: &str, allowed: &str| {
        let after =
            serde_json::json!({"path": "/etc/allow", "content": format!("allow {allowed}\nend\n"), "mode": "0644"});
        samples::change(&format!("ssh_file.allow[\"{node}\"]"), Action::Create, serde_json::Value::Null, after)
    };
    let own = shown(&samples::plan(vec![change("gpu01", "gpu01"), change("gpu02", "gpu02")]));
    assert!(own.contains("(as on gpu01; the others differ only in their names)"), "{own}");
    // A `*` in the text itself is not the placeholder for the node.
    let star = shown(&samples::plan(vec![change("gpu01", "*"), change("gpu02", "gpu02")]));
    assert!(star.contains("on gpu02, the same except"), "{star}");
    let other = shown(&samples::plan(vec![change("gpu01", "gpu02"), change("gpu02", "gpu01")]));
    assert!(other.contains("on gpu02, the same except"), "{other}");
}

#[test]
fn narrow_and_full_plans() {
    let narrow = width(60);
    let whole = TextOptions { full: true, ..width(100) };
    insta::assert_snapshot!("narrow", plain(plan::plan(&samples::updates(), narrow)));
    assert!(!plain(plan::plan(&samples::creates(), whole)).contains("more lines"));
}

#[test]
fn a_rollout_that_drains() {
    let rollouts = super::rollout::rollouts(&samples::drained()).text();
    insta::assert_snapshot!("drained", plain(rollouts));
}

#[test]
fn colours() {
    let sample = Plan { changes: samples::updates().changes.into_iter().take(1).collect(), ..samples::nothing() };
    insta::assert_snapshot!("colours", COLORED.write(&plan::plan(&sample, width(100))).replace('\u{1b}', "␛"));
}

#[test]
fn the_drift_command() {
    insta::assert_snapshot!("drift", plain(drift::drift(&samples::refresh(), drift::Omitted::default(), width(100))));
    insta::assert_snapshot!("in_sync", plain(drift::drift(&samples::nothing(), drift::Omitted::default(), width(100))));
}

#[test]
fn a_plan_as_json() {
    insta::assert_json_snapshot!("json_updates", json::plan(&samples::updates()));
    let rolled = json::plan(&samples::rolled());
    insta::assert_json_snapshot!("json_rolled", (&rolled["policies"], &rolled["rollouts"], &rolled["applyable"]));
    let drained = json::plan(&samples::drained());
    insta::assert_json_snapshot!("json_drained", (&drained["rollouts"], &drained["applyable"]));
    insta::assert_json_snapshot!("json_objects", json::plan(&samples::objects()));
    insta::assert_json_snapshot!("json_dangers", json::plan(&samples::dangers()));
}

#[test]
fn json_never_contains_digests_of_sensitive_values() {
    for sample in [samples::creates(), samples::updates(), samples::destroy()] {
        let text = json::plan(&sample).to_string();
        assert!(!text.contains("$sensitive") && !text.contains("blake3:11"), "{text}");
    }
}

fn broken() -> Report {
    let outcome = |address: &str, action, result| {
        let change = samples::change(address, action, serde_json::Value::Null, serde_json::Value::Null);
        ChangeOutcome { counts: change.summary(), address: change.address, action, result }
    };
    let error = ProviderError::new(Class::Failed, "kubelet.service did not start on gpu02: exit code 1")
        .detail(["kubelet[812]: failed to load kubelet config file", "kubelet[812]: no such file or directory"])
        .help("`journalctl -u kubelet` on the node tells more");
    let cause = "ssh_systemd_unit.kubelet[\"gpu02\"]".parse().unwrap();
    Report {
        out_of_service: Default::default(),
        outcomes: vec![
            outcome("ssh_file.config[\"gpu01\"]", Action::Create, ChangeResult::Done),
            outcome("ssh_file.config[\"gpu02\"]", Action::Update, ChangeResult::Done),
            outcome("ssh_systemd_unit.kubelet[\"gpu02\"]", Action::Create, ChangeResult::Failed(error)),
            outcome("kubernetes_node.worker[\"gpu02\"]", Action::Create, ChangeResult::Skipped(cause)),
            outcome("ssh_file.dark[\"gpu02\"]", Action::Create, ChangeResult::Unrecorded),
            outcome("ssh_file.late[\"gpu02\"]", Action::Create, ChangeResult::NotStarted),
            outcome(
                "ssh_file.config[\"gpu03\"]",
                Action::Update,
                ChangeResult::RolloutStopped {
                    rollout: "workers".to_owned(),
                    because: "kubernetes_node.worker[\"gpu01\"] is not healthy".to_owned(),
                },
            ),
            outcome(
                "ssh_file.odd[\"gpu01\"]",
                Action::Update,
                ChangeResult::Stale(vec!["mode = \"0644\" -> \"0777\"".to_owned()]),
            ),
        ],
        gates: vec![FailedGate {
            rollout: "workers".to_owned(),
            node: NodeName("gpu01".to_owned()),
            gate: "kubernetes_node.worker[\"gpu01\"]".to_owned(),
            address: Some("kubernetes_node.worker[\"gpu01\"]".parse().unwrap()),
            error: ProviderError::new(Class::Timeout, "node gpu01 did not become ready in time"),
        }],
        outputs: [
            ("token".to_owned(), Value::from("s3cr3t").sensitive()),
            ("url".to_owned(), Value::from("https://a")),
        ]
        .into(),
        checks: samples::dangers().checks,
        statistics: vec![("ssh execs".to_owned(), 12), ("api requests".to_owned(), 30)],
        state_error: None,
        errors: Vec::new(),
        interrupted: false,
    }
}

#[test]
fn reports() {
    let complete =
        Report { outcomes: broken().outcomes.into_iter().take(2).collect(), gates: vec![], checks: vec![], ..broken() };
    let took = Duration::from_millis(1234);
    let mode = moorfast_engine::plan::PlanMode::Normal;
    insta::assert_snapshot!("complete", plain(report::closing(&complete, mode, took)));
    let failures = unsuccessful::failures(&broken(), None);
    insta::assert_snapshot!("incomplete", plain(failures + report::closing(&broken(), mode, took)));
    assert!(unsuccessful::failures(&complete, None).is_empty());
    assert!(!json::report(&broken(), &Default::default()).contains("s3cr3t"));
}

#[test]
fn errors() {
    let texts = [
        Error::usage("cannot find a manifest in /srv", "run `moorfast init` to create a manifest"),
        Error::Run {
            failure: Box::new(Failure::Stale(vec!["the state changed since the plan was made".to_owned()])),
            manifest: Default::default(),
        },
        Error::Run {
            failure: Box::new(Failure::Provider(
                "kubernetes".to_owned(),
                Box::new(
                    ProviderError::new(Class::Invalid, "the kubeconfig has no context \"prod\"")
                        .help("it has: dev, test"),
                ),
            )),
            manifest: Default::default(),
        },
        Error::State(moorfast_engine::state::StateError::NoRecord { address: "ssh_file.x".to_owned() }),
        Error::Interrupted,
    ]
    .map(|error| plain(failure::error(&error)));
    insta::assert_snapshot!("errors", texts.join("---\n"));
}
