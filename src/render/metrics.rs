//! Drift metrics in the text format of Prometheus, for the textfile collector of node_exporter. `docs/workflows/drift.md` describes them.

use std::fmt::Write;
use std::sync::Arc;

use jiff::Timestamp;
use moorfast_engine::model::{Attribute, CheckStatus};
use moorfast_engine::plan::{Change, Drift, Plan};
use moorfast_engine::provider::Provider;
use moorfast_engine::state::EnvironmentName;

use super::drift::changed_attributes;
use crate::exit::Exit;

/// The result of a run of `drift`.
#[derive(Clone, Copy, Default)]
pub struct Found<'a> {
    /// The plan with the drift, or `None` if the run failed before it was known.
    pub plan: Option<&'a Plan>,
    /// The number of objects that could not be read.
    pub unread: usize,
    /// The number of drifted objects that are reported for the first time, if known.
    pub new: Option<usize>,
    /// Whether the webhook did not accept the report. `None` if there was nothing to post.
    pub webhook_failed: Option<bool>,
    /// The types of the objects. Some of them have a time of expiry.
    pub providers: &'a [Arc<dyn Provider>],
}

/// The labels of all metrics of a run.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// The folder of the manifest.
    pub manifest: &'a str,
    /// The environment. Without one, its label is omitted.
    pub environment: Option<&'a EnvironmentName>,
}

/// Returns the metrics of a run.
pub fn drift(labels: Labels, found: &Found, exit: Exit, at: Timestamp) -> String {
    let environment = labels.environment.map(|name| format!(",{}", label("environment", name.as_str())));
    let own = label("manifest", labels.manifest) + &environment.unwrap_or_default();
    let mut page = Metrics { own, text: String::new() };
    page.gauge("run_timestamp_seconds", "Time of the run.", [("", at.as_second())]);
    page.gauge(
        "exit_code",
        "0 in sync, 2 drift, 5 a target does not answer, 6 another target answers, 1 other error.",
        [("", exit.code().into())],
    );
    page.gauge("unread_objects", "Objects that could not be read.", [("", count(found.unread))]);
    if let Some(new) = found.new {
        page.gauge("new_objects", "Drifted objects that earlier runs did not report.", [("", count(new))]);
    }
    if let Some(failed) = found.webhook_failed {
        page.gauge("webhook_failed", "1 if the webhook did not accept the report.", [("", failed.into())]);
    }
    let Some(plan) = found.plan else { return page.text };
    page.gauge("managed_objects", "Objects in the manifest and the state.", [("", count(plan.changes.len()))]);
    page.gauge(
        "objects",
        "Objects that changed outside moorfast since the last apply.",
        [("", count(plan.drift.len()))],
    );
    page.gauge("nodes", "Nodes whose machine was replaced.", [("", count(plan.mismatches()))]);
    let objects = plan.drift.iter().map(|drift| {
        let how = if drift.after.is_some() { "changed" } else { "gone" };
        let labels =
            [("address", drift.address.to_string()), ("target", drift.target.clone()), ("how", how.to_owned())];
        (labels.map(|(name, value)| label(name, &value)).join(","), 1)
    });
    page.gauge("object", "1 for each object that changed outside moorfast.", objects);
    page.gauge("attribute", "1 for each changed attribute of these objects.", plan.drift.iter().flat_map(attributes));
    let checks = plan.checks.iter().map(|check| {
        let failed = matches!(check.status, CheckStatus::Fail | CheckStatus::Error);
        (label("check", &check.name), i64::from(failed))
    });
    let expiries = plan.changes.iter().flat_map(|change| expiries(plan, change, found.providers, at));
    page.gauge(
        "expiry_seconds",
        "Seconds until an object expires, such as a certificate. Negative if it has expired, 0 if it does not exist any more.",
        expiries,
    );
    page.gauge("check_failed", "1 for each failed check of the manifest, 0 for the others.", checks);
    page.text
}

/// Returns the labels of each changed attribute. A deleted object has none.
fn attributes(drift: &Drift) -> Vec<(String, i64)> {
    let sample = |attribute| {
        let labels =
            [("address", drift.address.to_string()), ("target", drift.target.clone()), ("attribute", attribute)];
        (labels.map(|(name, value)| label(name, &value)).join(","), 1)
    };
    changed_attributes(drift).into_iter().map(sample).collect()
}

/// Returns the labels of an object that expires, with the seconds until then. An object that was lost since the last apply expires now.
fn expiries(plan: &Plan, change: &Change, providers: &[Arc<dyn Provider>], now: Timestamp) -> Vec<(String, i64)> {
    let types = providers.iter().flat_map(|provider| provider.resource_types());
    let Some(resource_type) = types.into_iter().find(|known| known.name() == change.resource_type) else {
        return Vec::new();
    };
    let expiring = resource_type.schema().attributes.iter().filter(|attribute| attribute.is_expiry);
    let is_lost = |attribute: &Attribute| {
        let mut drift = plan.drift.iter().filter(|drift| drift.address == change.address);
        drift.any(|drift| drift.before.contains_key(attribute.name))
    };
    let sample = |attribute: &Attribute| {
        let at = change.before.as_ref().and_then(|before| before.get(attribute.name));
        let seconds = match at {
            Some(at) => at.as_str()?.parse::<Timestamp>().ok()?.as_second() - now.as_second(),
            None if is_lost(attribute) => 0,
            None => return None,
        };
        let labels = [("address", change.address.to_string()), ("target", change.target.clone())];
        Some((labels.map(|(name, value)| label(name, &value)).join(","), seconds))
    };
    expiring.filter_map(sample).collect()
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

struct Metrics {
    own: String,
    text: String,
}

impl Metrics {
    fn gauge(&mut self, name: &str, help: &str, samples: impl IntoIterator<Item = (impl AsRef<str>, i64)>) {
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

    fn of(manifest: &str) -> Labels<'_> {
        Labels { manifest, environment: None }
    }

    #[test]
    fn label_values_are_escaped() {
        let text = drift(of("/srv/a\\b\"} 1\nforged{x=\""), &Found::default(), Exit::Success, Timestamp::UNIX_EPOCH);
        assert!(text.contains(r#"moorfast_drift_exit_code{manifest="/srv/a\\b\"} 1\nforged{x=\""} 0"#), "{text}");
        assert!(text.lines().all(|line| line.starts_with('#') || line.starts_with("moorfast_drift_")), "{text}");
    }

    #[test]
    fn drift_and_failure() {
        let plan = Plan { nodes: samples::dangers().nodes, checks: samples::dangers().checks, ..samples::refresh() };
        let at = plan.created_at;
        let found = Found { plan: Some(&plan), unread: 2, new: Some(1), webhook_failed: Some(false), providers: &[] };
        insta::assert_snapshot!("metrics", drift(of("/etc/moor\"fast"), &found, Exit::Changes, at));
        let failed = Found { plan: None, unread: 0, new: None, webhook_failed: None, providers: &[] };
        insta::assert_snapshot!("metrics_failed", drift(of("/etc/moorfast"), &failed, Exit::Error, at));
        let labels = Labels { environment: Some(&"prod".parse().unwrap()), ..of("/etc/moorfast") };
        let text = drift(labels, &failed, Exit::Error, at);
        assert!(text.contains("exit_code{manifest=\"/etc/moorfast\",environment=\"prod\"} 1"), "{text}");
    }
}
