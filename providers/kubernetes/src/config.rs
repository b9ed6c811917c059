//! The configuration `[providers.kubernetes]`: the cluster and its credentials.

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use http::uri::InvalidUri;
use kube::Config;
use moorfast_engine::model::{Attribute, Attributes, Kind, ReadAttributes, Schema, is_inside};
use moorfast_engine::provider::{Class, ClientCertificates, ClientIdentity, Context, Invalid, ProviderError};

use moorfast_kubeconfig::{Access, Kind as ErrorKind, Origin, environment_proxy, is_chosen_by_user};
use serde_json::json;

const SERVER: &str = "server";
const SERVERS: &str = "servers";
/// The attributes of a cluster that is named without a kubeconfig.
const OF_SERVER: [&str; 5] = [SERVER, SERVERS, "client_certificate", "certificate_authority", "tls_server_name"];

/// Returns the schema of `[providers.kubernetes]`.
pub(crate) fn schema() -> Schema {
    Schema::new(
        "A Kubernetes cluster. Without attributes, the cluster is found as kubectl finds it: `$KUBECONFIG`, `~/.kube/config`, then the ServiceAccount of the \
         pod. Several files in `$KUBECONFIG` are merged; missing files are skipped. The user of the kubeconfig can log in with a certificate, a token, a \
         token file or an exec plugin. A plugin has no terminal and a time limit of 30 seconds; its output is never shown. `proxy-url` of the cluster, \
         `HTTPS_PROXY` and `NO_PROXY` are respected, for http, https and socks5 proxies. Instead of a kubeconfig, `server` and `client_certificate` name a cluster \
         whose authority is in the key store: no kubeconfig with administrator rights has to exist.",
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
                SERVER,
                Kind::String,
                "URL of the API server, instead of a kubeconfig: `https://10.0.0.1:6443`. It requires `client_certificate`.",
            ),
            Attribute::optional(
                SERVERS,
                Kind::list(Kind::String),
                "URLs of the API servers of one cluster, instead of `server`. If one cannot be reached, the next one is used, also while an apply runs.",
            ),
            ClientIdentity::attribute(),
            Attribute::optional(
                "certificate_authority",
                Kind::String,
                "CA certificate of the API server as PEM text, for `server`. Default: the certificate of the authority of `client_certificate`.",
            ),
            Attribute::optional(
                "tls_server_name",
                Kind::String,
                "Name in the certificate of the API server, for `server`, if it differs from the host of the URL.",
            ),
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
    /// The API servers, and the client whose certificate is issued in memory.
    Issued(NamedServers, ClientIdentity),
    /// The value of the named attribute is unknown.
    Unknown(&'static str),
}

/// The API servers that the manifest names without a kubeconfig.
#[derive(Clone)]
pub(crate) struct NamedServers {
    /// The attribute that names them.
    attribute: &'static str,
    /// At least one.
    urls: Vec<String>,
    certificate_authority: Option<String>,
    tls_server_name: Option<String>,
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
        let open = ["kubeconfig", "kubeconfig_content", "context"].into_iter().chain(OF_SERVER);
        if let Some(attribute) = open.into_iter().find(|name| attributes.is_unknown_or_retained(name)) {
            return Ok(Self::Unknown(attribute));
        }
        let urls = server_urls(attributes);
        if let (Some(attribute), Some(client)) = (naming_servers(attributes), ClientIdentity::of(attributes)) {
            let text = |name: &str| attributes.text(name).map(str::to_owned);
            let (certificate_authority, tls_server_name) = (text("certificate_authority"), text("tls_server_name"));
            return Ok(Self::Issued(NamedServers { attribute, urls, certificate_authority, tls_server_name }, client));
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

    /// Refuses a kubeconfig that the author of an untrusted manifest may have written: its exec plugins could run commands on this machine. A manifest can name
    /// only a file that the user chose too.
    ///
    /// # Errors
    /// If the user did not choose the kubeconfig, or if it is part of the manifest.
    pub(crate) fn check_untrusted(&self, context: &Context) -> Result<(), ProviderError> {
        let source = match self {
            Self::Known(source) => source,
            Self::Issued(servers, _) => {
                let summary = "`plan --untrusted` refuses to issue a certificate for a server that the manifest names";
                return Err(ProviderError::new(Class::Denied, summary)
                    .attribute(servers.attribute)
                    .help("review the manifest, then plan without --untrusted"));
            }
            Self::Unknown(_) => return Ok(()),
        };
        let name = match &source.origin {
            Origin::File(path) if is_inside(&context.root, Path::new(""), path) || !is_chosen_by_user(path) => {
                "kubeconfig"
            }
            Origin::Text(_) => "kubeconfig_content",
            _ => return Ok(()),
        };
        let summary = format!("`plan --untrusted` refuses a kubeconfig of the manifest: `{name}` can run commands");
        Err(ProviderError::new(Class::Denied, summary).attribute(name).help(
            "review the manifest, then plan without --untrusted; or choose the kubeconfig, outside of the folder of the manifest, with $KUBECONFIG",
        ))
    }

    /// Returns the configuration of each API server. `config` is the one that [`Source::open`] returned.
    ///
    /// # Errors
    /// If the manifest names something else than URLs, or the environment a proxy that cannot be used.
    pub(crate) fn of_servers(&self, config: Config) -> Result<Vec<Config>, ProviderError> {
        let Self::Issued(named, _) = self else { return Ok(vec![config]) };
        let of = |url: &String| {
            let invalid = |error| format!("[providers.kubernetes] `{url}` is not the URL of a server: {error}");
            let parsed = url.parse().map_err(|error: InvalidUri| ProviderError::new(Class::Invalid, invalid(error)));
            let cluster_url: Uri = parsed?;
            let mut config = config.clone();
            config.proxy_url = environment_proxy(&cluster_url).map_err(|error| kubeconfig_error(&error))?;
            config.cluster_url = cluster_url;
            Ok(config)
        };
        named.urls.iter().map(of).collect()
    }

    /// Reads the kubeconfig and logs in to the cluster.
    ///
    /// # Errors
    /// If there is no usable kubeconfig, or no credentials.
    pub(crate) async fn open(&self, certificates: &ClientCertificates) -> Result<Access, ProviderError> {
        let opened = |error: moorfast_kubeconfig::Error| kubeconfig_error(&error);
        match self {
            Self::Known(source) => source.open().await.map_err(opened),
            Self::Issued(server, client) => server.source(client, certificates).await?.open().await.map_err(opened),
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

impl NamedServers {
    /// Returns a kubeconfig in memory with a new certificate of `client`.
    async fn source(
        &self,
        client: &ClientIdentity,
        certificates: &ClientCertificates,
    ) -> Result<moorfast_kubeconfig::Source, ProviderError> {
        let issued = certificates.issue(client).await?;
        let authority = self.certificate_authority.as_ref().unwrap_or(&issued.authority);
        let cluster = json!({
            "server": self.urls.first(),
            "certificate-authority-data": STANDARD.encode(authority),
            "tls-server-name": self.tls_server_name,
        });
        let user = json!({
            "client-certificate-data": STANDARD.encode(&issued.certificate),
            "client-key-data": STANDARD.encode(issued.private_key.as_str()),
        });
        let kubeconfig = json!({
            "clusters": [{ "name": "x", "cluster": cluster }],
            "users": [{ "name": "x", "user": user }],
            "contexts": [{ "name": "x", "context": { "cluster": "x", "user": "x" } }],
        });
        let (origin, context) = (Origin::Text(kubeconfig.to_string()), Some("x".to_owned()));
        Ok(moorfast_kubeconfig::Source { origin, context })
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
    let named =
        ["kubeconfig", "kubeconfig_content", SERVER, SERVERS].into_iter().filter(|name| attributes.is_set(name));
    let in_cluster = attributes.flag("in_cluster").then_some("in_cluster");
    let named: Vec<_> = named.chain(in_cluster).collect();
    match named.as_slice() {
        [first, second, ..] => vec![Invalid {
            attribute: Some(second),
            message: format!("[providers.kubernetes] names two clusters: `{first}` and `{second}`"),
            help: Some("keep one of them".to_owned()),
        }],
        _ => rules_of_server(attributes).into_iter().collect(),
    }
}

/// Checks that the attributes of servers without a kubeconfig are set together.
fn rules_of_server(attributes: &Attributes) -> Option<Invalid> {
    let Some(server) = naming_servers(attributes) else {
        let alone = OF_SERVER.into_iter().find(|name| attributes.is_set(name))?;
        let message = format!("[providers.kubernetes] `{alone}` requires `server` or `servers`");
        return Some(Invalid::new(alone, message).help("set `server` to the URL of the API server"));
    };
    if !attributes.is_set("client_certificate") {
        let message = format!("[providers.kubernetes] `{server}` requires `client_certificate`");
        return Some(Invalid::new(server, message).help("for other credentials use a kubeconfig"));
    }
    if attributes.is_unknown_or_retained(server) {
        return None;
    }
    let urls = server_urls(attributes);
    let message = match urls.iter().find(|url| !url.starts_with("https://")) {
        Some(url) => format!("[providers.kubernetes] `{server}` is not a URL of https: `{url}`"),
        None if urls.is_empty() => format!("[providers.kubernetes] `{server}` is empty"),
        None => return None,
    };
    Some(Invalid::new(server, message).help("use the form https://HOST:PORT"))
}

/// Returns the attribute that names the API servers.
fn naming_servers(attributes: &Attributes) -> Option<&'static str> {
    [SERVER, SERVERS].into_iter().find(|name| attributes.is_set(name))
}

/// Returns the values of `server` and `servers`.
fn server_urls(attributes: &Attributes) -> Vec<String> {
    let one = attributes.text(SERVER).map(str::to_owned);
    one.into_iter().chain(attributes.texts(SERVERS)).collect()
}

fn expand_home(path: &str) -> PathBuf {
    let home = || std::env::home_dir().unwrap_or_default();
    match path.strip_prefix('~') {
        Some("") => home(),
        Some(rest) if rest.starts_with('/') => home().join(rest.trim_start_matches('/')),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use moorfast_engine::model::Value;
    use serde_json::{Value as Json, json};

    use super::*;

    #[test]
    fn several_servers_are_those_of_one_cluster() {
        let client = json!({ "authority": "kubernetes", "common_name": "admin" });
        let servers = ["https://10.0.0.1:6443", "https://10.0.0.2:6443"];
        let source = configured(json!({ "servers": servers, "client_certificate": client })).unwrap();
        let configs = source.of_servers(Config::new("https://10.0.0.1:6443".parse().unwrap())).unwrap();
        let urls: Vec<_> = configs.iter().map(|config| config.cluster_url.to_string()).collect();
        assert_eq!(urls, servers.map(|url| format!("{url}/")));
    }

    fn configured(json: Json) -> Result<Source, String> {
        let Value::Map(attributes) = Value::from(json) else { panic!("not a map") };
        Source::new(&attributes, Path::new("/")).map_err(|error| error.summary)
    }

    #[test]
    fn a_server_needs_a_client_certificate_and_no_kubeconfig() {
        let client = json!({ "authority": "kubernetes", "common_name": "admin", "organizations": ["system:masters"] });
        let server = "https://10.0.0.1:6443";
        let source = configured(json!({ "server": server, "client_certificate": client })).unwrap();
        let Source::Issued(found, identity) = source else { panic!("not a server") };
        assert_eq!((found.urls, identity.authority.as_str()), (vec![server.to_owned()], "kubernetes"));
        assert_eq!(
            (identity.common_name.as_str(), identity.organizations),
            ("admin", vec!["system:masters".to_owned()])
        );
        for (wrong, reason) in [
            (json!({ "server": server }), "[providers.kubernetes] `server` requires `client_certificate`"),
            (
                json!({ "client_certificate": client }),
                "[providers.kubernetes] `client_certificate` requires `server` or `servers`",
            ),
            (
                json!({ "tls_server_name": "x" }),
                "[providers.kubernetes] `tls_server_name` requires `server` or `servers`",
            ),
            (json!({ "servers": [server] }), "[providers.kubernetes] `servers` requires `client_certificate`"),
            (json!({ "servers": [], "client_certificate": client }), "[providers.kubernetes] `servers` is empty"),
            (
                json!({ "servers": [server, "http://10.0.0.2"], "client_certificate": client }),
                "[providers.kubernetes] `servers` is not a URL of https: `http://10.0.0.2`",
            ),
            (
                json!({ "server": server, "servers": [server], "client_certificate": client }),
                "[providers.kubernetes] names two clusters: `server` and `servers`",
            ),
            (
                json!({ "server": "http://10.0.0.1", "client_certificate": client }),
                "[providers.kubernetes] `server` is not a URL of https: `http://10.0.0.1`",
            ),
            (
                json!({ "server": server, "client_certificate": client, "kubeconfig": "admin" }),
                "[providers.kubernetes] names two clusters: `kubeconfig` and `server`",
            ),
        ] {
            assert_eq!(configured(wrong).err().unwrap(), reason);
        }
    }
}
