//! Facts of the cluster that explain why a node is not Ready.

use k8s_openapi::api::core::v1::{Event, Node};
use kube::api::Api;

use crate::cluster::Cluster;
use crate::csr::{State, node_of, state};

use super::of_field;

/// The help of an error about a node that is not Ready.
pub(super) const HELP: &str = "check the kubelet on the node (`journalctl -u kubelet`): its unit must be active, the API server reachable and the container runtime running";

/// How many of the last events are shown.
const EVENTS: usize = 5;

/// Describes the pending certificate requests of a node without a Node object; `None` if there are none.
pub(super) async fn of_absent(cluster: &Cluster, name: &str) -> Option<String> {
    let pending = pending_requests(cluster, name).await;
    match pending.as_slice() {
        [] => None,
        [only] => Some(format!("no Node object yet; its certificate request {only} is pending")),
        several => Some(format!("no Node object yet; its certificate requests {} are pending", several.join(", "))),
    }
}

/// Returns the conditions, the last events and the pending certificate requests of the node, one line each.
pub(super) async fn details(cluster: &Cluster, name: &str) -> Vec<String> {
    let mut lines = conditions(cluster, name).await;
    lines.extend(events(cluster, name).await);
    lines.extend(
        pending_requests(cluster, name).await.into_iter().map(|csr| format!("certificate request {csr} is pending")),
    );
    lines
}

async fn conditions(cluster: &Cluster, name: &str) -> Vec<String> {
    let Ok(client) = cluster.client().await else { return Vec::new() };
    let node = Api::<Node>::all(client).get_opt(name).await;
    let Ok(Some(node)) = node else { return vec![format!("there is no Node object {name}")] };
    let conditions = node.status.and_then(|s| s.conditions).unwrap_or_default();
    conditions
        .into_iter()
        .map(|c| format!("condition {} is {}: {}", c.type_, c.status, c.message.unwrap_or_default()))
        .collect()
}

async fn events(cluster: &Cluster, name: &str) -> Vec<String> {
    let Ok(client) = cluster.client().await else { return Vec::new() };
    let selector = of_field(&format!("involvedObject.kind=Node,involvedObject.name={name}"));
    let Ok(mut events) = Api::<Event>::all(client).list(&selector).await else { return Vec::new() };
    events.items.sort_by_key(|e| e.last_timestamp.clone().or_else(|| e.first_timestamp.clone()));
    let skipped = events.items.len().saturating_sub(EVENTS);
    let last = events.items.into_iter().skip(skipped);
    last.map(|e| format!("event {}: {}", e.reason.unwrap_or_default(), e.message.unwrap_or_default())).collect()
}

async fn pending_requests(cluster: &Cluster, name: &str) -> Vec<String> {
    let Ok(requests) = cluster.certificate_requests().await else { return Vec::new() };
    let pending = requests.iter().filter(|r| state(r) == State::Pending && node_of(r).as_deref() == Some(name));
    pending.filter_map(|r| r.metadata.name.clone()).collect()
}
