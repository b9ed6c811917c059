//! Reading many objects with few requests.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use futures::future::join_all;
use futures::{StreamExt, stream};
use kube::api::{DynamicObject, ListParams};
use moorfast_engine::provider::{Class, ProviderError};
use serde_json::Value as Json;

use crate::cluster::{Cluster, Served};
use crate::error::invalid_response;
use crate::response::InvalidResponse;

/// The number of objects of one kind and namespace from which a list replaces single gets.
const LIST_THRESHOLD: usize = 4;
/// The number of objects on one page of a list.
const PAGE: u32 = 500;
/// The number of parallel gets.
const CONCURRENCY: usize = 16;

/// The namespace and name of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ObjectName {
    /// The namespace; empty for a cluster-scoped kind.
    pub(crate) namespace: String,
    /// The name.
    pub(crate) name: String,
}

/// The result of reading an object: `None` if it does not exist.
pub(crate) type Fetched = Result<Option<Json>, ProviderError>;

/// Reads the objects `names` of one kind.
pub(crate) async fn fetch(cluster: &Cluster, served: &Served, names: &[ObjectName]) -> HashMap<ObjectName, Fetched> {
    let mut by_namespace: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for object in names {
        by_namespace.entry(&object.namespace).or_default().insert(&object.name);
    }
    let groups = by_namespace.into_iter().map(|(namespace, names)| fetch_group(cluster, served, namespace, names));
    join_all(groups).await.into_iter().flatten().collect()
}

async fn fetch_group(
    cluster: &Cluster,
    served: &Served,
    namespace: &str,
    names: BTreeSet<&str>,
) -> Vec<(ObjectName, Fetched)> {
    let object_name = |name: &str| ObjectName { namespace: namespace.to_owned(), name: name.to_owned() };
    let listed =
        if names.len() < LIST_THRESHOLD { Listed::default() } else { list(cluster, served, namespace, &names).await };
    let missing = names.iter().filter(|name| !listed.found.contains_key(**name));
    let mut fetched: Vec<_> = match listed.is_complete {
        true => missing.map(|name| (object_name(name), Ok(None))).collect(),
        false => {
            let gets: Vec<_> = missing.map(|name| get(cluster, served, object_name(name))).collect();
            stream::iter(gets).buffer_unordered(CONCURRENCY).collect().await
        }
    };
    fetched.extend(listed.found.into_iter().map(|(name, object)| (object_name(&name), Ok(Some(object)))));
    fetched
}

/// The result of a list.
#[derive(Default)]
struct Listed {
    /// The requested objects that were found, by name.
    found: HashMap<String, Json>,
    /// Whether a requested object that was not found does not exist.
    is_complete: bool,
}

/// Lists page by page until all `names` are found, or until single gets are cheaper. A failed list is replaced by gets.
async fn list(cluster: &Cluster, served: &Served, namespace: &str, names: &BTreeSet<&str>) -> Listed {
    let mut listed = Listed::default();
    let Ok(client) = cluster.client().await else { return listed };
    let api = served.api(client, namespace);
    let mut parameters = ListParams::default().limit(PAGE);
    for _ in names {
        // The list can fail where a get works: an expired page, no right to list.
        let Ok(page) = api.list(&parameters).await else { return listed };
        let named = page.items.into_iter().map(|object| (object.metadata.name.clone().unwrap_or_default(), object));
        let requested = named.filter(|(name, _)| names.contains(name.as_str()));
        listed.found.extend(requested.map(|(name, object)| (name, to_json(object, served))));
        let more = page.metadata.continue_.filter(|more| !more.is_empty());
        listed.is_complete = more.is_none() || listed.found.len() == names.len();
        match more {
            Some(more) if !listed.is_complete => parameters = parameters.continue_token(&more),
            _ => return listed,
        }
    }
    listed
}

async fn get(cluster: &Cluster, served: &Served, one: ObjectName) -> (ObjectName, Fetched) {
    let fetched = get_one(cluster, served, &one).await;
    (one, fetched)
}

async fn get_one(cluster: &Cluster, served: &Served, one: &ObjectName) -> Fetched {
    let api = served.api(cluster.client().await?, &one.namespace);
    match api.get_opt(&one.name).await {
        Ok(object) => Ok(object.map(|o| to_json(o, served))),
        // The objects of a kind that is not served any more are gone.
        Err(error)
            if invalid_response(&error) == Some(&InvalidResponse::UnknownPath)
                && !cluster.still_serves(served).await? =>
        {
            Ok(None)
        }
        Err(error) => Err(cluster.explain(error, &format!("read {} {}", served.resource.kind, one.name))),
    }
}

/// Returns the object as JSON, with its kind and version, which list items omit.
pub(crate) fn to_json(mut object: DynamicObject, served: &Served) -> Json {
    object.types.get_or_insert_with(|| kube::core::TypeMeta {
        api_version: served.resource.api_version.clone(),
        kind: served.resource.kind.clone(),
    });
    serde_json::to_value(object).unwrap_or_default()
}

/// Returns the error for a kind that the cluster does not serve.
pub(crate) fn not_served(api_version: &str, kind: &str) -> ProviderError {
    ProviderError::new(Class::Invalid, format!("the cluster does not serve {kind} of {api_version}"))
        .help("if this manifest creates its CustomResourceDefinition, add that resource to `depends_on`; `kubectl api-resources` lists the served kinds")
}

/// Whether the object is a Secret.
pub(crate) fn is_secret(object: &Json) -> bool {
    object["kind"] == "Secret" && object["apiVersion"] == "v1"
}
