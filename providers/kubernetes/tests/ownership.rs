//! Fields with several managers, on a real API server.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod harness;

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::apps::v1::Deployment;
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

/// An autoscaler owns `spec.replicas` through the subresource `scale`: a manifest that no longer declares the field leaves it to the autoscaler.
#[tokio::test]
async fn replicas_without_a_declaration_stay_with_the_autoscaler() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let api = api::<Deployment>().await;
    let name = unique("scaled");
    let deployment = |replicas: Option<u32>| {
        let mut object = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name, "namespace": "default" },
            "spec": { "selector": { "matchLabels": { "app": name } }, "template": { "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{ "name": "c", "image": "c" }] } } } });
        if let Some(replicas) = replicas {
            object["spec"]["replicas"] = json!(replicas);
        }
        desired(&object, false)
    };
    instance.bring(&deployment(Some(2))).await;
    let autoscaler = PatchParams { field_manager: Some("autoscaler".to_owned()), ..PatchParams::default() };
    api.patch_scale(&name, &autoscaler, &Patch::Merge(json!({ "spec": { "replicas": 5 } }))).await.unwrap();
    instance.bring(&deployment(Some(5))).await;

    let (plan, observed) = instance.plan(&deployment(None)).await.unwrap();
    assert_eq!(plan.planned, observed.unwrap().attributes, "the plan shows no removal");
    assert_eq!(plan.action, ProposedAction::Update);
    let note =
        format!("Deployment/default/{name}: moorfast no longer manages spec.replicas, which stays with \"autoscaler\"");
    assert_eq!(plan.notes, [note]);
    instance.bring(&deployment(None)).await;
    assert_eq!(api.get(&name).await.unwrap().spec.unwrap().replicas, Some(5));
    api.patch_scale(&name, &autoscaler, &Patch::Merge(json!({ "spec": { "replicas": 3 } }))).await.unwrap();
    instance.is_settled(&deployment(None)).await;
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}

/// A field that another manager fills later is not drift, if the manifest declares it empty or not at all.
#[tokio::test]
async fn a_certificate_that_a_controller_injects_is_not_a_difference() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client(&kubeconfig, |_| {}).await);
    for (case, declared) in [("absent", None), ("null", Some(Json::Null)), ("empty", Some(json!("")))] {
        let mut instance = Instance::new("kubernetes_object").await.unwrap();
        let name = unique(case);
        let mut object = webhook(&name);
        if let Some(declared) = declared {
            object["webhooks"][0]["clientConfig"]["caBundle"] = declared;
        }
        instance.bring(&desired(&object, false)).await;
        let (injector, patch) = ca_injection();
        api.patch(&name, &injector, &patch).await.unwrap();
        instance.is_settled(&desired(&object, false)).await;
        instance.destroy().await.unwrap();
    }
}

/// Returns a webhook without `caBundle`.
fn webhook(name: &str) -> Json {
    json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "metadata": { "name": name },
        "webhooks": [{ "name": "a.example.org", "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": { "service": { "name": "s", "namespace": "default" } },
            "rules": [{ "apiGroups": ["none.example.org"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["nones"] }] }] })
}

/// Returns how a ca-injector fills the `caBundle` of a webhook.
fn ca_injection() -> (PatchParams, Patch<Json>) {
    let certificate =
        rcgen::CertificateParams::default().self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let bundle = k8s_openapi::ByteString(certificate.into_bytes());
    let injected = json!([{ "op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": bundle }]);
    let injector = PatchParams { field_manager: Some("ca-injector".to_owned()), ..PatchParams::default() };
    (injector, Patch::Json(serde_json::from_value(injected).unwrap()))
}

/// A field that the manifest declares empty, and that another manager filled before the adoption, is a conflict. After `force_conflicts` it is no
/// difference that this manager fills it again.
#[tokio::test]
async fn a_field_that_is_declared_empty_and_filled_before_the_adoption_is_a_conflict() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let api: Api<ValidatingWebhookConfiguration> = Api::all(client(&kubeconfig, |_| {}).await);
    for (case, by_kubectl) in [("kubectl", true), ("helm", false)] {
        let mut instance = Instance::new("kubernetes_object").await.unwrap();
        let name = unique(case);
        let mut object = webhook(&name);
        object["webhooks"][0]["clientConfig"]["caBundle"] = json!("");
        if by_kubectl {
            kubectl_apply(&api, &object).await;
        } else {
            let helm = PatchParams::apply("helm");
            api.patch(&name, &helm, &Patch::Apply(&object)).await.unwrap();
        }
        let (injector, patch) = ca_injection();
        api.patch(&name, &injector, &patch).await.unwrap();
        let conflict = instance.plan(&desired(&object, false)).await.unwrap_err();
        assert_eq!(conflict.class, Class::Conflict, "{conflict:?}");
        assert!(format!("{conflict:?}").contains("ca-injector"), "{case}: {conflict:?}");
        instance.bring(&desired(&object, true)).await;
        api.patch(&name, &injector, &patch).await.unwrap();
        instance.is_settled(&desired(&object, true)).await;
        instance.destroy().await.unwrap();
    }
}

/// A field that the schema of a CustomResourceDefinition does not have is an error of the plan, not a plan that is never empty.
#[tokio::test]
async fn a_field_that_the_api_server_would_prune_is_an_error() {
    let Some(mut definition) = Instance::new("kubernetes_object").await else { return };
    let group = format!("{}.example.org", unique("g"));
    let schema = json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
        "size": { "type": "integer" },
        "items": { "type": "array", "items": { "type": "object", "properties": { "name": { "type": "string" } } } },
        "template": { "type": "object", "x-kubernetes-embedded-resource": true, "properties": { "spec": { "type": "object" } } } } } } });
    definition.bring(&attributes(json!({ "manifest": {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": format!("pots.{group}") },
        "spec": { "group": group, "scope": "Namespaced", "names": { "kind": "Pot", "plural": "pots" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": schema } }] } } }))).await;
    let name = unique("pot");
    let pot = |spec: Json| {
        let object = json!({ "apiVersion": format!("{group}/v1"), "kind": "Pot", "metadata": { "name": name, "namespace": "default" }, "spec": spec });
        desired(&object, false)
    };
    for (spec, field) in [
        (json!({ "size": 1, "colour": "red" }), "colour"),
        (json!({ "items": [{ "name": "a", "colour": "red" }] }), "colour"),
        (
            json!({ "template": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x" }, "spec": { "colour": "red" } } }),
            "colour",
        ),
        (
            json!({ "template": { "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "x", "colour": "red" } } }),
            "colour",
        ),
    ] {
        let mut instance = Instance::on(definition.connection.clone(), "kubernetes_object");
        let planned = instance.plan(&pot(spec.clone())).await;
        let error = planned.unwrap_err();
        assert_eq!(error.class, Class::Invalid, "{error:?}");
        assert!(error.summary.contains(field) || error.detail.iter().any(|line| line.contains(field)), "{error:?}");
        instance.destroy().await.unwrap();
    }
    let mut instance = Instance::on(definition.connection.clone(), "kubernetes_object");
    instance.bring(&pot(json!({ "size": 1, "items": [{ "name": "a" }] }))).await;
    instance.destroy().await.unwrap();
    definition.destroy().await.unwrap();
}
