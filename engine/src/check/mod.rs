//! Checks: they look at the world, never change it, and warn.

pub(crate) mod http;

use std::sync::LazyLock;

use futures::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::evaluate::violated;
use crate::expand::{CheckInstance, Expanded};
use crate::graph::{LocalReferences, check_dependencies};
use crate::plan::{CheckResult, CheckStatus};
use crate::scope::{InstanceScope, Values};
use crate::{Address, Attribute, Condition, Diagnostic, Event, Events, Kind, Manifest, Schema, conform};

/// When checks look.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// In a plan: the world is as it is, so nothing is tried again.
    Planned,
    /// After an apply: what was changed may need a moment.
    Applied,
}

/// Looks at all checks at once, until `stop` is cancelled. Those that depend on an instance for which `pending` is true are left for later.
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
                false => look(expanded, values, check, when, stop).await,
            };
            let result = CheckResult { name: check.name.clone(), status, messages };
            events.send(Event::Checked(result.clone()));
            result
        }
    });
    join_all(runs.collect::<Vec<_>>()).await
}

/// Why a check of somebody else's manifest is not evaluated.
const NO_REQUEST: &str = "`plan --untrusted` makes no request that the manifest names";

/// The requests that somebody else's manifest would make, each as an error.
pub(crate) fn refused(manifest: &Manifest) -> Vec<Diagnostic> {
    let requests = manifest.checks.iter().filter_map(|(name, check)| Some((name, check.http.as_ref()?)));
    let refuse = |(name, http): (&String, &crate::Expr)| {
        Diagnostic::error(format!("{NO_REQUEST}: the check `{name}`"))
            .at(http.span, "")
            .help("review the manifest first; then plan without --untrusted")
    };
    match manifest.untrusted {
        Some(_) => requests.map(refuse).collect(),
        None => Vec::new(),
    }
}

/// How one check is now, and what is wrong.
pub(crate) async fn look(
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
            () = stop.cancelled() => return (CheckStatus::Error, vec!["interrupted before it was answered".to_owned()]),
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
        // What is not known yet is not known to hold.
        true if check.check.assertions.iter().any(open) => (CheckStatus::Unknown, failures),
        true => (CheckStatus::Pass, failures),
        false => (CheckStatus::Fail, failures),
    }
}

/// The arguments of a probe; `None` while some of them are unknown.
fn probe_arguments(
    http: &crate::Expr,
    scope: &InstanceScope<'_>,
) -> Result<Option<crate::Attributes>, Vec<Diagnostic>> {
    let value = http.evaluate(scope)?;
    if value.is_unknown() || value.is_retained() {
        return Ok(None);
    }
    let Some(arguments) = value.as_map() else {
        let message = format!("`http` is a table, this is a {}", value.type_name());
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

/// Finds what is wrong with the arguments of the checks, as far as they are known before anything is read.
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

/// What `http` of a check takes.
pub static HTTP: LazyLock<Schema> = LazyLock::new(|| {
    Schema::new(
        "An HTTP request whose answer is checked. Redirects are not followed.",
        [
            Attribute::required("url", Kind::String, "The URL, `http` or `https`."),
            Attribute::optional("method", Kind::OneOf(&["GET", "HEAD", "POST", "PUT"]), "The method.").or("GET"),
            Attribute::optional("headers", Kind::map(Kind::String), "Headers by name."),
            Attribute::optional("body", Kind::String, "The body to send."),
        ]
        .into_iter()
        .chain(certificates())
        .chain([
            Attribute::optional("bearer_token", Kind::String, "A token for the `Authorization` header.").secret(),
            Attribute::optional(
                "expect_status",
                Kind::Any,
                "The status code, or a list of them, that the answer must have.",
            )
            .or(200_i64),
            Attribute::optional("expect_body", Kind::String, "A regular expression that must match the body."),
            Attribute::optional("timeout", Kind::Duration, "How long one request may take.").or("10s"),
            Attribute::optional(
                "retry_for",
                Kind::Duration,
                "How long to try again after an apply, until the answer is as expected.",
            )
            .or("0s"),
        ]),
    )
});

/// How a request tells whom it trusts, and who asks.
pub(crate) fn certificates() -> [Attribute; 3] {
    [
        Attribute::optional(
            "ca",
            Kind::String,
            "PEM certificates of the only authorities to trust; the system's where not written.",
        ),
        Attribute::optional("client_certificate", Kind::String, "A PEM certificate to show to the server."),
        Attribute::optional("client_key", Kind::String, "The PEM key of `client_certificate`.").secret(),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Value;

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
    fn what_a_probe_sends_as_secret_is_marked() {
        for name in ["client_key", "bearer_token"] {
            assert!(HTTP.attribute(name).is_some_and(|a| a.sensitive), "{name}");
        }
        assert_eq!(HTTP.attribute("method").and_then(|a| a.default.clone()), Some(Value::from("GET")));
    }
}
