//! Plans and runs as JSON, in Terraform's vocabulary. `docs/json.md` describes the format.

use moorfast_engine::apply::{ChangeOutcome, ChangeResult, FailedGate, Report};
use moorfast_engine::model::{
    Address, CheckResult, CheckStatus, Diagnostic, ErrorCode, Mark, Mode, NodeChange, Severity, Sources,
};
use moorfast_engine::plan::{
    Change, Drift, NodeDrain, PathSegment, Plan, PlannedRollout, PolicyResult, RolledNode, parse_path,
};
use moorfast_engine::provider::{Action, ObjectChange, ProviderError};
use moorfast_engine::session::{Event, Failure, RolloutStep};
use serde_json::{Map, Value as Json, json};

use super::drift::changed_attributes;
use super::failure::{self, Message};
use super::report::{Done, is_complete};
use super::wording::{counted, duration, progress_words};
use crate::error::Error;
use crate::exit::Exit;

/// The version of the JSON format.
pub const FORMAT_VERSION: &str = "1.0";

/// Returns a plan as a JSON object.
pub fn plan(plan: &Plan) -> Json {
    let summary = plan.summary();
    let outputs = plan.outputs.iter().map(|(name, o)| {
        let action = match (&o.before, &o.after) {
            (before, after) if before == after => "no-op",
            (None, _) => "create",
            (_, None) => "delete",
            _ => "update",
        };
        (name.clone(), values(o.before.as_ref(), o.after.as_ref(), &[action]))
    });
    let mut object = json!({
        "format_version": FORMAT_VERSION,
        "moorfast_version": plan.moorfast_version,
        "timestamp": plan.created_at,
        "site": plan.site,
        "environment": plan.environment,
        "mode": plan.options.mode,
        "lineage": plan.lineage,
        "serial": plan.serial,
        "applyable": plan.has_changes() && !plan.is_denied(),
        "resource_changes": plan.changes.iter().map(resource_change).collect::<Vec<_>>(),
        "resource_drift": plan.drift.iter().map(drift).collect::<Vec<_>>(),
        "output_changes": outputs.collect::<Map<_, _>>(),
        "checks": plan.checks.iter().map(check).collect::<Vec<_>>(),
        "policies": plan.policies.iter().map(policy).collect::<Vec<_>>(),
        "rollouts": plan.rollouts.iter().map(rollout).collect::<Vec<_>>(),
        "nodes": plan.nodes.iter().map(node).collect::<Vec<_>>(),
        "warnings": plan.warnings,
        "summary": {
            "add": summary.add,
            "change": summary.change,
            "remove": summary.destroy,
            "import": summary.adopt,
            "forget": summary.forget,
        },
    });
    if !plan.leaving.is_empty() {
        object["leaving"] = json!(plan.leaving);
    }
    object
}

/// Returns a node whose machine changed.
fn node(change: &NodeChange) -> Json {
    json!({
        "node": change.node,
        "change": change.kind.word(),
        "approved": change.approved,
        "approval": change.is_unapproved().then(|| change.approval()),
        "before": change.before,
        "after": change.after,
        "message": change.to_string(),
    })
}

fn resource_change(change: &Change) -> Json {
    let wrap = |map: &Option<Map<String, Json>>| map.clone().map(Json::Object);
    let (before, after) = (wrap(&change.before), wrap(&change.after));
    let mut values = values(before.as_ref(), after.as_ref(), &change.action_names());
    if change.action == Action::Adopt {
        values["importing"] = json!({ "id": change.identity });
    }
    let replaced: Vec<_> = change.replace_paths().map(|path| steps(&parse_path(path))).collect();
    if !replaced.is_empty() {
        values["replace_paths"] = json!(replaced);
    }
    let mut object = json!({
        "address": change.address,
        "mode": if change.address.resource.mode == Mode::Data { "data" } else { "managed" },
        "type": change.resource_type,
        "name": change.address.resource.name,
        "provider_name": change.provider,
        "target": change.target,
        "identity": change.identity,
        "change": values,
    });
    if let Some(key) = &change.address.key {
        object["index"] = json!(key);
    }
    with_module(&mut object, &change.address);
    if let Some(from) = &change.moved_from {
        object["previous_address"] = json!(from);
    }
    if !change.reasons.is_empty() {
        object["action_reasons"] = json!(change.reasons);
    }
    if !change.objects.is_empty() {
        object["objects"] = change.objects.iter().map(|object| object_change(object, change)).collect();
    }
    if !change.consequences.is_empty() {
        object["consequences"] = json!(change.consequences);
    }
    if !change.notes.is_empty() {
        object["notes"] = json!(change.notes);
    }
    object
}

/// Adds the module of an address. Resources of the root have none.
fn with_module(object: &mut Json, address: &Address) {
    let module = &address.resource.module;
    if !module.is_root() {
        object["module_address"] = json!(module.to_string());
    }
}

/// Returns the change of one object of an instance with several objects.
fn object_change(object: &ObjectChange, change: &Change) -> Json {
    let (before, after) = (object.within(change.before.as_ref()), object.within(change.after.as_ref()));
    let mut values = values(before, after, object.action.names());
    if object.action == Action::Adopt {
        values["importing"] = json!({ "id": object.identity });
    }
    if !object.replace_paths.is_empty() {
        // The recorded paths start at the instance, those in the JSON at the object.
        let name = PathSegment::Name(object.name.clone());
        let inside = |path: &String| {
            let path = parse_path(path);
            let start = path.iter().position(|step| *step == name).unwrap_or(0);
            steps(path.get(start + 1..).unwrap_or_default())
        };
        values["replace_paths"] = object.replace_paths.iter().map(inside).collect();
    }
    json!({ "name": object.name, "identity": object.identity, "change": values })
}

/// Returns a path in Terraform's format.
fn steps(path: &[PathSegment]) -> Json {
    let step = |step: &PathSegment| match step {
        PathSegment::Name(name) => json!(name),
        PathSegment::Index(index) => json!(index),
    };
    path.iter().map(step).collect()
}

fn drift(drift: &Drift) -> Json {
    let after = drift.after.clone().map(Json::Object);
    let actions = if after.is_some() { ["update"] } else { ["delete"] };
    let mut object = json!({
        "address": drift.address,
        "target": drift.target,
        "changed": changed_attributes(drift),
        "change": values(Some(&Json::Object(drift.before.clone())), after.as_ref(), &actions),
    });
    with_module(&mut object, &drift.address);
    object
}

/// Returns the values before and after. Sensitive and unknown values are null and are marked in separate members.
fn values<'v>(before: Option<&'v Json>, after: Option<&'v Json>, actions: &[&str]) -> Json {
    let side = |value: Option<&Json>| value.map(open).unwrap_or(Json::Null);
    let marks = |value: Option<&'v Json>, wanted: fn(Mark<'v>) -> bool| {
        value.and_then(|v| marked(v, wanted)).unwrap_or(json!(false))
    };
    json!({
        "actions": actions,
        "before": side(before),
        "after": side(after),
        "after_unknown": marks(after, Mark::is_unknown),
        "after_retained": marks(after, Mark::is_retained),
        "before_sensitive": marks(before, Mark::is_sensitive),
        "after_sensitive": marks(after, Mark::is_sensitive),
    })
}

/// Returns `value` with null for values that cannot be shown.
fn open(value: &Json) -> Json {
    match value {
        _ if Mark::of(value).is_some() => Json::Null,
        Json::Object(map) => Json::Object(map.iter().map(|(k, v)| (k.clone(), open(v))).collect()),
        Json::Array(items) => items.iter().map(open).collect(),
        scalar => scalar.clone(),
    }
}

/// Returns the structure of `value` with `true` for the `wanted` marks. Returns `None` if there are none.
fn marked<'v>(value: &'v Json, wanted: fn(Mark<'v>) -> bool) -> Option<Json> {
    if let Some(mark) = Mark::of(value) {
        return wanted(mark).then(|| json!(true));
    }
    match value {
        Json::Object(map) => {
            let found: Map<_, _> = map.iter().filter_map(|(k, v)| Some((k.clone(), marked(v, wanted)?))).collect();
            (!found.is_empty()).then_some(Json::Object(found))
        }
        Json::Array(items) => {
            let found: Vec<_> = items.iter().map(|v| marked(v, wanted)).collect();
            let shape = || found.iter().map(|v| v.clone().unwrap_or(json!(false))).collect();
            found.iter().any(Option::is_some).then(shape)
        }
        _ => None,
    }
}

/// Returns the result of a check.
fn check(check: &CheckResult) -> Json {
    let status = match check.status {
        CheckStatus::Pass => "pass",
        CheckStatus::Fail => "fail",
        CheckStatus::Unknown => "unknown",
        CheckStatus::Error => "error",
        CheckStatus::Skipped => "skipped",
    };
    json!({ "address": check.name, "status": status, "problems": check.messages })
}

/// Returns the result of a policy.
fn policy(policy: &PolicyResult) -> Json {
    json!({
        "address": policy.name,
        "severity": policy.severity,
        "status": if policy.violation.is_some() { "fail" } else { "pass" },
        "message": policy.violation,
        "place": policy.place,
    })
}

/// Returns a planned rollout.
fn rollout(rollout: &PlannedRollout) -> Json {
    let mut object = json!({
        "name": rollout.name,
        "max_unavailable": rollout.max_unavailable,
        "gates": rollout.gates,
        "timeout_seconds": rollout.timeout.as_secs_f64(),
        "pause_seconds": rollout.pause.as_secs_f64(),
        "nodes": rollout.nodes.iter().map(|node| rolled_node(node, rollout.drain.is_some())).collect::<Vec<_>>(),
        "settled": rollout.settled,
    });
    if !rollout.after.is_empty() {
        object["after"] = json!(rollout.after);
    }
    if let Some(drain) = &rollout.drain {
        object["drain"] = json!({
            "timeout_seconds": drain.timeout.as_secs_f64(),
            "grace_period_seconds": drain.grace_period.map(|period| period.as_secs_f64()),
            "force": drain.force,
            "delete_emptydir_data": drain.delete_emptydir_data,
        });
    }
    object
}

/// Returns a node of a rollout, which may drain its nodes.
fn rolled_node(node: &RolledNode, drains: bool) -> Json {
    let mut object = json!({ "name": node.name, "changes": node.changes });
    if drains {
        object["drain"] = json!(match node.drain {
            NodeDrain::NotNeeded => "not_needed",
            NodeDrain::Planned => "planned",
            NodeDrain::Absent => "absent",
        });
        object["uncordon"] = json!(node.returns());
    }
    object
}

/// Returns a step of a rollout.
fn rollout_step(step: &RolloutStep) -> Json {
    match step {
        RolloutStep::Draining => json!({ "step": "draining" }),
        RolloutStep::Drained { notes } => json!({ "step": "drained", "notes": notes }),
        RolloutStep::NotDrained { error } => json!({ "step": "not_drained", "error": provider_error(error) }),
        RolloutStep::Uncordoned => json!({ "step": "uncordoned" }),
        RolloutStep::Started => json!({ "step": "begun" }),
        RolloutStep::Waiting { gates } => json!({ "step": "waiting", "gates": gates }),
        RolloutStep::Pausing { pause } => json!({ "step": "pausing", "pause_seconds": pause.as_secs_f64() }),
        RolloutStep::Passed => json!({ "step": "passed" }),
        RolloutStep::Unhealthy { gate, error } => {
            json!({ "step": "unhealthy", "gate": gate, "error": provider_error(error) })
        }
        RolloutStep::Skipped { because } => json!({ "step": "left", "because": because }),
    }
}

/// Returns an event of a run as one line.
pub fn event(event: &Event) -> String {
    let hook = |address: &Address, action: Action| json!({ "resource": { "addr": address, "type": address.resource.resource_type }, "action": action.names().join("-") });
    let (level, kind, message, rest) = match event {
        Event::Reading { target, instances } => (
            "info",
            "refresh_start",
            format!("{target}: Reading {instances} objects..."),
            json!({ "target": target, "instances": instances }),
        ),
        Event::ReadDone { target } => {
            ("info", "refresh_complete", format!("{target}: Read"), json!({ "target": target }))
        }
        Event::Recovered { address, message } => {
            ("info", "recovered", format!("{address}: {message}"), json!({ "address": address, "found": message }))
        }
        Event::Started { address, action } => (
            "info",
            "apply_start",
            format!("{address}: {}...", progress_words(*action).0),
            json!({ "hook": hook(address, *action) }),
        ),
        Event::Progress { address, message } => (
            "info",
            "apply_progress",
            format!("{address}: {message}"),
            json!({ "hook": { "resource": { "addr": address } }, "progress": message }),
        ),
        Event::Waiting { message } => ("info", "waiting", message.clone(), json!({})),
        Event::Finished { address, action, took, notes } => (
            "info",
            "apply_complete",
            format!("{address}: {} after {}", progress_words(*action).1, duration(*took)),
            json!({ "hook": hook(address, *action), "elapsed_seconds": took.as_secs_f64(), "notes": notes }),
        ),
        Event::Failed { address, action, error } => (
            "error",
            "apply_errored",
            format!("{address}: {} failed: {}", progress_words(*action).0, error.summary),
            json!({ "hook": hook(address, *action), "error": provider_error(error) }),
        ),
        Event::Skipped { address, because } => (
            "warn",
            "apply_skipped",
            format!("{address}: Skipped, because {because} did not succeed"),
            json!({ "hook": { "resource": { "addr": address } }, "because": because }),
        ),
        Event::Rollout { rollout, node, step } => {
            let level = match step {
                RolloutStep::Unhealthy { .. } | RolloutStep::NotDrained { .. } => "error",
                RolloutStep::Skipped { .. } => "warn",
                _ => "info",
            };
            let message = super::rollout::step(rollout, node, step).to_string();
            let mut rest = rollout_step(step);
            (rest["rollout"], rest["node"]) = (json!(rollout), json!(node));
            (level, "rollout", message, rest)
        }
        Event::Unapproved { node: change, operations } => (
            "warn",
            "node_withheld",
            format!("{change}; skipping {} until the machine is approved", counted(*operations, "operation")),
            json!({ "node": node(change), "operations": operations }),
        ),
        Event::Checked(result) => {
            ("info", "check", format!("{}: Check", result.name), json!({ "check": check(result) }))
        }
    };
    line(level, kind, &message, rest)
}

/// Returns an error of a provider.
pub fn provider_error(error: &ProviderError) -> Json {
    json!({
        "class": format!("{:?}", error.class).to_lowercase(),
        "code": error.code.map(ErrorCode::as_str),
        "summary": error.summary,
        "detail": error.detail,
        "help": error.help,
        "attribute": error.attribute,
    })
}

/// Returns the last line of an apply.
pub fn report(report: &Report, sources: &Sources) -> String {
    let done = Done::of(report);
    let outputs: Map<_, _> = report
        .outputs
        .iter()
        .map(|(name, value)| {
            let sensitive = value.is_sensitive();
            let shown = if sensitive { Json::Null } else { value.to_json().unwrap_or_default() };
            (name.clone(), json!({ "value": shown, "sensitive": sensitive }))
        })
        .collect();
    let message = if is_complete(report) { "Apply complete!" } else { "Apply incomplete" };
    let mut rest = json!({
        "complete": is_complete(report),
        "interrupted": report.interrupted,
        "changes": {
            "add": done.added,
            "change": done.changed,
            "remove": done.destroyed,
            "import": done.adopted,
            "forget": done.forgotten,
        },
        "outcomes": report.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        "diagnostics": of_manifest(sources, &report.errors)
            .into_iter()
            .chain(report.state_error.iter().map(|error| of_message(&failure::state_message(error))))
            .collect::<Vec<_>>(),
        "gates": report.gates.iter().map(failed_gate).collect::<Vec<_>>(),
        "outputs": outputs,
        "checks": report.checks.iter().map(check).collect::<Vec<_>>(),
        "statistics": report.statistics.iter().map(|(k, v)| (k.clone(), json!(v))).collect::<Map<_, _>>(),
    });
    if !report.out_of_service.is_empty() {
        rest["cordoned"] = json!(report.out_of_service);
    }
    line("info", "change_summary", message, rest)
}

fn failed_gate(failed: &FailedGate) -> Json {
    json!({ "rollout": failed.rollout, "node": failed.node, "gate": failed.gate, "error": provider_error(&failed.error) })
}

fn outcome(outcome: &ChangeOutcome) -> Json {
    let mut object = json!({ "address": outcome.address, "actions": outcome.action.names() });
    let result = match &outcome.result {
        ChangeResult::Done => "done",
        ChangeResult::Failed(error) => {
            object["error"] = provider_error(error);
            "failed"
        }
        ChangeResult::Unrecorded => "unrecorded",
        ChangeResult::Skipped(because) => {
            object["because"] = json!(because);
            "skipped"
        }
        ChangeResult::Unapproved(node) => {
            object["node"] = json!(node);
            "withheld"
        }
        ChangeResult::NotStarted => "not_started",
        ChangeResult::RolloutStopped { rollout, because } => {
            object["rollout"] = json!(rollout);
            object["because"] = json!(because);
            "left"
        }
        ChangeResult::Stale(differences) => {
            object["differences"] = json!(differences);
            "stale"
        }
    };
    object["result"] = json!(result);
    object
}

fn line(level: &str, kind: &str, message: &str, rest: Json) -> String {
    let mut object = json!({
        "@level": level,
        "@message": message,
        "@timestamp": jiff::Timestamp::now(),
        "type": kind,
    });
    if let (Some(object), Json::Object(rest)) = (object.as_object_mut(), rest) {
        object.extend(rest);
    }
    format!("{object}\n")
}

/// Returns the error of a command with `--json` for standard error: one object on one line.
pub fn error(error: &Error) -> String {
    let found = match error {
        Error::Manifest { sources, diagnostics } => of_manifest(sources, diagnostics),
        Error::Provider(error) => vec![of_provider(None, error)],
        Error::Run { failure, manifest } => match &**failure {
            Failure::Manifest(found) => of_manifest(&manifest.sources, found),
            Failure::Providers(errors) => {
                errors.iter().map(|(address, error)| of_provider(Some(address), error)).collect()
            }
            Failure::Provider(_, error) => vec![of_provider(None, error)],
            Failure::State(error) => vec![of_message(&failure::state_message(error))],
            Failure::Stale(lines) => vec![of_message(&failure::stale(lines))],
            Failure::Interrupted => vec![of_message(&failure::other_message(&Error::Interrupted))],
        },
        other => vec![of_message(&failure::other_message(other))],
    };
    failed(error.exit(), found)
}

/// Returns the error of a plan that policies deny.
pub fn denied(sources: &Sources, messages: &[Diagnostic]) -> String {
    failed(Exit::Error, of_manifest(sources, messages))
}

fn failed(exit: Exit, diagnostics: Vec<Json>) -> String {
    let first = diagnostics.iter().find(|d| d["severity"] == "error").or(diagnostics.first());
    let summary = first.and_then(|d| d["summary"].as_str()).unwrap_or_default().to_owned();
    let rest = json!({ "format_version": FORMAT_VERSION, "exit_code": exit.code(), "diagnostics": diagnostics });
    line("error", "error", &summary, rest)
}

fn of_manifest(sources: &Sources, found: &[Diagnostic]) -> Vec<Json> {
    found.iter().map(|d| diagnostic(sources, d)).collect()
}

fn of_provider(address: Option<&Address>, error: &ProviderError) -> Json {
    let mut object = provider_error(error);
    object["severity"] = json!("error");
    object["address"] = json!(address);
    object
}

fn of_message(message: &Message) -> Json {
    let code = message.code.map(ErrorCode::as_str);
    json!({ "severity": "error", "code": code, "summary": message.summary, "detail": message.detail, "help": message.help })
}

/// Returns the notice about a signal as an event line.
pub fn interrupted(text: &str) -> String {
    line("warn", "interrupted", text, json!({}))
}

/// Returns the objects that could not be read.
pub fn unread(unread: &[(Address, ProviderError)]) -> Json {
    unread.iter().map(|(address, error)| json!({ "address": address, "error": provider_error(error) })).collect()
}

/// Returns the output of `validate --json`.
pub fn diagnostics(sources: &Sources, diagnostics: &[Diagnostic]) -> Json {
    let of = |severity| diagnostics.iter().filter(|d| d.severity == severity).count();
    let errors = of(Severity::Error);
    json!({
        "format_version": FORMAT_VERSION,
        "valid": errors == 0,
        "error_count": errors,
        "warning_count": of(Severity::Warning),
        "diagnostics": diagnostics.iter().map(|d| diagnostic(sources, d)).collect::<Vec<_>>(),
    })
}

fn diagnostic(sources: &Sources, diagnostic: &Diagnostic) -> Json {
    let place = |span: &moorfast_engine::model::Span, label: &str| {
        let (file, line, column) = sources.locate(*span)?;
        Some(json!({
            "filename": file.path,
            "start": { "line": line, "column": column, "byte": span.start },
            "end": { "byte": span.end },
            "label": label,
        }))
    };
    let mut object = json!({
        "severity": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
        "code": diagnostic.code.map(ErrorCode::as_str),
        "summary": diagnostic.summary,
        "help": diagnostic.help,
        "range": diagnostic.at.as_ref().and_then(|(span, label)| place(span, label)),
        "related": diagnostic.related.iter().filter_map(|(span, label)| place(span, label)).collect::<Vec<_>>(),
    });
    let file = diagnostic.at.as_ref().map(|(span, _)| span.file);
    let calls: Vec<_> = file.into_iter().flat_map(|file| sources.calls_of(file)).collect();
    if !calls.is_empty() {
        object["calls"] = calls.into_iter().filter_map(|(module, span)| place(span, module)).collect();
    }
    object
}
