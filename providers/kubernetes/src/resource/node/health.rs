//! Does a machine still serve? That it is Ready may be from before something was done to it; that its kubelet renews its Lease is not.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::Api;
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::cluster::{Cluster, Served};
use crate::fetch::{Wanted, fetch};
use crate::readiness::{Readiness, condition};
use crate::waiting::Wait;

use super::trouble;

/// Where kubelets keep their Leases.
const NAMESPACE: &str = "kube-node-lease";
/// How often node and Lease are looked at. A kubelet renews its Lease every ten seconds.
const PAUSE: Duration = Duration::from_secs(1);

/// Waits until the node `name` is Ready and its kubelet renewed its Lease since this was asked.
///
/// # Errors
/// If that does not come about by `deadline`, with what the cluster knows of the node.
pub(super) async fn healthy(
    cluster: &Cluster,
    address: &Address,
    name: &str,
    deadline: Instant,
) -> Result<(), ProviderError> {
    let what = format!("node {name}");
    let wait = Wait { cluster, address, what: &what, deadline };
    let first = OnceCell::new();
    let looked = wait.poll(PAUSE, || look(cluster, name, &first)).await;
    match looked {
        Err(error) if error.class == Class::Timeout => {
            Err(error.detail(trouble::details(cluster, name).await).help(trouble::HELP))
        }
        other => other,
    }
}

/// One look; `first` is when the Lease was renewed as of the first one.
async fn look(cluster: &Cluster, name: &str, first: &OnceCell<String>) -> Result<Result<(), String>, ProviderError> {
    let renewed = renewed(cluster, name).await?;
    let before = first.get_or_init(async || renewed.clone().unwrap_or_default()).await;
    let Some(node) = node(cluster, name).await? else { return Ok(Err("no Node object".to_owned())) };
    Ok(match condition(&node, "Ready") {
        Readiness::Waiting(why) | Readiness::Failed(why) => Err(why),
        Readiness::Ready => match renewed {
            None => Err("its kubelet has no Lease".to_owned()),
            Some(now) if now == *before => Err(format!("its kubelet has not renewed its Lease since {now}")),
            Some(_) => Ok(()),
        },
    })
}

/// When the kubelet renewed its Lease last.
async fn renewed(cluster: &Cluster, name: &str) -> Result<Option<String>, ProviderError> {
    let leases: Api<Lease> = Api::namespaced(cluster.client().await?, NAMESPACE);
    let lease = leases.get_opt(name).await;
    let lease = lease.map_err(|e| cluster.explain(e, &format!("read the Lease {NAMESPACE}/{name}")))?;
    let json = lease.and_then(|lease| serde_json::to_value(lease).ok()).unwrap_or_default();
    Ok(json["spec"]["renewTime"].as_str().map(str::to_owned))
}

async fn node(cluster: &Cluster, name: &str) -> Result<Option<Json>, ProviderError> {
    let served = Served::of::<k8s_openapi::api::core::v1::Node>(false);
    let wanted = Wanted { namespace: String::new(), name: name.to_owned() };
    fetch(cluster, &served, std::slice::from_ref(&wanted)).await.remove(&wanted).unwrap_or(Ok(None))
}
