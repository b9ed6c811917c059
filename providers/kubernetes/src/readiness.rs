//! When an object is what it should be.

use jsonpath_rust::JsonPath;
use moorfast_engine::model::Value;
use serde_json::Value as Json;

use crate::resource::object::is_secret;

/// How far an object is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Readiness {
    /// It is there.
    Ready,
    /// Not yet: what is missing.
    Waiting(String),
    /// It will never be.
    Failed(String),
}

impl Readiness {
    /// The same, with what it says passed through `change`.
    pub(crate) fn map(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Readiness::Ready => Readiness::Ready,
            Readiness::Waiting(text) => Readiness::Waiting(change(text)),
            Readiness::Failed(text) => Readiness::Failed(change(text)),
        }
    }
}

/// What is waited for after an object was applied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Goal {
    /// Nothing.
    Nothing,
    /// What its kind is there for: a rollout, a completed Job.
    Kind,
    /// A condition that is true.
    Condition(String),
    /// A JSONPath whose value is this, or anything at all.
    Path(String, Option<String>),
}

impl Goal {
    /// What the attribute `wait` says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(wait: Option<&Value>) -> Result<Self, String> {
        const FORM: &str =
            "`wait` is true, false, { condition = \"Ready\" } or { jsonpath = \"{.status.phase}=Running\" }";
        match wait.map(Value::reveal) {
            None | Some(Value::Null | Value::Unknown | Value::Retained | Value::Bool(true)) => Ok(Goal::Kind),
            Some(Value::Bool(false)) => Ok(Goal::Nothing),
            Some(Value::Map(map)) if map.len() == 1 => {
                match (map.get("condition").and_then(Value::as_str), map.get("jsonpath").and_then(Value::as_str)) {
                    (Some(condition), None) => Ok(Goal::Condition(condition.to_owned())),
                    (None, Some(path)) => Self::path(path),
                    _ => Err(FORM.to_owned()),
                }
            }
            Some(_) => Err(FORM.to_owned()),
        }
    }

    /// The goal `{.status.phase}=Running`, or `{.status.loadBalancer.ingress}` for any value.
    ///
    /// # Errors
    /// If it is no JSONPath.
    pub(crate) fn path(text: &str) -> Result<Self, String> {
        let (path, expected) = match text.rsplit_once("}=") {
            Some((path, expected)) => (format!("{path}}}"), Some(expected.to_owned())),
            None => (text.to_owned(), None),
        };
        let path = plain_path(&path);
        Json::Null
            .query(&path)
            .map_err(|_| format!("{text:?} is no JSONPath; one looks like {{.status.phase}}=Running"))?;
        Ok(Goal::Path(path, expected))
    }

    /// How far `object` is.
    pub(crate) fn judge(&self, object: &Json) -> Readiness {
        match self {
            Goal::Nothing => Readiness::Ready,
            Goal::Kind => by_kind(object),
            Goal::Condition(name) => condition(object, name),
            Goal::Path(path, expected) => at_path(object, path, expected.as_deref()),
        }
    }
}

/// kubectl writes `{.status.phase}`, RFC 9535 `$.status.phase`.
fn plain_path(text: &str) -> String {
    let inside = text.trim().trim_start_matches('{').trim_end_matches('}');
    if inside.starts_with('$') {
        inside.to_owned()
    } else {
        format!("${}{inside}", if inside.starts_with(['.', '[']) { "" } else { "." })
    }
}

fn at_path(object: &Json, path: &str, expected: Option<&str>) -> Readiness {
    let found = object.query(path).unwrap_or_default();
    let text = |v: &Json| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let matches = |v: &&Json| expected.map_or(!is_empty(v), |e| text(v) == e);
    if found.iter().any(matches) {
        return Readiness::Ready;
    }
    let now = match found.first() {
        None => "nothing".to_owned(),
        Some(_) if is_secret(object) => "another value".to_owned(),
        Some(value) => text(value),
    };
    Readiness::Waiting(format!("{path} is {now}"))
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::String(text) => text.is_empty(),
        Json::Array(items) => items.is_empty(),
        Json::Object(map) => map.is_empty(),
        _ => false,
    }
}

/// The condition `name` of `object`: true, or what its message says.
pub(crate) fn condition(object: &Json, name: &str) -> Readiness {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(found) = conditions.iter().find(|c| c["type"] == name) else {
        return Readiness::Waiting(format!("has no condition {name} yet"));
    };
    if found["status"] == "True" {
        return Readiness::Ready;
    }
    let told = ["reason", "message"].iter().filter_map(|k| found[*k].as_str()).filter(|t| !t.is_empty());
    let told: Vec<_> = told.collect();
    let status = found["status"].as_str().unwrap_or("unset");
    Readiness::Waiting(if told.is_empty() {
        format!("{name} is {status}")
    } else {
        format!("{name} is {status}: {}", told.join(": "))
    })
}

fn by_kind(object: &Json) -> Readiness {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, object["kind"].as_str().unwrap_or_default()) {
        ("apps", "Deployment") => deployment(object),
        ("apps", "StatefulSet") => stateful_set(object),
        ("apps", "DaemonSet") => daemon_set(object),
        ("batch", "Job") => job(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => condition(object, "Established"),
        ("apiregistration.k8s.io", "APIService") => condition(object, "Available"),
        ("", "Namespace") => phase(object, "Active"),
        ("", "PersistentVolumeClaim") => phase(object, "Bound"),
        ("", "Node" | "Pod") if object["status"]["phase"] != "Succeeded" => condition(object, "Ready"),
        _ => Readiness::Ready,
    }
}

fn phase(object: &Json, expected: &str) -> Readiness {
    match object["status"]["phase"].as_str() {
        Some(phase) if phase == expected => Readiness::Ready,
        Some(phase) => Readiness::Waiting(format!("is {phase}")),
        None => Readiness::Waiting("has no phase yet".to_owned()),
    }
}

/// Has the controller seen this generation of the object?
fn is_seen(object: &Json) -> bool {
    object["status"]["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64()
}

fn count(value: &Json) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn deployment(object: &Json) -> Readiness {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !is_seen(object) {
        return Readiness::Waiting("waits for its controller".to_owned());
    }
    if let Some(stuck) =
        conditions.iter().find(|c| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded")
    {
        return Readiness::Failed(
            stuck["message"].as_str().unwrap_or("its rollout exceeded the progress deadline").to_owned(),
        );
    }
    let wanted = object["spec"]["replicas"].as_i64().unwrap_or(1);
    let (updated, all, available) =
        (count(&status["updatedReplicas"]), count(&status["replicas"]), count(&status["availableReplicas"]));
    if updated < wanted {
        return Readiness::Waiting(format!("{updated} of {wanted} replicas are updated"));
    }
    if all > updated {
        return Readiness::Waiting(format!("{} old replicas are to end", all - updated));
    }
    enough(available, wanted, "replicas are available")
}

fn stateful_set(object: &Json) -> Readiness {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Readiness::Ready;
    }
    if !is_seen(object) {
        return Readiness::Waiting("waits for its controller".to_owned());
    }
    let wanted = spec["replicas"].as_i64().unwrap_or(1);
    let partition = count(&spec["updateStrategy"]["rollingUpdate"]["partition"]);
    let updated = count(&status["updatedReplicas"]);
    if updated < wanted - partition {
        return Readiness::Waiting(format!("{updated} of {} replicas are updated", wanted - partition));
    }
    enough(count(&status["readyReplicas"]), wanted, "replicas are ready")
}

fn daemon_set(object: &Json) -> Readiness {
    let status = &object["status"];
    if !is_seen(object) {
        return Readiness::Waiting("waits for its controller".to_owned());
    }
    let wanted = count(&status["desiredNumberScheduled"]);
    let on_delete = object["spec"]["updateStrategy"]["type"] == "OnDelete";
    let updated = count(&status["updatedNumberScheduled"]);
    if !on_delete && updated < wanted {
        return Readiness::Waiting(format!("{updated} of {wanted} pods are updated"));
    }
    enough(count(&status["numberAvailable"]), wanted, "pods are available")
}

fn enough(have: i64, wanted: i64, what: &str) -> Readiness {
    if have >= wanted { Readiness::Ready } else { Readiness::Waiting(format!("{have} of {wanted} {what}")) }
}

fn job(object: &Json) -> Readiness {
    if let Readiness::Ready = condition(object, "Failed") {
        let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let failed = conditions.iter().find(|c| c["type"] == "Failed");
        let message = failed.and_then(|c| c["message"].as_str()).unwrap_or("it failed");
        return Readiness::Failed(message.to_owned());
    }
    match condition(object, "Complete") {
        Readiness::Ready => Readiness::Ready,
        _ if object["spec"]["suspend"] == true => Readiness::Ready,
        _ => Readiness::Waiting(format!(
            "{} of {} completed",
            count(&object["status"]["succeeded"]),
            object["spec"]["completions"].as_i64().unwrap_or(1)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rollout(spec: Json, status: Json) -> Json {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"generation": 2}, "spec": spec, "status": status})
    }

    #[test]
    fn how_far_an_object_is() {
        let waiting = |text: &str| Readiness::Waiting(text.to_owned());
        let cases = [
            (rollout(json!({"replicas": 2}), json!({"observedGeneration": 1})), waiting("waits for its controller")),
            (
                rollout(json!({"replicas": 2}), json!({"observedGeneration": 2, "updatedReplicas": 1})),
                waiting("1 of 2 replicas are updated"),
            ),
            (
                rollout(json!({}), json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 2})),
                waiting("1 old replicas are to end"),
            ),
            (
                rollout(
                    json!({}),
                    json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 1, "availableReplicas": 1}),
                ),
                Readiness::Ready,
            ),
            (
                rollout(
                    json!({}),
                    json!({"observedGeneration": 2, "conditions": [{"type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "stuck"}]}),
                ),
                Readiness::Failed("stuck".to_owned()),
            ),
            (
                json!({"apiVersion": "v1", "kind": "Namespace", "status": {"phase": "Terminating"}}),
                waiting("is Terminating"),
            ),
            (json!({"apiVersion": "v1", "kind": "ConfigMap"}), Readiness::Ready),
            (
                json!({"apiVersion": "batch/v1", "kind": "Job", "status": {"conditions": [{"type": "Failed", "status": "True", "message": "backoff"}]}}),
                Readiness::Failed("backoff".to_owned()),
            ),
            (
                json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "status": {"conditions": [{"type": "Established", "status": "False", "reason": "Installing"}]}}),
                waiting("Established is False: Installing"),
            ),
        ];
        for (object, expected) in cases {
            assert_eq!(Goal::Kind.judge(&object), expected, "{object}");
        }
    }

    #[test]
    fn goals_by_path() {
        let object =
            json!({"status": {"phase": "Running", "n": 3, "conditions": [{"type": "Ready", "status": "True"}]}});
        let cases = [
            ("{.status.phase}=Running", true),
            ("{.status.phase}=Failed", false),
            ("{.status.n}=3", true),
            ("$.status.phase", true),
            ("status.phase", true),
            ("{.status.ip}", false),
            ("{.status.conditions[?(@.type=='Ready')].status}=True", true),
        ];
        for (text, ready) in cases {
            let goal = Goal::path(text).unwrap();
            assert_eq!(goal.judge(&object) == Readiness::Ready, ready, "{text}");
        }
        assert!(Goal::path("{.a[}").is_err());
    }

    #[test]
    fn what_a_secret_holds_is_not_told() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
        let Readiness::Waiting(told) = Goal::path("{.data.password}=eA==").unwrap().judge(&secret) else { panic!() };
        assert!(!told.contains("aHVudGVyMg"), "{told}");
    }
}
