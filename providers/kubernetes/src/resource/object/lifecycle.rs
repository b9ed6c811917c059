//! Apply, wait and delete.

use kube::api::{Patch, PatchParams};
use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::provider::{Action, Applied, Class, Operation, OperationAction, ProviderError};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::cluster::{Cluster, FIELD_MANAGER, Served};
use crate::error::{immutable_fields, invalid_response};
use crate::object_reader::{not_served, to_json};
use crate::readiness::{Readiness, WaitCondition};
use crate::response::InvalidResponse;
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

use super::deletion;
use super::document::{Declared, Document, redaction};
use super::fields::FieldSet;
use super::key::ObjectKey;
use super::observation::{PrivateData, attributes};
use super::ownership::{self, shared_fields};
use super::reading::{is_being_deleted, namespace, resolved, view};
use super::retained::with_retained_values;

/// The help of an error about a deletion that was not in the plan.
const PLAN_AGAIN: &str =
    "objects are deleted only if the plan shows it: plan again, review the deletions, and apply that plan";

/// Reads the declared objects.
pub(super) fn read_declared(desired: &Attributes) -> Result<Declared, ProviderError> {
    Declared::read(desired)
        .map_err(|(attribute, message)| ProviderError::new(Class::Invalid, message).attribute(attribute))
}

/// Removes the sensitive values of `document` from an error.
pub(super) fn redacted(error: ProviderError, document: &Document) -> ProviderError {
    redaction(&document.declared).error(error)
}

/// Returns the parameters of a server-side apply.
pub(super) fn parameters(force: bool) -> PatchParams {
    let parameters = PatchParams::apply(FIELD_MANAGER).validation_strict();
    if force { parameters.force() } else { parameters }
}

/// Sends a server-side apply of an object.
pub(super) async fn patch(
    cluster: &Cluster,
    key: &ObjectKey,
    served: &Served,
    body: &Json,
    parameters: &PatchParams,
) -> Result<Result<Json, kube::Error>, ProviderError> {
    let api = served.api(cluster.client().await?, &namespace(key, Some(served)).unwrap_or_default());
    let patched = api.patch(&key.name, parameters, &Patch::Apply(body)).await;
    Ok(patched.map(|object| to_json(object, served)))
}

/// Reads an object from the cluster.
pub(super) async fn live(cluster: &Cluster, key: &ObjectKey, served: &Served) -> Result<Option<Json>, ProviderError> {
    let api = served.api(cluster.client().await?, key.namespace.as_deref().unwrap_or_default());
    let found = api.get_opt(&key.name).await.map_err(|e| cluster.explain(e, &format!("read {key}")))?;
    Ok(found.map(|object| to_json(object, served)))
}

/// Applies the objects of an instance.
pub(super) async fn apply(
    cluster: &Cluster,
    operation: &Operation,
    desired: &Attributes,
) -> Result<Applied, ProviderError> {
    let declared = read_declared(desired)?;
    let mut done = Vec::new();
    let applied = apply_all(cluster, operation, desired, &declared, &mut done).await;
    let keys: Vec<_> = done.iter().map(|object| object.key.clone()).collect();
    let dropped = done.iter().filter(|object| !object.dropped.is_leaf());
    let dropped = dropped.map(|object| (object.key.to_string(), object.dropped.clone())).collect();
    match applied {
        Ok(()) => {
            let objects = done.into_iter().map(|object| (object.key, object.projected)).collect();
            Ok(Applied {
                attributes: attributes(matches!(declared, Declared::Yaml(_)), objects),
                private: PrivateData { objects: keys, dropped, ..PrivateData::default() }.write(),
                notes: Vec::new(),
            })
        }
        // The next plan finds the objects that were applied, and those that were not deleted.
        Err(error) => {
            let mut objects = known_objects(operation);
            objects.retain(|known| !keys.iter().any(|key| key.identity() == known.identity()));
            objects.extend(keys);
            let private = PrivateData { objects, dropped, ..PrivateData::default() }.write();
            Err(ProviderError { private: Some(Box::new(private)), ..error })
        }
    }
}

/// An object that was applied.
struct AppliedObject {
    key: ObjectKey,
    /// The compared part of the object.
    projected: Value,
    /// The fields that are declared empty and that the API server dropped.
    dropped: FieldSet,
}

async fn apply_all(
    cluster: &Cluster,
    operation: &Operation,
    desired: &Attributes,
    declared: &Declared,
    done: &mut Vec<AppliedObject>,
) -> Result<(), ProviderError> {
    let condition = WaitCondition::read(desired.get("wait"))
        .map_err(|e| ProviderError::new(Class::Invalid, e).attribute("wait"))?;
    let force = desired.flag("force_conflicts");
    let deadline = deadline(operation.timeout, DEFAULT_TIMEOUT);
    if matches!(operation.action, OperationAction::Update(_)) {
        let is_replaced = |key: &ObjectKey| planned(operation, key).is_some_and(Action::is_replacement);
        for key in deletion_order(known_objects(operation)).into_iter().filter(is_replaced) {
            delete_one(cluster, operation, deadline, key).await?;
        }
    }
    let private = PrivateData::of(operation.observed.as_ref());
    for document in apply_order(declared.documents()) {
        let document = with_retained_values(document, operation.observed.as_ref())?;
        let served = cluster.served(&document.key.api_version, &document.key.kind).await?;
        let served = served.ok_or_else(|| not_served(&document.key.api_version, &document.key.kind))?;
        let object = ObjectOperation { cluster, operation, deadline, key: resolved(&document.key, &served), served };
        let condition = condition_for(&object.key, &condition);
        let name = object.key.to_string();
        let (yielded, removable) = (private.yielded(&name), private.removable(&name));
        let document = document.without_empty(&yielded);
        let live = object.apply(&document, &removable, force, condition).await?;
        let body = document.body(object.key.namespace.as_deref()).unwrap_or_default();
        let dropped = FieldSet::ours(&live).dropped(&body, &live).union(yielded);
        let projected = view(&document.declared, &live, &FieldSet::default());
        done.push(AppliedObject { key: object.key, projected, dropped });
    }
    delete_undeclared(cluster, operation, deadline, done).await
}

/// Returns the condition to wait for. A CustomResourceDefinition is always established before the apply goes on: its objects, also those of other resources,
/// cannot be created before the cluster serves their kind.
fn condition_for<'c>(key: &ObjectKey, requested: &'c WaitCondition) -> &'c WaitCondition {
    match requested {
        WaitCondition::None if key.kind == "CustomResourceDefinition" => &WaitCondition::Kind,
        requested => requested,
    }
}

/// Returns the planned action of the object.
fn planned(operation: &Operation, key: &ObjectKey) -> Option<Action> {
    operation.objects.iter().find(|object| object.identity == key.identity()).map(|object| object.action)
}

/// Sorts the documents: Namespaces and CustomResourceDefinitions before the objects that need them.
fn apply_order(documents: &[Document]) -> Vec<&Document> {
    let mut ordered: Vec<_> = documents.iter().collect();
    ordered.sort_by_key(|document| rank(&document.key));
    ordered
}

/// Sorts the keys: objects before their Namespaces and CustomResourceDefinitions.
fn deletion_order(mut keys: Vec<ObjectKey>) -> Vec<ObjectKey> {
    keys.sort_by_key(rank);
    keys.reverse();
    keys
}

fn rank(key: &ObjectKey) -> u8 {
    match key.kind.as_str() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    }
}

/// Deletes the objects that are no longer declared. An object that the plan did not delete is an error.
async fn delete_undeclared(
    cluster: &Cluster,
    operation: &Operation,
    deadline: Instant,
    kept: &[AppliedObject],
) -> Result<(), ProviderError> {
    let mut unplanned = Vec::new();
    for key in deletion_order(known_objects(operation)) {
        if kept.iter().any(|object| object.key.identity() == key.identity()) {
            continue;
        }
        match planned(operation, &key) {
            Some(Action::Delete) => delete_one(cluster, operation, deadline, key).await?,
            // Another instance owns the object from now on.
            Some(Action::Forget) => {}
            _ => unplanned.push(key.to_string()),
        }
    }
    if unplanned.is_empty() {
        return Ok(());
    }
    let summary = format!("did not delete {}: the deletion was not in the plan", unplanned.join(", "));
    Err(ProviderError::new(Class::Invalid, summary).help(PLAN_AGAIN))
}

/// Returns the objects of the instance, as observed or as recorded.
fn known_objects(operation: &Operation) -> Vec<ObjectKey> {
    let observed = operation.observed.as_ref().map(|o| PrivateData::read(&o.private).objects).filter(|o| !o.is_empty());
    let recorded = || operation.recorded.as_ref().map(|r| PrivateData::read(&r.private).objects);
    observed.or_else(recorded).unwrap_or_default()
}

/// Deletes the objects of an instance, except those that another instance owns from now on.
pub(super) async fn delete(cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
    let deadline = deadline(operation.timeout, DEFAULT_TIMEOUT);
    for key in deletion_order(known_objects(operation)) {
        if planned(operation, &key) != Some(Action::Forget) {
            delete_one(cluster, operation, deadline, key).await?;
        }
    }
    Ok(Applied::default())
}

async fn delete_one(
    cluster: &Cluster,
    operation: &Operation,
    deadline: Instant,
    key: ObjectKey,
) -> Result<(), ProviderError> {
    // The objects of a kind that is not served any more are gone.
    let Some(served) = cluster.served(&key.api_version, &key.kind).await? else { return Ok(()) };
    // If the kind became cluster-scoped, its namespaced objects are gone.
    if key.namespace.is_some() && !served.namespaced {
        return Ok(());
    }
    ObjectOperation { cluster, operation, deadline, key, served }.delete().await
}

/// An operation on one object.
struct ObjectOperation<'a> {
    cluster: &'a Cluster,
    operation: &'a Operation,
    deadline: Instant,
    key: ObjectKey,
    served: Served,
}

impl ObjectOperation<'_> {
    fn namespace(&self) -> &str {
        self.key.namespace.as_deref().unwrap_or_default()
    }

    /// Applies the object and waits for it. `removable` has the fields that are removed if the document does not declare them.
    async fn apply(
        &self,
        document: &Document,
        removable: &FieldSet,
        force: bool,
        condition: &WaitCondition,
    ) -> Result<Json, ProviderError> {
        let unknown = || {
            ProviderError::new(Class::Invalid, format!("{} contains an unknown value", self.key)).attribute("manifest")
        };
        let body = document.body(self.key.namespace.as_deref()).ok_or_else(unknown)?;
        let parameters = parameters(force);
        self.take_ownership(removable, &body, force).await?;
        let object = match patch(self.cluster, &self.key, &self.served, &body, &parameters).await? {
            Err(error @ kube::Error::Api(_)) if is_immutable(&error) => {
                let error = redacted(self.explain(error, "apply"), document);
                return Err(error.help(PLAN_AGAIN));
            }
            // An object that is being deleted accepts changes and disappears a moment later: wait, then create it again.
            Ok(object) if is_being_deleted(&object) => {
                self.delete().await?;
                patch(self.cluster, &self.key, &self.served, &body, &parameters).await?
            }
            other => other,
        };
        let object = object.map_err(|e| redacted(self.explain(e, "apply"), document))?;
        let shared = shared_fields(removable, &body, &object);
        if !shared.is_empty() {
            return Err(ownership::not_removed(&self.key, &shared));
        }
        self.invalidate_discovery().await;
        if *condition == WaitCondition::None || self.waits_for_consumer(&object).await? {
            return Ok(object);
        }
        let ready = self.wait_for(condition, object, document).await?;
        if self.key.kind == "CustomResourceDefinition" {
            self.wait_until_served(&ready).await?;
        }
        Ok(ready)
    }

    /// Transfers the fields that are to be removed from other managers to moorfast, so that the apply removes them.
    async fn take_ownership(&self, removable: &FieldSet, body: &Json, force: bool) -> Result<(), ProviderError> {
        if !removable.exceeds(body) {
            return Ok(());
        }
        let Some(live) = live(self.cluster, &self.key, &self.served).await? else { return Ok(()) };
        let shared = shared_fields(removable, body, &live);
        ownership::check(&self.key, &shared, force)?;
        if shared.is_empty() {
            return Ok(());
        }
        let version = &live["metadata"]["resourceVersion"];
        let fields = ownership::transferred(&live, &shared);
        let change = json!({ "metadata": { "resourceVersion": version, "managedFields": fields } });
        let api = self.served.api(self.cluster.client().await?, self.namespace());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let taken = api.patch(&self.key.name, &parameters, &Patch::Merge(&change)).await;
        taken.map(|_| ()).map_err(|e| self.explain(e, "take ownership of fields of"))
    }

    /// Invalidates the discovery cache after a change of a CustomResourceDefinition.
    async fn invalidate_discovery(&self) {
        if self.key.kind == "CustomResourceDefinition" {
            self.cluster.invalidate_discovery().await;
        }
    }

    fn wait<'a>(&'a self, what: &'a str) -> Wait<'a> {
        Wait { cluster: self.cluster, address: &self.operation.address, what, deadline: self.deadline }
    }

    fn explain(&self, error: kube::Error, verb: &str) -> ProviderError {
        self.cluster.explain(error, &format!("{verb} {}", self.key))
    }

    async fn wait_for(
        &self,
        condition: &WaitCondition,
        object: Json,
        document: &Document,
    ) -> Result<Json, ProviderError> {
        if condition.evaluate(&object) == Readiness::Ready {
            return Ok(object);
        }
        let what = self.key.to_string();
        let judge = |object: Option<&Json>| match object {
            Some(object) => condition.evaluate(object).map(|text| redaction(&document.declared).text(&text)),
            None => Readiness::Failed("it was deleted".to_owned()),
        };
        let ready = self.wait(&what).until(&self.served, self.namespace(), &self.key.name, judge).await;
        let help = || {
            let ObjectKey { kind, name, .. } = &self.key;
            let namespace = self.key.namespace.as_ref().map(|namespace| format!(" -n {namespace}")).unwrap_or_default();
            format!(
                "`kubectl{namespace} describe {} {name}` and its pods show the reason; `timeouts` sets how long to wait, `wait` for what",
                kind.to_lowercase()
            )
        };
        let ready = ready.map_err(|error| if error.class == Class::Timeout { error.help(help()) } else { error })?;
        Ok(ready.unwrap_or(object))
    }

    /// Waits until the versions of a CustomResourceDefinition are served, which happens shortly after it is established.
    async fn wait_until_served(&self, definition: &Json) -> Result<(), ProviderError> {
        let spec = &definition["spec"];
        let (Some(group), Some(kind)) = (spec["group"].as_str(), spec["names"]["kind"].as_str()) else { return Ok(()) };
        let versions = spec["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let served = versions.iter().filter(|v| v["served"] == true).filter_map(|v| v["name"].as_str());
        let api_versions: Vec<_> = served.map(|v| format!("{group}/{v}")).collect();
        let what = self.key.to_string();
        let pause = std::time::Duration::from_millis(200);
        let ask = || async {
            for api_version in &api_versions {
                if self.cluster.served_now(api_version, kind).await?.is_none() {
                    return Ok(Err(format!("{api_version} {kind} is not served yet")));
                }
            }
            Ok(Ok(()))
        };
        self.wait(&what).poll(pause, ask).await
    }

    /// Whether the object is a PersistentVolumeClaim that stays pending until a pod uses it (`WaitForFirstConsumer`).
    async fn waits_for_consumer(&self, object: &Json) -> Result<bool, ProviderError> {
        if self.key.kind != "PersistentVolumeClaim" {
            return Ok(false);
        }
        let Some(class) = object["spec"]["storageClassName"].as_str().filter(|c| !c.is_empty()) else {
            return Ok(false);
        };
        let Some(served) = self.cluster.served("storage.k8s.io/v1", "StorageClass").await? else { return Ok(false) };
        let found = served
            .api(self.cluster.client().await?, "")
            .get_opt(class)
            .await
            .map_err(|e| self.explain(e, "read the class of"))?;
        Ok(found.is_some_and(|c| c.data["volumeBindingMode"] == "WaitForFirstConsumer"))
    }

    async fn delete(&self) -> Result<(), ProviderError> {
        let api = self.served.api(self.cluster.client().await?, self.namespace());
        let deleted = match api.delete(&self.key.name, &deletion::parameters(&self.key)).await {
            Ok(deleted) => deleted,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error)
                if invalid_response(&error) == Some(&InvalidResponse::UnknownPath)
                    && !self.cluster.still_serves(&self.served).await? =>
            {
                return Ok(());
            }
            Err(error) => return Err(self.explain(error, "delete")),
        };
        // If the object is gone already, the server answers with a status, or with the object as it was, which was never marked as being deleted.
        let marked = deleted.left().filter(|object| object.metadata.deletion_timestamp.is_some());
        let Some(deleted) = marked else {
            self.invalidate_discovery().await;
            return Ok(());
        };
        let uid = deleted.metadata.uid;
        let what = self.key.to_string();
        // A new object of the same name means that the deleted one is gone.
        let judge = |object: Option<&Json>| match object {
            None => Readiness::Ready,
            Some(object) if uid.is_some() && object["metadata"]["uid"].as_str() != uid.as_deref() => Readiness::Ready,
            Some(object) => Readiness::Waiting(deletion_blocker(object)),
        };
        let waited = self.wait(&what).until(&self.served, self.namespace(), &self.key.name, judge).await;
        self.invalidate_discovery().await;
        waited.map(|_| ()).map_err(|error| match error.class {
            Class::Timeout => {
                ProviderError { summary: error.summary.replace("did not become ready", "was not deleted"), ..error }
            }
            _ => error,
        })
    }
}

fn is_immutable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if immutable_fields(status).is_some())
}

/// Describes why an object that is being deleted still exists.
fn deletion_blocker(object: &Json) -> String {
    let finalizers = object["metadata"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let spec = object["spec"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = finalizers.iter().chain(spec).filter_map(Json::as_str).collect();
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let messages = conditions.iter().filter(|c| c["status"] == "True").filter_map(|c| c["message"].as_str());
    let messages = messages.map(|m| format!("; {m}")).collect::<String>();
    match names.as_slice() {
        [] => "it is being deleted".to_owned(),
        names => format!("blocked by finalizer {}{messages}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_resource_definition_is_always_established() {
        let key = |api_version: &str, kind: &str| ObjectKey {
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: "a".to_owned(),
        };
        let definition = key("apiextensions.k8s.io/v1", "CustomResourceDefinition");
        let deployment = key("apps/v1", "Deployment");
        assert_eq!(condition_for(&definition, &WaitCondition::None), &WaitCondition::Kind);
        assert_eq!(condition_for(&deployment, &WaitCondition::None), &WaitCondition::None);
        let named = WaitCondition::Condition("NamesAccepted".to_owned());
        assert_eq!(condition_for(&definition, &named), &named);
    }
}
