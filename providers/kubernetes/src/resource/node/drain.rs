//! Draining a node: its pods are evicted, as `kubectl drain` does it.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Client;
use kube::api::{Api, DeleteParams, EvictParams, ListParams};
use kube::core::{Selector, SelectorExt};
use moorfast_engine::model::DrainOptions;
use moorfast_engine::provider::{Class, ProviderError};

use crate::waiting::Wait;

use super::of_field;

/// The interval between two polls of the pods.
const PAUSE: Duration = Duration::from_secs(2);
/// How many pods a message names.
const NAMED: usize = 3;

/// Which pods are evicted, and how long they may take to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Eviction {
    /// How long each pod may take to stop. `None`: as the pod declares.
    pub(super) grace_period: Option<Duration>,
    /// Whether pods are evicted that no controller starts again.
    pub(super) force: bool,
    /// Whether pods with data in an `emptyDir` are evicted.
    pub(super) delete_emptydir_data: bool,
}

impl Eviction {
    /// Evicts every pod, because its node leaves the cluster.
    pub(super) const ALL: Self = Self { grace_period: None, force: true, delete_emptydir_data: true };

    /// Evicts the pods that the options permit.
    pub(super) fn of(options: &DrainOptions) -> Self {
        let DrainOptions { grace_period, force, delete_emptydir_data, timeout: _ } = *options;
        Self { grace_period, force, delete_emptydir_data }
    }

    fn parameters(&self) -> EvictParams {
        let seconds = self.grace_period.map(|period| u32::try_from(period.as_secs()).unwrap_or(u32::MAX));
        let delete_options =
            seconds.map(|seconds| DeleteParams { grace_period_seconds: Some(seconds), ..DeleteParams::default() });
        EvictParams { delete_options, ..EvictParams::default() }
    }

    /// Returns why the pod is not evicted without another option.
    fn refusal(&self, pod: &Pod) -> Option<&'static str> {
        let is_over =
            matches!(pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
        let is_controlled = pod.metadata.owner_references.iter().flatten().any(|owner| owner.controller == Some(true));
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        let has_data = volumes.into_iter().any(|volume| volume.empty_dir.is_some());
        match (is_over, is_controlled, has_data) {
            (true, ..) => None,
            (_, false, _) if !self.force => Some("no controller would start it again (force = true evicts it)"),
            (_, _, true) if !self.delete_emptydir_data => {
                Some("it has data in an emptyDir volume (delete_emptydir_data = true evicts it)")
            }
            _ => None,
        }
    }
}

/// Evicts the pods of `node`, and waits until they are gone. The kubelet of the node must run: without it, pods never terminate.
///
/// # Errors
/// If a pod must not be evicted, or if a disruption budget or a pod blocks the drain until the deadline.
pub(super) async fn drain(wait: &Wait<'_>, node: &str, eviction: Eviction) -> Result<(), ProviderError> {
    let pods = pods(wait, node).await?;
    let refused = pods.iter().filter_map(|pod| Some(format!("pod {}: {}", full_name(pod), eviction.refusal(pod)?)));
    let refused: BTreeSet<String> = refused.collect();
    if !refused.is_empty() {
        let summary = format!("node {node} cannot be drained: {}", some_of(&refused));
        return Err(ProviderError::new(Class::Invalid, summary));
    }
    wait.poll(PAUSE, || evict_all(wait, node, eviction)).await
}

/// Returns the pods of `node` that a drain evicts.
async fn pods(wait: &Wait<'_>, node: &str) -> Result<Vec<Pod>, ProviderError> {
    let pods = Api::<Pod>::all(wait.cluster.client().await?).list(&of_field(&format!("spec.nodeName={node}"))).await;
    let pods = pods.map_err(|e| wait.cluster.explain(e, &format!("list the pods of {node}")))?;
    Ok(pods.items.into_iter().filter(is_evicted).collect())
}

/// Evicts the pods that are left; done when there are none.
async fn evict_all(wait: &Wait<'_>, node: &str, eviction: Eviction) -> Result<Result<(), String>, ProviderError> {
    let client = wait.cluster.client().await?;
    let mut left = BTreeSet::new();
    for pod in pods(wait, node).await? {
        let full = full_name(&pod);
        if pod.metadata.deletion_timestamp.is_some() {
            left.insert(format!("{full} is terminating"));
            continue;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        match Api::<Pod>::namespaced(client.clone(), namespace).evict(name, &eviction.parameters()).await {
            Ok(_) => left.insert(format!("{full} is terminating")),
            // The pod is gone already.
            Err(kube::Error::Api(status)) if status.code == 404 => false,
            Err(kube::Error::Api(status)) if status.code == 429 => {
                let by = budgets(client.clone(), &pod).await;
                left.insert(format!("{full}: {}{by}", status.message))
            }
            Err(error) => return Err(wait.cluster.explain(error, &format!("evict pod {full}"))),
        };
    }
    Ok(if left.is_empty() { Ok(()) } else { Err(some_of(&left)) })
}

/// Returns the names of the budgets that protect a pod, as the end of a message. The refusal of an eviction does not always name them.
async fn budgets(client: Client, pod: &Pod) -> String {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let listed = Api::<PodDisruptionBudget>::namespaced(client, namespace).list(&ListParams::default()).await;
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let names: Vec<String> = listed
        .into_iter()
        .flat_map(|list| list.items)
        .filter(|budget| {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.clone());
            selector
                .and_then(|selector| Selector::try_from(selector).ok())
                .is_some_and(|selector| selector.matches(&labels))
        })
        .filter_map(|budget| budget.metadata.name)
        .map(|name| format!("PodDisruptionBudget {namespace}/{name}"))
        .collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

fn full_name(pod: &Pod) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", part(&pod.metadata.namespace), part(&pod.metadata.name))
}

/// Returns the first of these texts, and how many more there are.
fn some_of(texts: &BTreeSet<String>) -> String {
    let first = texts.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    match texts.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

/// Whether a drain evicts the pod. Static pods belong to the kubelet, and pods of a DaemonSet would come back.
fn is_evicted(pod: &Pod) -> bool {
    let is_static = pod.metadata.annotations.iter().flatten().any(|(name, _)| name == "kubernetes.io/config.mirror");
    let of_daemon_set =
        pod.metadata.owner_references.iter().flatten().any(|o| o.controller == Some(true) && o.kind == "DaemonSet");
    !is_static && !of_daemon_set
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn pod(json: Json) -> Pod {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn static_pods_and_pods_of_a_daemon_set_stay() {
        let owned = |kind| json!({ "metadata": { "ownerReferences": [{ "apiVersion": "apps/v1", "kind": kind, "name": "a", "uid": "1", "controller": true }] } });
        let mirror = json!({ "metadata": { "annotations": { "kubernetes.io/config.mirror": "1" } } });
        let cases = [(owned("DaemonSet"), false), (owned("ReplicaSet"), true), (mirror, false), (json!({}), true)];
        for (json, expected) in cases {
            assert_eq!(is_evicted(&pod(json.clone())), expected, "{json}");
        }
    }

    #[test]
    fn a_pod_that_would_be_lost_is_evicted_only_if_the_options_permit_it() {
        let owner =
            json!([{ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "a", "uid": "1", "controller": true }]);
        let data = json!([{ "name": "data", "emptyDir": {} }]);
        let alone = pod(json!({ "spec": { "containers": [] } }));
        let with_data =
            pod(json!({ "metadata": { "ownerReferences": owner }, "spec": { "containers": [], "volumes": data } }));
        let over = pod(json!({ "spec": { "containers": [], "volumes": data }, "status": { "phase": "Succeeded" } }));
        let strict = Eviction { grace_period: None, force: false, delete_emptydir_data: false };
        assert!(strict.refusal(&alone).is_some_and(|why| why.contains("force")));
        assert!(strict.refusal(&with_data).is_some_and(|why| why.contains("delete_emptydir_data")));
        assert_eq!(strict.refusal(&over), None);
        for pod in [alone, with_data, over] {
            assert_eq!(Eviction::ALL.refusal(&pod), None);
        }
    }
}
