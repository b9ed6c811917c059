//! Reading the objects of instances.

use std::collections::{BTreeMap, HashMap};

use futures::future::join_all;
use moorfast_engine::model::{ReadAttributes, Value, ValueMap};
use moorfast_engine::provider::{Observed, ProviderError, ReadRequest};
use serde_json::Value as Json;

use crate::cluster::{Cluster, Served};
use crate::object_reader::{Fetched, ObjectName, fetch};
use crate::resource::{Reading, fail_all};

use super::document::{Declared, Document, mark, shape};
use super::fields::FieldSet;
use super::key::{DEFAULT_NAMESPACE, ObjectKey};
use super::observation::{PrivateData, observed};
use super::ownership::of_kubectl;
use super::projection::project;

/// An object to read: its declaration, and its kind if it is served.
struct Lookup {
    document: Document,
    served: Option<Served>,
}

impl Lookup {
    fn object_name(&self) -> ObjectName {
        ObjectName {
            namespace: namespace(&self.document.key, self.served.as_ref()).unwrap_or_default(),
            name: self.document.key.name.clone(),
        }
    }
}

/// Returns the namespace of the object, or `None` if its kind is cluster-scoped.
pub(super) fn namespace(key: &ObjectKey, served: Option<&Served>) -> Option<String> {
    match served {
        Some(served) if served.namespaced => {
            Some(key.namespace.clone().unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()))
        }
        Some(_) => None,
        None => key.namespace.clone(),
    }
}

/// Reads all instances, with one list or a few gets for each kind.
pub(super) async fn read(cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
    let mut instances = Vec::with_capacity(requests.len());
    for request in requests {
        match lookups(cluster, request).await {
            Ok(lookups) => instances.push((lookups, *request)),
            // Only the connection or the discovery can fail here, so the error is the same for all instances.
            Err(error) => return fail_all(requests.len(), &error),
        }
    }
    let found = fetch_all(cluster, instances.iter().flat_map(|(lookups, _)| lookups)).await;
    instances.iter().map(|(lookups, request)| observe(lookups, request, &found)).collect()
}

/// Returns the objects of an instance: the declared ones, then those that only the record has.
async fn lookups(cluster: &Cluster, request: &ReadRequest) -> Result<Vec<Lookup>, ProviderError> {
    let mut documents = request
        .desired
        .as_ref()
        .and_then(|d| Declared::read(d).ok())
        .map(|w| w.documents().to_vec())
        .unwrap_or_default();
    for document in recorded_documents(cluster, request).await? {
        if !documents.iter().any(|d| d.key.identity() == document.key.identity()) {
            documents.push(document);
        }
    }
    let mut lookups = Vec::with_capacity(documents.len());
    for document in documents {
        let served = cluster.served(&document.key.api_version, &document.key.kind).await?;
        lookups.push(Lookup { document, served });
    }
    Ok(lookups)
}

/// Returns the recorded objects, with the recorded declaration of each.
async fn recorded_documents(cluster: &Cluster, request: &ReadRequest) -> Result<Vec<Document>, ProviderError> {
    let Some(record) = &request.recorded else { return Ok(Vec::new()) };
    let mut keys = PrivateData::read(&record.private).objects;
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
            // Without a recorded declaration, the fields that moorfast manages are compared.
            Document { declared: json.cloned().map(Value::from).unwrap_or_else(|| Value::Map(ValueMap::new())), key }
        })
        .collect())
}

/// Returns the key of the object `Deployment.apps/default/web`, in the version that the server prefers.
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

type Found = HashMap<(String, ObjectName), Fetched>;

async fn fetch_all(cluster: &Cluster, lookups: impl Iterator<Item = &Lookup>) -> Found {
    let mut kinds: BTreeMap<String, (Served, Vec<ObjectName>)> = BTreeMap::new();
    for lookup in lookups {
        if let Some(served) = &lookup.served {
            kinds.entry(kind_name(served)).or_insert_with(|| (served.clone(), Vec::new())).1.push(lookup.object_name());
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

/// Builds the observation of an instance from the fetched objects.
fn observe(lookups: &[Lookup], request: &ReadRequest, found: &Found) -> Result<Option<Observed>, ProviderError> {
    let mut objects = Vec::new();
    let recorded = request.recorded.as_ref().map(|record| PrivateData::read(&record.private)).unwrap_or_default();
    let mut private = PrivateData { dropped: recorded.dropped, ..PrivateData::default() };
    for lookup in lookups {
        let Some(served) = &lookup.served else { continue };
        match found.get(&(kind_name(served), lookup.object_name())) {
            // A declared object that is being deleted counts as missing.
            Some(Ok(Some(live))) if request.desired.is_some() && is_being_deleted(live) => {}
            Some(Ok(Some(live))) => {
                let key = resolved(&lookup.document.key, served);
                let ours = FieldSet::ours(live);
                // An object without a record is adopted together with the fields that `kubectl apply` wrote.
                let theirs = if request.recorded.is_none() { of_kubectl(live) } else { FieldSet::default() };
                let name = key.to_string();
                let managed = ours.clone().union(theirs.clone());
                let all = FieldSet::everyones(live).within(&shape(&lookup.document.declared));
                private.of_others.insert(name.clone(), all.difference(&ours));
                private.managed.insert(name.clone(), ours);
                private.of_kubectl.insert(name.clone(), theirs);
                let mut declared = lookup.document.declared.clone();
                private.yielded(&name).remove_empty_from(&mut declared);
                let projected = project(&shape(&declared), live, &managed);
                objects.push((key, mark(projected, &declared)));
            }
            Some(Err(error)) => return Err(error.clone()),
            _ => {}
        }
    }
    Ok(observed(is_yaml(request), objects, private))
}

fn is_yaml(request: &ReadRequest) -> bool {
    match &request.desired {
        Some(desired) => desired.is_set("yaml"),
        None => request.recorded.as_ref().is_some_and(|r| r.attributes.contains_key("objects")),
    }
}

/// Whether the object is being deleted.
pub(super) fn is_being_deleted(object: &Json) -> bool {
    object.pointer("/metadata/deletionTimestamp").is_some()
}

/// Returns the key with the actual namespace of the object.
pub(super) fn resolved(key: &ObjectKey, served: &Served) -> ObjectKey {
    ObjectKey { namespace: namespace(key, Some(served)), ..key.clone() }
}

/// Returns the compared part of `live`, with sensitive values marked. `kept` has fields that are compared although moorfast does not manage them.
pub(super) fn view(declared: &Value, live: &Json, kept: &FieldSet) -> Value {
    mark(project(&shape(declared), live, &FieldSet::ours(live).union(kept.clone())), declared)
}
