//! Reading many objects with few requests.

use std::collections::{BTreeMap, HashMap};

use futures::future::join_all;
use futures::{StreamExt, stream};
use kube::api::{DynamicObject, ListParams};
use moorfast_engine::{Class, ProviderError};
use serde_json::Value as Json;

use crate::cluster::{Cluster, Served};

/// From this many objects of one kind and namespace on, they are listed instead of got one by one.
const LIST_FROM: usize = 4;
/// How many objects one page of a list holds. A namespace with more is read object by object.
const PAGE: u32 = 500;
/// How many requests are under way at once.
const CONCURRENCY: usize = 16;

/// One object to read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Wanted {
    /// Its namespace; empty where its kind lives in none.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
}

/// What reading an object gave: `None` where there is none.
pub(crate) type Fetched = Result<Option<Json>, ProviderError>;

/// Reads the `wanted` objects of one kind.
pub(crate) async fn fetch(cluster: &Cluster, served: &Served, wanted: &[Wanted]) -> HashMap<Wanted, Fetched> {
    let mut by_namespace: BTreeMap<&str, Vec<&Wanted>> = BTreeMap::new();
    for one in wanted {
        let names = by_namespace.entry(&one.namespace).or_default();
        if !names.contains(&one) {
            names.push(one);
        }
    }
    let groups = by_namespace.into_iter().map(|(namespace, wanted)| fetch_group(cluster, served, namespace, wanted));
    join_all(groups).await.into_iter().flatten().collect()
}

async fn fetch_group(
    cluster: &Cluster,
    served: &Served,
    namespace: &str,
    wanted: Vec<&Wanted>,
) -> Vec<(Wanted, Fetched)> {
    let listed = if wanted.len() < LIST_FROM { None } else { list(cluster, served, namespace).await };
    let Some(mut listed) = listed else {
        let gets: Vec<_> = wanted.into_iter().map(|one| get(cluster, served, one)).collect();
        return stream::iter(gets).buffer_unordered(CONCURRENCY).collect().await;
    };
    wanted.into_iter().map(|one| (one.clone(), Ok(listed.remove(&one.name)))).collect()
}

/// All objects by name; `None` where they are too many or may not be listed: then each is got.
async fn list(cluster: &Cluster, served: &Served, namespace: &str) -> Option<HashMap<String, Json>> {
    let api = served.api(cluster.client().await.ok()?, namespace);
    let page = api.list(&ListParams::default().limit(PAGE)).await.ok()?;
    if page.metadata.continue_.is_some_and(|more| !more.is_empty()) {
        return None;
    }
    let named = page
        .items
        .into_iter()
        .map(|object| (object.metadata.name.clone().unwrap_or_default(), to_json(object, served)));
    Some(named.collect())
}

async fn get(cluster: &Cluster, served: &Served, one: &Wanted) -> (Wanted, Fetched) {
    (one.clone(), get_one(cluster, served, one).await)
}

async fn get_one(cluster: &Cluster, served: &Served, one: &Wanted) -> Fetched {
    let api = served.api(cluster.client().await?, &one.namespace);
    let object = api
        .get_opt(&one.name)
        .await
        .map_err(|e| cluster.explain(e, &format!("read {} {}", served.resource.kind, one.name)))?;
    Ok(object.map(|o| to_json(o, served)))
}

/// The object as JSON. The items of a list do not say what they are.
pub(crate) fn to_json(mut object: DynamicObject, served: &Served) -> Json {
    object.types.get_or_insert_with(|| kube::core::TypeMeta {
        api_version: served.resource.api_version.clone(),
        kind: served.resource.kind.clone(),
    });
    serde_json::to_value(object).unwrap_or_default()
}

/// The error for a kind that the cluster does not serve.
pub(crate) fn not_served(api_version: &str, kind: &str) -> ProviderError {
    ProviderError::new(Class::Invalid, format!("the cluster serves no {kind} of {api_version}"))
        .help("is its CustomResourceDefinition applied before it? add the CRD's resource to depends_on; `kubectl api-resources` lists what is served")
}
