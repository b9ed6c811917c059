//! `kubernetes_kubeconfig`: the text of a kubeconfig, made here and kept nowhere.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::ready;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Applied, Class, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use serde_json::{Map, Value as Json, json};

use crate::attributes::{Read, as_recorded};
use crate::cluster::Cluster;
use crate::resource::{Reading, Resource};

/// `kubernetes_kubeconfig`
pub(crate) struct KubeconfigFile;

const CONTENT: &str = "content";

#[async_trait]
impl Resource for KubeconfigFile {
    fn declaration(&self) -> ResourceType {
        let exec = vec![
            Attribute::required("command", Kind::String, "The program."),
            Attribute::optional("args", Kind::list(Kind::String), "Its arguments."),
            Attribute::optional("env", Kind::map(Kind::String), "Its environment variables."),
            Attribute::optional("api_version", Kind::String, "The form of its answer.")
                .or("client.authentication.k8s.io/v1"),
        ];
        let schema = Schema::new(
            "A kubeconfig with one cluster, one user and one context, as `kubectl config set-*` writes it. It is only a text, in `content`: an `ssh_file` \
             puts it somewhere. The user logs in by `token`, by `client_certificate` and `client_key`, or by `exec`. A token that was retired \
             (its node joined) leaves the kubeconfig as it is.",
            [
                Attribute::optional("cluster", Kind::String, "The cluster's name in it.").or("kubernetes"),
                Attribute::required("server", Kind::String, "The URL of the API server, `https://10.0.0.1:6443`."),
                Attribute::optional(
                    "certificate_authority",
                    Kind::String,
                    "The CA of the API server as PEM text; it is embedded.",
                ),
                Attribute::optional(
                    "tls_server_name",
                    Kind::String,
                    "The name in the API server's certificate, where it is not that of the URL.",
                ),
                Attribute::optional("user", Kind::String, "The user's name in it.").or("default"),
                Attribute::optional("context", Kind::String, "The context's name.").or("default"),
                Attribute::optional("namespace", Kind::String, "The namespace of the context."),
                Attribute::optional(
                    "current_context",
                    Kind::String,
                    "The context that is used; `context` where not written. An empty text sets none.",
                ),
                Attribute::optional("token", Kind::String, "A bearer token.").secret(),
                Attribute::optional(
                    "client_certificate",
                    Kind::String,
                    "A client certificate as PEM text; it is embedded.",
                ),
                Attribute::optional("client_key", Kind::String, "Its private key as PEM text; it is embedded.")
                    .secret(),
                Attribute::optional("exec", Kind::Object(exec), "A program that prints credentials."),
                Attribute::computed(CONTENT, Kind::String, "The kubeconfig as YAML.").secret(),
            ],
        );
        ResourceType { name: "kubernetes_kubeconfig", target_kind: TargetKind::Provider, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = |attribute, message: &str, help: &str| Invalid {
            attribute: Some(attribute),
            message: message.to_owned(),
            help: Some(help.to_owned()),
        };
        let is_written = |name: &str| attributes.get(name).is_some_and(|v| !v.is_null());
        let mut found = Vec::new();
        if let Some(server) =
            attributes.text("server").filter(|s| !s.starts_with("https://") && !s.starts_with("http://"))
        {
            found.push(invalid("server", &format!("{server:?} is no URL"), "write https://HOST:PORT"));
        }
        if is_written("client_certificate") != is_written("client_key") {
            found.push(invalid("client_key", "a client certificate and its key belong together", "write both or none"));
        }
        let logins = ["token", "client_certificate", "exec"].into_iter().filter(|n| is_written(n)).collect::<Vec<_>>();
        if let [_, second, ..] = logins.as_slice() {
            found.push(invalid(
                second,
                "more than one way to log in",
                "keep one of `token`, `client_certificate` and `exec`",
            ));
        }
        for name in ["certificate_authority", "client_certificate"] {
            if attributes.text(name).is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
                found.push(invalid(name, "holds no certificate in PEM", "write its text, such as ${file(\"ca.pem\")}"));
            }
        }
        found
    }

    /// Nothing in the world has it, so nothing but its address names it.
    fn identity(&self, _attributes: &Attributes) -> Option<String> {
        None
    }

    /// It is what the record says: sealed values seal to themselves, so the engine sees by itself whether the content would change.
    async fn read(&self, _cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        let recorded = requests.iter().map(|r| r.recorded.as_ref());
        let readings =
            recorded.map(|r| Ok(r.map(|r| Observed { attributes: as_recorded(&r.attributes), private: Json::Null })));
        ready(readings.collect()).await
    }

    async fn plan(&self, _cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let planned = rendered(&request.desired)?;
        let Some(observed) = &request.observed else {
            return Ok(Proposal::new(ProposedAction::Create, planned));
        };
        if planned.get(CONTENT).is_some_and(Value::is_retained) {
            let mut planned = observed.attributes.clone();
            for name in ["token", CONTENT] {
                planned.insert(name.to_owned(), Value::Retained.sensitive());
            }
            let notes = vec!["stays as it was applied: its token was retired and can't be read any more".to_owned()];
            return Ok(Proposal { notes, ..Proposal::new(ProposedAction::NoOp, planned) });
        }
        Ok(Proposal::new(ProposedAction::Compare, planned))
    }

    async fn apply(&self, _cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                Ok(Applied { attributes: rendered(desired)?, ..Applied::default() })
            }
            OperationAction::Delete => Ok(Applied::default()),
        }
    }
}

/// The attributes with the content that they make: unknown or retained where one of them is.
fn rendered(desired: &Attributes) -> Result<Attributes, ProviderError> {
    let mut attributes: Attributes = desired
        .iter()
        .filter(|(name, value)| *name != CONTENT && !value.is_null())
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for secret in ["token", "client_key"] {
        if let Some(value) = attributes.get_mut(secret) {
            *value = std::mem::take(value).sensitive();
        }
    }
    let content = if attributes.values().any(Value::is_unknown) {
        Value::Unknown
    } else if attributes.values().any(Value::is_retained) {
        Value::Retained
    } else {
        Value::from(render(&attributes)?)
    };
    attributes.insert(CONTENT.to_owned(), content.sensitive());
    Ok(attributes)
}

fn render(attributes: &Attributes) -> Result<String, ProviderError> {
    let text = |name: &str| attributes.text(name).unwrap_or_default().to_owned();
    let current = attributes.text("current_context").map_or_else(|| text("context"), str::to_owned);
    let kubeconfig = json!({
        "apiVersion": "v1",
        "clusters": [{ "cluster": cluster(attributes), "name": text("cluster") }],
        "contexts": [{ "context": context(attributes), "name": text("context") }],
        "current-context": current,
        "kind": "Config",
        "preferences": {},
        "users": [{ "name": text("user"), "user": user(attributes) }],
    });
    let options = serde_saphyr::ser_options! { compact_list_indent: true, prefer_block_scalars: false };
    let mut yaml = String::new();
    serde_saphyr::to_fmt_writer_with_options(&mut yaml, &kubeconfig, options)
        .map_err(|_| ProviderError::new(Class::Failed, "the kubeconfig can't be written as YAML"))?;
    Ok(yaml)
}

/// The pairs that are there, in their order.
fn object(pairs: impl IntoIterator<Item = (&'static str, Option<Json>)>) -> Json {
    Json::Object(pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect::<Map<_, _>>())
}

fn encoded(attributes: &Attributes, name: &str) -> Option<Json> {
    attributes.text(name).map(|text| json!(STANDARD.encode(text)))
}

fn plain(attributes: &Attributes, name: &str) -> Option<Json> {
    attributes.text(name).map(|text| json!(text))
}

fn cluster(attributes: &Attributes) -> Json {
    object([
        ("certificate-authority-data", encoded(attributes, "certificate_authority")),
        ("server", plain(attributes, "server")),
        ("tls-server-name", plain(attributes, "tls_server_name")),
    ])
}

fn context(attributes: &Attributes) -> Json {
    object([
        ("cluster", plain(attributes, "cluster")),
        ("namespace", plain(attributes, "namespace")),
        ("user", plain(attributes, "user")),
    ])
}

fn user(attributes: &Attributes) -> Json {
    object([
        ("client-certificate-data", encoded(attributes, "client_certificate")),
        ("client-key-data", encoded(attributes, "client_key")),
        ("exec", exec(attributes)),
        ("token", plain(attributes, "token")),
    ])
}

fn exec(attributes: &Attributes) -> Option<Json> {
    let exec = attributes.get("exec")?.as_map()?;
    let env = exec
        .text_map("env")
        .into_iter()
        .map(|(name, value)| json!({ "name": name, "value": value }))
        .collect::<Vec<_>>();
    let args = exec.texts("args");
    Some(object([
        ("apiVersion", Some(json!(exec.text("api_version").unwrap_or("client.authentication.k8s.io/v1")))),
        ("args", (!args.is_empty()).then(|| json!(args))),
        ("command", plain(exec, "command")),
        ("env", (!env.is_empty()).then(|| json!(env))),
        ("interactiveMode", Some(json!("IfAvailable"))),
        ("provideClusterInfo", Some(json!(false))),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, Value)]) -> Attributes {
        let mut attributes: Attributes = [
            ("cluster", "kubernetes"),
            ("server", "https://10.0.0.1:6443"),
            ("user", "kubelet-bootstrap"),
            ("context", "default"),
        ]
        .into_iter()
        .map(|(k, v)| (k.to_owned(), Value::from(v)))
        .collect();
        attributes.extend(pairs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())));
        attributes
    }

    #[test]
    fn a_bootstrap_kubeconfig() {
        let made = render(&attributes(&[
            ("certificate_authority", "-----BEGIN CERTIFICATE-----\n".into()),
            ("token", Value::from("07401b.f395accd246ae52d").sensitive()),
        ]));
        insta::assert_snapshot!(made.unwrap());
    }

    #[test]
    fn a_kubeconfig_with_an_exec_plugin() {
        let exec = json!({"command": "aws", "args": ["eks", "get-token"], "env": {"AWS_PROFILE": "prod"}, "api_version": "client.authentication.k8s.io/v1beta1"});
        let made =
            render(&attributes(&[("exec", exec.into()), ("namespace", "web".into()), ("current_context", "".into())]));
        insta::assert_snapshot!(made.unwrap());
    }

    #[test]
    fn the_content_is_as_known_as_its_parts_and_always_secret() {
        let content = |token: Value| rendered(&attributes(&[("token", token)])).unwrap()[CONTENT].clone();
        assert_eq!(content(Value::Unknown), Value::Unknown.sensitive());
        assert_eq!(content(Value::Retained.sensitive()), Value::Retained.sensitive());
        assert!(matches!(content("a.b".into()), Value::Sensitive(_)));
    }

    #[test]
    fn kube_reads_what_we_write() {
        let made =
            render(&attributes(&[("client_certificate", "c: 'x'\n#".into()), ("client_key", "k".into())])).unwrap();
        let read = kube::config::Kubeconfig::from_yaml(&made).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("default"));
        assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://10.0.0.1:6443"));
    }
}
