//! `[providers.kubernetes]`: which cluster, and who we are there.

use std::path::{Path, PathBuf};

use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, is_inside};
use moorfast_engine::provider::{Class, Context, Invalid, ProviderError};

use moorfast_kubeconfig::{Access, Kind as Trouble, Origin};

use crate::attributes::Read;

/// What `[providers.kubernetes]` takes.
pub(crate) fn schema() -> Schema {
    Schema::new(
        "A Kubernetes cluster. Without any attribute the cluster is found as kubectl finds it: `$KUBECONFIG`, `~/.kube/config`, \
         then the ServiceAccount of the pod. Several files in `$KUBECONFIG` are merged, missing ones are skipped. Users of the kubeconfig may log in by \
         certificate, token, token file or exec plugin; a plugin gets no terminal, ends after 30 seconds, and what it prints is not shown. `proxy-url` of \
         the cluster, `HTTPS_PROXY` and `NO_PROXY` lead through proxies of http, https and socks5.",
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
pub(crate) enum Source {
    /// A kubeconfig, or what serves for one.
    Known(moorfast_kubeconfig::Source),
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
        if let Some(attribute) = open {
            return Ok(Self::NotKnown(attribute));
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

    /// Refuses a cluster that somebody else's manifest brings along: its kubeconfig can run commands on this machine, as exec plugins.
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
        let summary =
            format!("`plan --untrusted` uses no kubeconfig of the manifest, which can run commands: `{name}`");
        Err(ProviderError::new(Class::Denied, summary)
            .attribute(name)
            .help("review the manifest first; then plan without --untrusted, or name a kubeconfig outside of the folder of the manifest"))
    }

    /// Returns the way to the cluster.
    ///
    /// # Errors
    /// If there is none, or it cannot be used.
    pub(crate) async fn open(&self) -> Result<Access, ProviderError> {
        match self {
            Self::Known(source) => source.open().await.map_err(|error| unusable(&error)),
            Self::NotKnown(attribute) => {
                let summary = format!(
                    "`{attribute}` of the provider kubernetes comes from a resource, and is not known when planning"
                );
                Err(ProviderError::new(Class::Invalid, summary)
                    .help("a provider's configuration can't come from resources: write the path of a kubeconfig, or use a variable"))
            }
        }
    }
}

/// The error of a provider for `error`.
pub(crate) fn unusable(error: &moorfast_kubeconfig::Error) -> ProviderError {
    let class = match error.kind {
        Trouble::Unusable => Class::Failed,
        Trouble::Login => Class::Denied,
        Trouble::Timeout => Class::Unreachable,
    };
    let unusable = ProviderError::new(class, error.summary.clone()).detail(error.detail.clone());
    ProviderError { help: error.help.clone(), ..unusable }
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
