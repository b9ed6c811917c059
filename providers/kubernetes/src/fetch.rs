//! Reading many objects with few requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::join_all;
use futures::{StreamExt, stream};
use kube::api::{DynamicObject, ListParams};
use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;

use crate::answer::Misanswer;
use crate::cluster::{Cluster, Served};
use crate::error::misanswer;

/// From this many objects of one kind and namespace on, they are listed instead of got one by one.
const LIST_FROM: usize = 4;
/// How many objects one page of a list holds.
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
    let mut by_namespace: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in wanted {
        by_namespace.entry(&one.namespace).or_default().insert(&one.name);
    }
    let groups = by_namespace.into_iter().map(|(namespace, names)| fetch_group(cluster, served, namespace, names));
    join_all(groups).await.into_iter().flatten().collect()
}

async fn fetch_group(
    cluster: &Cluster,
    served: &Served,
    namespace: &str,
    names: BTreeSet<&str>,
) -> Vec<(Wanted, Fetched)> {
    let wanted = |name: &str| Wanted { namespace: namespace.to_owned(), name: name.to_owned() };
    let listed =
        if names.len() < LIST_FROM { Listed::default() } else { list(cluster, served, namespace, &names).await };
    let missing = names.iter().filter(|name| !listed.found.contains_key(**name));
    let mut fetched: Vec<_> = match listed.is_all {
        true => missing.map(|name| (wanted(name), Ok(None))).collect(),
        false => {
            let gets: Vec<_> = missing.map(|name| get(cluster, served, wanted(name))).collect();
            stream::iter(gets).buffer_unordered(CONCURRENCY).collect().await
        }
    };
    fetched.extend(listed.found.into_iter().map(|(name, object)| (wanted(&name), Ok(Some(object)))));
    fetched
}

/// What a list gave.
#[derive(Default)]
struct Listed {
    /// Of those wanted, by name.
    found: HashMap<String, Json>,
    /// Is what was not found not there?
    is_all: bool,
}

/// Lists page by page until all `names` are found, or until gets are as cheap. What may not be listed is got as well.
async fn list(cluster: &Cluster, served: &Served, namespace: &str, names: &BTreeSet<&str>) -> Listed {
    let mut listed = Listed::default();
    let Ok(client) = cluster.client().await else { return listed };
    let api = served.api(client, namespace);
    let mut parameters = ListParams::default().limit(PAGE);
    for _ in names {
        // An answer that a get would not give: too old a page, no right to list.
        let Ok(page) = api.list(&parameters).await else { return listed };
        let named = page.items.into_iter().map(|object| (object.metadata.name.clone().unwrap_or_default(), object));
        let wanted = named.filter(|(name, _)| names.contains(name.as_str()));
        listed.found.extend(wanted.map(|(name, object)| (name, to_json(object, served))));
        let more = page.metadata.continue_.filter(|more| !more.is_empty());
        listed.is_all = more.is_none() || listed.found.len() == names.len();
        match more {
            Some(more) if !listed.is_all => parameters = parameters.continue_token(&more),
            _ => return listed,
        }
    }
    listed
}

async fn get(cluster: &Cluster, served: &Served, one: Wanted) -> (Wanted, Fetched) {
    let fetched = get_one(cluster, served, &one).await;
    (one, fetched)
}

async fn get_one(cluster: &Cluster, served: &Served, one: &Wanted) -> Fetched {
    let api = served.api(cluster.client().await?, &one.namespace);
    match api.get_opt(&one.name).await {
        Ok(object) => Ok(object.map(|o| to_json(o, served))),
        // A kind that is not served any more took its objects along.
        Err(error) if misanswer(&error) == Some(&Misanswer::NoPath) && !cluster.still_serves(served).await? => Ok(None),
        Err(error) => Err(cluster.explain(error, &format!("read {} {}", served.resource.kind, one.name))),
    }
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
