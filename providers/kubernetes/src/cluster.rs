//! One cluster: its client, made when it is first needed, and what its API serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Request;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, DynamicObject, ListParams};
use kube::client::ClientBuilder;
use kube::core::{ApiResource, GroupVersionKind};
use kube::discovery::{Discovery, Scope};
use moorfast_engine::model::Address;
use moorfast_engine::provider::{Class, Context, ProviderError};
use moorfast_kubeconfig::Access;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{Instant, sleep};
use tower::buffer::BufferLayer;
use tower::retry::RetryLayer;

use crate::answer::Kinds;
use crate::config::Source;
use crate::error::explain;
use crate::exchange::Exchanges;
use crate::retry::Retry;

/// How long a server may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How many requests may wait for the connection.
const QUEUE: usize = 1024;
/// How long an API server may take to come up.
const COMING_UP: Duration = Duration::from_secs(300);
/// How often one that comes up is asked.
const COMING_UP_PACE: Duration = Duration::from_millis(500);
/// So long a list of certificate requests is as good as a new one.
const LIST_AGE: Duration = Duration::from_millis(500);
/// How many namespaces are compared with a name that none has.
const NAMESPACES: u32 = 1000;
/// What is unknown is looked for again only after this long.
const DISCOVERY_AGE: Duration = Duration::from_secs(1);

/// A cluster that a provider instance is configured for.
pub(crate) struct Cluster {
    source: Source,
    /// What the engine gave us.
    pub(crate) context: Context,
    connected: OnceCell<Connected>,
    failed_login: Mutex<Option<ProviderError>>,
    discovered: Mutex<Option<(Arc<Discovery>, Instant)>>,
    requests: Arc<AtomicU64>,
    kinds: Kinds,
    /// The certificate requests, as of a moment ago: many instances wait for theirs at the same time.
    certificate_requests: Mutex<Option<(CertificateRequests, Instant)>>,
}

/// All certificate requests, oldest first.
pub(crate) type CertificateRequests = Arc<Vec<CertificateSigningRequest>>;

struct Connected {
    client: Client,
    server: String,
}

/// A kind that the API server serves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Served {
    /// How it is asked for.
    pub(crate) resource: ApiResource,
    /// Do its objects live in namespaces?
    pub(crate) namespaced: bool,
}

impl Served {
    /// The kind of a type, which every cluster serves.
    pub(crate) fn of<K: kube::Resource<DynamicType = ()>>(namespaced: bool) -> Self {
        Self { resource: ApiResource::erase::<K>(&()), namespaced }
    }

    /// The API of its objects in `namespace` (without meaning where they live in none).
    pub(crate) fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        match self.namespaced {
            true => Api::namespaced_with(client, namespace, &self.resource),
            false => Api::all_with(client, &self.resource),
        }
    }
}

impl Cluster {
    /// The cluster that `source` tells how to reach.
    pub(crate) fn new(source: Source, context: Context) -> Self {
        Self {
            source,
            context,
            connected: OnceCell::new(),
            failed_login: Mutex::new(None),
            discovered: Mutex::new(None),
            requests: Arc::default(),
            kinds: Kinds::default(),
            certificate_requests: Mutex::new(None),
        }
    }

    /// The client, connected.
    ///
    /// # Errors
    /// If there is no usable configuration.
    pub(crate) async fn client(&self) -> Result<Client, ProviderError> {
        Ok(self.connected().await?.client.clone())
    }

    async fn connected(&self) -> Result<&Connected, ProviderError> {
        self.connected.get_or_try_init(|| self.connect()).await
    }

    async fn connect(&self) -> Result<Connected, ProviderError> {
        // Another provider of this process may have installed it already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let Access { mut config, login } = self.log_in().await?;
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let exchanges =
            Exchanges::counted_in(Arc::clone(&self.requests), self.context.start_permit.clone(), self.kinds.clone());
        let builder = ClientBuilder::try_from(config).map_err(|e| explain(e, "connect", &server))?;
        let client = builder
            .with_layer(&exchanges)
            .with_layer(&BufferLayer::new(QUEUE))
            .with_layer(&login.layer())
            .with_layer(&RetryLayer::new(Retry::default()))
            .build();
        Ok(Connected { client, server })
    }

    /// Opens the way to the cluster. A login that failed is not tried again: a plugin that hangs costs its time once.
    async fn log_in(&self) -> Result<Access, ProviderError> {
        let mut failed = self.failed_login.lock().await;
        if let Some(error) = failed.as_ref() {
            return Err(error.clone());
        }
        let opened = self.source.open().await;
        if let Err(error) = &opened
            && matches!(error.class, Class::Denied | Class::Unreachable)
        {
            *failed = Some(error.clone());
        }
        opened
    }

    /// `error`, which ended what `doing` says.
    pub(crate) fn explain(&self, error: kube::Error, doing: &str) -> ProviderError {
        let server = self.connected.get().map_or("(not configured)", |c| &c.server);
        explain(error, doing, server)
    }

    /// Waits until the API server, which was just started or restarted, is ready. `waiting` is told of as what waits.
    ///
    /// # Errors
    /// If it is not ready after minutes, with what it said last.
    pub(crate) async fn wait_until_reachable(&self, waiting: &Address) -> Result<(), ProviderError> {
        let client = self.client().await?;
        let deadline = Instant::now() + COMING_UP;
        loop {
            let request = Request::get("/readyz").body(Vec::new()).map_err(kube::Error::HttpError);
            let asked = match request {
                Ok(request) => client.request_text(request).await,
                Err(error) => Err(error),
            };
            let error = match asked {
                Ok(_) => return Ok(()),
                // Who may not ask this gets an answer all the same.
                Err(kube::Error::Api(status)) if status.code < 500 => return Ok(()),
                Err(error) => self.explain(error, "ask whether the API server is ready"),
            };
            if Instant::now() >= deadline {
                return Err(error.help(format!("it was started, and was not ready within {COMING_UP:?}")));
            }
            self.context.progress.report(waiting, "waiting for the API server");
            sleep(COMING_UP_PACE).await;
        }
    }

    /// How many requests were sent.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The kind `kind` of `api_version`, or `None` where it is not served.
    ///
    /// # Errors
    /// If the API server can't be asked.
    pub(crate) async fn served(&self, api_version: &str, kind: &str) -> Result<Option<Served>, ProviderError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let mut discovered = self.discovered.lock().await;
        if let Some((discovery, at)) = discovered.as_ref() {
            let found = find(discovery, &gvk);
            if found.is_some() || at.elapsed() < DISCOVERY_AGE {
                return Ok(found);
            }
        }
        let discovery = Arc::new(self.discover().await?);
        self.kinds.learn(&discovery);
        let found = find(&discovery, &gvk);
        if found.is_none() {
            self.check_not_served(api_version).await?;
        }
        *discovered = Some((discovery, Instant::now()));
        Ok(found)
    }

    /// Checks that the API server itself does not serve `api_version` or knows all of it: discovery leaves out what an extension server, which may be
    /// down, would serve.
    async fn check_not_served(&self, api_version: &str) -> Result<(), ProviderError> {
        let client = self.client().await?;
        let asked = match api_version.split_once('/') {
            Some(_) => client.list_api_group_resources(api_version).await,
            None => client.list_core_api_resources(api_version).await,
        };
        match asked {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(self.explain(error, &format!("ask what the API serves of {api_version}"))),
        }
    }

    /// Checks whether the kind is served, now.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub(crate) async fn still_serves(&self, served: &Served) -> Result<bool, ProviderError> {
        *self.discovered.lock().await = None;
        Ok(self.served(&served.resource.api_version, &served.resource.kind).await?.is_some())
    }

    /// As [`Cluster::served`], and what is not known is asked for again in any case.
    ///
    /// # Errors
    /// If the API server can't be asked.
    pub(crate) async fn served_now(&self, api_version: &str, kind: &str) -> Result<Option<Served>, ProviderError> {
        if let Some(found) = self.served(api_version, kind).await? {
            return Ok(Some(found));
        }
        self.forget_kinds().await;
        self.served(api_version, kind).await
    }

    /// The kind `kind` of `group` in the version that the API server prefers.
    ///
    /// # Errors
    /// If the API server can't be asked.
    pub(crate) async fn preferred(&self, group: &str, kind: &str) -> Result<Option<Served>, ProviderError> {
        // Fills the cache; the version does not matter.
        self.served("v1", "Namespace").await?;
        let discovered = self.discovered.lock().await;
        let Some((discovery, _)) = discovered.as_ref() else { return Ok(None) };
        let found = discovery.get(group).and_then(|g| g.recommended_kind(kind));
        Ok(found
            .map(|(resource, capabilities)| Served { resource, namespaced: capabilities.scope == Scope::Namespaced }))
    }

    /// The kinds that the API server serves, with their versions.
    ///
    /// # Errors
    /// If the API server can't be asked.
    pub(crate) async fn kinds(&self) -> Result<Vec<(String, String)>, ProviderError> {
        // Fills the cache; the version does not matter.
        self.served("v1", "Namespace").await?;
        let discovered = self.discovered.lock().await;
        let groups = discovered.iter().flat_map(|(discovery, _)| discovery.groups());
        let resources =
            groups.flat_map(|group| group.versions().flat_map(|version| group.versioned_resources(version)));
        Ok(resources.map(|(resource, _)| (resource.api_version, resource.kind)).collect())
    }

    /// Makes the next question for a kind a new one.
    pub(crate) async fn forget_kinds(&self) {
        *self.discovered.lock().await = None;
    }

    /// The names of the namespaces; none where they cannot be listed.
    pub(crate) async fn namespaces(&self) -> Vec<String> {
        let Ok(client) = self.client().await else { return Vec::new() };
        let api: Api<Namespace> = Api::all(client);
        let listed = api.list_metadata(&ListParams::default().limit(NAMESPACES)).await;
        listed.map(|list| list.items.into_iter().filter_map(|item| item.metadata.name).collect()).unwrap_or_default()
    }

    async fn discover(&self) -> Result<Discovery, ProviderError> {
        let client = self.client().await?;
        let doing = "ask what the API serves";
        let aggregated = Discovery::new(client.clone()).run_aggregated().await;
        match aggregated {
            Ok(discovery) => Ok(discovery),
            // Servers before 1.26 answer in another form.
            Err(kube::Error::SerdeError(_)) => Discovery::new(client).run().await.map_err(|e| self.explain(e, doing)),
            Err(error) => Err(self.explain(error, doing)),
        }
    }

    /// All certificate requests, oldest first, as of half a second ago at most.
    ///
    /// # Errors
    /// If they can't be listed.
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

    /// Makes the next look at the certificate requests a new one.
    pub(crate) async fn forget_certificate_requests(&self) {
        *self.certificate_requests.lock().await = None;
    }

    /// The answer of the kubelet of `node` at `path`, through the API server.
    ///
    /// # Errors
    /// If there is no connection; inside, if the node is unknown or its kubelet does not answer.
    pub(crate) async fn kubelet(&self, node: &str, path: &str) -> Result<Result<String, kube::Error>, ProviderError> {
        let client = self.client().await?;
        let request = Request::get(format!("/api/v1/nodes/{node}/proxy/{path}")).body(Vec::new());
        let request =
            request.map_err(|e| ProviderError::new(Class::Invalid, format!("{node:?} is no name of a node: {e}")))?;
        Ok(client.request_text(request).await)
    }
}

fn find(discovery: &Discovery, gvk: &GroupVersionKind) -> Option<Served> {
    let (resource, capabilities) = discovery.resolve_gvk(gvk)?;
    Some(Served { resource, namespaced: capabilities.scope == Scope::Namespaced })
}

/// That what was waited for did not come about.
pub(crate) fn timed_out(summary: impl Into<String>) -> ProviderError {
    ProviderError::new(Class::Timeout, summary)
}
