//! Tokens, nodes and certificates against a real API server.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod harness;

use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use moorfast_engine::model::{DrainOptions, Value};
use moorfast_engine::provider::{Class, ProposedAction};
use serde_json::{Value as Json, json};

use harness::{Instance, attributes, client, kubeconfig, unique};

async fn nodes() -> Api<Node> {
    Api::all(client(&kubeconfig().unwrap(), |_| {}).await)
}

async fn register(name: &str, ready: bool) {
    let api = nodes().await;
    let node: Node = serde_json::from_value(
        json!({ "metadata": { "name": name }, "spec": { "taints": [{ "key": "theirs", "effect": "NoSchedule" }] } }),
    )
    .unwrap();
    api.create(&PostParams::default(), &node).await.unwrap();
    set_ready(name, ready).await;
}

async fn set_ready(name: &str, ready: bool) {
    let now = jiff::Timestamp::now().to_string();
    let status = if ready { "True" } else { "False" };
    let condition = json!({ "type": "Ready", "status": status, "reason": "Test", "message": "cni plugin not initialized", "lastHeartbeatTime": now, "lastTransitionTime": now });
    let patch = Patch::Merge(json!({ "status": { "conditions": [condition] } }));
    nodes().await.patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_node_is_healthy_once_its_kubelet_renews_its_lease() {
    let Some(instance) = Instance::new("kubernetes_node").await else { return };
    let node = unique("lease");
    let wanted = attributes(json!({ "name": node }));
    let soon = Duration::from_secs(3);
    let reason = async || instance.wait_until_healthy(&wanted, soon).await.unwrap_err().summary;
    assert!(reason().await.contains("no Node object"));
    register(&node, true).await;
    assert!(reason().await.contains("its kubelet has no Lease"));

    let leases: Api<Lease> = Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "kube-node-lease");
    let renew = async || {
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": node }, "spec": { "renewTime": format!("{:.6}", jiff::Timestamp::now()) } });
        leases.patch(&node, &PatchParams::apply("kubelet"), &Patch::Apply(lease)).await.unwrap();
    };
    renew().await;
    // A dead kubelet leaves a Ready Node and an old Lease behind.
    assert!(reason().await.contains("its kubelet has not renewed its Lease since"), "{}", reason().await);
    let renewals = async {
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            renew().await;
        }
    };
    tokio::select! {
        healthy = instance.wait_until_healthy(&wanted, Duration::from_secs(30)) => healthy.unwrap(),
        () = renewals => {}
    }
    set_ready(&node, false).await;
    assert!(reason().await.contains("cni plugin not initialized"));
    leases.delete(&node, &DeleteParams::default()).await.unwrap();
    nodes().await.delete(&node, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_replaced_token_is_created_for_a_node_that_joined() {
    let Some(mut instance) = Instance::new("kubernetes_bootstrap_token").await else { return };
    let node = unique("rejoin");
    let wanted = attributes(json!({ "node": node }));
    register(&node, true).await;
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::NoOp, "it joined without one");

    let secrets: Api<Secret> = Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "kube-system");
    let of_node = ListParams::default().labels(&format!("moorfast.dev/node={node}"));
    let count = async || secrets.list(&of_node).await.unwrap().items.len();
    assert_eq!(count().await, 0);

    // `--replace` deletes and creates, and knows of no token.
    instance.replace(&wanted).await.unwrap();
    assert_eq!(count().await, 1);
    instance.is_settled(&wanted).await;

    // The delete of another replacement was done, and the create failed.
    instance.destroy().await.unwrap();
    instance.remember_failure(&wanted);
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::Create);
    assert_eq!(count().await, 1);

    // The node joined, so a missing token is not a change.
    secrets.delete_collection(&DeleteParams::default(), &of_node).await.unwrap();
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::NoOp);
    nodes().await.delete(&node, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_missing_token_is_created_until_its_node_joins() {
    let Some(mut instance) = Instance::new("kubernetes_bootstrap_token").await else { return };
    let node = unique("token");
    let wanted = attributes(
        json!({ "node": node, "description": "kubelet-bootstrap-token", "ttl": "24h", "usages": ["signing", "authentication"] }),
    );
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::Create);
    let token = instance.read(Some(&wanted)).await.unwrap().unwrap().attributes["token"].as_str().unwrap().to_owned();
    assert!(
        !serde_json::to_string(&*instance.record.clone().unwrap()).unwrap().contains(token.split_once('.').unwrap().1)
    );

    // The API server accepts the token, with its groups.
    let by_token = client(&kubeconfig().unwrap(), |config| {
        config.auth_info = Default::default();
        config.auth_info.token = Some(token.clone().into());
    })
    .await;
    let review: k8s_openapi::api::authentication::v1::SelfSubjectReview = Default::default();
    let who =
        Api::all(by_token).create(&PostParams::default(), &review).await.unwrap().status.unwrap().user_info.unwrap();
    assert_eq!(who.username.unwrap(), format!("system:bootstrap:{}", &token[..6]));
    assert!(who.groups.unwrap().contains(&format!("system:bootstrappers:{node}")));

    // After a crash before the record was written, the token is found again.
    let record = instance.record.take();
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::NoOp);
    instance.record = record;

    let mut changed = wanted.clone();
    changed.insert("description".to_owned(), Value::from("another"));
    assert_eq!(instance.bring(&changed).await.action, ProposedAction::Update);

    // A token that expires before the node joins is replaced, like a missing one.
    let secrets: Api<Secret> = Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "kube-system");
    let of_node = ListParams::default().labels(&format!("moorfast.dev/node={node}"));
    let name = secrets.list(&of_node).await.unwrap().items.remove(0).metadata.name.unwrap();
    let expired = json!({ "stringData": { "expiration": "2020-01-01T00:00:00Z" } });
    secrets.patch(&name, &PatchParams::default(), &Patch::Merge(expired)).await.unwrap();
    assert_eq!(instance.drift().await, ["gone"]);
    assert_eq!(instance.bring(&changed).await.action, ProposedAction::Create);
    assert_eq!(secrets.list(&of_node).await.unwrap().items.len(), 1);

    // A token that disappears after the node joined is neither a change nor drift.
    register(&node, true).await;
    let name = secrets.list(&of_node).await.unwrap().items.remove(0).metadata.name.unwrap();
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    let (plan, observed) = instance.plan(&changed).await.unwrap();
    assert_eq!(plan.action, ProposedAction::NoOp);
    assert!(plan.planned["token"].is_retained() && plan.planned["token"].is_sensitive());
    let drifted = instance.drift().await;
    assert_eq!(drifted, ["token"], "which is retained: {:?}", observed.unwrap().attributes["token"]);

    // The same without a record: nothing is created.
    instance.record = None;
    let (plan, _) = instance.plan(&wanted).await.unwrap();
    assert_eq!(plan.action, ProposedAction::NoOp);
    assert!(plan.planned["token"].is_retained());

    nodes().await.delete(&node, &DeleteParams::default()).await.unwrap();
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::Create);
    instance.destroy().await.unwrap();
    assert!(secrets.list(&of_node).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_kubeconfig_changes_with_its_inputs() {
    let Some(mut instance) = Instance::new("kubernetes_kubeconfig").await else { return };
    let mut wanted = attributes(
        json!({ "server": "https://10.0.0.1:6443", "cluster": "kubernetes", "user": "kubelet-bootstrap", "context": "default" }),
    );
    wanted.insert("token".to_owned(), Value::from("07401b.f395accd246ae52d").sensitive());
    assert_eq!(instance.bring(&wanted).await.action, ProposedAction::Create);

    let mut other = wanted.clone();
    other.insert("token".to_owned(), Value::from("07401b.0000000000000000").sensitive());
    let (plan, observed) = instance.plan(&other).await.unwrap();
    assert_eq!(plan.action, ProposedAction::Compare);
    let seal = |a| moorfast_engine::model::seal_attributes(a, &instance.key);
    assert_ne!(seal(&plan.planned), seal(&observed.unwrap().attributes));

    let mut retired = wanted.clone();
    retired.insert("token".to_owned(), Value::Retained.sensitive());
    let (plan, _) = instance.plan(&retired).await.unwrap();
    assert_eq!(plan.action, ProposedAction::NoOp);
    assert!(plan.planned["content"].is_retained());
}

#[tokio::test]
async fn a_node_is_waited_for_labelled_and_deleted() {
    let Some(mut instance) = Instance::new("kubernetes_node").await else { return };
    let name = unique("node");
    let wanted = attributes(
        json!({ "name": name, "labels": { "gpu": "yes" }, "taints": [{ "key": "gpu", "value": "yes", "effect": "NoSchedule" }] }),
    );

    instance.timeout = Duration::from_secs(2);
    let absent = instance.apply(&wanted).await.unwrap_err();
    assert_eq!(absent.class, Class::Timeout);
    assert!(absent.summary.contains("did not become ready in time: no Node object yet"), "{absent:?}");
    assert!(nodes().await.get_opt(&name).await.unwrap().is_none(), "an apply of labels creates no Node");

    register(&name, false).await;
    let unready = instance.apply(&wanted).await.unwrap_err();
    assert!(unready.summary.contains("Ready is False"), "{unready:?}");
    assert!(unready.detail.iter().any(|l| l.contains("cni plugin not initialized")), "{unready:?}");

    set_ready(&name, true).await;
    instance.timeout = Duration::from_secs(20);
    assert_eq!(instance.apply(&wanted).await.unwrap().action, ProposedAction::NoOp);
    instance.is_settled(&wanted).await;
    let node = nodes().await.get(&name).await.unwrap();
    assert_eq!(node.metadata.labels.unwrap()["gpu"], "yes");
    let taints: Vec<_> = node.spec.unwrap().taints.unwrap().into_iter().map(|t| t.key).collect();
    assert!(taints.contains(&"theirs".to_owned()) && taints.contains(&"gpu".to_owned()), "{taints:?}");

    let fewer = attributes(json!({ "name": name }));
    set_ready(&name, true).await;
    assert_eq!(instance.apply(&fewer).await.unwrap().action, ProposedAction::Update);
    let node = nodes().await.get(&name).await.unwrap();
    assert!(node.metadata.labels.is_none_or(|l| !l.contains_key("gpu")));
    assert!(node.spec.unwrap().taints.unwrap().iter().all(|t| t.key != "gpu"));

    instance.destroy().await.unwrap();
    assert!(nodes().await.get_opt(&name).await.unwrap().is_none());
}

#[tokio::test]
async fn a_disruption_budget_blocks_a_drain() {
    let Some(mut node) = Instance::new("kubernetes_node").await else { return };
    let name = unique("drain");
    register(&name, true).await;
    node.bring(&attributes(json!({ "name": name }))).await;
    let pods: Api<Pod> = Api::namespaced(client(&kubeconfig().unwrap(), |_| {}).await, "default");
    let pod = json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": { "nodeName": name, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "tolerations": [{ "operator": "Exists" }], "containers": [{ "name": "c", "image": "c" }] },
    });
    pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
    let running = json!({ "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] } });
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(running)).await.unwrap();
    let mut budget = Instance::on(node.connection.clone(), "kubernetes_object");
    let wanted = json!({ "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": { "name": name },
        "spec": { "maxUnavailable": 0, "selector": { "matchLabels": { "app": name } } } });
    budget.bring(&attributes(json!({ "manifest": wanted }))).await;

    node.timeout = Duration::from_secs(5);
    let timeout = node.timeout;
    node.drain = Some(DrainOptions { timeout, grace_period: None, force: false, delete_emptydir_data: false });
    let kept = node.destroy().await.unwrap_err();
    assert!(kept.summary.contains("no controller would start it again"), "{kept:?}");

    node.drain = None;
    let held = node.destroy().await.unwrap_err();
    assert_eq!(held.class, Class::Timeout);
    assert!(held.summary.contains(&format!("default/{name}: Cannot evict pod")), "{held:?}");
    assert!(nodes().await.get(&name).await.unwrap().spec.unwrap().unschedulable.unwrap());

    budget.destroy().await.unwrap();
    node.timeout = Duration::from_secs(20);
    node.destroy().await.unwrap();
    assert!(nodes().await.get_opt(&name).await.unwrap().is_none());
    assert!(pods.get_opt(&name).await.unwrap().is_none());
}

/// Creates a request as a kubelet does.
async fn request_certificate(node: &str, names: Vec<rcgen::SanType>) -> String {
    let as_node = client(&kubeconfig().unwrap(), |config| {
        config.auth_info.impersonate = Some(format!("system:node:{node}"));
        config.auth_info.impersonate_groups = Some(vec!["system:nodes".to_owned(), "system:authenticated".to_owned()]);
    })
    .await;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("system:node:{node}"));
    params.subject_alt_names = names;
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let request: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": { "generateName": "csr-" },
        "spec": {
            "request": k8s_openapi::ByteString(pem.into_bytes()),
            "signerName": "kubernetes.io/kubelet-serving",
            "usages": ["digital signature", "server auth"],
        },
    }))
    .unwrap();
    Api::all(as_node).create(&PostParams::default(), &request).await.unwrap().metadata.name.unwrap()
}

fn dns(name: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(name.try_into().unwrap())
}

fn ip(address: &str) -> rcgen::SanType {
    rcgen::SanType::IpAddress(address.parse().unwrap())
}

async fn conditions(csr: &str) -> Vec<String> {
    let api: Api<CertificateSigningRequest> = Api::all(client(&kubeconfig().unwrap(), |_| {}).await);
    let status = api.get(csr).await.unwrap().status.unwrap_or_default();
    status.conditions.unwrap_or_default().into_iter().map(|c| c.type_).collect()
}

/// Waits until a new request is newer than `csr`. Creation times have a resolution of one second.
async fn after(csr: &str) {
    let api: Api<CertificateSigningRequest> = Api::all(client(&kubeconfig().unwrap(), |_| {}).await);
    let made = api.get(csr).await.unwrap().metadata.creation_timestamp.unwrap().0;
    while jiff::Timestamp::now().as_second() <= made.as_second() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn only_requests_that_match_the_inventory_are_approved() {
    let Some(mut instance) = Instance::new("kubernetes_certificate_approval").await else { return };
    let node = unique("csr");
    let wanted = attributes(json!({ "node": node, "addresses": ["10.0.0.1"] }));

    // A request with a foreign address is not approved.
    let foreign = request_certificate(&node, vec![dns(&node), ip("10.9.9.9")]).await;
    instance.timeout = Duration::from_secs(4);
    let refused = instance.apply(&wanted).await.unwrap_err();
    assert_eq!(refused.class, Class::Denied);
    assert!(
        refused
            .summary
            .contains(&format!("{foreign}: SAN IP 10.9.9.9 is not an address of {node} in the inventory (10.0.0.1)")),
        "{refused:?}"
    );
    assert_eq!(conditions(&foreign).await, Vec::<String>::new(), "it stays pending");

    after(&foreign).await;
    let good = request_certificate(&node, vec![dns(&node), ip("10.0.0.1")]).await;
    instance.timeout = Duration::from_secs(20);
    let made = instance.bring(&wanted).await;
    assert_eq!(made.action, ProposedAction::Create);
    assert_eq!(conditions(&good).await, ["Approved"]);
    assert_eq!(conditions(&foreign).await, Vec::<String>::new(), "it is still pending");
    assert_eq!(instance.record.as_ref().unwrap().attributes["csr"], json!(good));

    // A renewal appears in the plan and is approved.
    after(&good).await;
    let renewal = request_certificate(&node, vec![dns(&node), ip("10.0.0.1")]).await;
    let plan = instance.bring(&wanted).await;
    assert_eq!((plan.action, plan.notes), (ProposedAction::Update, vec![format!("approves {renewal}")]));
    assert_eq!(conditions(&renewal).await, ["Approved"]);

    instance.destroy().await.unwrap();
    let api: Api<CertificateSigningRequest> = Api::all(client(&kubeconfig().unwrap(), |_| {}).await);
    assert!(api.get_opt(&good).await.unwrap().is_none() && api.get_opt(&renewal).await.unwrap().is_none());
    assert!(api.get_opt(&foreign).await.unwrap().is_some(), "only approved requests are deleted");
    api.delete(&foreign, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_kubelet_config_waits_for_its_node() {
    let Some(mut instance) = Instance::new("kubernetes_kubelet_config").await else { return };
    let wanted = attributes(json!({ "node": unique("none"), "config": "maxPods: 220\n" }));
    let (plan, observed) = instance.plan(&wanted).await.unwrap();
    assert_eq!((plan.action, observed), (ProposedAction::Create, None));
    instance.timeout = Duration::from_secs(2);
    let error = instance.apply(&wanted).await.unwrap_err();
    assert!(error.summary.contains("there is no Node object yet"), "{error:?}");
}

#[tokio::test]
async fn data_sources_read_the_cluster() {
    let Some(instance) = Instance::new("kubernetes_object").await else { return };
    let found = instance.data("kubernetes_objects", json!({ "api_version": "v1", "kind": "Namespace" })).await.unwrap();
    assert!(found["objects"].as_list().unwrap().len() >= 3);
    let token = instance
        .data("kubernetes_service_account_token", json!({ "name": "default", "namespace": "default" }))
        .await
        .unwrap();
    assert!(token["token"].is_sensitive() && token["token"].as_str().unwrap().starts_with("ey"));
    let waited = instance.data("kubernetes_object", json!({ "api_version": "v1", "kind": "Namespace", "name": "default", "wait_for": "{.status.phase}=Active" })).await.unwrap();
    assert_eq!(waited["object"].to_json().unwrap()["metadata"]["managedFields"], Json::Null);
    let error = instance
        .data("kubernetes_object", json!({ "api_version": "v1", "kind": "ConfigMap", "name": "none" }))
        .await
        .unwrap_err();
    assert_eq!(error.summary, "there is no ConfigMap/default/none");
}
