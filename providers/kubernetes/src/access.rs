//! Checking the access to a cluster: whether it can be reached, its version, and the permissions that the manifest needs.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use kube::api::{Api, PostParams};
use moorfast_engine::provider::{Class, Finding, Need, ProviderError, ReadRequest};

use crate::cluster::{Cluster, Served};
use crate::permission::Permission;
use crate::resource::object::DEFAULT_NAMESPACE;
use crate::resource_type::resource_of;

/// The number of parallel questions about permissions.
const CONCURRENCY: usize = 16;

/// A permission on a kind that the cluster serves.
#[derive(Clone, Debug)]
struct Wanted {
    group: String,
    /// The resource, with its subresource: `nodes/proxy`.
    resource: String,
    /// The namespace, or an empty text for a cluster-scoped kind and for all namespaces.
    namespace: String,
    verbs: &'static [&'static str],
}

impl Wanted {
    fn of(permission: &Permission, served: &Served) -> Self {
        let declared = || permission.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let plural = &served.resource.plural;
        Self {
            group: served.resource.group.clone(),
            resource: match permission.subresource {
                "" => plural.clone(),
                subresource => format!("{plural}/{subresource}"),
            },
            namespace: if served.namespaced { declared() } else { String::new() },
            verbs: permission.verbs,
        }
    }

    /// Returns the resource with its group and namespace: `deployments.apps in the namespace shop`.
    fn place(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let namespace = match self.namespace.as_str() {
            "" => String::new(),
            namespace => format!(" in the namespace {namespace}"),
        };
        format!("{}{group}{namespace}", self.resource)
    }

    /// Returns the finding if the user does not have these verbs.
    fn denied(&self, verbs: &[&str]) -> Finding {
        let (verbs, place) = (verbs.join(", "), self.place());
        let in_namespace = if self.namespace.is_empty() { String::new() } else { format!(" -n {}", self.namespace) };
        let error = ProviderError::new(Class::Denied, format!("the user may not {verbs} {place}")).help(format!(
            "grant these verbs to the user with a role; `kubectl auth can-i --list{in_namespace}` lists what it may do"
        ));
        Finding::unmet(Need::Permissions, error)
    }
}

/// Checks the cluster.
pub(crate) async fn check(cluster: &Cluster, requests: &[ReadRequest]) -> Vec<Finding> {
    let version = async {
        let client = cluster.client().await?;
        client.apiserver_version().await.map_err(|error| cluster.explain(error, "read the version"))
    };
    let version = match version.await {
        Ok(version) => Ok(version.git_version),
        Err(error) if error.class == Class::Denied => Err(error),
        Err(error) => return vec![Finding::unmet(Need::Connection, error)],
    };
    let mut findings = vec![Finding::met(Need::Connection, cluster.server())];
    match permissions(cluster, requests).await {
        Ok(permissions) => {
            findings.push(Finding::met(Need::Login, "accepted"));
            findings.push(Finding { need: Need::Version, result: version });
            findings.extend(permissions);
        }
        Err(error) if error.class == Class::Unreachable => findings = vec![Finding::unmet(Need::Connection, error)],
        Err(error) => findings.push(Finding::unmet(Need::Login, error)),
    }
    findings
}

/// Returns the findings about the permissions that the instances need.
///
/// # Errors
/// If the API server does not respond, or does not accept the user.
async fn permissions(cluster: &Cluster, requests: &[ReadRequest]) -> Result<Vec<Finding>, ProviderError> {
    let everything =
        Wanted { group: "*".to_owned(), resource: "*".to_owned(), namespace: String::new(), verbs: &["*"] };
    if is_allowed(cluster, &everything, "*").await? {
        return Ok(vec![Finding::met(Need::Permissions, "all: the user is an administrator of the cluster")]);
    }
    let (mut wanted, mut findings) = (Vec::new(), Vec::new());
    for permission in needed(requests) {
        match cluster.served(&permission.api_version, &permission.kind).await? {
            Some(served) => wanted.push(Wanted::of(&permission, &served)),
            None => findings.push(Finding::met(
                Need::Permissions,
                format!("not known for {}: the cluster does not serve this kind yet", permission.kind),
            )),
        }
    }
    let questions: Vec<_> = wanted.iter().map(|wanted| missing_verbs(cluster, wanted)).collect();
    let answers: Vec<_> = stream::iter(questions).buffered(CONCURRENCY).collect().await;
    for (wanted, missing) in wanted.iter().zip(answers) {
        let missing = missing?;
        if !missing.is_empty() {
            findings.push(wanted.denied(&missing));
        }
    }
    if findings.iter().all(|finding| finding.result.is_ok()) {
        findings.insert(0, Finding::met(Need::Permissions, "all that the manifest needs"));
    }
    Ok(findings)
}

/// Returns the permissions that instances need, each once.
fn needed(requests: &[ReadRequest]) -> BTreeSet<Permission> {
    let of_request = |request: &ReadRequest| {
        let desired = request.desired.as_ref()?;
        Some(resource_of(&request.resource_type).ok()?.permissions(desired))
    };
    requests.iter().filter_map(of_request).flatten().collect()
}

/// Returns the verbs that the user may not use.
async fn missing_verbs(cluster: &Cluster, wanted: &Wanted) -> Result<Vec<&'static str>, ProviderError> {
    let mut missing = Vec::new();
    for verb in wanted.verbs {
        if !is_allowed(cluster, wanted, verb).await? {
            missing.push(*verb);
        }
    }
    Ok(missing)
}

/// Asks the API server whether the user has a permission.
async fn is_allowed(cluster: &Cluster, wanted: &Wanted, verb: &str) -> Result<bool, ProviderError> {
    let (resource, subresource) = match wanted.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
        None => (wanted.resource.as_str(), None),
    };
    let attributes = ResourceAttributes {
        group: Some(wanted.group.clone()),
        resource: Some(resource.to_owned()),
        subresource,
        namespace: Some(wanted.namespace.clone()),
        verb: Some(verb.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..Default::default() };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client().await?);
    let answer = api.create(&PostParams::default(), &review).await;
    let answer = answer.map_err(|error| cluster.explain(error, "ask for the permissions of the user"))?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::core::{ApiResource, GroupVersionKind};
    use moorfast_engine::model::{Attributes, Value};
    use moorfast_engine::provider::ResourceType;

    use super::*;
    use crate::permission::MANAGE;
    use crate::resource_type::resource_types;

    fn request(kind: &str, attributes: &[(&str, &str)]) -> ReadRequest {
        let types = resource_types();
        let resource_type: &Arc<dyn ResourceType> = types.iter().find(|one| one.name() == kind).unwrap();
        let desired: Attributes =
            attributes.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        ReadRequest {
            address: format!("{kind}.x").parse().unwrap(),
            resource_type: resource_type.clone(),
            desired: Some(desired),
            recorded: None,
        }
    }

    #[test]
    fn each_kind_in_each_namespace_is_needed_once() {
        let yaml = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a, namespace: shop}}\n---\n\
            {apiVersion: apps/v1, kind: Deployment, metadata: {name: b, namespace: shop}}\n---\n\
            {apiVersion: v1, kind: Namespace, metadata: {name: shop}}";
        let requests = [request("kubernetes_object", &[("yaml", yaml)]), request("kubernetes_kubelet_config", &[])];
        let needed: Vec<_> = needed(&requests).into_iter().collect();
        let shown: Vec<_> = needed.iter().map(|p| (p.kind.as_str(), p.namespace.as_deref(), p.subresource)).collect();
        assert_eq!(shown, [("Deployment", Some("shop"), ""), ("Namespace", None, ""), ("Node", None, "proxy")]);
    }

    #[test]
    fn a_missing_permission_names_its_verbs_and_its_place() {
        let served = |group, kind, plural, namespaced| {
            let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, "v1", kind), plural);
            Served { resource, namespaced }
        };
        let denied = |permission: &Permission, served: &Served| {
            let error = Wanted::of(permission, served).denied(&["create", "patch"]).result.unwrap_err();
            error.summary
        };
        let deployment = Permission::new("apps/v1", "Deployment", None, "", MANAGE);
        assert_eq!(
            denied(&deployment, &served("apps", "Deployment", "deployments", true)),
            "the user may not create, patch deployments.apps in the namespace default"
        );
        let eviction = Permission::new("v1", "Pod", Some(""), "eviction", &["create"]);
        let pods = served("", "Pod", "pods", true);
        assert_eq!(denied(&eviction, &pods), "the user may not create, patch pods/eviction");
        let proxy = Permission::new("v1", "Node", None, "proxy", &["get"]);
        assert_eq!(denied(&proxy, &served("", "Node", "nodes", false)), "the user may not create, patch nodes/proxy");
    }
}
