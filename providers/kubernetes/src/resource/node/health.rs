//! The health of a node.
//!
//! The condition Ready can be older than the last change of the machine. A renewed Lease proves that the kubelet runs now.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, ProviderError};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::readiness::{Readiness, condition};
use crate::waiting::Wait;

use super::{diagnosis, get_node};

/// The namespace of the Leases of kubelets.
const NAMESPACE: &str = "kube-node-lease";
/// The interval between two polls of the Node and its Lease. A kubelet renews its Lease every ten seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until the node `name` is Ready and its kubelet renewed its Lease after the call.
///
/// # Errors
/// If the node is not healthy by `deadline`, with the conditions and events of the node.
pub(super) async fn healthy(
    cluster: &Cluster,
    address: &Address,
    name: &str,
    deadline: Instant,
) -> Result<(), ProviderError> {
    let what = format!("node {name}");
    let wait = Wait { cluster, address, what: &what, deadline };
    let first = OnceCell::new();
    let checked = wait.poll(PAUSE, || check(cluster, name, &first)).await;
    match checked {
        Err(error) if error.class == Class::Timeout => {
            Err(error.detail(diagnosis::details(cluster, name).await).help(diagnosis::HELP))
        }
        other => other,
    }
}

/// Checks the node once. `first` is the renewal time of the Lease at the first check.
async fn check(cluster: &Cluster, name: &str, first: &OnceCell<String>) -> Result<Result<(), String>, ProviderError> {
    let renewed = renewed(cluster, name).await?;
    let before = first.get_or_init(async || renewed.clone().unwrap_or_default()).await;
    let Some(node) = get_node(cluster, name).await? else { return Ok(Err("no Node object".to_owned())) };
    Ok(match condition(&node, "Ready") {
        Readiness::Waiting(why) | Readiness::Failed(why) => Err(why),
        Readiness::Ready => match renewed {
            None => Err("its kubelet has no Lease".to_owned()),
            Some(now) if now == *before => Err(format!("its kubelet has not renewed its Lease since {now}")),
            Some(_) => Ok(()),
        },
    })
}

/// Returns the time at which the kubelet last renewed its Lease.
async fn renewed(cluster: &Cluster, name: &str) -> Result<Option<String>, ProviderError> {
    let leases: Api<Lease> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let lease = leases.get_opt(name).await;
    let lease = lease.map_err(|e| cluster.explain(e, &format!("read the Lease {NAMESPACE}/{name}")))?;
    let json = lease.and_then(|lease| serde_json::to_value(lease).ok()).unwrap_or_default();
    Ok(json["spec"]["renewTime"].as_str().map(str::to_owned))
}
