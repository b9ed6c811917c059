//! Cordons of moorfast, which an annotation of the Node tells apart from those of an administrator.
//!
//! The annotation and the cordon are written by one request, so a run that is killed leaves both or none of them.

use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use moorfast_engine::provider::ProviderError;
use serde_json::{Value as Json, json};

use crate::cluster::FIELD_MANAGER;
use crate::waiting::Wait;

use super::get_node;

/// The owner of a cordon: the lineage of the state that drained the node.
const OWNER: &str = "moorfast.dev/cordoned-by";

/// The cordon of a node.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cordon {
    /// The node is in service.
    None,
    /// moorfast cordoned the node for this owner.
    Owned(String),
    /// Somebody else cordoned the node.
    Foreign,
}

impl Cordon {
    pub(super) fn of(node: &Json) -> Self {
        let owner = node["metadata"]["annotations"][OWNER].as_str();
        match (node["spec"]["unschedulable"] == true, owner) {
            (false, _) => Self::None,
            (true, Some(owner)) => Self::Owned(owner.to_owned()),
            (true, None) => Self::Foreign,
        }
    }

    /// Returns the owner, if moorfast cordoned the node.
    pub(super) fn owner(self) -> Option<String> {
        match self {
            Self::Owned(owner) => Some(owner),
            Self::None | Self::Foreign => None,
        }
    }
}

/// Cordons a node for `owner`. A node that is cordoned already is not changed. Returns the Node, or `None` if it does not exist.
///
/// # Errors
/// If the API server refuses the change or does not answer.
pub(super) async fn cordon(wait: &Wait<'_>, name: &str, owner: &str) -> Result<Option<Json>, ProviderError> {
    change(wait, name, |cordon| match cordon {
        Cordon::None => {
            Some(json!({ "metadata": { "annotations": { OWNER: owner } }, "spec": { "unschedulable": true } }))
        }
        Cordon::Owned(_) | Cordon::Foreign => None,
    })
    .await
}

/// Uncordons a node if `owner` cordoned it.
///
/// # Errors
/// If the API server refuses the change or does not answer.
pub(super) async fn uncordon(wait: &Wait<'_>, name: &str, owner: &str) -> Result<(), ProviderError> {
    let patch = json!({ "metadata": { "annotations": { OWNER: null } }, "spec": { "unschedulable": null } });
    let changed = change(wait, name, |cordon| match cordon {
        Cordon::Owned(by) if by == owner => Some(patch.clone()),
        Cordon::None | Cordon::Owned(_) | Cordon::Foreign => None,
    });
    changed.await.map(drop)
}

/// Changes the cordon of a node as `patch` says, but only in the version of the Node that was read.
async fn change(
    wait: &Wait<'_>,
    name: &str,
    patch: impl Fn(Cordon) -> Option<Json>,
) -> Result<Option<Json>, ProviderError> {
    loop {
        let Some(node) = get_node(wait.cluster, name).await? else { return Ok(None) };
        let Some(mut patch) = patch(Cordon::of(&node)) else { return Ok(Some(node)) };
        patch["metadata"]["resourceVersion"] = node["metadata"]["resourceVersion"].clone();
        let api: Api<Node> = Api::all(wait.cluster.client().await?);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch(name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => return Ok(Some(node)),
            // A kubelet updates the status of its Node all the time.
            Err(kube::Error::Api(status)) if status.is_conflict() && tokio::time::Instant::now() < wait.deadline => {}
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(None),
            Err(error) => return Err(wait.cluster.explain(error, &format!("cordon or uncordon node {name}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_annotation_counts_only_while_the_node_is_cordoned() {
        let node = |unschedulable: bool, owner: Option<&str>| {
            Cordon::of(
                &json!({ "metadata": { "annotations": { OWNER: owner } }, "spec": { "unschedulable": unschedulable } }),
            )
        };
        assert_eq!(node(false, None), Cordon::None);
        // An administrator uncordoned it.
        assert_eq!(node(false, Some("a")), Cordon::None);
        assert_eq!(node(true, None), Cordon::Foreign);
        assert_eq!(node(true, Some("a")), Cordon::Owned("a".to_owned()));
        assert_eq!(Cordon::of(&json!({})), Cordon::None);
    }
}
