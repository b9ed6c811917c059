//! The report that is posted to a webhook. `docs/json.md` describes it.

use moorfast_engine::plan::Plan;
use serde_json::{Value as Json, json};

use super::json::{self, FORMAT_VERSION};
use super::value::printable;
use super::wording::counted;
use crate::drift_history::Unread;
use crate::exit::Exit;

/// Maximum number of addresses in the text of a report.
const NAMES: usize = 5;

/// The members of [`report`].
pub const MEMBERS: [&str; 12] = [
    "format_version",
    "moorfast_version",
    "timestamp",
    "manifest",
    "environment",
    "status",
    "exit_code",
    "recovered",
    "text",
    "resource_drift",
    "nodes",
    "unread",
];

/// The result of a run of `drift`, to be posted to a webhook.
#[derive(Clone, Copy, Debug)]
pub struct DriftReport<'a> {
    /// The folder of the manifest.
    pub manifest: &'a str,
    /// The plan with the drift; with `--since-last`, with the new drift.
    pub plan: &'a Plan,
    /// The objects that could not be read.
    pub unread: &'a Unread,
    /// The exit code.
    pub exit: Exit,
    /// Whether all drift that was posted before is gone.
    pub recovered: bool,
}

/// Returns the complete report, for the expressions of the webhook.
pub fn report(drift: &DriftReport) -> Json {
    let plan = json::plan(drift.plan);
    json!({
        "format_version": FORMAT_VERSION,
        "moorfast_version": plan["moorfast_version"],
        "timestamp": plan["timestamp"],
        "manifest": drift.manifest,
        "environment": plan["environment"],
        "status": status(drift.exit),
        "exit_code": drift.exit.code(),
        "recovered": drift.recovered,
        "text": printable(&text(drift)),
        "resource_drift": plan["resource_drift"],
        "nodes": plan["nodes"],
        "unread": json::unread(drift.unread),
    })
}

/// Returns the report without values. By default, only addresses, attribute names and messages leave the machine.
pub fn without_values(report: &Json) -> Json {
    let mut report = report.clone();
    for drift in report["resource_drift"].as_array_mut().into_iter().flatten() {
        drift["change"] = json!({ "actions": drift["change"]["actions"] });
    }
    report
}

fn status(exit: Exit) -> &'static str {
    match exit {
        Exit::Success => "in_sync",
        Exit::Changes => "drift",
        Exit::Unreachable => "unreachable",
        Exit::Identity => "identity",
        _ => "error",
    }
}

/// Returns the report as one line of text.
fn text(drift: &DriftReport) -> String {
    let DriftReport { plan, unread, .. } = drift;
    let environment = plan.environment.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let manifest = format!("{}{environment}", drift.manifest);
    if drift.recovered {
        return format!("moorfast: {manifest} is in sync again");
    }
    let mut parts: Vec<String> =
        plan.nodes.iter().filter(|node| node.kind.is_mismatch()).map(ToString::to_string).collect();
    if !plan.drift.is_empty() {
        let addresses: Vec<_> = plan.drift.iter().map(|drift| drift.address.to_string()).collect();
        parts.push(format!("{} drifted: {}", counted(addresses.len(), "object"), shortened(&addresses)));
    }
    if let Some((_, error)) = unread.first() {
        parts.push(format!("{} could not be read: {error}", counted(unread.len(), "object")));
    }
    format!("moorfast: {manifest}: {}", parts.join("; "))
}

fn shortened(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES);
    let shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

#[cfg(test)]
mod tests {
    use moorfast_engine::provider::{Class, ProviderError};

    use super::super::samples;
    use super::*;

    #[test]
    fn the_posted_report_has_no_values() {
        let plan = Plan { nodes: vec![samples::replaced("gpu02")], ..samples::refresh() };
        let error = ProviderError::new(Class::Unreachable, "gpu03 does not answer");
        let unread = [(plan.drift[0].address.clone(), error)];
        let drift =
            DriftReport { manifest: "/etc/site", plan: &plan, unread: &unread, exit: Exit::Identity, recovered: false };
        let report = report(&drift);
        assert!(report.to_string().contains("0777"), "expressions may use values");
        assert!(
            report.as_object().unwrap().keys().eq(MEMBERS),
            "the expressions of a webhook are checked against these members"
        );
        let posted = without_values(&report);
        assert!(!posted.to_string().contains("0777"));
        insta::assert_json_snapshot!("webhook", posted);
        let in_sync = samples::nothing();
        let drift = DriftReport { plan: &in_sync, unread: &[], exit: Exit::Success, recovered: true, ..drift };
        assert_eq!(super::report(&drift)["text"], "moorfast: /etc/site is in sync again");
    }
}
