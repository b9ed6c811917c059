//! Draining a node.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, EvictParams};
use moorfast_engine::provider::ProviderError;

use crate::waiting::Wait;

use super::of_field;

/// The interval between two polls of the pods.
const PAUSE: Duration = Duration::from_secs(2);

/// Evicts the pods of `node`, waits until they are gone, and returns notes for the user.
///
/// If the node is not Ready, nothing is evicted: its pods would never terminate.
///
/// # Errors
/// If a disruption budget or a pod blocks the drain until the deadline.
pub(super) async fn drain(wait: &Wait<'_>, node: &str, is_ready: bool) -> Result<Vec<String>, ProviderError> {
    if !is_ready {
        return Ok(vec![format!(
            "{node} is not Ready: its pods were not evicted and are removed with the Node object"
        )]);
    }
    wait.poll(PAUSE, || evict_all(wait, node)).await?;
    Ok(Vec::new())
}

/// Evicts the pods that are left; done when there are none.
async fn evict_all(wait: &Wait<'_>, node: &str) -> Result<Result<(), String>, ProviderError> {
    let client = wait.cluster.client().await?;
    let pods = Api::<Pod>::all(client.clone()).list(&of_field(&format!("spec.nodeName={node}"))).await;
    let pods = pods.map_err(|e| wait.cluster.explain(e, &format!("list the pods of {node}")))?;
    let mut left = BTreeSet::new();
    for pod in pods.items.into_iter().filter(is_evicted) {
        let (namespace, name) = (pod.metadata.namespace.unwrap_or_default(), pod.metadata.name.unwrap_or_default());
        let full = format!("{namespace}/{name}");
        if pod.metadata.deletion_timestamp.is_some() {
            left.insert(format!("{full} is terminating"));
            continue;
        }
        match Api::<Pod>::namespaced(client.clone(), &namespace).evict(&name, &EvictParams::default()).await {
            Ok(_) => left.insert(format!("{full} is terminating")),
            // The pod is gone already.
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(kube::Error::Api(status)) if status.code == 429 => left.insert(format!("{full}: {}", status.message)),
            Err(error) => return Err(wait.cluster.explain(error, &format!("evict pod {full}"))),
        };
    }
    let first = left.iter().take(3).cloned().collect::<Vec<_>>().join("; ");
    Ok(match left.len() {
        0 => Ok(()),
        1..=3 => Err(first),
        more => Err(format!("{first} and {} more", more - 3)),
    })
}

/// Whether a drain evicts the pod. Static pods belong to the kubelet, and pods of a DaemonSet would come back.
fn is_evicted(pod: &Pod) -> bool {
    let is_static = pod.metadata.annotations.iter().flatten().any(|(name, _)| name == "kubernetes.io/config.mirror");
    let of_daemon_set =
        pod.metadata.owner_references.iter().flatten().any(|o| o.controller == Some(true) && o.kind == "DaemonSet");
    !is_static && !of_daemon_set
}
