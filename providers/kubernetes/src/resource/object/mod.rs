//! The resource type `kubernetes_object`: any object, by server-side apply.

mod contents;
mod deletion;
mod document;
mod dry_run;
mod fields;
mod ignored;
mod key;
mod lifecycle;
mod observation;
mod ownership;
mod plan;
mod projection;
mod provided;
mod pruning;
mod reading;
mod retained;

use std::sync::LazyLock;

use async_trait::async_trait;
use moorfast_engine::model::{Attribute, AttributePath, Attributes, Kind, Schema, Value};
use moorfast_engine::provider::{
    Applied, Declaration, Invalid, Object as PlannedObject, Observed, Operation, OperationAction, PlanRequest,
    Proposal, ProviderError, ReadRequest, ResourceType, TargetKind,
};
use moorfast_engine::state::Record;
use serde_json::Value as Json;

use crate::cluster::Cluster;
use crate::permission::{MANAGE, Permission};
use crate::readiness::WaitCondition;
use crate::resource::{Reading, Resource};

use document::Declared;
pub(crate) use document::mark;
pub(crate) use fields::FieldSet;
pub(crate) use key::{DEFAULT_NAMESPACE, ObjectKey};
use observation::PrivateData;
pub(crate) use provided::{at, text};

/// The resource type `kubernetes_object`.
pub(crate) struct Object;

static DECLARATION: LazyLock<Declaration> = LazyLock::new(|| {
    let schema = Schema::new(
        "Any object of the cluster, by server-side apply. Only the fields that the manifest declares are managed and compared: defaults of the API server \
         and fields of other managers are not drift. A field that is removed from the manifest is removed from the object. Fields that \
         `kubectl apply` wrote become managed by moorfast together with the object. Removing a field that another manager owns too is a conflict.\n\n\
         The plan comes from a dry run of the API server, which an object that lives exactly as declared does not need (see `full_dry_run` of \
         `[providers.kubernetes]`). If the same manifest creates the Namespace or the CustomResourceDefinition, no dry run is \
         possible, and the plan is marked as such. A kind or namespace that exists neither in the cluster nor in the manifest is an error of the plan, \
         unless a resource in `depends_on` changes in the same plan and may create it. A namespaced object without a namespace is put into `default`. \
         The data of a Secret is never shown.",
        [
            Attribute::optional("manifest", Kind::Any, "Object as a table, or an expression such as `${yamldecode(file(\"object.yaml\"))}`."),
            Attribute::optional(
                "yaml",
                Kind::String,
                "Objects as YAML with any number of documents, instead of `manifest`; for example `${file(\"rbac.yaml\")}`. The documents are applied in \
                 their order, Namespaces and CustomResourceDefinitions first, and deleted in reverse order. Each document is an object of its own: it is \
                 planned, counted, replaced, protected by `prevent_destroy` and owned by exactly one resource. Moving a document to another resource \
                 does not change the object.",
            ),
            Attribute::computed(
                "objects",
                Kind::map(Kind::Any),
                "Objects of `yaml` by `Kind/namespace/name` (`Kind/name` without a namespace).",
            ),
            Attribute::optional(
                "force_conflicts",
                Kind::Bool,
                "Whether to overwrite fields that another field manager set to another value. If not set, such a conflict is an error that names the manager.",
            )
            .or(false),
            Attribute::optional(
                "wait",
                Kind::Any,
                "Condition to wait for after an apply. `true`: the default of the kind (rollout of a Deployment, StatefulSet or DaemonSet, completion of a Job, \
                 an established CustomResourceDefinition, an available APIService, an active Namespace, a bound PersistentVolumeClaim, a ready Pod). \
                 `{ condition = \"Ready\" }`: a condition of the status. `{ jsonpath = \"{.status.phase}=Running\" }`: a value of the object. `false`: do not wait, \
                 except for a CustomResourceDefinition, whose objects cannot be created before it is established.",
            )
            .or(true),
        ],
    );
    Declaration { name: "kubernetes_object", target_kind: TargetKind::Provider, schema }
});

impl ResourceType for Object {
    fn declaration(&self) -> &Declaration {
        &DECLARATION
    }

    fn validate(&self, attributes: &Attributes) -> Vec<Invalid> {
        let mut found = Vec::new();
        if let Err((attribute, message)) = Declared::read(attributes) {
            found.push(Invalid::new(attribute, message));
        }
        if let Err(message) = WaitCondition::read(attributes.get("wait")) {
            found.push(Invalid::new("wait", message));
        }
        found
    }

    fn identity(&self, attributes: &Attributes) -> Option<String> {
        let declared = Declared::read(attributes).ok()?;
        declared.documents().first().map(|d| d.key.identity())
    }

    fn objects(&self, attributes: &Attributes) -> Vec<PlannedObject> {
        contents::objects(attributes)
    }

    fn initial_private_data(&self, desired: &Attributes, _observed: Option<&Observed>) -> Option<Json> {
        let objects: Vec<_> = documents(desired).into_iter().map(|(key, _)| key).collect();
        (!objects.is_empty()).then(|| PrivateData { objects, ..PrivateData::default() }.write())
    }

    /// Returns true if at least one declared object is recorded: an update creates and deletes the other objects.
    fn is_same_object(&self, record: &Record, attributes: &Attributes) -> bool {
        let recorded = PrivateData::read(&record.private).objects;
        if recorded.is_empty() {
            return self.identity(attributes).is_some_and(|identity| identity == record.identity);
        }
        let declared = Declared::read(attributes).ok();
        let mut documents = declared.iter().flat_map(|d| d.documents());
        documents.any(|document| recorded.iter().any(|key| document.key.means(key)))
    }

    /// Returns true: only the declared fields are read.
    fn reading_needs_desired(&self) -> bool {
        true
    }

    /// Returns true: a dependency may create the namespace or the kind of an object.
    fn planning_needs_dependencies(&self) -> bool {
        true
    }

    fn resolve_ignored_path(
        &self,
        path: AttributePath,
        desired: &Attributes,
        observed: &Attributes,
    ) -> Vec<AttributePath> {
        ignored::resolve_ignored_path(path, desired, observed)
    }
}

#[async_trait]
impl Resource for Object {
    fn permissions(&self, desired: &Attributes) -> Vec<Permission> {
        let of_document = |(key, _): (ObjectKey, Value)| {
            Permission::new(&key.api_version, &key.kind, key.namespace.as_deref(), "", MANAGE)
        };
        documents(desired).into_iter().map(of_document).collect()
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

/// Returns the declared objects, as far as they are known.
pub(crate) fn documents(attributes: &Attributes) -> Vec<(ObjectKey, Value)> {
    let declared = Declared::read(attributes).unwrap_or(Declared::Unknown);
    declared.documents().iter().map(|d| (d.key.clone(), d.declared.clone())).collect()
}
