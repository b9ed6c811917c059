//! `kubernetes_object` against a real API server.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod harness;

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{
    Action, Class, Dependency, Operation, OperationAction, ProposedAction, ReadRequest, Target,
};
use serde_json::json;

use harness::{Instance, attributes, client, kubeconfig, resource_type, unique};

fn config_map(name: &str, data: serde_json::Value) -> moorfast_engine::model::Attributes {
    attributes(
        json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": data } }),
    )
}

/// Returns a dependency that is created before the instance.
fn dependency(address: &str, desired: &Attributes) -> Dependency {
    let action = Some(Action::Create);
    Dependency { address: address.parse().unwrap(), action, objects: Vec::new(), desired: desired.clone() }
}

async fn config_maps() -> Api<ConfigMap> {
    Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "default")
}

fn as_other(manager: &str) -> PatchParams {
    PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() }
}

#[tokio::test]
async fn an_object_follows_its_manifest() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("life");
    let api = config_maps().await;

    let made = instance.bring(&config_map(&name, json!({ "a": "1", "b": "2" }))).await;
    assert_eq!(made.action, ProposedAction::Create);
    assert_eq!(api.get(&name).await.unwrap().data.unwrap().len(), 2);

    // Fields that others add are not drift.
    let theirs = Patch::Merge(json!({ "metadata": { "labels": { "theirs": "x" } }, "data": { "theirs": "3" } }));
    api.patch(&name, &as_other("other"), &theirs).await.unwrap();
    instance.is_settled(&config_map(&name, json!({ "a": "1", "b": "2" }))).await;

    // A field removed from the manifest appears in the plan and is removed.
    let (plan, observed) = instance.plan(&config_map(&name, json!({ "a": "1" }))).await.unwrap();
    assert_eq!(plan.action, ProposedAction::Update);
    let data = |v: &moorfast_engine::model::Attributes| v["manifest"].as_map().unwrap()["data"].as_map().unwrap().len();
    assert_eq!((data(&observed.unwrap().attributes), data(&plan.planned)), (2, 1));
    instance.bring(&config_map(&name, json!({ "a": "1" }))).await;
    let left = api.get(&name).await.unwrap().data.unwrap();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["a", "theirs"]);

    // A change of a declared field is drift, and a conflict without `force_conflicts`.
    api.patch(&name, &as_other("intruder"), &Patch::Merge(json!({ "data": { "a": "9" } }))).await.unwrap();
    assert_eq!(instance.drift().await, ["manifest"]);
    let conflict = instance.plan(&config_map(&name, json!({ "a": "1" }))).await.unwrap_err();
    assert_eq!(conflict.class, Class::Conflict);
    assert!(conflict.summary.contains("\"intruder\"") && conflict.detail[0].starts_with("data.a"), "{conflict:?}");
    let mut forced = config_map(&name, json!({ "a": "1" }));
    forced.insert("force_conflicts".to_owned(), Value::Bool(true));
    assert_eq!(instance.bring(&forced).await.action, ProposedAction::Update);
    assert_eq!(api.get(&name).await.unwrap().data.unwrap()["a"], "1");

    // Deleted outside moorfast.
    api.delete(&name, &DeleteParams::default()).await.unwrap();
    assert_eq!(instance.drift().await, ["gone"]);
    assert_eq!(instance.bring(&forced).await.action, ProposedAction::Create);

    instance.destroy().await.unwrap();
    assert!(api.get_opt(&name).await.unwrap().is_none());
    // Deleting a missing object succeeds.
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn hundreds_of_objects_are_read_in_pages() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let connection = harness::connect(json!({ "kubeconfig": kubeconfig })).await;
    let prefix = unique("many");
    let desired: Vec<_> =
        (0..600).map(|i| config_map(&format!("{prefix}-{i}"), json!({ "i": i.to_string() }))).collect();
    let address = |i: usize| format!("kubernetes_object.x{i}").parse().unwrap();
    let target = Target::Provider("kubernetes".to_owned());
    let operations = desired.iter().enumerate().map(|(i, desired)| Operation {
        address: address(i),
        resource_type: resource_type("kubernetes_object"),
        action: OperationAction::Create(desired.clone()),
        recorded: None,
        observed: None,
        triggers: Vec::new(),
        objects: Vec::new(),
        consequences: Vec::new(),
        machine_gone: false,
        drain: None,
        timeout: None,
    });
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    connection.apply(&target, &operations.collect::<Vec<_>>(), sender).await;
    while let Some((_, outcome)) = receiver.recv().await {
        outcome.unwrap();
    }

    let requests = desired.iter().enumerate().map(|(i, desired)| ReadRequest {
        address: address(i),
        resource_type: resource_type("kubernetes_object"),
        desired: Some(desired.clone()),
        recorded: None,
    });
    let before = connection.statistics()[0].1;
    let readings = connection.read(&target, &requests.collect::<Vec<_>>()).await;
    assert!(readings.iter().all(|r| r.as_ref().unwrap().is_some()));
    let sent = connection.statistics()[0].1 - before;
    assert!(sent <= 4, "{sent} requests");

    let api = config_maps().await;
    for i in 0..600 {
        api.delete(&format!("{prefix}-{i}"), &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn an_object_that_did_not_become_ready_is_waited_for_again() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("slow");
    let api = config_maps().await;
    let mut desired = config_map(&name, json!({ "a": "1" }));
    desired.insert("wait".to_owned(), Value::from(json!({ "jsonpath": "{.data.theirs}=done" })));
    instance.timeout = Duration::from_secs(1);
    assert_eq!(instance.apply(&desired).await.unwrap_err().class, Class::Timeout);
    instance.remember_failure(&desired);
    let (plan, _) = instance.plan(&desired).await.unwrap();
    assert_eq!(plan.action, ProposedAction::Update);
    assert_eq!(plan.notes, ["is applied and waited for again, because the last operation failed"]);
    assert_eq!(instance.apply(&desired).await.unwrap_err().class, Class::Timeout);

    api.patch(&name, &as_other("other"), &Patch::Merge(json!({ "data": { "theirs": "done" } }))).await.unwrap();
    assert_eq!(instance.bring(&desired).await.action, ProposedAction::Update);
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn a_retained_value_keeps_its_live_value() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("retained");
    let desired = |a: &str, token: Value| {
        let mut desired = config_map(&name, json!({}));
        let Some(Value::Map(manifest)) = desired.get_mut("manifest") else { panic!() };
        let data = [("a".to_owned(), Value::from(a)), ("token".to_owned(), token.sensitive())];
        manifest.insert("data".to_owned(), Value::Map(data.into()));
        desired
    };
    instance.bring(&desired("1", Value::from("s3cr3t"))).await;
    assert_eq!(instance.bring(&desired("1", Value::Retained)).await.action, ProposedAction::NoOp);
    assert_eq!(instance.bring(&desired("2", Value::Retained)).await.action, ProposedAction::Update);
    let api = config_maps().await;
    let data = api.get(&name).await.unwrap().data.unwrap();
    assert_eq!((data["a"].as_str(), data["token"].as_str()), ("2", "s3cr3t"));

    api.delete(&name, &DeleteParams::default()).await.unwrap();
    let error = instance.plan(&desired("2", Value::Retained)).await.unwrap_err();
    assert!(error.summary.contains("does not have it any more"), "{error:?}");
}

#[tokio::test]
async fn an_existing_object_is_adopted_once() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("adopt");
    let api = config_maps().await;
    let theirs = json!({ "metadata": { "name": name }, "data": { "a": "1" } });
    api.create(&Default::default(), &serde_json::from_value(theirs).unwrap()).await.unwrap();

    let taken = instance.bring(&config_map(&name, json!({ "a": "1" }))).await;
    assert_eq!(taken.action, ProposedAction::Update);
    assert!(taken.notes[0].contains("moorfast becomes the manager"), "{:?}", taken.notes);
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn normalized_values_and_defaults_are_not_differences() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("web");
    let desired = attributes(json!({
        "wait": false,
        "manifest": {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": name },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "app": name } },
                "template": {
                    "metadata": { "labels": { "app": name } },
                    "spec": { "containers": [
                        { "name": "b", "image": "b", "resources": { "requests": { "cpu": "1000m", "memory": "1024Mi" } }, "ports": [{ "containerPort": 80 }] },
                        { "name": "a", "image": "a", "env": [{ "name": "X", "value": "1" }] },
                    ] },
                },
            },
        },
    }));
    instance.bring(&desired).await;

    let mut moved = desired.clone();
    let manifest = &mut moved.get_mut("manifest").unwrap().to_json().unwrap();
    manifest["spec"]["selector"]["matchLabels"]["more"] = json!("x");
    manifest["spec"]["template"]["metadata"]["labels"]["more"] = json!("x");
    moved.insert("manifest".to_owned(), Value::from(manifest.clone()));
    let plan = instance.bring(&moved).await;
    assert_eq!(plan.action, ProposedAction::Replace(vec!["manifest.spec.selector".to_owned()]));
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn a_secret_is_never_shown() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("secret");
    let desired = |password: &str| {
        attributes(
            json!({ "manifest": { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": { "password": password } } }),
        )
    };
    instance.bring(&desired("hunter2")).await;
    let record = serde_json::to_string(&*instance.record.clone().unwrap()).unwrap();
    assert!(!record.contains("hunter2") && !record.contains("aHVudGVyMg"), "{record}");
    let plan = instance.bring(&desired("other")).await;
    assert_eq!(plan.action, ProposedAction::Update);
    assert!(!format!("{plan:?}").contains("b3RoZXI"));
    let api: Api<Secret> = Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "default");
    assert_eq!(api.get(&name).await.unwrap().data.unwrap()["password"].0, b"other");

    let read = instance
        .data("kubernetes_object", json!({ "api_version": "v1", "kind": "Secret", "name": name }))
        .await
        .unwrap();
    assert!(!format!("{read:?}").contains("b3RoZXI"));
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn documents_are_created_replaced_and_deleted_one_by_one() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let (a, b, c) = (unique("doc"), unique("doc"), unique("doc"));
    let binding = |name: &str, role: &str| {
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\n\
             subjects: [{{kind: Group, name: 'system:{name}'}}]\n"
        )
    };
    let yaml = |parts: &[String]| attributes(json!({ "yaml": parts.concat() }));
    let made = instance.bring(&yaml(&[binding(&a, "view"), binding(&b, "view")])).await;
    assert_eq!(made.planned["objects"].as_map().unwrap().len(), 2);

    let plan = instance.bring(&yaml(&[binding(&a, "edit"), binding(&c, "view")])).await;
    assert_eq!(plan.action, ProposedAction::Update);
    let found = |name: &str| plan.objects.iter().find(|o| o.name == format!("ClusterRoleBinding/{name}")).unwrap();
    let forced_by = format!("objects[\"ClusterRoleBinding/{a}\"].roleRef");
    assert_eq!((found(&a).action, found(&a).replace_paths.as_slice()), (Action::Replace, [forced_by].as_slice()));
    assert_eq!((found(&b).action, found(&c).action), (Action::Delete, Action::Create));
    let api: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> =
        Api::all(client(&kubeconfig().unwrap(), |_| {}).await);
    assert_eq!(api.get(&a).await.unwrap().role_ref.name, "edit");
    assert!(api.get_opt(&b).await.unwrap().is_none());

    // If one of two objects is missing, drift shows it and the apply creates it.
    api.delete(&c, &DeleteParams::default()).await.unwrap();
    assert_eq!(instance.drift().await, ["objects"]);
    instance.bring(&yaml(&[binding(&a, "edit"), binding(&c, "view")])).await;
    instance.destroy().await.unwrap();
    assert!(api.get_opt(&a).await.unwrap().is_none() && api.get_opt(&c).await.unwrap().is_none());
}

#[tokio::test]
async fn a_definition_and_its_object_a_namespace_and_its_object() {
    let Some(mut crd) = Instance::new("kubernetes_object").await else { return };
    let group = format!("{}.example.org", unique("g"));
    let mut widget = Instance::on(crd.connection.clone(), "kubernetes_object");
    let definition = attributes(json!({ "manifest": {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": { "name": format!("widgets.{group}") },
        "spec": {
            "group": group, "scope": "Namespaced", "names": { "kind": "Widget", "plural": "widgets" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
                "type": "object", "properties": { "spec": { "type": "object", "properties": { "size": { "type": "integer", "default": 3 } } } } } } }],
        },
    } }));
    let object = attributes(
        json!({ "manifest": { "apiVersion": format!("{group}/v1"), "kind": "Widget", "metadata": { "name": "w" }, "spec": {} } }),
    );

    let unknown = widget.plan(&object).await.unwrap_err();
    assert!(unknown.summary.contains("does not serve Widget") && unknown.summary.contains("nothing in the manifest"));
    widget.dependencies = vec![dependency("kubernetes_object.definition", &definition)];
    let (plan, _) = widget.plan(&object).await.unwrap();
    assert_eq!(plan.action, ProposedAction::Create);
    assert!(plan.notes[0].contains("Widget/default/w") && plan.notes[0].contains("does not serve"), "{:?}", plan.notes);
    let refused = widget.apply(&object).await.unwrap_err();
    assert_eq!(refused.class, Class::Invalid);
    crd.bring(&definition).await;
    widget.bring(&object).await;

    let namespace = unique("ns");
    let mut space = Instance::on(crd.connection.clone(), "kubernetes_object");
    let mut inside = Instance::on(crd.connection.clone(), "kubernetes_object");
    let in_space = attributes(
        json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": namespace, "finalizers": ["example.org/hold"] } } }),
    );
    let unknown = inside.plan(&in_space).await.unwrap_err();
    assert!(unknown.summary.contains(&format!("the namespace {namespace} does not exist")), "{unknown:?}");
    let space_desired = attributes(
        json!({ "manifest": { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } } }),
    );
    inside.dependencies = vec![dependency("kubernetes_object.space", &space_desired)];
    let (plan, _) = inside.plan(&in_space).await.unwrap();
    assert_eq!(
        plan.notes,
        [format!("ConfigMap/{namespace}/c is planned without a dry run: the namespace {namespace} does not exist yet")]
    );
    space.bring(&space_desired).await;
    inside.bring(&in_space).await;

    // A finalizer without a controller blocks the deletion, and the error names it.
    inside.timeout = Duration::from_secs(2);
    let held = inside.destroy().await.unwrap_err();
    assert_eq!(held.class, Class::Timeout);
    assert!(held.summary.contains("blocked by finalizer example.org/hold"), "{held:?}");
    let api: Api<ConfigMap> = Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, &namespace);
    api.patch("c", &as_other("other"), &Patch::Merge(json!({ "metadata": { "finalizers": null } }))).await.unwrap();

    space.destroy().await.unwrap();
    widget.destroy().await.unwrap();
    crd.destroy().await.unwrap();
}

#[tokio::test]
async fn unknown_values_are_planned_and_invalid_ones_are_errors() {
    let Some(instance) = Instance::new("kubernetes_object").await else { return };
    let mut unknown = config_map(&unique("unknown"), json!({}));
    let Some(Value::Map(manifest)) = unknown.get_mut("manifest") else { panic!() };
    manifest.insert("data".to_owned(), Value::Map([("a".to_owned(), Value::Unknown)].into()));
    let (plan, _) = instance.plan(&unknown).await.unwrap();
    assert!(plan.planned["manifest"].is_unknown() && plan.notes[0].contains("known only after apply"), "{plan:?}");

    let mut typo = config_map(&unique("typo"), json!({}));
    let Some(Value::Map(manifest)) = typo.get_mut("manifest") else { panic!() };
    manifest.insert("dta".to_owned(), Value::Map([("a".to_owned(), Value::from("1"))].into()));
    let error = instance.plan(&typo).await.unwrap_err();
    assert_eq!(error.class, Class::Invalid);
    assert!(error.summary.contains("dta"), "{error:?}");

    let invalid = attributes(
        json!({ "manifest": { "apiVersion": "v1", "kind": "Service", "metadata": { "name": "x" }, "spec": { "ports": [{ "port": 0 }] } } }),
    );
    let error = instance.plan(&invalid).await.unwrap_err();
    assert!(error.summary.contains("spec.ports[0].port"), "{error:?}");
}

#[tokio::test]
async fn many_objects_take_few_requests() {
    let Some(first) = Instance::new("kubernetes_object").await else { return };
    let target = moorfast_engine::provider::Target::Provider("kubernetes".to_owned());
    let requests: Vec<_> = (0..50)
        .map(|i| moorfast_engine::provider::ReadRequest {
            address: first.address.clone(),
            resource_type: resource_type("kubernetes_object"),
            desired: Some(config_map(&format!("none-{i}"), json!({}))),
            recorded: None,
        })
        .collect();
    let readings = first.connection.read(&target, &requests).await;
    assert!(readings.iter().all(|r| r == &Ok(None)));
    let sent = first.requests();
    assert!(sent <= 3 + RETRIES, "two of discovery, one list: {sent} requests");
}

/// How many requests a busy API server may refuse, so that they are sent again.
const RETRIES: u64 = 5;

#[tokio::test]
async fn an_object_that_lives_as_declared_has_no_dry_run() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let connection = |full: bool| harness::connect(json!({ "kubeconfig": kubeconfig, "full_dry_run": full }));
    let name = unique("as-declared");
    let document = |kind: &str, number: usize, fields: &str| {
        format!("---\napiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}-{number}, labels: {{a: b}}}}\n{fields}\n")
    };
    let desired = |first: &str| {
        let configs = (1..10).map(|i| document("ConfigMap", i, "data: {a: one}"));
        let secrets = (0..10).map(|i| document("Secret", i, "stringData: {password: hunter2}"));
        let services = (0..10).map(|i| document("Service", i, "spec: {selector: {a: b}, ports: [{port: 80}]}"));
        let first = document("ConfigMap", 0, &format!("data: {{{first}}}"));
        let yaml: String = [first].into_iter().chain(configs).chain(secrets).chain(services).collect();
        attributes(json!({ "yaml": yaml }))
    };
    let mut instance = Instance::on(connection(false).await, "kubernetes_object");
    instance.bring(&desired("a: one")).await;

    let before = instance.requests();
    assert_eq!(instance.plan(&desired("a: one")).await.unwrap().0.action, ProposedAction::NoOp);
    let sent = instance.requests() - before;
    assert!(sent <= 3 + RETRIES, "one list for each kind: {sent} requests");

    let action = async |first: &str| instance.plan(&desired(first)).await.map(|(plan, _)| plan.action);
    assert_eq!(action("a: two").await, Ok(ProposedAction::Update));
    let api = config_maps().await;
    let other = async |data| {
        let patch = Patch::Merge(json!({ "data": data }));
        api.patch(&format!("{name}-0"), &as_other("other"), &patch).await.unwrap();
    };
    other(json!({ "b": "three" })).await;
    assert_eq!(action("a: one").await, Ok(ProposedAction::NoOp), "a field of another manager");
    assert_eq!(action("a: one, b: three").await, Ok(ProposedAction::Update), "moorfast becomes its manager");
    other(json!({ "a": "two" })).await;
    assert_eq!(action("a: one").await.unwrap_err().class, Class::Conflict, "the dry run finds the conflict");
    other(json!({ "a": "one" })).await;

    instance.connection = connection(true).await;
    instance.plan(&desired("a: one")).await.unwrap();
    assert!(instance.requests() >= 30, "thirty dry runs");
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn objects_in_a_namespace_that_the_plan_creates_have_no_dry_run() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("new");
    let namespace =
        attributes(json!({ "manifest": { "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } } }));
    instance.dependencies = vec![dependency("kubernetes_object.namespace", &namespace)];
    let document = |i| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{i}, namespace: {name}}}\n");
    let documents: Vec<_> = (0..30).map(document).collect();
    let (plan, _) = instance.plan(&attributes(json!({ "yaml": (documents.join("---\n")) }))).await.unwrap();
    assert_eq!(plan.notes.len(), 30, "{:?}", plan.notes);
    assert!(plan.notes.iter().all(|note| note.contains("does not exist yet")), "{:?}", plan.notes);
    let sent = instance.requests();
    assert!(sent <= 4 + RETRIES, "two of discovery, one list, one of the namespace: {sent} requests");
}

#[tokio::test]
async fn objects_that_own_nothing_are_deleted_with_one_request_each() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("gone");
    let document = |i| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}-{i}}}\n");
    let documents: Vec<_> = (0..20).map(document).collect();
    instance.bring(&attributes(json!({ "yaml": (documents.join("---\n")) }))).await;
    let before = instance.requests();
    instance.destroy().await.unwrap();
    let sent = instance.requests() - before;
    assert!(sent <= 1 + 20 + RETRIES, "one list, twenty deletions: {sent} requests");
    assert_eq!(config_maps().await.get_opt(&format!("{name}-0")).await.unwrap(), None);
}

/// A killed run can leave objects that are being deleted. The next run must not accept them as existing.
#[tokio::test]
async fn an_object_that_is_being_deleted_is_created_again() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("dying");
    let api = config_maps().await;
    let desired = config_map(&name, json!({ "a": "1" }));
    instance.bring(&desired).await;
    let first = api.get(&name).await.unwrap().metadata.uid;
    let hold = |finalizers| Patch::Merge(json!({ "metadata": { "finalizers": finalizers } }));
    api.patch(&name, &as_other("other"), &hold(json!(["example.org/hold"]))).await.unwrap();
    api.delete(&name, &DeleteParams::default()).await.unwrap();

    let (plan, observed) = instance.plan(&desired).await.unwrap();
    assert_eq!((plan.action, observed), (ProposedAction::Create, None));
    // In either order, the apply waits until the old object is gone.
    let release = async { api.patch(&name, &as_other("other"), &hold(json!(null))).await.unwrap() };
    let (made, _) = tokio::join!(instance.apply(&desired), release);
    made.unwrap();
    let second = api.get(&name).await.unwrap().metadata;
    assert!(second.uid != first && second.deletion_timestamp.is_none(), "{second:?}");
}

fn claim(name: &str, class: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\n\
         spec: {{storageClassName: {class}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}\n"
    )
}

#[tokio::test]
async fn a_claim_is_replaced_only_if_the_plan_shows_it() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let (name, other) = (unique("claim"), unique("beside"));
    let config = format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {other}}}\n");
    let desired = |class: &str| attributes(json!({ "yaml": claim(&name, class) + &config, "wait": false }));
    let api: Api<k8s_openapi::api::core::v1::PersistentVolumeClaim> =
        Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "default");
    let uid = || async { api.get(&name).await.unwrap().metadata.uid };
    instance.bring(&desired("fast")).await;
    let first = uid().await;

    // An update that turns out to be a replacement is refused.
    let observed = instance.read(Some(&desired("slow"))).await.unwrap();
    let refused = instance.operate(OperationAction::Update(desired("slow")), observed.clone()).await.unwrap_err();
    assert!(refused.help.as_ref().is_some_and(|help| help.contains("plan again")), "{refused:?}");
    let shorter = attributes(json!({ "yaml": config, "wait": false }));
    let refused = instance.operate(OperationAction::Update(shorter), observed).await.unwrap_err();
    assert!(refused.summary.contains(&format!("did not delete PersistentVolumeClaim/default/{name}")), "{refused:?}");
    assert_eq!(uid().await, first);

    let plan = instance.bring(&desired("slow")).await;
    let object = &plan.objects[0];
    let forced_by = [format!("objects[\"PersistentVolumeClaim/default/{name}\"].spec")];
    assert_eq!((plan.action, object.action), (ProposedAction::Update, Action::Replace));
    assert_eq!((object.replace_paths.as_slice(), plan.objects[1].action), (forced_by.as_slice(), Action::NoOp));
    assert_ne!(uid().await, first);

    // A single document makes the whole instance a replacement.
    let alone = attributes(json!({ "yaml": claim(&name, "other"), "wait": false }));
    let plan = instance.bring(&attributes(json!({ "yaml": claim(&name, "slow"), "wait": false }))).await;
    assert_eq!(plan.objects[1].action, Action::Delete);
    let (plan, _) = instance.plan(&alone).await.unwrap();
    assert_eq!(plan.action, ProposedAction::Replace(forced_by.to_vec()));
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn the_objects_of_a_replaced_definition_are_created_again() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let group = format!("{}.example.org", unique("g"));
    let desired = |scope: &str| {
        let definition = format!(
            "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: pots.{group}}}\nspec:\n  group: {group}\n  \
             names: {{kind: Pot, plural: pots}}\n  scope: {scope}\n  versions:\n  - {{name: v1, served: true, storage: true, schema: {{openAPIV3Schema: \
             {{type: object, x-kubernetes-preserve-unknown-fields: true}}}}}}\n"
        );
        let pot = format!("apiVersion: {group}/v1\nkind: Pot\nmetadata: {{name: one}}\n---\n");
        attributes(json!({ "yaml": pot + &definition, "wait": false }))
    };
    let made = instance.bring(&desired("Namespaced")).await;
    assert!(made.planned["objects"].as_map().unwrap().contains_key("Pot/default/one"), "{:?}", made.planned);

    let plan = instance.bring(&desired("Cluster")).await;
    let actions: Vec<_> = plan.objects.iter().map(|o| (o.name.as_str(), o.action)).collect();
    let definition = format!("CustomResourceDefinition/pots.{group}");
    assert_eq!(actions[..2], [("Pot/one", Action::Create), (definition.as_str(), Action::Replace)]);
    instance.destroy().await.unwrap();
}

#[tokio::test]
async fn an_unknown_kind_or_namespace_is_an_error_of_the_plan() {
    let Some(mut instance) = Instance::new("kubernetes_object").await else { return };
    let name = unique("nowhere");
    let object = |api_version: &str, kind: &str, namespace: &str| {
        let metadata = json!({ "name": name, "namespace": namespace });
        attributes(json!({ "manifest": { "apiVersion": api_version, "kind": kind, "metadata": metadata } }))
    };
    let cases = [
        (object("v1", "Configmap", "default"), "did you mean ConfigMap of v1?"),
        (object("extensions/v1beta1", "Deployment", "default"), "did you mean Deployment of apps/v1?"),
        (object("example.org/v1", "Quux", "default"), "add the CustomResourceDefinition"),
        (object("v1", "ConfigMap", "defalut"), "did you mean `default`?"),
        (object("v1", "ConfigMap", "nobody-makes-it"), "add the Namespace to the manifest"),
    ];
    for (desired, help) in &cases {
        let error = instance.plan(desired).await.unwrap_err();
        assert_eq!(error.class, Class::Invalid, "{error:?}");
        assert!(error.help.as_ref().is_some_and(|found| found.contains(help)), "{error:?}");
    }
    // The namespace is checked for an object with unknown values, and for a kind that the manifest defines.
    let mut unknown = object("v1", "ConfigMap", "nobody-makes-it");
    let Some(Value::Map(manifest)) = unknown.get_mut("manifest") else { panic!() };
    manifest.insert("data".to_owned(), Value::Map([("a".to_owned(), Value::Unknown)].into()));
    assert!(instance.plan(&unknown).await.unwrap_err().summary.contains("nobody-makes-it does not exist"));
    let definition = json!({ "manifest": { "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "quuxes.example.org" }, "spec": { "group": "example.org", "names": { "kind": "Quux" }, "scope": "Namespaced" } } });
    instance.dependencies = vec![dependency("kubernetes_object.definition", &attributes(definition))];
    let error = instance.plan(&object("example.org/v1", "Quux", "nobody-makes-it")).await.unwrap_err();
    assert!(error.summary.contains("the namespace nobody-makes-it does not exist"), "{error:?}");
    assert!(instance.plan(&object("example.org/v1", "Quux", "default")).await.is_ok());

    // A dependency with changes may create both.
    instance.dependencies = vec![dependency("ssh_exec.install[\"n1\"]", &Attributes::new())];
    for desired in [object("example.org/v1", "Quux", "nobody-makes-it"), object("v1", "ConfigMap", "nobody-makes-it")] {
        assert_eq!(instance.plan(&desired).await.unwrap().0.action, ProposedAction::Create);
    }
    assert!(instance.plan(&cases[0].0).await.is_err(), "no dependency adds kinds to a served group");
}
