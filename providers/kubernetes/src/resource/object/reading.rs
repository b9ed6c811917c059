//! Which objects an instance has, and what they look like.

use std::collections::{BTreeMap, HashMap};

use futures::future::join_all;
use moorfast_engine::model::Value;
use moorfast_engine::provider::{Observed, ProviderError, ReadRequest};
use serde_json::Value as Json;

use crate::cluster::{Cluster, Served};
use crate::fetch::{Fetched, Wanted, fetch};
use crate::resource::{Reading, fail_all};

use super::document::{DEFAULT_NAMESPACE, Document, ObjectKey, Written, mark, shape};
use super::fields::FieldSet;
use super::ownership::of_kubectl;
use super::projection::project;
use super::{Remembered, observed};

/// An object to look for: what is declared of it, and how it is asked for.
struct Sought {
    document: Document,
    served: Option<Served>,
}

impl Sought {
    fn wanted(&self) -> Wanted {
        Wanted {
            namespace: namespace(&self.document.key, self.served.as_ref()).unwrap_or_default(),
            name: self.document.key.name.clone(),
        }
    }
}

/// The namespace in which the object of `key` lives, where its kind lives in any.
pub(super) fn namespace(key: &ObjectKey, served: Option<&Served>) -> Option<String> {
    match served {
        Some(served) if served.namespaced => {
            Some(key.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()))
        }
        Some(_) => None,
        None => key.namespace.clone(),
    }
}

/// Reads all instances, with one list or few gets per kind.
pub(super) async fn read(cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
    let mut instances = Vec::with_capacity(requests.len());
    for request in requests {
        match seek(cluster, request).await {
            Ok(sought) => instances.push((sought, *request)),
            // What fails here is the connection or the discovery, which is the same for all of them.
            Err(error) => return fail_all(requests.len(), &error),
        }
    }
    let found = fetch_all(cluster, instances.iter().flat_map(|(sought, _)| sought)).await;
    instances.iter().map(|(sought, request)| look(sought, request, &found)).collect()
}

/// The objects of an instance: those that the manifest writes, then those that only the record knows.
async fn seek(cluster: &Cluster, request: &ReadRequest) -> Result<Vec<Sought>, ProviderError> {
    let mut documents = request
        .desired
        .as_ref()
        .and_then(|d| Written::read(d).ok())
        .map(|w| w.documents().to_vec())
        .unwrap_or_default();
    for document in recorded_documents(cluster, request).await? {
        if !documents.iter().any(|d| d.key.identity() == document.key.identity()) {
            documents.push(document);
        }
    }
    let mut sought = Vec::with_capacity(documents.len());
    for document in documents {
        let served = cluster.served(&document.key.api_version, &document.key.kind).await?;
        sought.push(Sought { document, served });
    }
    Ok(sought)
}

async fn recorded_documents(cluster: &Cluster, request: &ReadRequest) -> Result<Vec<Document>, ProviderError> {
    let Some(record) = &request.recorded else { return Ok(Vec::new()) };
    let mut keys = Remembered::read(&record.private).objects;
    if keys.is_empty() {
        keys.extend(key_of_identity(cluster, &record.identity).await?);
    }
    let objects = record.attributes.get("objects").and_then(Json::as_object);
    Ok(keys
        .into_iter()
        .map(|key| {
            let json = match objects {
                Some(objects) => objects.get(&key.to_string()),
                None => record.attributes.get("manifest"),
            };
            // Where nothing says what was declared, what we manage of the object does.
            Document { declared: json.cloned().map(Value::from).unwrap_or_else(|| Value::Map(BTreeMap::new())), key }
        })
        .collect())
}

/// The object that `Deployment.apps/default/web` names, in the version that the server prefers.
async fn key_of_identity(cluster: &Cluster, identity: &str) -> Result<Option<ObjectKey>, ProviderError> {
    let mut parts = identity.split('/');
    let (Some(kind), Some(first)) = (parts.next(), parts.next()) else { return Ok(None) };
    let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
    let (namespace, name) = match parts.next() {
        Some(name) => (Some(first.to_owned()), name),
        None => (None, first),
    };
    let served = cluster.preferred(group, kind).await?;
    Ok(served.map(|s| ObjectKey {
        api_version: s.resource.api_version,
        kind: kind.to_owned(),
        namespace,
        name: name.to_owned(),
    }))
}

type Found = HashMap<(String, Wanted), Fetched>;

async fn fetch_all(cluster: &Cluster, sought: impl Iterator<Item = &Sought>) -> Found {
    let mut kinds: BTreeMap<String, (Served, Vec<Wanted>)> = BTreeMap::new();
    for one in sought {
        if let Some(served) = &one.served {
            kinds.entry(kind_name(served)).or_insert_with(|| (served.clone(), Vec::new())).1.push(one.wanted());
        }
    }
    let fetches = kinds.into_iter().map(|(kind, (served, wanted))| async move {
        let found = fetch(cluster, &served, &wanted).await;
        found.into_iter().map(move |(wanted, object)| ((kind.clone(), wanted), object)).collect::<Vec<_>>()
    });
    join_all(fetches).await.into_iter().flatten().collect()
}

fn kind_name(served: &Served) -> String {
    format!("{}/{}", served.resource.api_version, served.resource.kind)
}

fn look(sought: &[Sought], request: &ReadRequest, found: &Found) -> Result<Option<Observed>, ProviderError> {
    let mut objects = Vec::new();
    let mut found_sets = Vec::new();
    for one in sought {
        let Some(served) = &one.served else { continue };
        match found.get(&(kind_name(served), one.wanted())) {
            // Where the manifest wants it, an object on its way out is none.
            Some(Ok(Some(live))) if request.desired.is_some() && is_dying(live) => {}
            Some(Ok(Some(live))) => {
                let key = resolved(&one.document.key, served);
                let ours = FieldSet::ours(live);
                // What is not recorded yet is adopted, with what `kubectl apply` wrote.
                let theirs = if request.recorded.is_none() { of_kubectl(live) } else { FieldSet::default() };
                let declared = &one.document.declared;
                let seen = project(&shape(declared), live, &ours.clone().union(theirs.clone()));
                objects.push((key.clone(), mark(seen, declared)));
                found_sets.push((key.to_string(), ours, theirs));
            }
            Some(Err(error)) => return Err(error.clone()),
            _ => {}
        }
    }
    Ok(observed(is_yaml(request), objects, found_sets))
}

fn is_yaml(request: &ReadRequest) -> bool {
    match &request.desired {
        Some(desired) => desired.get("yaml").is_some_and(|v| !v.is_null()),
        None => request.recorded.as_ref().is_some_and(|r| r.attributes.contains_key("objects")),
    }
}

/// Is a deletion of the object under way?
pub(super) fn is_dying(object: &Json) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// The key with the namespace in which the object really is.
pub(super) fn resolved(key: &ObjectKey, served: &Served) -> ObjectKey {
    ObjectKey { namespace: namespace(key, Some(served)), ..key.clone() }
}

/// What is compared of `live`, with its secrets marked.
pub(super) fn view(declared: &Value, live: &Json) -> Value {
    mark(project(&shape(declared), live, &FieldSet::ours(live)), declared)
}
