//! What the API server and the way to it say, as errors that tell what happened and what to do.

use std::error::Error as StdError;

use kube::core::Status;
use moorfast_engine::provider::{Class, ProviderError};
use regex::Regex;

use crate::answer::Misanswer;
use crate::config::unusable;
use crate::exchange::{NoAnswer, NoLeave};

/// `error`, that ended what `doing` names (`read Deployment/web`), against the API server at `server`.
pub(crate) fn explain(error: kube::Error, doing: &str, server: &str) -> ProviderError {
    match error {
        kube::Error::Api(status) => refused(&status, doing, server),
        kube::Error::SerdeError(error) => {
            // serde quotes what it can't read, which may be part of a Secret: only the place is told.
            let place = format!("line {}, column {}", error.line(), error.column());
            ProviderError::new(
                Class::Unreachable,
                format!("cannot {doing}: the answer of {server} can't be read ({place})"),
            )
        }
        kube::Error::BuildRequest(error) => ProviderError::new(Class::Invalid, format!("cannot {doing}: {error}")),
        other if sources(&other).any(|e| e.is::<NoLeave>()) => {
            ProviderError::new(Class::Cancelled, format!("did not {doing}: {NoLeave}"))
        }
        other => {
            if let Some(misanswer) = misanswer(&other) {
                return misanswered(misanswer, doing, server);
            }
            match sources(&other).find_map(|e| e.downcast_ref::<moorfast_kubeconfig::Error>()) {
                Some(login) => unusable(login),
                None => unreachable_server(&other, server),
            }
        }
    }
}

/// Returns the answer that was not believed, where one ended the request.
pub(crate) fn misanswer(error: &kube::Error) -> Option<&Misanswer> {
    sources(error).find_map(|e| e.downcast_ref())
}

fn misanswered(misanswer: &Misanswer, doing: &str, server: &str) -> ProviderError {
    let summary = format!("cannot {doing}: the answer of {server} is not one of a Kubernetes API server: {misanswer}");
    let summary = match misanswer {
        Misanswer::TooLarge(_) => format!("cannot {doing}: the answer of {server} is {misanswer}"),
        _ => summary,
    };
    ProviderError::new(Class::Unreachable, summary)
        .help("is a proxy, a gateway or a login page in between? `kubectl get --raw /version` with the same kubeconfig shows who answers")
}

/// The error for an API server that gives no answer.
fn unreachable_server(error: &(dyn StdError + 'static), server: &str) -> ProviderError {
    let reason = innermost(error);
    if let Some(certificate) = certificate_error(error) {
        return ProviderError::new(
            Class::Identity,
            format!("the API server {server} is not the one of the kubeconfig: {certificate}"),
        )
        .help(
            "compare certificate-authority-data of the kubeconfig with the cluster's CA; was the cluster made anew?",
        );
    }
    let unreachable = ProviderError::new(Class::Unreachable, format!("cannot reach the API server {server}: {reason}"));
    if sources(error).any(|e| e.is::<NoAnswer>()) {
        return unreachable.help("does a load balancer or a firewall on the way drop what it should pass on? `kubectl get --raw /readyz` shows whether the server is well");
    }
    unreachable
}

fn certificate_error(error: &(dyn StdError + 'static)) -> Option<String> {
    sources(error).map(ToString::to_string).find(|text| text.contains("invalid peer certificate"))
}

/// The errors below `error` and itself, from the outside in. An io::Error hides what it was made of, so that is opened too.
fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e| below(*e))
}

fn below<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inside) => Some(inside),
        None => error.source(),
    }
}

/// What went wrong in the end, as the system says it: `connection refused`.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let Some(last) = sources(error).last() else { return error.to_string() };
    match last.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(std::io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(std::io::ErrorKind::TimedOut) => "no answer in time".to_owned(),
        _ => last.to_string(),
    }
}

/// The error for what the API server refused.
fn refused(status: &Status, doing: &str, server: &str) -> ProviderError {
    match status.code {
        401 => ProviderError::new(Class::Denied, format!("cannot {doing}: the API server {server} does not accept the credentials"))
            .help("the token expired or the client certificate is of another CA; `kubectl auth whoami` with this kubeconfig shows it"),
        403 if is_authorization(status) => forbidden(status, doing),
        409 if has_field_conflict(status) => field_conflict(status, doing),
        409 => ProviderError::new(Class::Conflict, format!("cannot {doing}: {}", status.message)),
        403 if status.message.contains("RBAC permissions not currently held") => {
            ProviderError::new(Class::Denied, format!("cannot {doing}: {}", status.message))
                .help("who grants rights must have them, or the verbs `escalate` or `bind` on roles")
        }
        400 | 403 | 422 => invalid(status, doing),
        // What server-side apply says of an unknown field is an internal error.
        500 if status.message.contains("field not declared in schema") || status.message.contains("failed to create typed patch object") => {
            invalid(status, doing)
        }
        404 => ProviderError::new(Class::Failed, format!("cannot {doing}: {}", status.message)),
        429 | 502..=504 => ProviderError::new(Class::Unreachable, format!("cannot {doing}: the API server {server} is not able to answer: {}", status.message)),
        code => ProviderError::new(Class::Failed, format!("cannot {doing}: {} (HTTP {code})", status.message)),
    }
}

/// Admission refuses with 403 as well; RBAC's message names who may not do what.
fn is_authorization(status: &Status) -> bool {
    status.message.contains(" cannot ")
}

fn forbidden(status: &Status, doing: &str) -> ProviderError {
    let error = ProviderError::new(Class::Denied, format!("cannot {doing}: {}", status.message));
    error.help(missing_rule(&status.message).unwrap_or_else(|| "the kubeconfig's user lacks this right".to_owned()))
}

/// The RBAC rule that is missing, from the message of the authorizer.
fn missing_rule(message: &str) -> Option<String> {
    let pattern = Regex::new(
        r#"User "(?<user>[^"]*)" cannot (?<verb>\S+) (?:resource "(?<resource>[^"]*)" in API group "(?<group>[^"]*)"|path "(?<path>[^"]*)")(?: in the namespace "(?<ns>[^"]*)")?"#,
    )
    .ok()?;
    let found = pattern.captures(message)?;
    let (user, verb) = (&found["user"], &found["verb"]);
    if let Some(path) = found.name("path") {
        return Some(format!("grant {user} a ClusterRole with nonResourceURLs: [{}], verbs: [{verb}]", path.as_str()));
    }
    let (role, place) = match found.name("ns") {
        Some(ns) => ("Role", format!(" in namespace {}", ns.as_str())),
        None => ("ClusterRole", String::new()),
    };
    Some(format!(
        "grant {user} a {role}{place} with apiGroups: [\"{}\"], resources: [{}], verbs: [{verb}]",
        &found["group"], &found["resource"]
    ))
}

fn has_field_conflict(status: &Status) -> bool {
    causes(status).any(|(reason, ..)| reason == "FieldManagerConflict")
}

fn causes(status: &Status) -> impl Iterator<Item = (&str, &str, &str)> {
    let causes = status.details.iter().flat_map(|d| &d.causes);
    causes.map(|c| (c.reason.as_str(), c.field.as_str(), c.message.as_str()))
}

fn field_conflict(status: &Status, doing: &str) -> ProviderError {
    let lines: Vec<_> =
        causes(status).map(|(_, field, message)| format!("{}: {message}", field.trim_start_matches('.'))).collect();
    let managers: std::collections::BTreeSet<_> =
        causes(status).filter_map(|(_, _, message)| message.split('"').nth(1)).collect();
    let managers = managers.into_iter().map(|m| format!("{m:?}")).collect::<Vec<_>>().join(", ");
    ProviderError::new(Class::Conflict, format!("cannot {doing}: fields of it are managed by {managers}"))
        .detail(lines)
        .help("take them out of the manifest, or take them over with `force_conflicts = true`")
}

fn invalid(status: &Status, doing: &str) -> ProviderError {
    let mut lines: Vec<String> = causes(status)
        .map(|(_, field, message)| match field {
            // The field of what is wrong with the object as a whole.
            "" | "[]" => format!("the object: {message}"),
            field => format!("{field}: {message}"),
        })
        .collect();
    lines.dedup();
    let error = match lines.as_slice() {
        [] => ProviderError::new(Class::Invalid, format!("cannot {doing}: {}", status.message)),
        [only] => ProviderError::new(Class::Invalid, format!("cannot {doing}: the API server refuses {only}")),
        several => {
            let fields: std::collections::BTreeSet<_> =
                causes(status).map(|(_, field, _)| field).filter(|f| !f.is_empty()).collect();
            let fields = fields.into_iter().collect::<Vec<_>>().join(", ");
            let summary = format!("cannot {doing}: the API server refuses {fields}");
            ProviderError::new(Class::Invalid, summary).detail(several.to_vec())
        }
    };
    error.attribute("manifest")
}

/// The fields that can't be changed in place, where that is all that the API server objects to.
pub(crate) fn immutable_fields(status: &Status) -> Option<Vec<String>> {
    const REFUSALS: [&str; 6] = [
        "immutable",
        "cannot change roleRef",
        "may not change once set",
        "may not be changed",
        "are forbidden",
        "cannot be changed",
    ];
    if status.code != 422 {
        return None;
    }
    let causes: Vec<_> = causes(status).collect();
    let all = !causes.is_empty() && causes.iter().all(|(_, _, message)| REFUSALS.iter().any(|r| message.contains(r)));
    all.then(|| causes.iter().map(|(_, field, _)| (*field).to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(json: serde_json::Value) -> Status {
        serde_json::from_value(json).unwrap()
    }

    fn told(json: serde_json::Value) -> String {
        let error = refused(&status(json), "apply Deployment/default/web", "https://10.0.0.1:6443");
        let detail: String = error.detail.iter().map(|l| format!("\n  {l}")).collect();
        format!("{:?}: {}{detail}\nhelp: {}", error.class, error.summary, error.help.unwrap_or_default())
    }

    #[test]
    fn a_denial_names_the_rule_that_is_missing() {
        insta::assert_snapshot!(told(json!({
            "code": 403, "reason": "Forbidden",
            "message": "secrets is forbidden: User \"ci\" cannot list resource \"secrets\" in API group \"\" in the namespace \"kube-system\"",
        })), @r#"
        Denied: cannot apply Deployment/default/web: secrets is forbidden: User "ci" cannot list resource "secrets" in API group "" in the namespace "kube-system"
        help: grant ci a Role in namespace kube-system with apiGroups: [""], resources: [secrets], verbs: [list]
        "#);
    }

    #[test]
    fn silence_is_told_as_such() {
        let silence = kube::Error::Service(Box::new(NoAnswer(std::time::Duration::from_secs(65))));
        let error = explain(silence, "list nodes", "https://10.0.0.1:6443");
        assert_eq!(error.class, Class::Unreachable);
        insta::assert_snapshot!(format!("{}\nhelp: {}", error.summary, error.help.unwrap()), @"
        cannot reach the API server https://10.0.0.1:6443: it took the request and gave no answer within 65s
        help: does a load balancer or a firewall on the way drop what it should pass on? `kubectl get --raw /readyz` shows whether the server is well
        ");
    }

    #[test]
    fn a_conflict_names_managers_and_fields() {
        insta::assert_snapshot!(told(json!({
            "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
            "details": { "causes": [{ "reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas" }] },
        })), @r#"
        Conflict: cannot apply Deployment/default/web: fields of it are managed by "kubectl-edit"
          spec.replicas: conflict with "kubectl-edit" using apps/v1
        help: take them out of the manifest, or take them over with `force_conflicts = true`
        "#);
    }

    #[test]
    fn an_invalid_field_is_named() {
        insta::assert_snapshot!(told(json!({
            "code": 422, "reason": "Invalid", "message": "…",
            "details": { "causes": [{ "reason": "FieldValueInvalid", "message": "Invalid value: -1: must be greater than or equal to 0", "field": "spec.replicas" }] },
        })), @r#"
        Invalid: cannot apply Deployment/default/web: the API server refuses spec.replicas: Invalid value: -1: must be greater than or equal to 0
        help: 
        "#);
    }

    #[test]
    fn only_refusals_to_change_ask_for_a_new_object() {
        let with = |messages: &[&str]| {
            let causes: Vec<_> = messages.iter().map(|m| json!({ "message": m, "field": "spec.selector" })).collect();
            immutable_fields(&status(json!({ "code": 422, "details": { "causes": causes } })))
        };
        assert_eq!(with(&["Invalid value: {}: field is immutable"]), Some(vec!["spec.selector".to_owned()]));
        assert_eq!(with(&["field is immutable", "Required value"]), None);
        assert_eq!(with(&[]), None);
    }
}
