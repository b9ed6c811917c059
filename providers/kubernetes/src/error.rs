//! Conversion of errors of the client and the API server to errors with a cause and a help.

use std::error::Error as StdError;

use kube::core::Status;
use moorfast_engine::provider::{Class, ProviderError};
use regex::Regex;

use crate::config::kubeconfig_error;
use crate::error_codes;
use crate::request_guard::{LockLost, ResponseTimeout};
use crate::response::InvalidResponse;

/// None of several API servers could be reached. The reasons are in the order of the servers.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join(", "))]
pub(crate) struct NoneReached(pub(crate) Vec<String>);

/// Converts `error`. `doing` names the failed action (`read Deployment/web`), `server` the API server.
pub(crate) fn explain(error: kube::Error, doing: &str, server: &str) -> ProviderError {
    match error {
        kube::Error::Api(status) => refused(&status, doing, server),
        kube::Error::SerdeError(error) => {
            // serde quotes the JSON, which can be part of a Secret: only the position is shown.
            let place = format!("line {}, column {}", error.line(), error.column());
            ProviderError::new(
                Class::Unreachable,
                format!("cannot {doing}: the response of {server} cannot be parsed ({place})"),
            )
        }
        kube::Error::BuildRequest(error) => ProviderError::new(Class::Invalid, format!("cannot {doing}: {error}")),
        other if sources(&other).any(|e| e.is::<LockLost>()) => {
            ProviderError::new(Class::Cancelled, format!("did not {doing}: {LockLost}"))
        }
        other => {
            if let Some(invalid) = invalid_response(&other) {
                return invalid_response_error(invalid, doing, server);
            }
            if let Some(error) = sources(&other).find_map(|e| e.downcast_ref::<moorfast_kubeconfig::Error>()) {
                return kubeconfig_error(error);
            }
            match sources(&other).find_map(|e| e.downcast_ref::<NoneReached>()) {
                Some(reasons) => unreachable_servers(reasons),
                None => unreachable_server(&other, server),
            }
        }
    }
}

/// Returns the invalid response that caused the error, if one did.
pub(crate) fn invalid_response(error: &kube::Error) -> Option<&InvalidResponse> {
    sources(error).find_map(|e| e.downcast_ref())
}

fn invalid_response_error(invalid: &InvalidResponse, doing: &str, server: &str) -> ProviderError {
    let summary =
        format!("cannot {doing}: the response of {server} does not come from a Kubernetes API server: {invalid}");
    let summary = match invalid {
        InvalidResponse::TooLarge(_) => format!("cannot {doing}: the response of {server} is {invalid}"),
        _ => summary,
    };
    ProviderError::new(Class::Unreachable, summary)
        .help("a proxy, a gateway or a login page may be in between: `kubectl get --raw /version` with the same kubeconfig shows what responds")
}

/// Returns the error for an API server that does not respond.
fn unreachable_server(error: &(dyn StdError + 'static), server: &str) -> ProviderError {
    let reason = innermost(error);
    if let Some(certificate) = certificate_error(error) {
        return ProviderError::new(
            Class::Identity,
            format!("cannot trust the API server {server}: its certificate does not fit the kubeconfig: {certificate}"),
        )
        .code(error_codes::CERTIFICATE_NOT_TRUSTED)
        .help(
            "compare `certificate-authority-data` of the kubeconfig with the CA of the cluster; they differ if the cluster was created again",
        );
    }
    let unreachable = ProviderError::new(Class::Unreachable, format!("cannot reach the API server {server}: {reason}"))
        .code(error_codes::CLUSTER_UNREACHABLE);
    if sources(error).any(|e| e.is::<ResponseTimeout>()) {
        return unreachable.help("a load balancer or firewall may drop the traffic; `kubectl get --raw /readyz` shows whether the API server is ready");
    }
    unreachable.help("check that the API server runs, and that `server` in the kubeconfig is right")
}

/// Returns the error if no API server of a cluster can be reached.
fn unreachable_servers(reasons: &NoneReached) -> ProviderError {
    ProviderError::new(Class::Unreachable, format!("cannot reach any API server: {reasons}"))
        .code(error_codes::CLUSTER_UNREACHABLE)
        .help("check that an API server runs, and that `servers` of [providers.kubernetes] are right")
}

/// Returns the text of the error if the certificate of the server was refused.
pub(crate) fn certificate_error(error: &(dyn StdError + 'static)) -> Option<String> {
    sources(error).map(ToString::to_string).find(|text| text.contains("invalid peer certificate"))
}

/// Returns `error` and its sources, from the outside in, including the inner error of an `io::Error`.
pub(crate) fn sources<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |e| source_of(*e))
}

fn source_of<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
        Some(inside) => Some(inside),
        None => error.source(),
    }
}

/// Returns the text of the innermost error: `connection refused`.
pub(crate) fn innermost(error: &(dyn StdError + 'static)) -> String {
    let Some(last) = sources(error).last() else { return error.to_string() };
    match last.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(std::io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(std::io::ErrorKind::TimedOut) => "timed out".to_owned(),
        _ => last.to_string(),
    }
}

/// Returns the error for a request that the API server refused.
fn refused(status: &Status, doing: &str, server: &str) -> ProviderError {
    match status.code {
        401 => ProviderError::new(Class::Denied, format!("cannot {doing}: the API server {server} does not accept the credentials"))
            .code(error_codes::CREDENTIALS_REFUSED)
            .help("the token may have expired, or the client certificate may belong to another CA; check with `kubectl auth whoami`"),
        403 if is_authorization(status) => forbidden(status, doing),
        409 if has_field_conflict(status) => field_conflict(status, doing),
        409 => ProviderError::new(Class::Conflict, format!("cannot {doing}: {}", status.message)),
        403 if status.message.contains("RBAC permissions not currently held") => {
            ProviderError::new(Class::Denied, format!("cannot {doing}: {}", status.message))
                .help("to grant rights, the user must have them, or the verbs `escalate` or `bind` on roles")
        }
        400 | 403 | 422 => invalid(status, doing),
        // Server-side apply reports an unknown field as an internal error.
        500 if status.message.contains("field not declared in schema") || status.message.contains("failed to create typed patch object") => {
            invalid(status, doing)
        }
        404 => ProviderError::new(Class::Failed, format!("cannot {doing}: {}", status.message)),
        429 | 502..=504 => {
            let pause = match status.details.as_ref().map_or(0, |details| details.retry_after_seconds) {
                0 => String::new(),
                seconds => format!("; it asks to wait {seconds} s"),
            };
            let summary = format!("cannot {doing}: the API server {server} is not available: {}{pause}", status.message);
            ProviderError::new(Class::Unreachable, summary)
        }
        code => ProviderError::new(Class::Failed, format!("cannot {doing}: {} (HTTP {code})", status.message)),
    }
}

/// Whether RBAC refused the request. Admission refuses with 403 too, but without this wording.
fn is_authorization(status: &Status) -> bool {
    status.message.contains(" cannot ")
}

fn forbidden(status: &Status, doing: &str) -> ProviderError {
    let error = ProviderError::new(Class::Denied, format!("cannot {doing}: {}", status.message));
    error.code(error_codes::FORBIDDEN).help(
        missing_rule(&status.message).unwrap_or_else(|| "grant this right to the user of the kubeconfig".to_owned()),
    )
}

/// Returns the missing RBAC rule, from the message of the authorizer.
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
    ProviderError::new(Class::Conflict, format!("cannot {doing}: {managers} manages fields of the object"))
        .code(error_codes::FIELD_CONFLICT)
        .detail(lines)
        .help("remove the fields from the manifest, or set `force_conflicts = true` to take them over")
}

fn invalid(status: &Status, doing: &str) -> ProviderError {
    let mut lines: Vec<String> = causes(status)
        .map(|(_, field, message)| match field {
            // The field of an error about the object as a whole.
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

/// Returns the fields that cannot be changed in place, if these are the only errors.
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

    fn message(json: serde_json::Value) -> String {
        let error = refused(&status(json), "apply Deployment/default/web", "https://10.0.0.1:6443");
        let detail: String = error.detail.iter().map(|l| format!("\n  {l}")).collect();
        format!("{:?}: {}{detail}\nhelp: {}", error.class, error.summary, error.help.unwrap_or_default())
    }

    #[test]
    fn a_denial_names_the_missing_rule() {
        insta::assert_snapshot!(message(json!({
            "code": 403, "reason": "Forbidden",
            "message": "secrets is forbidden: User \"ci\" cannot list resource \"secrets\" in API group \"\" in the namespace \"kube-system\"",
        })), @r#"
        Denied: cannot apply Deployment/default/web: secrets is forbidden: User "ci" cannot list resource "secrets" in API group "" in the namespace "kube-system"
        help: grant ci a Role in namespace kube-system with apiGroups: [""], resources: [secrets], verbs: [list]
        "#);
    }

    #[test]
    fn a_response_timeout_is_reported() {
        let timeout = kube::Error::Service(Box::new(ResponseTimeout(std::time::Duration::from_secs(65))));
        let error = explain(timeout, "list nodes", "https://10.0.0.1:6443");
        assert_eq!(error.class, Class::Unreachable);
        insta::assert_snapshot!(format!("{}\nhelp: {}", error.summary, error.help.unwrap()), @"
        cannot reach the API server https://10.0.0.1:6443: it accepted the request, but did not respond within 65s
        help: a load balancer or firewall may drop the traffic; `kubectl get --raw /readyz` shows whether the API server is ready
        ");
    }

    #[test]
    fn a_requested_pause_is_reported() {
        insta::assert_snapshot!(message(json!({
            "code": 429, "reason": "TooManyRequests", "message": "too many requests", "details": { "retryAfterSeconds": 3600 },
        })), @"
        Unreachable: cannot apply Deployment/default/web: the API server https://10.0.0.1:6443 is not available: too many requests; it asks to wait 3600 s
        help: 
        ");
    }

    #[test]
    fn a_conflict_names_managers_and_fields() {
        insta::assert_snapshot!(message(json!({
            "code": 409, "reason": "Conflict", "message": "Apply failed with 1 conflict",
            "details": { "causes": [{ "reason": "FieldManagerConflict", "message": "conflict with \"kubectl-edit\" using apps/v1", "field": ".spec.replicas" }] },
        })), @r#"
        Conflict: cannot apply Deployment/default/web: "kubectl-edit" manages fields of the object
          spec.replicas: conflict with "kubectl-edit" using apps/v1
        help: remove the fields from the manifest, or set `force_conflicts = true` to take them over
        "#);
    }

    #[test]
    fn an_invalid_field_is_named() {
        insta::assert_snapshot!(message(json!({
            "code": 422, "reason": "Invalid", "message": "…",
            "details": { "causes": [{ "reason": "FieldValueInvalid", "message": "Invalid value: -1: must be greater than or equal to 0", "field": "spec.replicas" }] },
        })), @r#"
        Invalid: cannot apply Deployment/default/web: the API server refuses spec.replicas: Invalid value: -1: must be greater than or equal to 0
        help: 
        "#);
    }

    #[test]
    fn only_immutable_fields_force_a_replacement() {
        let with = |messages: &[&str]| {
            let causes: Vec<_> = messages.iter().map(|m| json!({ "message": m, "field": "spec.selector" })).collect();
            immutable_fields(&status(json!({ "code": 422, "details": { "causes": causes } })))
        };
        assert_eq!(with(&["Invalid value: {}: field is immutable"]), Some(vec!["spec.selector".to_owned()]));
        assert_eq!(with(&["field is immutable", "Required value"]), None);
        assert_eq!(with(&[]), None);
    }
}
