//! The resource type `kubernetes_kubeconfig`: the text of a kubeconfig, rendered by moorfast and stored nowhere.

use std::sync::LazyLock;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::future::ready;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use serde_json::{Map, Value as Json, json};

use crate::cluster::Cluster;
use crate::resource::{Reading, Resource};

/// The resource type `kubernetes_kubeconfig`.
pub(crate) struct KubeconfigFile;

const CONTENT: &str = "content";
/// The ways to log in: a kubeconfig has at most one of these attributes.
const LOGINS: [&str; 4] = ["token", "client_certificate", "client_certificate_path", "exec"];

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let exec = vec![
        Attribute::required("command", Kind::String, "Program to run."),
        Attribute::optional("args", Kind::list(Kind::String), "Arguments of the program."),
        Attribute::optional("env", Kind::map(Kind::String), "Environment variables of the program."),
        Attribute::optional("api_version", Kind::String, "API version of the ExecCredential that the program prints.")
            .or("client.authentication.k8s.io/v1"),
    ];
    let schema = Schema::new(
        "A kubeconfig with one cluster, one user and one context, as `kubectl config set-*` writes it. The resource only renders the text in \
         `content`; use an `ssh_file` to write it to a node. The user logs in with `token`, with `client_certificate` and `client_key`, with `client_certificate_path` and `client_key_path`, or with `exec`. \
         It does not wait for the cluster that `depends_on` of `[providers.kubernetes]` starts. The kubeconfig stays unchanged after its bootstrap token was retired because the node joined.",
        [
            Attribute::optional("cluster", Kind::String, "Name of the cluster in the kubeconfig.").or("kubernetes"),
            Attribute::required("server", Kind::String, "URL of the API server, for example `https://10.0.0.1:6443`."),
            Attribute::optional(
                "certificate_authority",
                Kind::String,
                "CA certificate of the API server as PEM text. It is embedded.",
            ),
            Attribute::optional(
                "tls_server_name",
                Kind::String,
                "Name in the certificate of the API server, if it differs from the host of the URL.",
            ),
            Attribute::optional("user", Kind::String, "Name of the user in the kubeconfig.").or("default"),
            Attribute::optional("context", Kind::String, "Name of the context.").or("default"),
            Attribute::optional("namespace", Kind::String, "Namespace of the context."),
            Attribute::optional(
                "current_context",
                Kind::String,
                "Current context. Default: `context`. An empty text sets no current context.",
            ),
            Attribute::optional("token", Kind::String, "Bearer token.").secret(),
            Attribute::optional("client_certificate", Kind::String, "Client certificate as PEM text. It is embedded."),
            Attribute::optional(
                "client_key",
                Kind::String,
                "Private key of the client certificate as PEM text. It is embedded.",
            )
            .secret(),
            Attribute::optional(
                "client_certificate_path",
                Kind::String,
                "Path of the client certificate on the node where the kubeconfig is used, for example `certificate_path` of a `pki_certificate`.",
            ),
            Attribute::optional(
                "client_key_path",
                Kind::String,
                "Path of the private key of the client certificate on that node.",
            ),
            Attribute::optional("exec", Kind::Object(exec), "Exec plugin: a program that prints credentials."),
            Attribute::computed(CONTENT, Kind::String, "Kubeconfig as YAML.").secret(),
        ],
    );
    Declaration { name: "kubernetes_kubeconfig", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for KubeconfigFile {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let invalid = |attribute, message: &str, help: &str| Invalid {
            attribute: Some(attribute),
            message: message.to_owned(),
            help: Some(help.to_owned()),
        };
        let is_set = |name: &str| attributes.is_set(name);
        let mut found = Vec::new();
        if let Some(server) =
            attributes.text("server").filter(|s| !s.starts_with("https://") && !s.starts_with("http://"))
        {
            found.push(invalid(
                "server",
                &format!("`{server}` is not a URL of http or https"),
                "use the form https://HOST:PORT",
            ));
        }
        for (certificate, key) in [("client_certificate", "client_key"), ("client_certificate_path", "client_key_path")]
        {
            if is_set(certificate) != is_set(key) {
                found.push(invalid(
                    key,
                    &format!("`{certificate}` and `{key}` must be set together"),
                    "set both or neither",
                ));
            }
        }
        let logins = LOGINS.into_iter().filter(|n| is_set(n)).collect::<Vec<_>>();
        if let [_, second, ..] = logins.as_slice() {
            found.push(invalid(
                second,
                "more than one login method is set",
                "keep one of `token`, `client_certificate`, `client_certificate_path` and `exec`",
            ));
        }
        for name in ["certificate_authority", "client_certificate"] {
            if attributes.text(name).is_some_and(|pem| !pem.contains("-----BEGIN CERTIFICATE-----")) {
                found.push(invalid(
                    name,
                    "the text is not a certificate in PEM format",
                    "use the text of the certificate, for example ${file(\"ca.pem\")}",
                ));
            }
        }
        found
    }

    /// A kubeconfig is only a text: the components of a cluster need theirs before there is an API server.
    fn accesses_target(&self) -> bool {
        false
    }

    /// Returns `None`: the text exists only in moorfast, so only the address identifies it.
    fn identity(&self, _attributes: &Attributes) -> Option<String> {
        None
    }
}

#[async_trait]
impl Resource for KubeconfigFile {
    /// Returns the recorded attributes. The engine compares the sealed content itself, so nothing else has to be read.
    async fn read(&self, _cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        let recorded = requests.iter().map(|r| r.recorded.as_ref());
        let readings = recorded
            .map(|r| Ok(r.map(|r| Observed { attributes: recorded_values(&r.attributes), private: Json::Null })));
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
            let notes = vec!["stays as it was applied: its token was retired and cannot be read any more".to_owned()];
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

/// Returns the attributes with the rendered content. The content is unknown or retained if one of the attributes is.
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
        .map_err(|_| ProviderError::new(Class::Failed, "the kubeconfig cannot be written as YAML"))?;
    Ok(yaml)
}

/// Builds an object from the pairs that have a value, in their order.
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
        ("client-certificate", plain(attributes, "client_certificate_path")),
        ("client-certificate-data", encoded(attributes, "client_certificate")),
        ("client-key", plain(attributes, "client_key_path")),
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
        let rendered = render(&attributes(&[
            ("certificate_authority", "-----BEGIN CERTIFICATE-----\n".into()),
            ("token", Value::from("07401b.f395accd246ae52d").sensitive()),
        ]));
        insta::assert_snapshot!(rendered.unwrap());
    }

    #[test]
    fn a_kubeconfig_with_an_exec_plugin() {
        let exec = json!({"command": "aws", "args": ["eks", "get-token"], "env": {"AWS_PROFILE": "prod"}, "api_version": "client.authentication.k8s.io/v1beta1"});
        let rendered =
            render(&attributes(&[("exec", exec.into()), ("namespace", "web".into()), ("current_context", "".into())]));
        insta::assert_snapshot!(rendered.unwrap());
    }

    #[test]
    fn the_content_is_unknown_if_a_part_is_and_always_sensitive() {
        let content = |token: Value| rendered(&attributes(&[("token", token)])).unwrap()[CONTENT].clone();
        assert_eq!(content(Value::Unknown), Value::Unknown.sensitive());
        assert_eq!(content(Value::Retained.sensitive()), Value::Retained.sensitive());
        assert!(matches!(content("a.b".into()), Value::Sensitive(_)));
    }

    #[test]
    fn a_client_certificate_on_the_node_is_named_by_its_path() {
        let paths = [("client_certificate_path", "/etc/cm.crt".into()), ("client_key_path", "/etc/cm.key".into())];
        let read = kube::config::Kubeconfig::from_yaml(&render(&attributes(&paths)).unwrap()).unwrap();
        let user = read.auth_infos[0].auth_info.clone().unwrap();
        let files = (user.client_certificate.as_deref(), user.client_key.as_deref());
        assert_eq!(files, (Some("/etc/cm.crt"), Some("/etc/cm.key")));
        let with = |names: &[&'static str]| {
            let pairs: Vec<_> = names.iter().map(|name| (*name, Value::from("x"))).collect();
            KubeconfigFile.validate(&attributes(&pairs)).len()
        };
        assert_eq!(with(&["client_certificate_path"]), 1);
        assert_eq!(with(&["client_certificate_path", "client_key_path", "token"]), 1);
    }

    #[test]
    fn kube_reads_the_rendered_kubeconfig() {
        let rendered =
            render(&attributes(&[("client_certificate", "c: 'x'\n#".into()), ("client_key", "k".into())])).unwrap();
        let read = kube::config::Kubeconfig::from_yaml(&rendered).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("default"));
        assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://10.0.0.1:6443"));
    }
}
