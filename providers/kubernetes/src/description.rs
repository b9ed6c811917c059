//! What a manifest would say about the objects that exist in a cluster.

use kube::api::{Api, DynamicObject, ListParams};
use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{Class, Described, Existing, ProviderError};
use serde_json::{Value as Json, json};

use crate::cluster::Cluster;
use crate::object_reader::{is_secret, not_served, to_json};

/// Annotations that controllers and kubectl write.
const WRITTEN_ANNOTATIONS: &[&str] =
    &["kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/revision"];

/// Fields that the API server sets if a manifest does not, with the value that it sets.
fn defaults() -> Vec<(&'static str, Json)> {
    vec![
        ("progressDeadlineSeconds", json!(600)),
        ("revisionHistoryLimit", json!(10)),
        (
            "strategy",
            json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": "25%" } }),
        ),
        ("updateStrategy", json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 0, "maxUnavailable": 1 } })),
        ("podManagementPolicy", json!("OrderedReady")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("restartPolicy", json!("Always")),
        ("schedulerName", json!("default-scheduler")),
        ("securityContext", json!({})),
        ("terminationGracePeriodSeconds", json!(30)),
        ("terminationMessagePath", json!("/dev/termination-log")),
        ("terminationMessagePolicy", json!("File")),
        ("resources", json!({})),
        ("creationTimestamp", Json::Null),
        ("ipFamilyPolicy", json!("SingleStack")),
        ("internalTrafficPolicy", json!("Cluster")),
        ("externalTrafficPolicy", json!("Cluster")),
        ("sessionAffinity", json!("None")),
        ("type", json!("ClusterIP")),
    ]
}

/// Describes the objects of `wanted` in the cluster.
pub(crate) async fn describe(cluster: &Cluster, wanted: &[Existing]) -> Result<Vec<Described>, ProviderError> {
    let mut described = Vec::new();
    for existing in wanted {
        let Existing::Kind { kind, namespace } = existing else { continue };
        let (api_version, kind) = named(cluster, kind).await?;
        let served = cluster.served(&api_version, &kind).await?.ok_or_else(|| not_served(&api_version, &kind))?;
        let api: Api<DynamicObject> = served.api(cluster.client().await?, namespace);
        let found = api.list(&ListParams::default()).await;
        let mut found = found.map_err(|error| cluster.explain(error, &format!("list {kind} in {namespace}")))?.items;
        found.retain(is_of_a_person);
        found.sort_by_key(|object| object.metadata.name.clone());
        described.extend(found.into_iter().map(|object| described_object(to_json(object, &served))));
    }
    Ok(described)
}

/// Returns the API version and the kind that `kind` names: `Deployment`, or `apps/v1/Deployment`.
async fn named(cluster: &Cluster, kind: &str) -> Result<(String, String), ProviderError> {
    if let Some((api_version, kind)) = kind.rsplit_once('/') {
        return Ok((api_version.to_owned(), kind.to_owned()));
    }
    let kinds = cluster.kinds().await?;
    let found: Vec<_> = kinds.iter().filter(|(_, known)| known.eq_ignore_ascii_case(kind)).collect();
    match found.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(ProviderError::new(Class::Invalid, format!("the cluster has no kind `{kind}`"))),
        several => {
            let names: Vec<_> = several.iter().map(|(version, kind)| format!("{version}/{kind}")).collect();
            let error = ProviderError::new(Class::Invalid, format!("several kinds have the name `{kind}`"));
            Err(error.help(format!("write one of {}", names.join(", "))))
        }
    }
}

/// Whether no controller makes the object again.
fn is_of_a_person(object: &DynamicObject) -> bool {
    let is_owned = object.metadata.owner_references.as_ref().is_some_and(|owners| !owners.is_empty());
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let is_of_cluster =
        name == "kube-root-ca.crt" || name == "kubernetes" && object.metadata.namespace.as_deref() == Some("default");
    !is_owned && !is_of_cluster
}

fn described_object(object: Json) -> Described {
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let (kind, name) = (text(&object["kind"]), text(&object["metadata"]["name"]));
    let namespace = text(&object["metadata"]["namespace"]);
    let label = format!("{kind}/{namespace}/{name}");
    let attributes = match is_secret(&object) {
        true => Err("its content is secret".to_owned()),
        false => Ok(Attributes::from([("manifest".to_owned(), Value::from(written(object)))])),
    };
    let file = format!("{namespace}/{}-{name}.yaml", kind.to_lowercase());
    Described { resource_type: "kubernetes_object".to_owned(), label, file, attributes }
}

/// Returns the fields of an object that a person writes.
fn written(mut object: Json) -> Json {
    let is_headless = object["spec"]["clusterIP"] == "None";
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|name, _| ["name", "namespace", "labels", "annotations"].contains(&name.as_str()));
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Json::as_object_mut) {
            annotations.retain(|name, _| !WRITTEN_ANNOTATIONS.contains(&name.as_str()));
        }
        metadata.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
    }
    if let Some(spec) = object.get_mut("spec") {
        if let Some(spec) = spec.as_object_mut() {
            if !is_headless {
                spec.remove("clusterIP");
            }
            for name in ["clusterIPs", "ipFamilies"] {
                spec.remove(name);
            }
        }
        without_defaults(spec, &defaults());
    }
    object
}

/// Removes the fields that have their default.
fn without_defaults(value: &mut Json, defaults: &[(&str, Json)]) {
    match value {
        Json::Object(fields) => {
            fields.retain(|name, value| !defaults.iter().any(|(known, default)| known == name && default == value));
            fields.values_mut().for_each(|value| without_defaults(value, defaults));
        }
        Json::Array(items) => items.iter_mut().for_each(|item| without_defaults(item, defaults)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_sets_is_left_out() {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": "web",
                "namespace": "shop",
                "uid": "1",
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.0.0.1",
                "clusterIPs": ["10.0.0.1"],
                "sessionAffinity": "None",
                "ports": [{ "port": 80 }],
            },
            "status": {},
        });
        let expected = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": "web", "namespace": "shop" },
            "spec": { "ports": [{ "port": 80 }] },
        });
        assert_eq!(written(object), expected);
    }
}
