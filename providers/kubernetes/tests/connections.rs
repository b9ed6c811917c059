//! Errors for an API server that cannot be reached or refuses a request.

#![allow(clippy::unwrap_used, reason = "a test panics to fail")]

mod harness;

use moorfast_engine::model::Value;
use moorfast_engine::provider::{Class, OperationAction, ProviderError};
use serde_json::json;

use harness::{Instance, attributes, client, connect, connect_for, kubeconfig, unique};

fn a_config_map() -> moorfast_engine::model::Attributes {
    attributes(json!({ "manifest": { "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "x" } } }))
}

fn message(error: &ProviderError) -> String {
    format!("{:?}: {}\nhelp: {}", error.class, error.summary, error.help.as_deref().unwrap_or("-"))
}

/// Returns an instance that uses `kubeconfig` with another user.
async fn with_login(kubeconfig: &std::path::Path, user: serde_json::Value) -> Instance {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let mut parsed: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    parsed["users"][0]["user"] = user;
    let folder = kubeconfig.parent().unwrap();
    if let Some(path) = parsed["clusters"][0]["cluster"]["certificate-authority"].as_str() {
        parsed["clusters"][0]["cluster"]["certificate-authority"] = json!(folder.join(path));
    }
    Instance::on(connect(json!({ "kubeconfig_content": parsed.to_string() })).await, "kubernetes_object")
}

/// Returns an instance in the cluster at `server`.
async fn at(server: &str) -> Instance {
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: '{server}'}}}}]\n\
         contexts: [{{name: c, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {{token: t}}}}]\n"
    );
    Instance::on(connect(json!({ "kubeconfig_content": kubeconfig })).await, "kubernetes_object")
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_responds() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut instance = at(&format!("http://{}", silent.local_addr().unwrap())).await;
    let error = instance.read(Some(&a_config_map())).await.unwrap_err();
    assert_eq!(error.class, Class::Unreachable, "{}", message(&error));

    instance.timeout = std::time::Duration::ZERO;
    let error = instance.operate(OperationAction::Create(a_config_map()), None).await.unwrap_err();
    assert_eq!(
        message(&error),
        "Timeout: kubernetes_object.x did not finish within 0ns\n\
         help: the API server is slow or does not respond; increase `timeouts` of the resource"
    );
}

#[tokio::test]
async fn a_stopped_server() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let instance = at(&format!("https://127.0.0.1:{port}")).await;
    let error = instance.read(Some(&a_config_map())).await.unwrap_err();
    assert_eq!(
        message(&error),
        format!(
            "Unreachable: cannot reach the API server https://127.0.0.1:{port}: connection refused\n\
             help: check that the API server runs, and that `server` in the kubeconfig is right"
        )
    );
}

#[tokio::test]
async fn unusable_kubeconfigs() {
    let cases = [
        (
            json!({ "kubeconfig": "/nonexistent/config" }),
            "cannot read the kubeconfig /nonexistent/config: No such file or directory (os error 2)",
        ),
        (
            json!({ "kubeconfig_content": "users: [{password: hunter2" }),
            "the kubeconfig kubeconfig_content is not valid YAML",
        ),
        (
            json!({ "kubeconfig_content": "apiVersion: v1\nkind: Config\n", "context": "prod" }),
            "the kubeconfig kubeconfig_content has no context `prod`",
        ),
    ];
    for (config, expected) in cases {
        let instance = Instance::on(connect(config).await, "kubernetes_object");
        assert_eq!(instance.read(Some(&a_config_map())).await.unwrap_err().summary, expected);
    }
}

#[tokio::test]
async fn a_kubeconfig_of_a_resource_is_refused() {
    let mut config = attributes(json!({}));
    config.insert("kubeconfig_content".to_owned(), Value::Unknown.sensitive());
    let context = moorfast_engine::provider::Context {
        root: "/".into(),
        data_dir: "/nonexistent".into(),
        state_dir: "/nonexistent".into(),
        untrusted: false,
        cancel: Default::default(),
        start_permit: Default::default(),
        progress: moorfast_engine::provider::Progress(None),
        key_store: None,
        used: moorfast_engine::provider::UsedProviders::default(),
        client_certificates: Default::default(),
    };
    let connection =
        moorfast_engine::provider::Provider::configure(&moorfast_kubernetes::KubernetesProvider, &config, context)
            .await
            .unwrap();
    let error = Instance::on(connection, "kubernetes_object").read(Some(&a_config_map())).await.unwrap_err();
    assert_eq!(
        message(&error),
        "Invalid: `kubeconfig_content` of the provider `kubernetes` is not known when planning: it comes from a resource\n\
         help: the configuration of a provider cannot come from resources: set the path of a kubeconfig, or use a variable"
    );
}

/// An untrusted manifest could print a secret with `nonsensitive()`. The refusal needs no cluster.
#[tokio::test]
async fn no_secret_is_read_for_an_untrusted_manifest() {
    let connection = connect_for(json!({}), true).await;
    let instance = Instance::on(connection, "kubernetes_object");
    let secret = json!({ "api_version": "v1", "kind": "Secret", "name": "a" });
    for (data, arguments) in [
        ("kubernetes_service_account_token", json!({ "name": "default" })),
        ("kubernetes_object", secret.clone()),
        ("kubernetes_objects", secret),
    ] {
        let error = instance.data(data, arguments).await.unwrap_err();
        assert_eq!(error.class, Class::Denied, "{data}");
        assert!(error.summary.starts_with("`plan --untrusted` reads no "), "{}", message(&error));
    }
}

#[tokio::test]
async fn wrong_credentials_and_missing_rights() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let wrong = with_login(&kubeconfig, json!({ "token": "wrong" })).await;
    let error = wrong.read(Some(&a_config_map())).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    assert!(error.summary.contains("does not accept the credentials"), "{}", message(&error));

    let admin = Instance::on(connect(json!({ "kubeconfig": kubeconfig })).await, "kubernetes_object");
    let account = unique("poor");
    let api = kube::Api::<k8s_openapi::api::core::v1::ServiceAccount>::namespaced(
        client(&kubeconfig, |_| {}).await,
        "default",
    );
    api.create(&Default::default(), &serde_json::from_value(json!({ "metadata": { "name": account } })).unwrap())
        .await
        .unwrap();
    let token = admin.data("kubernetes_service_account_token", json!({ "name": account })).await.unwrap();
    let poor = with_login(&kubeconfig, json!({ "token": token["token"].as_str().unwrap() })).await;
    let error = poor.read(Some(&a_config_map())).await.unwrap_err();
    assert_eq!(error.class, Class::Denied);
    let user = format!("system:serviceaccount:default:{account}");
    assert_eq!(
        error.help.as_deref(),
        Some(
            format!(
                "grant {user} a Role in namespace default with apiGroups: [\"\"], resources: [configmaps], verbs: [get]"
            )
            .as_str()
        ),
        "{}",
        message(&error)
    );
    api.delete(&account, &Default::default()).await.unwrap();
}

/// A client certificate of an exec plugin that expires is renewed within the run: the first one is refused by the server, the second one is the admin's.
#[tokio::test]
async fn an_expired_certificate_of_an_exec_plugin_is_renewed() {
    let Some(testbed) = harness::testbed() else { return };
    let Some(kubeconfig) = kubeconfig() else { return };
    let folder = tempfile::tempdir().unwrap();
    let credential = |name: &str, certificate: String, key: String, expires: &str| {
        let status =
            json!({ "clientCertificateData": certificate, "clientKeyData": key, "expirationTimestamp": expires });
        let credential =
            json!({ "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1", "status": status });
        std::fs::write(folder.path().join(name), credential.to_string()).unwrap();
    };
    let key = rcgen::KeyPair::generate().unwrap();
    let foreign = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    credential("first", foreign, key.serialize_pem(), "2020-01-01T00:00:00Z");
    let admin =
        |part: &str| std::fs::read_to_string(testbed["control_plane"]["admin"][part].as_str().unwrap()).unwrap();
    credential("second", admin("cert"), admin("key"), "2099-01-01T00:00:00Z");
    let script = "cat first; mv second first 2>/dev/null; true";
    let exec = json!({ "apiVersion": "client.authentication.k8s.io/v1", "command": "sh", "args": ["-c", format!("cd {} && {script}", folder.path().display())] });
    let instance = with_login(&kubeconfig, json!({ "exec": exec })).await;
    assert_eq!(instance.read(Some(&a_config_map())).await.map_err(|error| message(&error)), Ok(None));
}

#[tokio::test]
async fn a_server_with_another_ca_is_refused() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let mut parsed: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let foreign = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
    let cluster = parsed["clusters"][0]["cluster"].as_object_mut().unwrap();
    cluster.remove("certificate-authority");
    cluster.insert("certificate-authority-data".to_owned(), json!(k8s_openapi::ByteString(foreign.into_bytes())));
    let instance =
        Instance::on(connect(json!({ "kubeconfig_content": parsed.to_string() })).await, "kubernetes_object");
    let error = instance.read(Some(&a_config_map())).await.unwrap_err();
    assert_eq!(error.class, Class::Identity, "{}", message(&error));
}
