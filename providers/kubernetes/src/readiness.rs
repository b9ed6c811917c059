//! The readiness of objects.

use jsonpath_rust::JsonPath;
use moorfast_engine::model::Value;
use serde_json::Value as Json;

use crate::object_reader::is_secret;

/// The readiness of an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Readiness {
    /// The object is ready.
    Ready,
    /// The object is not ready yet, for this reason.
    Waiting(String),
    /// The object failed, for this reason.
    Failed(String),
}

impl Readiness {
    /// Applies `change` to the reason.
    pub(crate) fn map(self, change: impl Fn(String) -> String) -> Self {
        match self {
            Readiness::Ready => Readiness::Ready,
            Readiness::Waiting(text) => Readiness::Waiting(change(text)),
            Readiness::Failed(text) => Readiness::Failed(change(text)),
        }
    }
}

/// The condition to wait for after an apply.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum WaitCondition {
    /// Do not wait.
    None,
    /// The default of the kind: a completed rollout, a completed Job.
    Kind,
    /// A true condition of the status.
    Condition(String),
    /// A JSONPath with this value, or with any value.
    Path(String, Option<String>),
}

impl WaitCondition {
    /// Reads the attribute `wait`.
    ///
    /// # Errors
    /// If the value has another form.
    pub(crate) fn read(wait: Option<&Value>) -> Result<Self, String> {
        const FORM: &str =
            "`wait` must be true, false, { condition = \"Ready\" } or { jsonpath = \"{.status.phase}=Running\" }";
        match wait.map(Value::reveal) {
            None | Some(Value::Null | Value::Unknown | Value::Retained | Value::Bool(true)) => Ok(WaitCondition::Kind),
            Some(Value::Bool(false)) => Ok(WaitCondition::None),
            Some(Value::Map(map)) if map.len() == 1 => {
                match (map.get("condition").and_then(Value::as_str), map.get("jsonpath").and_then(Value::as_str)) {
                    (Some(condition), None) => Ok(WaitCondition::Condition(condition.to_owned())),
                    (None, Some(path)) => Self::path(path),
                    _ => Err(FORM.to_owned()),
                }
            }
            Some(_) => Err(FORM.to_owned()),
        }
    }

    /// Reads the condition `{.status.phase}=Running`, or `{.status.loadBalancer.ingress}` for any value.
    ///
    /// # Errors
    /// If the text is not a JSONPath.
    pub(crate) fn path(text: &str) -> Result<Self, String> {
        let (path, expected) = match text.rsplit_once("}=") {
            Some((path, expected)) => (format!("{path}}}"), Some(expected.to_owned())),
            None => (text.to_owned(), None),
        };
        let path = plain_path(&path);
        Json::Null
            .query(&path)
            .map_err(|_| format!("`{text}` is not a valid JSONPath; example: {{.status.phase}}=Running"))?;
        Ok(WaitCondition::Path(path, expected))
    }

    /// Returns the readiness of `object`.
    pub(crate) fn evaluate(&self, object: &Json) -> Readiness {
        match self {
            WaitCondition::None => Readiness::Ready,
            WaitCondition::Kind => by_kind(object),
            WaitCondition::Condition(name) => condition(object, name),
            WaitCondition::Path(path, expected) => at_path(object, path, expected.as_deref()),
        }
    }
}

/// Converts the form of kubectl (`{.status.phase}`) to RFC 9535 (`$.status.phase`).
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

/// Returns whether the condition `name` of `object` is true, with its message otherwise.
pub(crate) fn condition(object: &Json, name: &str) -> Readiness {
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let Some(found) = conditions.iter().find(|c| c["type"] == name) else {
        return Readiness::Waiting(format!("has no condition {name} yet"));
    };
    if found["status"] == "True" {
        return Readiness::Ready;
    }
    let reasons = ["reason", "message"].iter().filter_map(|k| found[*k].as_str()).filter(|t| !t.is_empty());
    let reasons: Vec<_> = reasons.collect();
    let status = found["status"].as_str().unwrap_or("unset");
    Readiness::Waiting(if reasons.is_empty() {
        format!("{name} is {status}")
    } else {
        format!("{name} is {status}: {}", reasons.join(": "))
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

/// Whether the controller has processed this generation of the object.
fn is_observed(object: &Json) -> bool {
    object["status"]["observedGeneration"].as_i64() >= object["metadata"]["generation"].as_i64()
}

fn count(value: &Json) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn deployment(object: &Json) -> Readiness {
    let status = &object["status"];
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !is_observed(object) {
        return Readiness::Waiting("its controller has not processed the change yet".to_owned());
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
        return Readiness::Waiting(format!("{} old replicas are still running", all - updated));
    }
    enough(available, wanted, "replicas are available")
}

fn stateful_set(object: &Json) -> Readiness {
    let (spec, status) = (&object["spec"], &object["status"]);
    if spec["updateStrategy"]["type"] == "OnDelete" {
        return Readiness::Ready;
    }
    if !is_observed(object) {
        return Readiness::Waiting("its controller has not processed the change yet".to_owned());
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
    if !is_observed(object) {
        return Readiness::Waiting("its controller has not processed the change yet".to_owned());
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
    fn readiness_by_kind() {
        let waiting = |text: &str| Readiness::Waiting(text.to_owned());
        let cases = [
            (
                rollout(json!({"replicas": 2}), json!({"observedGeneration": 1})),
                waiting("its controller has not processed the change yet"),
            ),
            (
                rollout(json!({"replicas": 2}), json!({"observedGeneration": 2, "updatedReplicas": 1})),
                waiting("1 of 2 replicas are updated"),
            ),
            (
                rollout(json!({}), json!({"observedGeneration": 2, "updatedReplicas": 1, "replicas": 2})),
                waiting("1 old replicas are still running"),
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
            assert_eq!(WaitCondition::Kind.evaluate(&object), expected, "{object}");
        }
    }

    #[test]
    fn readiness_by_jsonpath() {
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
            let condition = WaitCondition::path(text).unwrap();
            assert_eq!(condition.evaluate(&object) == Readiness::Ready, ready, "{text}");
        }
        assert!(WaitCondition::path("{.a[}").is_err());
    }

    #[test]
    fn the_data_of_a_secret_is_not_shown() {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"password": "aHVudGVyMg=="}});
        let Readiness::Waiting(reason) = WaitCondition::path("{.data.password}=eA==").unwrap().evaluate(&secret) else {
            panic!()
        };
        assert!(!reason.contains("aHVudGVyMg"), "{reason}");
    }
}
