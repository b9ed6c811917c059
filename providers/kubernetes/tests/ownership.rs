//! Fields with several managers, on a real API server.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod harness;

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use moorfast_engine::model::Attributes;
use moorfast_engine::provider::{Class, ProposedAction};
use serde_json::{Value as Json, json};

use harness::{Instance, attributes, client, kubeconfig, unique};

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

async fn api<K>() -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
{
    Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "default")
}

/// Creates the object as `kubectl apply` does it without `--server-side`.
async fn kubectl_apply<K>(api: &Api<K>, object: &Json)
where
    K: kube::Resource<DynamicType = ()> + serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
{
    let mut annotated = object.clone();
    annotated["metadata"]["annotations"] = json!({ LAST_APPLIED: object.to_string() });
    let manager = Some("kubectl-client-side-apply".to_owned());
    let parameters = PostParams { field_manager: manager, ..PostParams::default() };
    api.create(&parameters, &serde_json::from_value(annotated).unwrap()).await.unwrap();
}

fn config_map(name: &str, data: Json) -> Json {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "default" }, "data": data })
}

fn desired(object: &Json, force: bool) -> Attributes {
    attributes(json!({ "manifest": object, "force_conflicts": force, "wait": false }))
}

async fn keys(api: &Api<ConfigMap>, name: &str) -> Vec<String> {
    api.get(name).await.unwrap().data.unwrap_or_default().into_keys().collect()
}

#[tokio::test]
async fn undeclared_fields_of_kubectl_are_removed_by_the_adoption_and_later() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let api = api::<ConfigMap>().await;
    let name = unique("csa");
    kubectl_apply(&api, &config_map(&name, json!({ "a": "1", "b": "2", "c": "3" }))).await;
    let foreign = Patch::Merge(json!({ "data": { "foreign": "x" } }));
    let other = PatchParams { field_manager: Some("other".to_owned()), ..PatchParams::default() };
    api.patch(&name, &other, &foreign).await.unwrap();

    instance.bring(&desired(&config_map(&name, json!({ "a": "1", "b": "2" })), false)).await;
    assert_eq!(keys(&api, &name).await, ["a", "b", "foreign"], "the adoption removes c");

    let less = desired(&config_map(&name, json!({ "a": "1" })), false);
    assert_eq!(instance.bring(&less).await.action, ProposedAction::Update);
    assert_eq!(keys(&api, &name).await, ["a", "foreign"]);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_port_of_kubectl_is_removed_before_another_is_added() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let api = api::<Service>().await;
    let name = unique("port");
    let service = |port: u16| {
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "default" },
            "spec": { "selector": { "a": "b" }, "ports": [{ "name": "http", "port": port }] } })
    };
    kubectl_apply(&api, &service(2000)).await;
    let proposal = instance.apply(&desired(&service(2001), true)).await.unwrap();
    assert!(proposal.notes.iter().any(|note| note.contains("first takes over and removes")), "{:?}", proposal.notes);
    let ports = api.get(&name).await.unwrap().spec.unwrap().ports.unwrap();
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [2001]);
    instance.is_settled(&desired(&service(2001), true)).await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn removing_a_field_of_another_manager_is_a_conflict() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let api = api::<ConfigMap>().await;
    let name = unique("held");
    instance.bring(&desired(&config_map(&name, json!({ "a": "1", "b": "2" })), false)).await;
    // Another tool applies the same value, so both own the field.
    let helm = PatchParams::apply("helm");
    api.patch(&name, &helm, &Patch::Apply(config_map(&name, json!({ "b": "2" })))).await.unwrap();

    let less = |force| desired(&config_map(&name, json!({ "a": "1" })), force);
    let conflict = instance.plan(&less(false)).await.unwrap_err();
    assert_eq!(conflict.class, Class::Conflict);
    assert_eq!(conflict.summary, format!("cannot remove data.b of ConfigMap/default/{name}: \"helm\" owns it too"));
    assert_eq!(keys(&api, &name).await, ["a", "b"]);
    instance.bring(&less(true)).await;
    assert_eq!(keys(&api, &name).await, ["a"]);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn the_second_plan_is_empty_for_fields_that_the_server_drops_or_fills() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("drops");
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": name, "namespace": "kube-system", "labels": {}, "creationTimestamp": null },
        "aggregationRule": { "clusterRoleSelectors": [{ "matchLabels": { "moorfast-test": name } }] }, "rules": [] });
    let wanted = attributes(json!({ "manifest": role }));
    instance.apply(&wanted).await.unwrap();
    let (again, _) = instance.plan(&wanted).await.unwrap();
    assert_eq!(again.action, ProposedAction::NoOp, "{:?} {:?}", again.planned, again.notes);
    assert!(again.planned["manifest"].as_map().unwrap()["metadata"].as_map().unwrap().get("namespace").is_none());
    assert_eq!(instance.drift().await, Vec::<String>::new());

    let mut filled = role;
    filled["rules"] = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] }]);
    let refused = instance.plan(&attributes(json!({ "manifest": filled }))).await.unwrap_err();
    assert_eq!(refused.class, Class::Invalid);
    assert!(refused.summary.ends_with("fills its rules; remove `rules`"), "{refused:?}");
    instance.destroy().await.unwrap();
    assert_eq!(instance.read(Some(&wanted)).await, Ok(None));
}
