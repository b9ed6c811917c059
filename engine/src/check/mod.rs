//! Checks. They test something, warn about failures, and change nothing.

pub(crate) mod http;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::configuration::evaluate::violated;
use crate::configuration::expand::{CheckInstance, Expanded};
use crate::configuration::graph::{LocalReferences, check_dependencies};
use crate::configuration::scope::{InstanceScope, Values};
use crate::manifest::{Condition, HTTP, Manifest};
use crate::model::{Address, CheckResult, CheckStatus, Diagnostic, conform};
use crate::session::{Event, Events};

/// The time at which checks are evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// During a plan. Nothing was changed, so requests are not retried.
    Planned,
    /// After an apply. A change may need a moment, so requests are retried.
    Applied,
}

/// Evaluates all checks concurrently, until `stop` is cancelled. A check that depends on an instance for which `pending` is true gets the status unknown.
pub(crate) async fn run_checks(
    expanded: &Expanded,
    values: &Values,
    events: &Events,
    when: When,
    stop: &CancellationToken,
    pending: impl Fn(&Address) -> bool,
) -> Vec<CheckResult> {
    let mut locals = LocalReferences::default();
    let runs = expanded.checks.iter().map(|check| {
        let waits = check_dependencies(expanded, check, &mut locals).iter().any(&pending);
        async move {
            let (status, messages) = match waits {
                true => (CheckStatus::Unknown, Vec::new()),
                false => evaluate_check(expanded, values, check, when, stop).await,
            };
            let result = CheckResult { name: check.name.clone(), status, messages };
            events.send(Event::Checked(result.clone()));
            result
        }
    });
    join_all(runs.collect::<Vec<_>>()).await
}

/// The reason why the checks of an untrusted manifest are not evaluated.
const NO_REQUEST: &str = "`plan --untrusted` does not send requests of the manifest";

/// Returns an error for each request that an untrusted manifest would make.
pub(crate) fn untrusted_requests(manifest: &Manifest) -> Vec<Diagnostic> {
    let modules = manifest.modules();
    let checks = modules.iter().flat_map(|(_, module)| &module.checks);
    let requests = checks.filter_map(|(name, check)| Some((name, check.http.as_ref()?)));
    let refuse = |(name, http): (&String, &crate::expression::Expr)| {
        Diagnostic::error(format!("the check `{name}` is not allowed: {NO_REQUEST}"))
            .at(http.span, "")
            .help("review the manifest first; then plan without --untrusted")
    };
    match manifest.untrusted {
        Some(_) => requests.map(refuse).collect(),
        None => Vec::new(),
    }
}

/// Evaluates one check. Returns its status and the reasons of a failure.
pub(crate) async fn evaluate_check(
    expanded: &Expanded,
    values: &Values,
    check: &CheckInstance,
    when: When,
    stop: &CancellationToken,
) -> (CheckStatus, Vec<String>) {
    let mut scope = InstanceScope::new(expanded, values, check.binding.clone());
    let mut failures = Vec::new();
    if let Some(http) = &check.check.http {
        if expanded.manifest.untrusted.is_some() {
            return (CheckStatus::Error, vec![NO_REQUEST.to_owned()]);
        }
        let probe = match probe_arguments(http, &scope) {
            Ok(Some(probe)) => probe,
            Ok(None) => return (CheckStatus::Unknown, Vec::new()),
            Err(errors) => return (CheckStatus::Error, summaries(errors)),
        };
        let probed = tokio::select! {
            probed = http::probe(&probe, when) => probed,
            () = stop.cancelled() => return (CheckStatus::Error, vec!["the run was interrupted before the response".to_owned()]),
        };
        match probed {
            Ok(response) => {
                failures.extend(response.violations);
                scope = scope.with_self(response.value);
            }
            Err(message) => return (CheckStatus::Fail, vec![message]),
        }
    }
    failures.extend(summaries(violated(&check.check.assertions, "assertion", &scope)));
    let open = |c: &Condition| c.condition.evaluate(&scope).is_ok_and(|v| v.is_unknown() || v.is_retained());
    match failures.is_empty() {
        // An assertion over an unknown value neither holds nor fails.
        true if check.check.assertions.iter().any(open) => (CheckStatus::Unknown, failures),
        true => (CheckStatus::Pass, failures),
        false => (CheckStatus::Fail, failures),
    }
}

/// Returns the arguments of an HTTP probe, or `None` if some of them are unknown.
fn probe_arguments(
    http: &crate::expression::Expr,
    scope: &InstanceScope<'_>,
) -> Result<Option<crate::model::Attributes>, Vec<Diagnostic>> {
    let value = http.evaluate(scope)?;
    if value.is_unknown() || value.is_retained() {
        return Ok(None);
    }
    let Some(arguments) = value.as_map() else {
        let message = format!("`http` must be a table, but it is a {}", value.type_name());
        return Err(vec![Diagnostic::error(message).at(http.span, "")]);
    };
    let error = |(path, message): (String, String)| Diagnostic::error(format!("{path}: {message}")).at(http.span, "");
    let conformed =
        conform(&HTTP, arguments.clone()).map_err(|errors| errors.into_iter().map(error).collect::<Vec<_>>())?;
    match http::expected_status(&conformed) {
        Ok(_) => Ok(Some(conformed)),
        Err(message) => Err(vec![error(("expect_status".to_owned(), message))]),
    }
}

/// Validates the arguments of the checks, as far as they are known before anything is read.
pub(crate) fn validate(expanded: &Expanded) -> Vec<Diagnostic> {
    let wrong = expanded.checks.iter().filter_map(|check| {
        let scope = InstanceScope::new(expanded, Values::none(), check.binding.clone());
        probe_arguments(check.check.http.as_ref()?, &scope).err()
    });
    wrong.flatten().collect()
}

fn summaries(diagnostics: Vec<Diagnostic>) -> Vec<String> {
    diagnostics.into_iter().map(|d| d.summary).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Value;

    #[test]
    fn an_expected_status_is_a_code_or_a_list_of_codes() {
        let read = |value: serde_json::Value| {
            http::expected_status(&[("expect_status".to_owned(), Value::from(value))].into())
        };
        assert_eq!(read(json!(204)), Ok(vec![204]));
        assert_eq!(read(json!([200, 401])), Ok(vec![200, 401]));
        for wrong in [json!("200"), json!(["200"]), json!([]), json!(99), json!([200, 600]), json!(200.5), json!(true)]
        {
            assert!(read(wrong.clone()).is_err_and(|e| e.contains("100 to 599")), "{wrong}");
        }
    }

    #[test]
    fn the_secrets_of_a_probe_are_sensitive_attributes() {
        for name in ["client_key", "bearer_token"] {
            assert!(HTTP.attribute(name).is_some_and(|a| a.sensitive), "{name}");
        }
        assert_eq!(HTTP.attribute("method").and_then(|a| a.default.clone()), Some(Value::from("GET")));
    }
}
