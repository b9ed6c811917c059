//! The configuration `[providers.kubernetes]`: the cluster and its credentials.

use std::path::{Path, PathBuf};

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, is_inside};
use moorfast_engine::provider::{Class, Context, Invalid, ProviderError};

use moorfast_kubeconfig::{Access, Kind as ErrorKind, Origin};

use crate::attributes::Read;

/// Returns the schema of `[providers.kubernetes]`.
pub(crate) fn schema() -> Schema {
    Schema::new(
        "A Kubernetes cluster. Without attributes, the cluster is found as kubectl finds it: `$KUBECONFIG`, `~/.kube/config`, then the ServiceAccount of the \
         pod. Several files in `$KUBECONFIG` are merged; missing files are skipped. The user of the kubeconfig can log in with a certificate, a token, a \
         token file or an exec plugin. A plugin has no terminal and a time limit of 30 seconds; its output is never shown. `proxy-url` of the cluster, \
         `HTTPS_PROXY` and `NO_PROXY` are respected, for http, https and socks5 proxies.",
        [
            Attribute::optional(
                "kubeconfig",
                Kind::String,
                "Path of a kubeconfig, relative to the manifest. `~` is the home folder.",
            ),
            Attribute::optional(
                "kubeconfig_content",
                Kind::String,
                "Text of a kubeconfig, instead of a file. It can come from a variable or a function, but not from a resource: the configuration of a \
                 provider must be known when planning, and the attributes of a resource may be known only after apply.",
            )
            .secret(),
            Attribute::optional(
                "context",
                Kind::String,
                "Context to use. Default: the current context of the kubeconfig.",
            ),
            Attribute::optional("in_cluster", Kind::Bool, "Whether to use the ServiceAccount of the pod in which moorfast runs."),
            Attribute::optional(
                "full_dry_run",
                Kind::Bool,
                "Whether a plan does a dry run of every `kubernetes_object`. If not set, an object whose fields all live as declared, all managed by \
                 moorfast, has no dry run: an apply would not change it, except through an admission webhook.",
            ),
        ],
    )
}

/// The source of the client configuration.
#[derive(Clone)]
pub(crate) enum Source {
    /// A kubeconfig, or the ServiceAccount of the pod.
    Known(moorfast_kubeconfig::Source),
    /// The value of the named attribute is unknown.
    Unknown(&'static str),
}

impl Source {
    /// Returns the source that `[providers.kubernetes]` names.
    ///
    /// # Errors
    /// If the attributes name more than one source.
    pub(crate) fn new(attributes: &Attributes, root: &Path) -> Result<Self, ProviderError> {
        if let Some(broken) = rules(attributes).into_iter().next() {
            return Err(ProviderError::new(Class::Invalid, broken.message));
        }
        let open = ["kubeconfig", "kubeconfig_content", "context"]
            .into_iter()
            .find(|name| attributes.is_unknown_or_retained(name));
        if let Some(attribute) = open {
            return Ok(Self::Unknown(attribute));
        }
        let origin = if let Some(path) = attributes.text("kubeconfig") {
            Origin::File(root.join(expand_home(path)))
        } else if let Some(text) = attributes.text("kubeconfig_content") {
            Origin::Text(text.to_owned())
        } else if attributes.flag("in_cluster") {
            Origin::InCluster
        } else {
            Origin::Default
        };
        let context = attributes.text("context").map(str::to_owned);
        Ok(Self::Known(moorfast_kubeconfig::Source { origin, context }))
    }

    /// Refuses a kubeconfig that is part of an untrusted manifest: its exec plugins could run commands on this machine.
    ///
    /// # Errors
    /// If the kubeconfig is part of the manifest.
    pub(crate) fn check_untrusted(&self, context: &Context) -> Result<(), ProviderError> {
        let Self::Known(source) = self else { return Ok(()) };
        let name = match &source.origin {
            Origin::File(path) if is_inside(&context.root, Path::new(""), path) => "kubeconfig",
            Origin::Text(_) => "kubeconfig_content",
            _ => return Ok(()),
        };
        let summary = format!("`plan --untrusted` refuses a kubeconfig of the manifest: `{name}` can run commands");
        Err(ProviderError::new(Class::Denied, summary)
            .attribute(name)
            .help("review the manifest, then plan without --untrusted; or name a kubeconfig outside of the folder of the manifest"))
    }

    /// Reads the kubeconfig and logs in to the cluster.
    ///
    /// # Errors
    /// If there is no usable kubeconfig, or no credentials.
    pub(crate) async fn open(&self) -> Result<Access, ProviderError> {
        match self {
            Self::Known(source) => source.open().await.map_err(|error| kubeconfig_error(&error)),
            Self::Unknown(attribute) => {
                let summary = format!(
                    "`{attribute}` of the provider `kubernetes` is not known when planning: it comes from a resource"
                );
                Err(ProviderError::new(Class::Invalid, summary)
                    .help("the configuration of a provider cannot come from resources: set the path of a kubeconfig, or use a variable"))
            }
        }
    }
}

/// Converts an error of the kubeconfig.
pub(crate) fn kubeconfig_error(error: &moorfast_kubeconfig::Error) -> ProviderError {
    let class = match error.kind {
        ErrorKind::Unusable => Class::Failed,
        ErrorKind::Login => Class::Denied,
        ErrorKind::Timeout => Class::Unreachable,
    };
    let converted = ProviderError::new(class, error.summary.clone()).detail(error.detail.clone());
    ProviderError { help: error.help.clone(), ..converted }
}

/// Checks the rules that the schema cannot express.
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
