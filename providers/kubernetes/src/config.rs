//! `[providers.kubernetes]`: which cluster, and who we are there.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use moorfast_engine::state::bounded;
use moorfast_engine::{Attribute, Attributes, Class, Context, Invalid, Kind, ProviderError, Schema, is_inside};

use crate::attributes::Read;

/// What `[providers.kubernetes]` takes.
pub(crate) fn schema() -> Schema {
    Schema::new(
        "A Kubernetes cluster. Without any attribute the cluster is found as kubectl finds it: `$KUBECONFIG`, `~/.kube/config`, \
         then the ServiceAccount of the pod. Users of the kubeconfig may log in by certificate, token, token file or exec plugin.",
        [
            Attribute::optional(
                "kubeconfig",
                Kind::String,
                "Path of a kubeconfig; relative to the manifest, `~` is the home folder.",
            ),
            Attribute::optional(
                "kubeconfig_content",
                Kind::String,
                "The text of a kubeconfig, instead of a file: from a variable or a function, not from a resource. Like all of a provider's configuration it \
                 must be known when planning, and what a resource makes is known after apply only.",
            )
            .secret(),
            Attribute::optional(
                "context",
                Kind::String,
                "The context to use; the kubeconfig's current one where it is not written.",
            ),
            Attribute::optional("in_cluster", Kind::Bool, "Use the ServiceAccount of the pod that moorfast runs in."),
        ],
    )
}

/// Where the configuration of the client comes from.
#[derive(Clone)]
pub(crate) struct Source {
    origin: Origin,
    context: Option<String>,
}

#[derive(Clone)]
enum Origin {
    File(PathBuf),
    Text(String),
    InCluster,
    Default,
    /// This attribute names it, and its value is not known.
    NotKnown(&'static str),
}

impl Source {
    /// The source that `[providers.kubernetes]` names.
    ///
    /// # Errors
    /// Where it names more than one.
    pub(crate) fn new(attributes: &Attributes, root: &Path) -> Result<Self, ProviderError> {
        if let Some(broken) = rules(attributes).into_iter().next() {
            return Err(ProviderError::new(Class::Invalid, broken.message));
        }
        let open = ["kubeconfig", "kubeconfig_content", "context"].into_iter().find(|name| attributes.is_open(name));
        let origin = if let Some(attribute) = open {
            Origin::NotKnown(attribute)
        } else if let Some(path) = attributes.text("kubeconfig") {
            Origin::File(root.join(expand_home(path)))
        } else if let Some(text) = attributes.text("kubeconfig_content") {
            Origin::Text(text.to_owned())
        } else if attributes.flag("in_cluster") {
            Origin::InCluster
        } else {
            Origin::Default
        };
        Ok(Self { origin, context: attributes.text("context").map(str::to_owned) })
    }

    /// Refuses a cluster that somebody else's manifest brings along: its kubeconfig can run commands on this machine, as exec plugins.
    ///
    /// # Errors
    /// If the kubeconfig is part of the manifest.
    pub(crate) fn check_untrusted(&self, context: &Context) -> Result<(), ProviderError> {
        let name = match &self.origin {
            Origin::File(path) if is_inside(&context.root, Path::new(""), path) => "kubeconfig",
            Origin::Text(_) => "kubeconfig_content",
            _ => return Ok(()),
        };
        let summary =
            format!("`plan --untrusted` uses no kubeconfig of the manifest, which can run commands: `{name}`");
        Err(ProviderError::new(Class::Denied, summary)
            .attribute(name)
            .help("review the manifest first; then plan without --untrusted, or name a kubeconfig outside of the folder of the manifest"))
    }

    /// The client's configuration.
    ///
    /// # Errors
    /// If there is none, or it can't be used.
    pub(crate) async fn load(&self) -> Result<Config, ProviderError> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.origin {
            Origin::NotKnown(attribute) => {
                let summary = format!("`{attribute}` of the provider kubernetes comes from a resource, and is not known when planning");
                Err(ProviderError::new(Class::Invalid, summary)
                    .help("a provider's configuration can't come from resources: write the path of a kubeconfig, or use a variable"))
            }
            Origin::File(path) => {
                let place = path.display().to_string();
                bounded::check(path, bounded::TEXT).map_err(|e| unreadable(&place, &e))?;
                let kubeconfig = Kubeconfig::read_from(path).map_err(|e| unusable(&place, &e))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| unusable(&place, &e))
            }
            Origin::Text(text) => {
                let place = "kubeconfig_content";
                let kubeconfig = Kubeconfig::from_yaml(text).map_err(|e| unusable(place, &e))?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|e| unusable(place, &e))
            }
            Origin::InCluster => Config::incluster().map_err(|e| {
                ProviderError::new(Class::Failed, format!("no credentials of a pod: {e}")).help("in_cluster works only inside a pod with a ServiceAccount")
            }),
            Origin::Default => match Config::from_kubeconfig(&options).await {
                Ok(config) => Ok(config),
                Err(e) if self.context.is_some() => Err(unusable("$KUBECONFIG or ~/.kube/config", &e)),
                Err(of_file) => Config::incluster().map_err(|of_pod| {
                    let summary = "there is no kubeconfig: neither $KUBECONFIG nor ~/.kube/config nor a pod's ServiceAccount can be used";
                    let of_file = unusable("of $KUBECONFIG or ~/.kube/config", &of_file).summary;
                    ProviderError::new(Class::Failed, summary)
                        .detail([of_file, format!("no credentials of a pod: {of_pod}")])
                        .help("name one: [providers.kubernetes] kubeconfig = \"admin.kubeconfig\"")
                }),
            },
        }
    }
}

/// Rules beyond the schema.
fn rules(attributes: &Attributes) -> Vec<Invalid> {
    let named: Vec<_> = ["kubeconfig", "kubeconfig_content"]
        .into_iter()
        .filter(|n| attributes.get(*n).is_some_and(|v| !v.is_null()))
        .collect();
    let in_cluster = attributes.flag("in_cluster").then_some("in_cluster");
    let named: Vec<_> = named.into_iter().chain(in_cluster).collect();
    match named.as_slice() {
        [first, second, ..] => vec![Invalid {
            attribute: Some(second),
            message: format!("[providers.kubernetes] names two clusters: `{first}` and `{second}`"),
            help: Some("keep one of them".to_owned()),
        }],
        _ => Vec::new(),
    }
}

fn expand_home(path: &str) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default();
    match path.strip_prefix('~') {
        Some("") => home(),
        Some(rest) if rest.starts_with('/') => home().join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

fn unreadable(place: &str, error: &std::io::Error) -> ProviderError {
    ProviderError::new(Class::Failed, format!("cannot read the kubeconfig {place}: {error}"))
}

fn unusable(place: &str, error: &KubeconfigError) -> ProviderError {
    match error {
        KubeconfigError::ReadConfig(io, _) => unreadable(place, io),
        // The YAML error quotes the text around it, which holds credentials.
        KubeconfigError::Parse(_) => {
            ProviderError::new(Class::Failed, format!("the kubeconfig {place} is not valid YAML"))
        }
        KubeconfigError::LoadContext(name) => {
            ProviderError::new(Class::Failed, format!("the kubeconfig {place} has no context {name:?}"))
                .help("`kubectl config get-contexts` lists them")
        }
        other => ProviderError::new(Class::Failed, format!("the kubeconfig {place} can't be used: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_kubeconfig_is_not_quoted() {
        let text = "users:\n- name: a\n  user:\n    token: s3cr3t-token\n   bad: indent\n";
        let error = Kubeconfig::from_yaml(text).unwrap_err();
        let told = unusable("of $KUBECONFIG or ~/.kube/config", &error);
        assert_eq!(told.summary, "the kubeconfig of $KUBECONFIG or ~/.kube/config is not valid YAML");
    }
}
