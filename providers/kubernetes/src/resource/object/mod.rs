//! `kubernetes_object`: any object, by server-side apply.

mod contents;
mod document;
mod fields;
mod foresight;
mod ignored;
mod lifecycle;
mod ownership;
mod plan;
mod projection;
mod provided;
mod reading;
mod retained;

use std::collections::BTreeMap;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Applied, Invalid, Object as PlannedObject, Observed, Operation, OperationAction, PlanRequest, Proposal,
    ProviderError, ReadRequest, ResourceType, TargetKind,
};
use moorfast_engine::state::Record;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::readiness::Goal;
use crate::resource::{Reading, Resource};

use document::Written;
pub(crate) use document::{DEFAULT_NAMESPACE, ObjectKey, is_secret, mark};
pub(crate) use fields::FieldSet;
pub(crate) use ignored::resolve_ignored_path;

/// The name under which we manage fields.
pub(crate) const FIELD_MANAGER: &str = "moorfast";

/// `kubernetes_object`
pub(crate) struct Object;

/// What is remembered of an instance besides its attributes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Remembered {
    /// Its objects, in the order in which they were applied.
    #[serde(default)]
    objects: Vec<ObjectKey>,
    /// After a reading: what moorfast manages of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    managed: BTreeMap<String, FieldSet>,
    /// After a reading of what is not recorded: what `kubectl apply` wrote of each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    of_kubectl: BTreeMap<String, FieldSet>,
}

impl Remembered {
    fn read(private: &Json) -> Self {
        serde_json::from_value(private.clone()).unwrap_or_default()
    }

    /// The fields of an object that leave it when the manifest no longer declares them.
    fn removable(&self, key: &str) -> FieldSet {
        let sets = [&self.managed, &self.of_kubectl].into_iter().filter_map(|sets| sets.get(key).cloned());
        sets.fold(FieldSet::default(), FieldSet::union)
    }

    fn write(&self) -> Json {
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[async_trait]
impl Resource for Object {
    fn declaration(&self) -> ResourceType {
        let schema = Schema::new(
            "Any object of the cluster, by server-side apply. Only what the manifest declares is compared and managed: defaults of the server and \
             fields of other managers are no drift. What is taken out of the manifest is removed from the object. Fields that `kubectl apply` wrote \
             before are taken over with the object; a field to be removed that somebody else manages too is a conflict.\n\n\
             Plans come from the API server's own dry run. Where the same manifest creates the Namespace or the CustomResourceDefinition, no dry run is \
             possible and the plan says so. A kind or a namespace that neither the cluster nor the manifest has is an error of the plan, unless a \
             resource in `depends_on` that changes too may bring it. Namespaced objects without a namespace are put into `default`. What a Secret holds is never shown.",
            [
                Attribute::optional("manifest", Kind::Any, "The object: a table, or an expression such as `${yamldecode(file(\"object.yaml\"))}`."),
                Attribute::optional(
                    "yaml",
                    Kind::String,
                    "Instead of `manifest`: YAML with any number of documents, such as `${file(\"rbac.yaml\")}`. They are applied in their order, \
                     Namespaces and CustomResourceDefinitions first, and removed in the reverse one. Each document is an object of its own: it is \
                     planned, counted, replaced, guarded by `prevent_destroy` and owned by one resource as if it stood alone. A document that moves to \
                     another resource stays as it is.",
                ),
                Attribute::computed(
                    "objects",
                    Kind::map(Kind::Any),
                    "With `yaml`: the objects by `Kind/namespace/name` (`Kind/name` where it has no namespace).",
                ),
                Attribute::optional(
                    "force_conflicts",
                    Kind::Bool,
                    "Take over fields that another manager set to another value. Otherwise such a conflict is an error that names the manager.",
                )
                .or(false),
                Attribute::optional(
                    "wait",
                    Kind::Any,
                    "What is waited for after an apply. `true`: what the kind is for (rollout of a Deployment, StatefulSet or DaemonSet, completion of a Job, \
                     an established CustomResourceDefinition, an available APIService, an active Namespace, a bound PersistentVolumeClaim, a ready Pod). \
                     `{ condition = \"Ready\" }`: that condition. `{ jsonpath = \"{.status.phase}=Running\" }`: that value. `false`: nothing.",
                )
                .or(true),
            ],
        );
        ResourceType { name: "kubernetes_object", target_kind: TargetKind::Provider, schema }
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut found = Vec::new();
        if let Err((attribute, message)) = Written::read(attributes) {
            found.push(Invalid { attribute: Some(attribute), message, help: None });
        }
        if let Err(message) = Goal::read(attributes.get("wait")) {
            found.push(Invalid { attribute: Some("wait"), message, help: None });
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        let written = Written::read(attributes).ok()?;
        written.documents().first().map(|d| d.key.identity())
    }

    fn objects(&self, attributes: &Attributes) -> Vec<PlannedObject> {
        contents::objects(attributes)
    }

    fn initial_private_data(&self, desired: &Attributes) -> Option<Json> {
        let objects: Vec<_> = documents(desired).into_iter().map(|(key, _)| key).collect();
        (!objects.is_empty()).then(|| Remembered { objects, ..Remembered::default() }.write())
    }

    /// It is while one of its objects is among those remembered: others come and go by an update.
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        let remembered = Remembered::read(&record.private).objects;
        if remembered.is_empty() {
            return self.identity(attributes).is_some_and(|identity| identity == record.identity);
        }
        let written = Written::read(attributes).ok();
        let mut documents = written.iter().flat_map(|w| w.documents());
        documents.any(|document| remembered.iter().any(|key| document.key.means(key)))
    }

    async fn read(&self, cluster: &Cluster, requests: &[&ReadRequest]) -> Vec<Reading> {
        reading::read(cluster, requests).await
    }

    async fn plan(&self, cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
        plan::plan(cluster, request).await
    }

    async fn apply(&self, cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
        match &operation.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => {
                lifecycle::apply(cluster, operation, desired).await
            }
            OperationAction::Delete => lifecycle::delete(cluster, operation).await,
        }
    }
}

/// The attributes that stand for these projections.
fn attributes(is_yaml: bool, objects: Vec<(ObjectKey, Value)>) -> Attributes {
    if is_yaml {
        let by_key = objects.into_iter().map(|(key, value)| (key.to_string(), value));
        return [("objects".to_owned(), Value::Map(by_key.collect()))].into();
    }
    objects.into_iter().take(1).map(|(_, value)| ("manifest".to_owned(), value)).collect()
}

/// What was seen, unless nothing was.
fn observed(
    is_yaml: bool,
    objects: Vec<(ObjectKey, Value)>,
    sets: Vec<(String, FieldSet, FieldSet)>,
) -> Option<Observed> {
    if objects.is_empty() {
        return None;
    }
    let remembered = Remembered {
        objects: objects.iter().map(|(key, _)| key.clone()).collect(),
        of_kubectl: sets
            .iter()
            .filter(|(.., set)| !set.is_leaf())
            .map(|(key, _, set)| (key.clone(), set.clone()))
            .collect(),
        managed: sets.into_iter().map(|(key, ours, _)| (key, ours)).collect(),
    };
    Some(Observed { attributes: attributes(is_yaml, objects), private: remembered.write() })
}

/// The objects that an instance declares, as far as they are known.
pub(crate) fn documents(attributes: &Attributes) -> Vec<(ObjectKey, Value)> {
    let written = Written::read(attributes).unwrap_or(Written::NotKnownYet);
    written.documents().iter().map(|d| (d.key.clone(), d.declared.clone())).collect()
}
