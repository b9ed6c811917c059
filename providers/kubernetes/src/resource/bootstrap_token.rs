//! The resource type `kubernetes_bootstrap_token`: the credentials with which a node joins the cluster.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ObjectMeta, PartialObjectMeta};
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, Value, recorded_values};
use moorfast_engine::provider::{
    Applied, Class, Declaration, Invalid, Observed, Operation, OperationAction, PlanRequest, Proposal, ProposedAction,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use rand::Rng;
use regex::Regex;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::attributes::{list, optional};
use crate::cluster::{Cluster, FIELD_MANAGER};
use crate::permission::{MANAGE, Permission};
use crate::resource::{Reading, Resource, fail_all};

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
/// The label that identifies the tokens of a node, so that a token is found without a record.
const NODE_LABEL: &str = "moorfast.dev/node";
/// The full name of the node, which can be too long for a label.
const NODE_ANNOTATION: &str = "moorfast.dev/node";
/// The lifetime as written in the manifest.
const TTL_ANNOTATION: &str = "moorfast.dev/ttl";
const DEFAULT_TTL: &str = "24h";
const USAGES: [&str; 2] = ["authentication", "signing"];
const IDENTITY_PREFIX: &str = "bootstrap-token/";
/// The group names that the API server accepts in `auth-extra-groups`.
const GROUP_PATTERN: &str = r"^system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]$";

/// The resource type `kubernetes_bootstrap_token`.
pub(crate) struct BootstrapToken;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let schema = Schema::new(
        "A bootstrap token, with which the kubelet of one node requests its first client certificate. It is created only for a node that has not \
         joined: once the Node object exists, a missing or expired token is neither a change nor drift. If the token disappears before the node \
         joins, the next apply creates another one. To create a token for a node that joined already (a replaced machine), replace this resource.",
        [
            Attribute::required("node", Kind::String, "Name of the Node that joins with this token.").replaces(),
            Attribute::optional("description", Kind::String, "Description of the token."),
            Attribute::optional("ttl", Kind::Duration, "Lifetime of the token, counted from its creation or last change. The tokencleaner controller removes an expired token.")
                .or(DEFAULT_TTL),
            Attribute::optional("usages", Kind::list(Kind::OneOf(&USAGES)), "Permitted uses of the token.").or(list(USAGES)),
            Attribute::optional(
                "extra_groups",
                Kind::list(Kind::String),
                "Groups of the token's user besides `system:bootstrappers`. Each name starts with `system:bootstrappers:`. Default: `system:bootstrappers:NODE`.",
            )
            .or_computed(),
            Attribute::computed("token_id", Kind::String, "Public part of the token. Its user is `system:bootstrap:ID`, its Secret `bootstrap-token-ID`."),
            Attribute::computed("token", Kind::String, "The token, `ID.SECRET`.").secret(),
            Attribute::computed("expires_at", Kind::String, "Expiry time (RFC 3339)."),
        ],
    );
    Declaration { name: "kubernetes_bootstrap_token", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for BootstrapToken {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut found = Vec::new();
        if let Some(node) = attributes.text("node").filter(|n| !is_node_name(n)) {
            let message = format!("`{node}` is not a valid node name");
            found.push(Invalid {
                attribute: Some("node"),
                message,
                help: Some("a node name consists of lower-case letters, digits, `-` and `.`".to_owned()),
            });
        }
        for group in attributes.texts("extra_groups").iter().filter(|g| !is_group(g)) {
            let message = format!("`{group}` is not a valid group of a bootstrap token");
            let help = Some(
                "a group is `system:bootstrappers:` followed by lower-case letters, digits, `:` and `-`".to_owned(),
            );
            found.push(Invalid { attribute: Some("extra_groups"), message, help });
        }
        if attributes.duration("ttl") == Some(Duration::ZERO) {
            found.push(Invalid {
                attribute: Some("ttl"),
                message: "`ttl` must be greater than zero".to_owned(),
                help: None,
            });
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        attributes.text("node").map(|node| format!("{IDENTITY_PREFIX}{node}"))
    }

    fn is_bound_to_machine(&self) -> bool {
        true
    }
}

#[async_trait]
impl Resource for BootstrapToken {
    fn permissions(&self, _: &Attributes) -> Vec<Permission> {
        vec![
            Permission::new("v1", "Secret", Some(NAMESPACE), "", MANAGE),
            Permission::new("v1", "Node", None, "", &["get", "list"]),
        ]
    }

    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        let nodes: Vec<_> = requests.iter().map(|r| node_of(r)).collect();
        match Snapshot::read(cluster, nodes.iter().flatten()).await {
            Ok(snapshot) => requests
                .iter()
                .zip(&nodes)
                .map(|(request, node)| Ok(snapshot.observe(request, node.as_deref())))
                .collect(),
            Err(error) => fail_all(requests.len(), &error),
        }
    }

    async fn plan(&self, _cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        let desired = with_default_groups(&request.desired);
        let Some(observed) = &request.observed else {
            let mut planned = desired;
            planned.insert("token_id".to_owned(), Value::Unknown);
            planned.insert("token".to_owned(), Value::Unknown.sensitive());
            planned.insert("expires_at".to_owned(), Value::Unknown);
            return Ok(Proposal::new(ProposedAction::Create, planned));
        };
        if observed.private["retired"] == true {
            // A retired token does not exist any more, so it cannot be changed.
            return Ok(Proposal::new(ProposedAction::NoOp, observed.attributes.clone()));
        }
        let mut planned = observed.attributes.clone();
        planned.extend(desired);
        let differs = planned != observed.attributes;
        if differs {
            planned.insert("expires_at".to_owned(), Value::Unknown);
        }
        let action = if differs { ProposedAction::Update } else { ProposedAction::NoOp };
        let proposal = Proposal::new(action, planned);
        let consequences =
            request.overwrite(&proposal, &["description", "extra_groups", "usages"]).into_iter().collect();
        Ok(Proposal { consequences, ..proposal })
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        let node = match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                desired.text("node").map(str::to_owned)
            }
            OperationAction::Delete => operation.recorded.as_ref().and_then(|r| node_of_identity(&r.identity)),
        };
        let observed = || operation.observed.as_ref().and_then(|o| o.attributes.text("node").map(str::to_owned));
        let node = node.or_else(observed).ok_or_else(|| {
            ProviderError::new(Class::Invalid, "the node of the token is not known").attribute("node")
        })?;
        let tokens = Tokens::new(cluster).await?;
        match &operation.action {
            OperationAction::Create(desired) => {
                tokens.delete_all(&node).await?;
                tokens.create(&node, &with_default_groups(desired)).await
            }
            OperationAction::Update(desired) => tokens.update(&node, &with_default_groups(desired)).await,
            OperationAction::Delete => tokens.delete_all(&node).await.map(|()| Applied::default()),
        }
    }
}

fn node_of(request: &ReadRequest) -> Option<String> {
    let desired = request.desired.as_ref().and_then(|d| d.text("node")).map(str::to_owned);
    desired.or_else(|| request.recorded.as_ref().and_then(|r| node_of_identity(&r.identity)))
}

fn node_of_identity(identity: &str) -> Option<String> {
    identity.strip_prefix(IDENTITY_PREFIX).map(str::to_owned)
}

fn is_node_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !label.is_empty() && label.chars().all(inside) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn is_group(group: &str) -> bool {
    Regex::new(GROUP_PATTERN).is_ok_and(|pattern| pattern.is_match(group))
}

/// Returns the attributes of the manifest, with the default of `extra_groups` filled in.
fn with_default_groups(desired: &Attributes) -> Attributes {
    let written = ["node", "description", "ttl", "usages", "extra_groups"];
    let mut attributes: Attributes = desired
        .iter()
        .filter(|(name, _)| written.contains(&name.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    attributes.retain(|_, value| !value.is_null());
    let usages = sorted(desired.texts("usages"));
    if !desired.is_unknown_or_retained("usages") && !usages.is_empty() {
        attributes.insert("usages".to_owned(), list(usages));
    }
    if !attributes.contains_key("extra_groups")
        && let Some(node) = desired.text("node")
    {
        attributes.insert("extra_groups".to_owned(), list([node_group(node)]));
    }
    attributes
}

/// Returns the default group of the token of `node`. A group name cannot contain dots.
pub(crate) fn node_group(node: &str) -> String {
    format!("system:bootstrappers:{}", node.replace('.', "-"))
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Returns the label value for `node`: a label value has at most 63 characters, a node name up to 253.
fn label_value(node: &str) -> String {
    if node.len() <= 63 { node.to_owned() } else { hex(&Sha256::digest(node))[..63].to_owned() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// The tokens that moorfast created and the nodes that joined.
struct Snapshot {
    tokens: HashMap<String, Secret>,
    joined: HashSet<String>,
}

impl Snapshot {
    async fn read(cluster: &Cluster, nodes: impl Iterator<Item = &String>) -> Result<Self, ProviderError> {
        let client = cluster.client().await?;
        let tokens = Tokens::new(cluster).await?;
        let all: Api<PartialObjectMeta<Node>> = Api::all(client);
        let everything = ListParams::default();
        let (secrets, found) = tokio::join!(tokens.list(NODE_LABEL), all.list_metadata(&everything));
        let found = found.map_err(|e| cluster.explain(e, "list nodes"))?;
        let wanted: HashSet<_> = nodes.collect();
        let joined = found.items.into_iter().filter_map(|n| n.metadata.name).filter(|n| wanted.contains(n)).collect();
        let mut tokens: HashMap<String, Secret> = HashMap::new();
        for secret in secrets? {
            let Some(node) = secret.metadata.annotations.as_ref().and_then(|a| a.get(NODE_ANNOTATION)).cloned() else {
                continue;
            };
            // A crash can leave two tokens: the one that expires later counts.
            if tokens.get(&node).is_none_or(|other| expiry(other) < expiry(&secret)) {
                tokens.insert(node, secret);
            }
        }
        Ok(Self { tokens, joined })
    }

    fn observe(&self, request: &ReadRequest, node: Option<&str>) -> Option<Observed> {
        let node = node?;
        let token = self.tokens.get(node).filter(|t| !has_expired(t));
        match token {
            Some(secret) => Some(Observed { attributes: attributes_of(node, secret), private: Json::Null }),
            // If the last operation failed, its token is still missing, whether or not the node joined.
            None if request.recorded.as_ref().is_some_and(|r| r.incomplete) => None,
            None if self.joined.contains(node) => Some(retired(request)),
            None => None,
        }
    }
}

/// Returns the observation of a token that is gone because its node joined: its values cannot be read any more.
fn retired(request: &ReadRequest) -> Observed {
    let mut attributes = match (&request.recorded, &request.desired) {
        (Some(record), _) => recorded_values(&record.attributes),
        (None, Some(desired)) => with_default_groups(desired),
        (None, None) => Attributes::new(),
    };
    attributes.insert("token".to_owned(), Value::Retained.sensitive());
    Observed { attributes, private: json!({ "retired": true }) }
}

fn expiry(secret: &Secret) -> Option<Timestamp> {
    text_of(secret, "expiration")?.parse().ok()
}

fn has_expired(secret: &Secret) -> bool {
    expiry(secret).is_some_and(|at| at <= Timestamp::now())
}

fn text_of(secret: &Secret, key: &str) -> Option<String> {
    let bytes = &secret.data.as_ref()?.get(key)?.0;
    String::from_utf8(bytes.clone()).ok()
}

fn attributes_of(node: &str, secret: &Secret) -> Attributes {
    let annotation = |name: &str| secret.metadata.annotations.as_ref().and_then(|a| a.get(name)).cloned();
    let usages = USAGES.iter().filter(|u| text_of(secret, &format!("usage-bootstrap-{u}")).as_deref() == Some("true"));
    let groups = text_of(secret, "auth-extra-groups").unwrap_or_default();
    let groups = groups.split(',').map(str::trim).filter(|g| !g.is_empty());
    let (id, key) =
        (text_of(secret, "token-id").unwrap_or_default(), text_of(secret, "token-secret").unwrap_or_default());
    let token = Value::from(format!("{id}.{key}")).sensitive();
    let attributes = [
        ("node", Value::from(node)),
        ("description", optional(text_of(secret, "description").filter(|d| !d.is_empty()))),
        ("ttl", optional(annotation(TTL_ANNOTATION))),
        ("usages", list(usages.copied())),
        ("extra_groups", list(groups)),
        ("token_id", Value::from(id)),
        ("token", token),
        ("expires_at", optional(text_of(secret, "expiration"))),
    ];
    attributes.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.to_owned(), v)).collect()
}

/// Returns a random text of lower-case letters and digits.
fn random_text(length: usize) -> String {
    const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    let mut random = rand::rng();
    (0..length).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// Returns the data of the Secret except the token itself.
fn data(desired: &Attributes) -> BTreeMap<String, Option<String>> {
    let ttl = desired.duration("ttl").unwrap_or(Duration::from_secs(24 * 3600));
    let expiration = SignedDuration::try_from(ttl)
        .ok()
        .and_then(|ttl| Timestamp::now().checked_add(ttl).ok())
        .unwrap_or(Timestamp::MAX);
    let seconds = Timestamp::from_second(expiration.as_second()).unwrap_or(expiration);
    let usages = desired.texts("usages");
    let groups = desired.texts("extra_groups");
    let mut data: BTreeMap<_, _> = USAGES
        .iter()
        .map(|usage| (format!("usage-bootstrap-{usage}"), usages.iter().any(|u| u == usage).then(|| "true".to_owned())))
        .collect();
    data.insert("description".to_owned(), desired.text("description").map(str::to_owned));
    data.insert("expiration".to_owned(), Some(seconds.to_string()));
    data.insert("auth-extra-groups".to_owned(), (!groups.is_empty()).then(|| groups.join(",")));
    data
}

/// The Secrets that hold bootstrap tokens.
struct Tokens<'a> {
    cluster: &'a Cluster,
    api: Api<Secret>,
}

impl<'a> Tokens<'a> {
    async fn new(cluster: &'a Cluster) -> Result<Self, ProviderError> {
        Ok(Self { cluster, api: Api::namespaced(cluster.client().await?, NAMESPACE) })
    }

    async fn list(&self, labels: &str) -> Result<Vec<Secret>, ProviderError> {
        let parameters = ListParams::default().labels(labels).fields(&format!("type={TYPE}"));
        let found = self.api.list(&parameters).await.map_err(|e| self.cluster.explain(e, "list bootstrap tokens"))?;
        Ok(found.items)
    }

    async fn of_node(&self, node: &str) -> Result<Vec<Secret>, ProviderError> {
        self.list(&format!("{NODE_LABEL}={}", label_value(node))).await
    }

    async fn create(&self, node: &str, desired: &Attributes) -> Result<Applied, ProviderError> {
        loop {
            let (id, key) = (random_text(6), random_text(16));
            let mut data: BTreeMap<_, _> =
                data(desired).into_iter().filter_map(|(k, v)| Some((k, ByteString(v?.into_bytes())))).collect();
            data.insert("token-id".to_owned(), ByteString(id.clone().into_bytes()));
            data.insert("token-secret".to_owned(), ByteString(key.into_bytes()));
            let annotations = [
                (NODE_ANNOTATION.to_owned(), node.to_owned()),
                (TTL_ANNOTATION.to_owned(), ttl_text(desired).to_owned()),
            ];
            let secret = Secret {
                metadata: ObjectMeta {
                    name: Some(format!("bootstrap-token-{id}")),
                    labels: Some([(NODE_LABEL.to_owned(), label_value(node))].into()),
                    annotations: Some(annotations.into()),
                    ..ObjectMeta::default()
                },
                type_: Some(TYPE.to_owned()),
                data: Some(data),
                ..Secret::default()
            };
            let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            match self.api.create(&parameters, &secret).await {
                Ok(made) => return Ok(Applied { attributes: attributes_of(node, &made), ..Applied::default() }),
                // Another token has this ID, which is very rare: try another ID.
                Err(kube::Error::Api(status)) if status.is_already_exists() => {}
                Err(error) => return Err(self.cluster.explain(error, &format!("create a bootstrap token for {node}"))),
            }
        }
    }

    async fn update(&self, node: &str, desired: &Attributes) -> Result<Applied, ProviderError> {
        let found = self.of_node(node).await?.into_iter().max_by_key(expiry);
        let Some(name) = found.and_then(|s| s.metadata.name) else { return self.create(node, desired).await };
        let encoded =
            data(desired).into_iter().map(|(k, v)| (k, v.map_or(Json::Null, |v| json!(ByteString(v.into_bytes())))));
        let patch = json!({
            "metadata": { "annotations": { TTL_ANNOTATION: ttl_text(desired) } },
            "data": encoded.collect::<serde_json::Map<_, _>>(),
        });
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let changed = self.api.patch(&name, &parameters, &Patch::Merge(patch)).await;
        let changed = changed.map_err(|e| self.cluster.explain(e, &format!("update the bootstrap token of {node}")))?;
        Ok(Applied { attributes: attributes_of(node, &changed), ..Applied::default() })
    }

    async fn delete_all(&self, node: &str) -> Result<(), ProviderError> {
        for secret in self.of_node(node).await? {
            let Some(name) = secret.metadata.name else { continue };
            match self.api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    return Err(self.cluster.explain(error, &format!("delete the bootstrap token of {node}")));
                }
            }
        }
        Ok(())
    }
}

fn ttl_text(desired: &Attributes) -> &str {
    desired.text("ttl").unwrap_or(DEFAULT_TTL)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_texts_form_valid_tokens() {
        let pattern = Regex::new(r"^[a-z0-9]{6}\.[a-z0-9]{16}$").unwrap();
        let tokens: HashSet<_> = (0..200).map(|_| format!("{}.{}", random_text(6), random_text(16))).collect();
        assert_eq!(tokens.len(), 200);
        assert!(tokens.iter().all(|t| pattern.is_match(t)));
    }

    #[test]
    fn group_and_node_names_are_validated() {
        let cases = [
            ("system:bootstrappers:gpu01", true),
            ("system:bootstrappers:kubeadm:default-node-token", true),
            ("system:bootstrappers", false),
            ("system:bootstrappers:", false),
            ("system:bootstrappers:Gpu", false),
            ("system:bootstrappers:a.b", false),
            ("system:masters", false),
        ];
        for (group, valid) in cases {
            assert_eq!(is_group(group), valid, "{group}");
        }
        for (name, valid) in
            [("gpu01", true), ("a.b-c", true), ("", false), ("-a", false), ("A", false), ("a..b", false)]
        {
            assert_eq!(is_node_name(name), valid, "{name}");
        }
    }

    #[test]
    fn the_default_group_is_valid_for_every_node_name() {
        let desired = [("node".to_owned(), Value::from("gpu01.example.org"))].into();
        let groups = with_default_groups(&desired).texts("extra_groups");
        assert_eq!(groups, ["system:bootstrappers:gpu01-example-org"]);
        assert!(is_group(&groups[0]));
    }

    #[test]
    fn a_long_node_name_is_hashed_for_the_label() {
        assert_eq!(label_value("gpu01"), "gpu01");
        assert_eq!(label_value(&"a".repeat(200)).len(), 63);
    }
}
