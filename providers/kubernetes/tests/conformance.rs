//! Resource types of the provider keep the laws of a provider, on a real API server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

use std::sync::Arc;

use harness::{kubeconfig, unique};
use moorfast_conformance::{Case, check};
use moorfast_engine::provider::Provider;
use moorfast_kubernetes::KubernetesProvider;

async fn keeps_the_laws(case: &Case) {
    let providers: [Arc<dyn Provider>; 1] = [Arc::new(KubernetesProvider)];
    check(&providers, case).await.unwrap();
}

#[tokio::test]
async fn objects() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let name = unique("laws");
    let manifest = |data: &str, password: &str| {
        format!(
            r#"
            [providers.kubernetes]
            kubeconfig = "{}"

            [resource.kubernetes_object.namespace]
            manifest = {{ apiVersion = "v1", kind = "Namespace", metadata = {{ name = "{name}" }} }}

            [resource.kubernetes_object.config]
            manifest   = {{ apiVersion = "v1", kind = "ConfigMap", metadata = {{ name = "one", namespace = "{name}" }}, data = {{ {data} }} }}
            depends_on = ["kubernetes_object.namespace"]

            [resource.kubernetes_object.secret]
            manifest   = {{ apiVersion = "v1", kind = "Secret", metadata = {{ name = "two", namespace = "{name}" }}, stringData = {{ password = "{password}" }} }}
            depends_on = ["kubernetes_object.namespace"]
            "#,
            kubeconfig.display()
        )
    };
    let case = Case::new(manifest("a = \"1\", b = \"2\"", "hidden-first"))
        .update(manifest("a = \"1\"", "hidden-first"))
        .update(manifest("a = \"1\"", "hidden-second"))
        .reject("[resource.kubernetes_object.x]\nmanifest = { kind = \"ConfigMap\" }\n", "manifest")
        .secret("hidden-first")
        .secret("hidden-second");
    keeps_the_laws(&case).await;
}

#[tokio::test]
async fn a_bootstrap_token() {
    let Some(kubeconfig) = kubeconfig() else { return };
    let node = unique("laws");
    let manifest = |description: &str| {
        format!(
            r#"
            [providers.kubernetes]
            kubeconfig = "{}"

            [resource.kubernetes_bootstrap_token.node]
            node        = "{node}"
            description = "{description}"
            "#,
            kubeconfig.display()
        )
    };
    let case = Case::new(manifest("first"))
        .update(manifest("second"))
        .reject("[resource.kubernetes_bootstrap_token.x]\nnode = \"x\"\nttl = \"soon\"\n", "ttl");
    keeps_the_laws(&case).await;
}
