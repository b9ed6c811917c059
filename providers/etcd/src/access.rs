//! Checking the access to a cluster: whether its members answer and are healthy, and their versions.

use std::collections::BTreeMap;

use futures::future::join_all;
use moorfast_engine::provider::{Class, Finding, Need, ProviderError};

use crate::cluster::Cluster;

/// Checks the cluster: one finding if all members are healthy, otherwise one for each that is not, and then the version.
pub(crate) async fn check(cluster: &Cluster) -> Vec<Finding> {
    let unreachable = |reason: String| {
        let error = ProviderError::new(Class::Unreachable, reason);
        vec![Finding::unmet(
            Need::Connection,
            error.help("if the first apply starts this cluster, this is expected before it"),
        )]
    };
    let (api, view) = match (cluster.api().await, cluster.view().await) {
        (Ok(api), Ok(Ok(view))) => (api, view),
        (Ok(_), Ok(Err(reasons))) => return unreachable(format!("no member of the cluster answers: {reasons}")),
        (Err(error), _) if error.class == Class::Unreachable => return unreachable(error.summary),
        (Err(error), _) | (_, Err(error)) => return vec![Finding::unmet(Need::Connection, error)],
    };
    let unhealthy = view.members.0.iter().filter_map(|member| {
        let reason = member.health.as_ref().err()?;
        let error = ProviderError::new(Class::Unreachable, format!("{}: {reason}", member.title()));
        let help = "start the member, or replace its machine: docs/workflows/etcd.md";
        Some(Finding::unmet(Need::Connection, error.help(help)))
    });
    let mut findings: Vec<_> = unhealthy.collect();
    if findings.is_empty() {
        let count = view.members.0.len();
        findings.push(Finding::met(Need::Connection, format!("{count} of {count} members are healthy")));
    }
    let statuses =
        cluster.config.members.iter().map(|(name, urls)| async move { (name, api.status(&urls.client).await) });
    let mut versions: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, status) in join_all(statuses).await {
        if let Ok(status) = status {
            versions.entry(status.version).or_default().push(name);
        }
    }
    let versions: Vec<_> = match versions.len() {
        1 => versions.into_keys().collect(),
        _ => versions.into_iter().map(|(version, names)| format!("{version} on {}", names.join(", "))).collect(),
    };
    findings.push(Finding::met(Need::Version, versions.join("; ")));
    findings
}
