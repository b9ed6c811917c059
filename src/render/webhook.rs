//! What a webhook gets to tell. `docs/json.md` describes it.

use moorfast_engine::plan::Plan;
use serde_json::{Value as Json, json};

use super::json::{self, FORMAT_VERSION};
use super::value::printable;
use crate::drift_history::Unread;
use crate::exit::Exit;

/// How many names a line of text has.
const NAMES: usize = 5;

/// The members of [`report`].
pub const MEMBERS: [&str; 11] = [
    "format_version",
    "moorfast_version",
    "timestamp",
    "manifest",
    "status",
    "exit_code",
    "recovered",
    "text",
    "resource_drift",
    "nodes",
    "unread",
];

/// What there is to tell.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The folder of the manifest.
    pub manifest: &'a str,
    /// What drifted; with `--since-last` what is new of it.
    pub plan: &'a Plan,
    /// What could not be looked at.
    pub unread: &'a Unread,
    /// How it is.
    pub exit: Exit,
    /// Is all well again that a webhook was told of?
    pub recovered: bool,
}

/// All of it, for expressions.
pub fn report(told: &Told) -> Json {
    let plan = json::plan(told.plan);
    json!({
        "format_version": FORMAT_VERSION,
        "moorfast_version": plan["moorfast_version"],
        "timestamp": plan["timestamp"],
        "manifest": told.manifest,
        "status": status(told.exit),
        "exit_code": told.exit.code(),
        "recovered": told.recovered,
        "text": printable(&text(told)),
        "resource_drift": plan["resource_drift"],
        "nodes": plan["nodes"],
        "unread": json::unread(told.unread),
    })
}

/// The same without values: addresses, names of attributes and messages are all that leaves the machine where nobody says otherwise.
pub fn discreet(report: &Json) -> Json {
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

/// One line for a person.
fn text(told: &Told) -> String {
    let Told { manifest, plan, unread, .. } = told;
    if told.recovered {
        return format!("moorfast: {manifest} is in sync again");
    }
    let mut parts: Vec<String> =
        plan.nodes.iter().filter(|node| node.kind.is_mismatch()).map(ToString::to_string).collect();
    if !plan.drift.is_empty() {
        let addresses: Vec<_> = plan.drift.iter().map(|drift| drift.address.to_string()).collect();
        parts.push(format!("{} drifted: {}", objects(addresses.len()), shortened(&addresses)));
    }
    if let Some((_, error)) = unread.first() {
        parts.push(format!("{} not looked at: {error}", objects(unread.len())));
    }
    format!("moorfast: {manifest}: {}", parts.join("; "))
}

fn objects(n: usize) -> String {
    if n == 1 { "1 object".to_owned() } else { format!("{n} objects") }
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
    fn what_is_told_and_what_leaves_the_machine() {
        let plan = Plan { nodes: vec![samples::replaced("gpu02")], ..samples::refresh() };
        let error = ProviderError::new(Class::Unreachable, "gpu03 does not answer");
        let unread = [(plan.drift[0].address.clone(), error)];
        let told = Told { manifest: "/etc/site", plan: &plan, unread: &unread, exit: Exit::Identity, recovered: false };
        let report = report(&told);
        assert!(report.to_string().contains("0777"), "expressions may use values");
        assert!(
            report.as_object().unwrap().keys().eq(MEMBERS),
            "a webhook is checked by these before there is a report"
        );
        let discreet = discreet(&report);
        assert!(!discreet.to_string().contains("0777"));
        insta::assert_json_snapshot!("webhook", discreet);
        let well = samples::nothing();
        let told = Told { plan: &well, unread: &[], exit: Exit::Success, recovered: true, ..told };
        assert_eq!(super::report(&told)["text"], "moorfast: /etc/site is in sync again");
    }
}
