//! One cluster: its client, created on first use, and its served kinds.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, ListParams};
use kube::client::ClientBuilder;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Discovery, Scope};
use kube::{Client, Config};
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, Context, ProviderError};
use moorfast_kubeconfig::Access;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, sleep};
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

use crate::config::Source;
use crate::error::explain;
use crate::request_guard::RequestGuard;
use crate::response::Kinds;
use crate::retry::Retry;
use crate::server_urls::ServerUrls;
use crate::servers::Servers;

/// The time limit for a connection to the server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests may wait for the client.
const QUEUE: usize = 1024;
/// The time limit for a starting API server to become ready.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(300);
/// The interval between two readiness checks of a starting API server.
const STARTUP_POLL: Duration = Duration::from_millis(500);
/// How long a list of certificate requests is reused.
const LIST_AGE: Duration = Duration::from_millis(500);
/// How many namespaces are listed to suggest a similar name.
const NAMESPACE_LIMIT: u32 = 1000;
/// The shortest time between two discoveries for an unknown kind.
const DISCOVERY_AGE: Duration = Duration::from_secs(1);

/// The field manager of moorfast.
pub(crate) const FIELD_MANAGER: &str = "moorfast";

/// A configured cluster.
pub(crate) struct Cluster {
    source: Source,
    /// Whether a plan does a dry run of every object.
    pub(crate) full_dry_run: bool,
    /// The context of the run, from the engine.
    pub(crate) context: Context,
    connected: OnceCell<Connected>,
    failed_login: Mutex<Option<ProviderError>>,
    discovered: Mutex<Option<Discovered>>,
    requests: Arc<AtomicU64>,
    kinds: Kinds,
    /// The certificate requests and the time of the list. Many instances wait for their requests at the same time.
    certificate_requests: Mutex<Option<(CertificateRequests, Instant)>>,
    /// Whether each namespace was missing when a plan asked for it first.
    missing_namespaces: Mutex<HashMap<String, Arc<OnceCell<bool>>>>,
}

/// All certificate requests, oldest first.
pub(crate) type CertificateRequests = Arc<Vec<CertificateSigningRequest>>;

/// A discovery, and the kinds that were looked up in it. A lookup copies all kinds of a version, and a plan needs one for each object.
struct Discovered {
    discovery: Discovery,
    at: Instant,
    found: HashMap<GroupVersionKind, Option<Served>>,
}

struct Connected {
    client: Client,
    servers: ServerUrls,
}

/// A kind that the API server serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Served {
    /// The API resource.
    pub(crate) resource: ApiResource,
    /// Whether the kind is namespaced.
    pub(crate) namespaced: bool,
}

impl Served {
    /// Returns the kind of a built-in type, which every cluster serves.
    pub(crate) fn of<K: kube::Resource<DynamicType = ()>>(namespaced: bool) -> Self {
        Self { resource: ApiResource::erase::<K>(&()), namespaced }
    }

    /// Returns the API of the objects in `namespace`, which is ignored for a cluster-scoped kind.
    pub(crate) fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        match self.namespaced {
            true => Api::namespaced_with(client, namespace, &self.resource),
            false => Api::all_with(client, &self.resource),
        }
    }
}

impl Cluster {
    /// Creates a cluster that is reached through `source`.
    pub(crate) fn new(source: Source, full_dry_run: bool, context: Context) -> Self {
        Self {
            source,
            full_dry_run,
            context,
            connected: OnceCell::new(),
            failed_login: Mutex::new(None),
            discovered: Mutex::new(None),
            requests: Arc::default(),
            kinds: Kinds::default(),
            certificate_requests: Mutex::new(None),
            missing_namespaces: Mutex::default(),
        }
    }

    /// Returns the client.
    ///
    /// # Errors
    /// If the kubeconfig cannot be used or the login fails.
    pub(crate) async fn client(&self) -> Result<Client, ProviderError> {
        Ok(self.connected().await?.client.clone())
    }

    async fn connected(&self) -> Result<&Connected, ProviderError> {
        self.connected.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Connected, ProviderError> {
        // Fails only if another provider of this process installed it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Access { mut config, login } = self.log_in().await?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let namespace = config.default_namespace.clone();
        let configs = self.source.of_servers(config)?;
        let url = |config: &Config| config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let servers = ServerUrls::new(configs.iter().map(url));
        let client_of = |config: Config| {
            let renewal = login.renewal(&config);
            let builder = ClientBuilder::try_from(config).map_err(|e| explain(e, "connect", servers.current()))?;
            Ok(builder.with_layer(&renewal).build())
        };
        let clients: Vec<Client> = configs.into_iter().map(client_of).collect::<Result<_, ProviderError>>()?;
        let guard =
            RequestGuard::new(Arc::clone(&self.requests), self.context.start_permit.clone(), self.kinds.clone());
        let client = ClientBuilder::new(Servers::new(servers.clone(), clients), &namespace)
            .with_layer(&guard)
            .with_layer(&BufferLayer::new(QUEUE))
            .with_layer(&login)
            .with_layer(&RetryLayer::new(Retry::new(servers.clone(), self.context.progress.clone())))
            .build();
        Ok(Connected { client, servers })
    }

    /// Reads the kubeconfig and logs in. A failed login is not repeated, so that a hanging plugin costs its time limit only once.
    async fn log_in(&self) -> Result<Access, ProviderError> {
        let mut failed = self.failed_login.lock().await;
        if let Some(error) = failed.as_ref() {
            return Err(error.clone());
        }
        let opened = self.source.open(&self.context.client_certificates).await;
        if let Err(error) = &opened
            && matches!(error.class, Class::Denied | Class::Unreachable)
            // An authority that does not exist yet can be made by this run.
            && matches!(self.source, Source::Known(_))
        {
            *failed = Some(error.clone());
        }
        opened
    }

    /// Converts an error of the client. `doing` names the failed action: `read Deployment/web`.
    pub(crate) fn explain(&self, error: kube::Error, doing: &str) -> ProviderError {
        explain(error, doing, self.server())
    }

    /// Waits until the API server is ready after a start or restart. Progress is reported for the instance `waiting`.
    ///
    /// # Errors
    /// If the API server is not ready in time, with its last error.
    pub(crate) async fn wait_until_reachable(&self, waiting: &Address) -> Result<(), ProviderError> {
        let client = self.client().await?;
        let deadline = Instant::now() + STARTUP_TIMEOUT;
        loop {
            let error = match Self::readiness(&client).await {
                Ok(()) => return Ok(()),
                Err(error) => self.explain(error, "check whether the API server is ready"),
            };
            if Instant::now() >= deadline {
                return Err(
                    error.help(format!("the API server was started, but was not ready within {STARTUP_TIMEOUT:?}"))
                );
            }
            self.context.progress.report(waiting, "waiting for the API server");
            sleep(STARTUP_POLL).await;
        }
    }

    /// Returns the URL of the API server that is in use.
    pub(crate) fn server(&self) -> &str {
        self.connected.get().map_or("(not configured)", |connected| connected.servers.current())
    }

    /// Returns the number of requests that were sent.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the kind `kind` of `api_version`, or `None` if it is not served.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) async fn served(&self, api_version: &str, kind: &str) -> Result<Option<Served>, ProviderError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let mut discovered = self.discovered.lock().await;
        if let Some(known) = discovered.as_mut() {
            let found = known.find(&gvk);
            if found.is_some() || known.at.elapsed() < DISCOVERY_AGE {
                return Ok(found);
            }
        }
        let discovery = self.discover().await?;
        self.kinds.add(&discovery);
        let mut fresh = Discovered { discovery, at: Instant::now(), found: HashMap::new() };
        let found = fresh.find(&gvk);
        if found.is_none() {
            self.check_not_served(api_version).await?;
        }
        *discovered = Some(fresh);
        Ok(found)
    }

    /// Checks that `api_version` is served completely or not at all. Discovery omits the groups of an extension server that is down.
    async fn check_not_served(&self, api_version: &str) -> Result<(), ProviderError> {
        let client = self.client().await?;
        let listed = match api_version.split_once('/') {
            Some(_) => client.list_api_group_resources(api_version).await,
            None => client.list_core_api_resources(api_version).await,
        };
        match listed {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(self.explain(error, &format!("list the resources of {api_version}"))),
        }
    }

    /// Checks whether the kind is still served, with a new discovery.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) async fn still_serves(&self, served: &Served) -> Result<bool, ProviderError> {
        *self.discovered.lock().await = None;
        Ok(self.served(&served.resource.api_version, &served.resource.kind).await?.is_some())
    }

    /// Works like [`Cluster::served`], but does a new discovery if the kind is unknown.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) async fn served_now(&self, api_version: &str, kind: &str) -> Result<Option<Served>, ProviderError> {
        if let Some(found) = self.served(api_version, kind).await? {
            return Ok(Some(found));
        }
        self.invalidate_discovery().await;
        self.served(api_version, kind).await
    }

    /// Returns the kind `kind` of `group` in the version that the API server prefers.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) async fn preferred(&self, group: &str, kind: &str) -> Result<Option<Served>, ProviderError> {
        // Fills the discovery cache.
        self.served("v1", "Namespace").await?;
        let discovered = self.discovered.lock().await;
        let Some(Discovered { discovery, .. }) = discovered.as_ref() else { return Ok(None) };
        let found = discovery.get(group).and_then(|g| g.recommended_kind(kind));
        Ok(found
            .map(|(resource, capabilities)| Served { resource, namespaced: capabilities.scope == Scope::Namespaced }))
    }

    /// Returns the served kinds as pairs of API version and kind.
    ///
    /// # Errors
    /// If the API server does not respond.
    pub(crate) async fn kinds(&self) -> Result<Vec<(String, String)>, ProviderError> {
        // Fills the discovery cache.
        self.served("v1", "Namespace").await?;
        let discovered = self.discovered.lock().await;
        let groups = discovered.iter().flat_map(|known| known.discovery.groups());
        let resources =
            groups.flat_map(|group| group.versions().flat_map(|version| group.versioned_resources(version)));
        Ok(resources.map(|(resource, _)| (resource.api_version, resource.kind)).collect())
    }

    /// Invalidates the discovery cache.
    pub(crate) async fn invalidate_discovery(&self) {
        *self.discovered.lock().await = None;
    }

    /// Returns the names of the namespaces; empty if they cannot be listed.
    pub(crate) async fn namespaces(&self) -> Vec<String> {
        let Ok(client) = self.client().await else { return Vec::new() };
        let api: Api<Namespace> = Api::all(client);
        let listed = api.list_metadata(&ListParams::default().limit(NAMESPACE_LIMIT)).await;
        listed.map(|list| list.items.into_iter().filter_map(|item| item.metadata.name).collect()).unwrap_or_default()
    }

    /// Whether the namespace does not exist. Each namespace is read once. Returns false if it cannot be read.
    pub(crate) async fn lacks_namespace(&self, name: &str) -> bool {
        let missing = Arc::clone(self.missing_namespaces.lock().await.entry(name.to_owned()).or_default());
        let read = async {
            let Ok(client) = self.client().await else { return false };
            matches!(Api::<Namespace>::all(client).get_metadata_opt(name).await, Ok(None))
        };
        *missing.get_or_init(|| read).await
    }

    async fn discover(&self) -> Result<Discovery, ProviderError> {
        let client = self.client().await?;
        let doing = "discover the served kinds";
        let aggregated = Discovery::new(client.clone()).run_aggregated().await;
        match aggregated {
            Ok(discovery) => Ok(discovery),
            // Servers before 1.26 do not have aggregated discovery.
            Err(kube::Error::SerdeError(_)) => Discovery::new(client).run().await.map_err(|e| self.explain(e, doing)),
            Err(error) => Err(self.explain(error, doing)),
        }
    }

    /// Lists all certificate requests, oldest first. The list can be half a second old.
    ///
    /// # Errors
    /// If the requests cannot be listed.
    pub(crate) async fn certificate_requests(&self) -> Result<CertificateRequests, ProviderError> {
        let mut known = self.certificate_requests.lock().await;
        if let Some((requests, at)) = known.as_ref()
            && at.elapsed() < LIST_AGE
        {
            return Ok(Arc::clone(requests));
        }
        let api: Api<CertificateSigningRequest> = Api::all(self.client().await?);
        let found = api.list(&ListParams::default()).await.map_err(|e| self.explain(e, "list certificate requests"))?;
        let mut requests = found.items;
        requests.sort_by(|a, b| {
            let age = |r: &CertificateSigningRequest| r.metadata.creation_timestamp.as_ref().map(|t| t.0);
            age(a).cmp(&age(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
        });
        let requests = Arc::new(requests);
        *known = Some((Arc::clone(&requests), Instant::now()));
        Ok(requests)
    }

    /// Invalidates the cached list of certificate requests.
    pub(crate) async fn invalidate_certificate_requests(&self) {
        *self.certificate_requests.lock().await = None;
    }

    /// Requests `path` of the kubelet of `node` through the API server.
    ///
    /// # Errors
    /// The outer error means that there is no connection to the API server; the inner one that the node is unknown or its kubelet does not respond.
    pub(crate) async fn kubelet(&self, node: &str, path: &str) -> Result<Result<String, kube::Error>, ProviderError> {
        let client = self.client().await?;
        let request = Request::get(format!("/api/v1/nodes/{node}/proxy/{path}")).body(Vec::new());
        let request = request
            .map_err(|e| ProviderError::new(Class::Invalid, format!("`{node}` is not a valid node name: {e}")))?;
        Ok(client.request_text(request).await)
    }
}

impl Discovered {
    /// Returns the kind `gvk`, if it is served.
    fn find(&mut self, gvk: &GroupVersionKind) -> Option<Served> {
        if let Some(found) = self.found.get(gvk) {
            return found.clone();
        }
        let found = self
            .discovery
            .resolve_gvk(gvk)
            .map(|(resource, capabilities)| Served { resource, namespaced: capabilities.scope == Scope::Namespaced });
        self.found.insert(gvk.clone(), found.clone());
        found
    }
}

/// Returns an error of the class `Timeout`.
pub(crate) fn timed_out(summary: impl Into<String>) -> ProviderError {
    ProviderError::new(Class::Timeout, summary)
}
