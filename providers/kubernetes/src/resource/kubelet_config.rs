//! The resource type `kubernetes_kubelet_config`: the live configuration of a kubelet.

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, yaml_document};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use serde_json::{Value as Json, json};

use crate::cluster::{Cluster, timed_out};
use crate::configuration::{differences, differing_paths, in_declared_form};
use crate::permission::Permission;
use crate::resource::{Reading, Resource};
use crate::waiting::{Wait, deadline};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);
const IDENTITY_PREFIX: &str = "kubelet-config/";
const ANSWERS: &str = "answers";

/// The resource type `kubernetes_kubelet_config`.
pub(crate) struct KubeletConfig;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let schema = Schema::new(
        "The live configuration of a kubelet, read from its configz endpoint through the API server. The resource changes nothing: the plan shows where \
         the running kubelet differs from `config`, and an apply waits until there is no difference (2 minutes, or the limit of `timeouts`). Only the \
         fields of `config` are compared. Durations and quantities are compared by value: `60s` equals `1m`.",
        [
            Attribute::required("node", Kind::String, "Name of the Node.").replaces(),
            Attribute::required(
                "config",
                Kind::Any,
                "Expected KubeletConfiguration: a table, or a YAML text such as the `content` of the `ssh_file` that writes it.",
            ),
            Attribute::computed(
                ANSWERS,
                Kind::Bool,
                "Whether the kubelet returns its configuration. A stopped kubelet does not.",
            ),
        ],
    );
    Declaration { name: "kubernetes_kubelet_config", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for KubeletConfig {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let error = config_of(attributes).err();
        error.into_iter().map(|message| Invalid::new("config", message)).collect()
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("node").map(|node| format!("{IDENTITY_PREFIX}{node}"))
    }
}

#[async_trait]
impl Resource for KubeletConfig {
    fn permissions(&self, _: &Attributes) -> Vec<Permission> {
        vec![Permission::new("v1", "Node", None, "proxy", &["get"])]
    }

    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        join_all(requests.iter().map(|request| observe(cluster, request))).await
    }

    async fn plan(&self, _cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let config = config_of(&request.desired).map_err(invalid)?;
        let node = request.desired.get("node").cloned().unwrap_or_default();
        let known = sensitive_like(request.desired.get("config"), config.map_or(Value::Unknown, Value::from));
        let planned = Attributes::from([
            ("node".to_owned(), node),
            ("config".to_owned(), known),
            (ANSWERS.to_owned(), Value::Bool(true)),
        ]);
        let (action, silence) = match &request.observed {
            None => (ProposedAction::Create, None),
            Some(observed) if observed.attributes == planned => (ProposedAction::NoOp, None),
            Some(observed) => (ProposedAction::Update, observed.private["silent"].as_str()),
        };
        let mut notes = Vec::new();
        if action != ProposedAction::NoOp {
            notes.push("waits until the kubelet runs with this configuration".to_owned());
        }
        notes.extend(silence.map(|reason| format!("the kubelet does not answer: {reason}")));
        Ok(Proposal { notes, ..Proposal::new(action, planned) })
    }

    fn default_timeout(&self) -> Duration {
        DEFAULT_TIMEOUT
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                wait_until_equal(cluster, operation, desired).await
            }
            OperationAction::Delete => Ok(Applied::default()),
        }
    }
}

fn invalid(message: String) -> ProviderError {
    ProviderError::new(Class::Invalid, message).attribute("config")
}

/// Returns the declared configuration, or `None` while it is unknown.
pub(crate) fn config_of(attributes: &Attributes) -> Result<Option<Json>, String> {
    let Some(value) = attributes.get("config") else { return Ok(None) };
    if value.is_unknown() || value.is_retained() {
        return Ok(None);
    }
    let Some(json) = value.to_json() else { return Ok(None) };
    let parsed = match json {
        Json::String(text) => {
            let parsed = yaml_document(&text).map_err(|e| match value.is_sensitive() {
                true => format!("`config` is not valid YAML: {}", e.place()),
                false => format!("`config` is not valid YAML: {e}"),
            })?;
            parsed.to_json().unwrap_or_default()
        }
        other => other,
    };
    match parsed {
        Json::Object(mut map) => {
            map.remove("apiVersion");
            map.remove("kind");
            Ok(Some(Json::Object(map)))
        }
        _ => Err("`config` is not a KubeletConfiguration".to_owned()),
    }
}

/// Returns `value`, marked as sensitive if `config` is.
pub(crate) fn sensitive_like(config: Option<&Value>, value: Value) -> Value {
    if config.is_some_and(Value::is_sensitive) { value.sensitive() } else { value }
}

/// Describes the differences between `declared` and `live`, without values if `config` is sensitive.
pub(crate) fn described_differences(config: Option<&Value>, declared: &Json, live: &Json) -> Vec<String> {
    match config.is_some_and(Value::is_sensitive) {
        true => differing_paths(declared, live),
        false => differences(declared, live),
    }
}

async fn observe(cluster: &Cluster, request: &ReadRequest) -> Reading {
    let recorded = request.recorded.as_ref();
    let desired = request.desired.as_ref().and_then(|d| d.text("node")).map(str::to_owned);
    let Some(node) =
        desired.or_else(|| recorded.and_then(|r| r.identity.strip_prefix(IDENTITY_PREFIX).map(str::to_owned)))
    else {
        return Ok(None);
    };
    let written = request.desired.as_ref().and_then(|d| config_of(d).ok().flatten());
    let known = recorded.and_then(|r| r.attributes.get("config").cloned()).map(Value::from);
    match live(cluster, &node).await? {
        Ok(live) => {
            let config = match (written, known) {
                (Some(declared), _) => {
                    let config = request.desired.as_ref().and_then(|d| d.get("config"));
                    sensitive_like(config, Value::from(in_declared_form(&declared, &live)))
                }
                // The record holds only a digest of a sensitive configuration, which cannot be compared without the manifest.
                (None, Some(sealed)) if sealed.is_sealed() => sealed,
                (None, known) => {
                    let declared = known.and_then(|k| k.to_json()).unwrap_or_else(|| json!({}));
                    Value::from(in_declared_form(&declared, &live))
                }
            };
            Ok(Some(Observed { attributes: attributes(&node, config), private: Json::Null }))
        }
        Err(Unavailable::Kubelet(reason)) => Ok(known.map(|known| silent(&node, known, reason))),
        // The node may join later: an apply waits for it.
        Err(Unavailable::NoNode) => Ok(None),
    }
}

fn attributes(node: &str, config: Value) -> Attributes {
    Attributes::from([
        ("node".to_owned(), Value::from(node)),
        ("config".to_owned(), config),
        (ANSWERS.to_owned(), Value::Bool(true)),
    ])
}

/// Returns the observation of a kubelet that does not answer: the recorded configuration, with `answers` set to false.
fn silent(node: &str, known: Value, reason: String) -> Observed {
    let mut attributes = attributes(node, known);
    attributes.insert(ANSWERS.to_owned(), Value::Bool(false));
    Observed { attributes, private: json!({ "silent": reason }) }
}

/// The reason why the configuration of a kubelet cannot be read.
pub(crate) enum Unavailable {
    /// There is no Node object.
    NoNode,
    /// The kubelet does not answer, for this reason.
    Kubelet(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unavailable::NoNode => f.write_str("there is no Node object"),
            Unavailable::Kubelet(reason) => write!(f, "the kubelet does not return its configuration: {reason}"),
        }
    }
}

/// Reads the live configuration of the kubelet of `node`.
pub(crate) async fn live(cluster: &Cluster, node: &str) -> Result<Result<Json, Unavailable>, ProviderError> {
    let text = match cluster.kubelet(node, "configz").await? {
        Ok(text) => text,
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Err(Unavailable::NoNode)),
        Err(kube::Error::Api(status)) if [401, 403].contains(&status.code) => {
            return Err(
                cluster.explain(kube::Error::Api(status), &format!("read the configuration of the kubelet of {node}"))
            );
        }
        Err(kube::Error::Api(status)) => return Ok(Err(Unavailable::Kubelet(explain_tls(&status.message)))),
        Err(error) => return Err(cluster.explain(error, &format!("read the configuration of the kubelet of {node}"))),
    };
    let mut answer: Json = serde_json::from_str(&text).unwrap_or_default();
    match answer["kubeletconfig"].take() {
        Json::Null => Ok(Err(Unavailable::Kubelet("its answer contains no `kubeletconfig`".to_owned()))),
        config => Ok(Ok(config)),
    }
}

/// Explains the internal TLS error with which a kubelet without a serving certificate aborts the handshake.
fn explain_tls(message: &str) -> String {
    let message = message.trim();
    if message.contains("tls: internal error") {
        return format!("it has no serving certificate yet, its certificate request waits for approval ({message})");
    }
    message.to_owned()
}

async fn wait_until_equal(
    cluster: &Cluster,
    operation: &Operation,
    desired: &Attributes,
) -> Result<Applied, ProviderError> {
    let node = desired
        .text("node")
        .ok_or_else(|| ProviderError::new(Class::Invalid, "the name of the node is not known").attribute("node"))?;
    let declared = config_of(desired).map_err(invalid)?.ok_or_else(|| invalid("`config` is not known".to_owned()))?;
    let what = format!("the configuration of the kubelet of {node}");
    let wait = Wait {
        cluster,
        address: &operation.address,
        what: &what,
        deadline: deadline(operation.timeout, DEFAULT_TIMEOUT),
    };
    let waited = wait
        .poll(PAUSE, || async {
            Ok(match live(cluster, node).await? {
                Err(Unavailable::NoNode) => Err("there is no Node object yet".to_owned()),
                Err(Unavailable::Kubelet(reason)) => Err(reason),
                Ok(live) => match described_differences(desired.get("config"), &declared, &live).as_slice() {
                    [] => Ok(live),
                    [only] => Err(only.clone()),
                    several => Err(format!("{} fields differ: {}", several.len(), several.join("; "))),
                },
            })
        })
        .await;
    match waited {
        Ok(live) => {
            let config = sensitive_like(desired.get("config"), Value::from(in_declared_form(&declared, &live)));
            Ok(Applied { attributes: attributes(node, config), ..Applied::default() })
        }
        Err(error) if error.class == Class::Timeout => Err(timed_out(error.summary)
            .help("check that the kubelet was restarted after its file changed, and that no flag of its unit overrides the field (`journalctl -u kubelet`)")),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_a_text_or_a_table() {
        let config = |value: Value| config_of(&[("config".to_owned(), value)].into());
        let expected = json!({"maxPods": 220});
        assert_eq!(
            config("apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nmaxPods: 220\n".into()),
            Ok(Some(expected.clone()))
        );
        assert_eq!(config(json!({"kind": "KubeletConfiguration", "maxPods": 220}).into()), Ok(Some(expected)));
        assert_eq!(config(Value::Unknown), Ok(None));
        assert!(config("- 1".into()).is_err());
        assert!(config("a: [".into()).is_err());
        let broken = config(Value::from("header: [hunter2").sensitive()).unwrap_err();
        assert_eq!(broken, "`config` is not valid YAML: line 1, column 9");
    }

    #[test]
    fn differences_of_a_sensitive_configuration_show_no_values() {
        let (declared, live) = (json!({"staticPodURLHeader": {"t": ["hunter2"]}}), json!({}));
        let described = |config: Value| described_differences(Some(&config), &declared, &live);
        assert_eq!(described(Value::from("").sensitive()), ["staticPodURLHeader differs"]);
        assert!(described(Value::from(""))[0].contains("hunter2"));
    }
}
