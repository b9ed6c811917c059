//! Drift as metrics in the text format of Prometheus, for the textfile collector of node_exporter. `docs/workflows/drift.md` describes them.

use std::fmt::Write;

use jiff::Timestamp;
use moorfast_engine::model::CheckStatus;
use moorfast_engine::plan::{Drift, Plan};

use super::drift::changed_attributes;
use crate::exit::Exit;

/// What a run of `drift` found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Found<'a> {
    /// The drift; none where the run failed before there was any.
    pub plan: Option<&'a Plan>,
    /// How many objects could not be looked at.
    pub unread: usize,
    /// How many drifted objects were told for the first time, where that is known.
    pub new: Option<usize>,
    /// Did a webhook that was to be told not take it? None where none was to be told.
    pub webhook_failed: Option<bool>,
}

/// The metrics of a run over the manifest in the folder `manifest` that ended so.
pub fn drift(manifest: &str, found: &Found, exit: Exit, at: Timestamp) -> String {
    let mut page = Metrics { own: label("manifest", manifest), text: String::new() };
    page.gauge("run_timestamp_seconds", "When the world was looked at.", [("", at.as_second() as usize)]);
    page.gauge(
        "exit_code",
        "0 in sync, 2 drift, 5 a target does not answer, 6 it is another one, 1 failed.",
        [("", exit.code().into())],
    );
    page.gauge("unread_objects", "Objects that could not be looked at.", [("", found.unread)]);
    if let Some(new) = found.new {
        page.gauge("new_objects", "Drifted objects that the run before did not know.", [("", new)]);
    }
    if let Some(failed) = found.webhook_failed {
        page.gauge("webhook_failed", "1 where the webhook was not told what it should be.", [("", failed.into())]);
    }
    let Some(plan) = found.plan else { return page.text };
    page.gauge("managed_objects", "Objects that the manifest and the state hold.", [("", plan.changes.len())]);
    page.gauge("objects", "Objects that are not as the last apply left them.", [("", plan.drift.len())]);
    page.gauge("nodes", "Nodes that are not the machines they were.", [("", plan.mismatches())]);
    let objects = plan.drift.iter().map(|drift| {
        let how = if drift.after.is_some() { "changed" } else { "gone" };
        let labels =
            [("address", drift.address.to_string()), ("target", drift.target.clone()), ("how", how.to_owned())];
        (labels.map(|(name, value)| label(name, &value)).join(","), 1)
    });
    page.gauge("object", "One for each object that is not as the last apply left it.", objects);
    page.gauge("attribute", "One for each attribute of these that changed.", plan.drift.iter().flat_map(attributes));
    let checks = plan.checks.iter().map(|check| {
        let failed = matches!(check.status, CheckStatus::Fail | CheckStatus::Error);
        (label("check", &check.name), usize::from(failed))
    });
    page.gauge("check_failed", "1 for a check of the manifest that does not hold.", checks);
    page.text
}

/// The labels of each attribute that changed. What is gone has none.
fn attributes(drift: &Drift) -> Vec<(String, usize)> {
    let sample = |attribute| {
        let labels =
            [("address", drift.address.to_string()), ("target", drift.target.clone()), ("attribute", attribute)];
        (labels.map(|(name, value)| label(name, &value)).join(","), 1)
    };
    changed_attributes(drift).into_iter().map(sample).collect()
}

struct Metrics {
    own: String,
    text: String,
}

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (impl AsRef<str>, usize)>) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let own = &self.own;
        let _ = write!(self.text, "# HELP moorfast_drift_{name} {help}\n# TYPE moorfast_drift_{name} gauge\n");
        for (labels, value) in samples {
            let comma = if labels.as_ref().is_empty() { "" } else { "," };
            let _ = writeln!(self.text, "moorfast_drift_{name}{{{own}{comma}{}}} {value}", labels.as_ref());
        }
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn drift_and_failure() {
        let plan = Plan { nodes: samples::dangers().nodes, checks: samples::dangers().checks, ..samples::refresh() };
        let at = plan.created_at;
        let found = Found { plan: Some(&plan), unread: 2, new: Some(1), webhook_failed: Some(false) };
        insta::assert_snapshot!("metrics", drift("/etc/moor\"fast", &found, Exit::Changes, at));
        let failed = Found { plan: None, unread: 0, new: None, webhook_failed: None };
        insta::assert_snapshot!("metrics_failed", drift("/etc/moorfast", &failed, Exit::Error, at));
    }
}
