//! Checks. They test something, warn about failures, and change nothing.
//!
//! A check has assertions over values, and at most one probe, which this machine or nodes send.

mod answer;
mod arguments;
mod bridge;
mod dns;
mod http;
mod origin;
mod probe;

use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::configuration::evaluate::violated;
use crate::configuration::expand::{CheckInstance, Expanded};
use crate::configuration::graph::{LocalReferences, check_dependencies};
use crate::configuration::scope::{InstanceScope, Values};
use crate::manifest::{Condition, Manifest, Probe as ProbeBlock, ProbeKind};
use crate::model::hash::HashSet;
use crate::model::{Address, Attributes, CheckResult, CheckStatus, Diagnostic, Node, NodeName, conform};
use crate::provider::{Connection, NodeNetwork, ProbeError, Target};
use crate::session::{Event, Events};

use origin::Origin;
use probe::Probe;

/// The number of nodes from which the probe of one check instance is sent at the same time.
const NODES_AT_ONCE: usize = 32;

/// The time at which checks are evaluated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// During a plan. Nothing was changed, so requests are not retried.
    Planned,
    /// After an apply. A change may need a moment, so requests are retried.
    Applied,
}

/// The checks of a manifest, and what their evaluation needs.
pub(crate) struct Checks<'a> {
    pub expanded: &'a Expanded,
    pub values: &'a Values,
    /// The connection to the nodes that send probes.
    pub nodes: Option<&'a dyn Connection>,
    /// The instances that `--target` and `--exclude` select. `None` if all are selected.
    pub selected: Option<&'a HashSet<Address>>,
    pub when: When,
}

impl Checks<'_> {
    /// Evaluates all checks concurrently, until `stop` is cancelled.
    ///
    /// A check that depends on an instance for which `pending` is true gets the status unknown. A check that has nothing to do with the selected instances is
    /// skipped.
    pub async fn run(
        &self,
        events: &Events,
        stop: &CancellationToken,
        pending: impl Fn(&Address) -> bool,
    ) -> Vec<CheckResult> {
        let Self { expanded, values, nodes, selected, when } = *self;
        let on_nodes = selected.map(|selected| nodes_of(expanded, selected));
        let mut locals = LocalReferences::default();
        let runs = expanded.checks.iter().map(|check| {
            let dependencies = check_dependencies(expanded, check, &mut locals);
            let node = check.binding.node.as_ref().map(|node| &node.name);
            let is_selected = match (selected, &on_nodes, node) {
                (Some(selected), ..) if !dependencies.is_empty() => dependencies.iter().any(|d| selected.contains(d)),
                (_, Some(on_nodes), Some(node)) => on_nodes.contains(node),
                _ => true,
            };
            let waits = dependencies.iter().any(&pending);
            async move {
                let (status, messages) = match (is_selected, waits) {
                    (false, _) => (CheckStatus::Skipped, Vec::new()),
                    (true, true) => (CheckStatus::Unknown, Vec::new()),
                    (true, false) => evaluate_check(expanded, values, nodes, check, when, stop).await,
                };
                let result = CheckResult { name: check.name.clone(), status, messages };
                events.send(Event::Checked(result.clone()));
                result
            }
        });
        join_all(runs.collect::<Vec<_>>()).await
    }
}

/// Returns the nodes of these instances.
fn nodes_of<'e>(expanded: &'e Expanded, instances: &HashSet<Address>) -> HashSet<&'e NodeName> {
    let selected = expanded.instances.iter().filter(|instance| instances.contains(&instance.address));
    selected.filter_map(|instance| instance.binding.node.as_ref().map(|node| &node.name)).collect()
}

/// The reason why the checks of an untrusted manifest are not evaluated.
const NO_REQUEST: &str = "`plan --untrusted` does not send requests of the manifest";

/// Returns an error for each request that an untrusted manifest would make.
pub(crate) fn untrusted_requests(manifest: &Manifest) -> Vec<Diagnostic> {
    let modules = manifest.modules();
    let checks = modules.iter().flat_map(|(_, module)| &module.checks);
    let requests = checks.filter_map(|(name, check)| Some((name, check.probe.as_ref()?)));
    let refuse = |(name, probe): (&String, &ProbeBlock)| {
        Diagnostic::error(format!("the check `{name}` is not allowed: {NO_REQUEST}"))
            .at(probe.arguments.span, "")
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
    nodes: Option<&dyn Connection>,
    check: &CheckInstance,
    when: When,
    stop: &CancellationToken,
) -> (CheckStatus, Vec<String>) {
    let scope = InstanceScope::new(expanded, values, check.binding.clone());
    let Some(block) = &check.check.probe else { return assess(check, &scope, Vec::new()) };
    if expanded.manifest.untrusted.is_some() {
        return (CheckStatus::Error, vec![NO_REQUEST.to_owned()]);
    }
    let probe = match known_probe(block, &scope) {
        Ok(Some(probe)) => probe,
        Ok(None) => return (CheckStatus::Unknown, Vec::new()),
        Err(errors) => return (CheckStatus::Error, summaries(errors)),
    };
    let probing = Probing { expanded, values, check, probe, when };
    tokio::select! {
        evaluated = probing.evaluate(nodes) => evaluated,
        () = stop.cancelled() => (CheckStatus::Error, vec!["the run was interrupted before the response".to_owned()]),
    }
}

/// A check whose probe is being sent.
struct Probing<'a> {
    expanded: &'a Expanded,
    values: &'a Values,
    check: &'a CheckInstance,
    probe: Probe,
    when: When,
}

impl Probing<'_> {
    async fn evaluate(&self, nodes: Option<&dyn Connection>) -> (CheckStatus, Vec<String>) {
        let from = &self.check.from;
        if from.is_empty() {
            return self.evaluate_from(Origin::ThisMachine).await;
        }
        let Some(network) = nodes.and_then(Connection::node_network) else {
            return (CheckStatus::Error, vec!["no provider connects to the nodes in `from`".to_owned()]);
        };
        let at_once = Semaphore::new(NODES_AT_ONCE);
        let results: Vec<_> = from.iter().map(|node| self.evaluate_from_node(node, network, &at_once)).collect();
        together(join_all(results).await)
    }

    /// Evaluates the check with an answer to a node. Each message starts with the name of the node.
    async fn evaluate_from_node(
        &self,
        node: &Arc<Node>,
        network: &dyn NodeNetwork,
        at_once: &Semaphore,
    ) -> (CheckStatus, Vec<String>) {
        // The semaphore is never closed.
        let _permit = at_once.acquire().await;
        let (status, messages) = self.evaluate_from(Origin::Node(Target::Node(node.clone()), network)).await;
        (status, messages.into_iter().map(|message| format!("from {}: {message}", node.name)).collect())
    }

    async fn evaluate_from(&self, origin: Origin<'_>) -> (CheckStatus, Vec<String>) {
        let Self { expanded, values, check, .. } = self;
        match self.probe.send(&origin, self.when).await {
            Ok(answer) => {
                let scope = InstanceScope::new(expanded, values, check.binding.clone()).with_self(answer.value);
                assess(check, &scope, answer.violations)
            }
            Err(ProbeError::NoAnswer(reason)) => (CheckStatus::Fail, vec![reason]),
            Err(ProbeError::NotSent(error)) => (CheckStatus::Error, vec![error.summary]),
        }
    }
}

/// Returns the result of a check with these results of its nodes: the most severe status, and all messages.
fn together(results: Vec<(CheckStatus, Vec<String>)>) -> (CheckStatus, Vec<String>) {
    let by_severity = [CheckStatus::Fail, CheckStatus::Error, CheckStatus::Unknown];
    let has = |status: &CheckStatus| results.iter().any(|(found, _)| found == status);
    let status = by_severity.into_iter().find(has).unwrap_or(CheckStatus::Pass);
    (status, results.into_iter().flat_map(|(_, messages)| messages).collect())
}

/// Evaluates the assertions of a check, whose probe had these violations.
fn assess(check: &CheckInstance, scope: &InstanceScope<'_>, violations: Vec<String>) -> (CheckStatus, Vec<String>) {
    let assertions = &check.check.assertions;
    let failures = [violations, summaries(violated(assertions, "assertion", scope))].concat();
    let open = |c: &Condition| c.condition.evaluate(scope).is_ok_and(|v| v.is_unknown() || v.is_retained());
    match failures.is_empty() {
        // An assertion over an unknown value neither holds nor fails.
        true if assertions.iter().any(open) => (CheckStatus::Unknown, failures),
        true => (CheckStatus::Pass, failures),
        false => (CheckStatus::Fail, failures),
    }
}

/// Returns the probe of a check, or `None` if some of its arguments are unknown.
fn known_probe(block: &ProbeBlock, scope: &InstanceScope<'_>) -> Result<Option<Probe>, Vec<Diagnostic>> {
    let ProbeBlock { kind, arguments } = block;
    let value = arguments.evaluate(scope)?;
    if value.is_unknown() || value.is_retained() {
        return Ok(None);
    }
    let Some(written) = value.as_map() else {
        let message = format!("`{}` must be a table, but it is a {}", kind.name(), value.type_name());
        return Err(vec![Diagnostic::error(message).at(arguments.span, "")]);
    };
    let error =
        |(path, message): (String, String)| Diagnostic::error(format!("{path}: {message}")).at(arguments.span, "");
    match probe_of(*kind, written.clone()) {
        Ok(probe) => Ok(Some(probe)),
        Err(errors) => Err(errors.into_iter().map(error).collect()),
    }
}

/// Returns the probe with these arguments, or the attributes that are not valid, and why.
fn probe_of(kind: ProbeKind, arguments: Attributes) -> Result<Probe, Vec<(String, String)>> {
    Probe::new(kind, conform(kind.schema(), arguments)?).map_err(|error| vec![error])
}

/// Sends an HTTP request with these arguments from this machine, with retries. Returns why the response is not as expected, if it is not.
///
/// # Errors
/// The attributes that are not valid, and why.
pub(crate) async fn send_request(arguments: Attributes) -> Result<Vec<String>, Vec<(String, String)>> {
    let probe = probe_of(ProbeKind::Http, arguments)?;
    Ok(match probe.send(&Origin::ThisMachine, When::Applied).await {
        Ok(answer) => answer.violations,
        Err(ProbeError::NoAnswer(reason)) => vec![reason],
        Err(ProbeError::NotSent(error)) => vec![error.summary],
    })
}

/// Validates the arguments of the checks, as far as they are known before anything is read.
pub(crate) fn validate(expanded: &Expanded) -> Vec<Diagnostic> {
    let wrong = expanded.checks.iter().filter_map(|check| {
        let scope = InstanceScope::new(expanded, Values::none(), check.binding.clone());
        known_probe(check.check.probe.as_ref()?, &scope).err()
    });
    wrong.flatten().collect()
}

fn summaries(diagnostics: Vec<Diagnostic>) -> Vec<String> {
    diagnostics.into_iter().map(|d| d.summary).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::HTTP;
    use crate::model::Value;

    #[test]
    fn the_secrets_of_a_probe_are_sensitive_attributes() {
        for name in ["client_key", "bearer_token"] {
            assert!(HTTP.attribute(name).is_some_and(|a| a.sensitive), "{name}");
        }
        assert_eq!(HTTP.attribute("method").and_then(|a| a.default.clone()), Some(Value::from("GET")));
    }

    #[test]
    fn a_failure_on_one_node_fails_the_check() {
        let result = |status| (status, vec![format!("{status:?}")]);
        let of = |statuses: &[CheckStatus]| together(statuses.iter().copied().map(result).collect());
        use CheckStatus::{Error, Fail, Pass, Unknown};
        assert_eq!(of(&[Pass, Error, Fail]).0, Fail);
        assert_eq!(
            of(&[Pass, Unknown, Error]),
            (Error, vec!["Pass".to_owned(), "Unknown".to_owned(), "Error".to_owned()])
        );
        assert_eq!(of(&[Pass, Pass]).0, Pass);
    }
}
