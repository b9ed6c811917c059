//! Applying, waiting, deleting.

use kube::api::{DeleteParams, Patch, PatchParams};
use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::provider::{Action, Applied, Class, Observed, Operation, OperationAction, ProviderError};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::answer::Misanswer;
use crate::attributes::Read;
use crate::cluster::{Cluster, Served};
use crate::error::{immutable_fields, misanswer};
use crate::fetch::{not_served, to_json};
use crate::readiness::{Goal, Readiness};
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

use super::document::{Document, ObjectKey, Written, redaction};
use super::fields::FieldSet;
use super::ownership::{self, held};
use super::provided::defines;
use super::reading::{is_dying, namespace, resolved, view};
use super::retained::settled;
use super::{FIELD_MANAGER, Remembered, attributes};

/// What to do about a removal that nobody reviewed.
const PLAN_AGAIN: &str =
    "no object is removed that the plan did not remove: plan again, review what is removed, and apply that";

/// The objects that the attributes write.
pub(super) fn read_written(desired: &Attributes) -> Result<Written, ProviderError> {
    Written::read(desired)
        .map_err(|(attribute, message)| ProviderError::new(Class::Invalid, message).attribute(attribute))
}

/// `error` without what is secret in `document`.
pub(super) fn redacted(error: ProviderError, document: &Document) -> ProviderError {
    redaction(&document.declared).error(error)
}

pub(super) fn parameters(force: bool) -> PatchParams {
    let parameters = PatchParams::apply(FIELD_MANAGER).validation_strict();
    if force { parameters.force() } else { parameters }
}

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

/// Reads an object as it is now.
pub(super) async fn live(cluster: &Cluster, key: &ObjectKey, served: &Served) -> Result<Option<Json>, ProviderError> {
    let api = served.api(cluster.client().await?, key.namespace.as_deref().unwrap_or_default());
    let found = api.get_opt(&key.name).await.map_err(|e| cluster.explain(e, &format!("read {key}")))?;
    Ok(found.map(|object| to_json(object, served)))
}

/// Returns the fields of an object that leave it when the manifest no longer declares them.
pub(super) fn removable(observed: Option<&Observed>, key: &ObjectKey) -> FieldSet {
    observed.map(|o| Remembered::read(&o.private).removable(&key.to_string())).unwrap_or_default()
}

/// Brings an instance to its desired attributes.
pub(super) async fn apply(
    cluster: &Cluster,
    operation: &Operation,
    desired: &Attributes,
) -> Result<Applied, ProviderError> {
    let written = read_written(desired)?;
    let mut done = Vec::new();
    let applied = apply_all(cluster, operation, desired, &written, &mut done).await;
    let keys: Vec<_> = done.iter().map(|(key, _)| key.clone()).collect();
    match applied {
        Ok(()) => Ok(Applied {
            attributes: attributes(matches!(written, Written::Yaml(_)), done),
            private: Remembered { objects: keys, ..Remembered::default() }.write(),
            notes: Vec::new(),
        }),
        // The next plan finds what was made, and what was not removed.
        Err(error) => {
            let mut objects = remembered(operation);
            objects.retain(|known| !keys.iter().any(|key| key.identity() == known.identity()));
            objects.extend(keys);
            let private = Remembered { objects, ..Remembered::default() }.write();
            Err(ProviderError { private: Some(Box::new(private)), ..error })
        }
    }
}

async fn apply_all(
    cluster: &Cluster,
    operation: &Operation,
    desired: &Attributes,
    written: &Written,
    done: &mut Vec<(ObjectKey, Value)>,
) -> Result<(), ProviderError> {
    let goal = Goal::read(desired.get("wait")).map_err(|e| ProviderError::new(Class::Invalid, e).attribute("wait"))?;
    let force = desired.flag("force_conflicts");
    let deadline = deadline(operation.timeout, DEFAULT_TIMEOUT);
    if matches!(operation.action, OperationAction::Update(_)) {
        let is_replaced = |key: &ObjectKey| planned(operation, key).is_some_and(Action::is_replacement);
        for key in removal_order(remembered(operation)).into_iter().filter(is_replaced) {
            delete_one(cluster, operation, deadline, key).await?;
        }
    }
    for document in in_order(written.documents()) {
        let document = settled(document, operation.observed.as_ref())?;
        let served = cluster.served(&document.key.api_version, &document.key.kind).await?;
        let served = served.ok_or_else(|| not_served(&document.key.api_version, &document.key.kind))?;
        let work = Work { cluster, operation, deadline, key: resolved(&document.key, &served), served };
        // An object beside it cannot be made before its kind is served.
        let is_needed = goal == Goal::Nothing && written.documents().iter().any(|d| defines(&document, &d.key));
        let goal = if is_needed { &Goal::Kind } else { &goal };
        let object = work.apply(&document, force, goal).await?;
        done.push((work.key, view(&document.declared, &object)));
    }
    delete_left_out(cluster, operation, deadline, done).await
}

/// What the plan does with the object.
fn planned(operation: &Operation, key: &ObjectKey) -> Option<Action> {
    operation.objects.iter().find(|object| object.identity == key.identity()).map(|object| object.action)
}

/// Namespaces and kinds come before what lives in them and is of them.
fn in_order(documents: &[Document]) -> Vec<&Document> {
    let mut ordered: Vec<_> = documents.iter().collect();
    ordered.sort_by_key(|document| rank(&document.key));
    ordered
}

/// What lives in namespaces and is of kinds goes before them.
fn removal_order(mut keys: Vec<ObjectKey>) -> Vec<ObjectKey> {
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

/// Deletes the objects that are no longer declared, as far as the plan showed it.
async fn delete_left_out(
    cluster: &Cluster,
    operation: &Operation,
    deadline: Instant,
    kept: &[(ObjectKey, Value)],
) -> Result<(), ProviderError> {
    let mut unplanned = Vec::new();
    for key in removal_order(remembered(operation)) {
        if kept.iter().any(|(k, _)| k.identity() == key.identity()) {
            continue;
        }
        match planned(operation, &key) {
            Some(Action::Delete) => delete_one(cluster, operation, deadline, key).await?,
            // Another instance owns it from now on.
            Some(Action::Forget) => {}
            _ => unplanned.push(key.to_string()),
        }
    }
    if unplanned.is_empty() {
        return Ok(());
    }
    let summary =
        format!("did not delete {}: the plan did not show that it is no longer declared", unplanned.join(", "));
    Err(ProviderError::new(Class::Invalid, summary).help(PLAN_AGAIN))
}

/// The objects that the instance has, as last seen or as recorded.
fn remembered(operation: &Operation) -> Vec<ObjectKey> {
    let seen = operation.observed.as_ref().map(|o| Remembered::read(&o.private).objects).filter(|o| !o.is_empty());
    let recorded = || operation.recorded.as_ref().map(|r| Remembered::read(&r.private).objects);
    seen.or_else(recorded).unwrap_or_default()
}

/// Removes an instance, without the objects that another instance owns from now on.
pub(super) async fn delete(cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
    let deadline = deadline(operation.timeout, DEFAULT_TIMEOUT);
    for key in removal_order(remembered(operation)) {
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
    // A kind that is not served any more took its objects along.
    let Some(served) = cluster.served(&key.api_version, &key.kind).await? else { return Ok(()) };
    // A definition that took the namespaces of its objects away took the objects along.
    if key.namespace.is_some() && !served.namespaced {
        return Ok(());
    }
    Work { cluster, operation, deadline, key, served }.delete().await
}

/// Work on one object.
struct Work<'a> {
    cluster: &'a Cluster,
    operation: &'a Operation,
    deadline: Instant,
    key: ObjectKey,
    served: Served,
}

impl Work<'_> {
    fn namespace(&self) -> &str {
        self.key.namespace.as_deref().unwrap_or_default()
    }

    async fn apply(&self, document: &Document, force: bool, goal: &Goal) -> Result<Json, ProviderError> {
        let unknown = || {
            ProviderError::new(Class::Invalid, format!("{} holds a value that is not known", self.key))
                .attribute("manifest")
        };
        let body = document.body(self.key.namespace.as_deref()).ok_or_else(unknown)?;
        let parameters = parameters(force);
        let removable = removable(self.operation.observed.as_ref(), &self.key);
        self.take_over(&removable, &body, force).await?;
        let object = match patch(self.cluster, &self.key, &self.served, &body, &parameters).await? {
            Err(error @ kube::Error::Api(_)) if is_immutable(&error) => {
                let error = redacted(self.explain(error, "apply"), document);
                return Err(error.help(PLAN_AGAIN));
            }
            // What a deletion that is under way still holds takes changes and is gone a moment later: this is another object.
            Ok(dying) if is_dying(&dying) => {
                self.delete().await?;
                patch(self.cluster, &self.key, &self.served, &body, &parameters).await?
            }
            other => other,
        };
        let object = object.map_err(|e| redacted(self.explain(e, "apply"), document))?;
        let held = held(&removable, &body, &object);
        if !held.is_empty() {
            return Err(ownership::still_there(&self.key, &held));
        }
        self.forget_kinds().await;
        if *goal == Goal::Nothing || self.waits_for_consumer(&object).await? {
            return Ok(object);
        }
        let ready = self.wait_for(goal, object, document).await?;
        if self.key.kind == "CustomResourceDefinition" {
            self.wait_until_served(&ready).await?;
        }
        Ok(ready)
    }

    /// Takes the fields that leave the object from whoever manages them too, so that the apply removes them.
    async fn take_over(&self, removable: &FieldSet, body: &Json, force: bool) -> Result<(), ProviderError> {
        if !removable.exceeds(body) {
            return Ok(());
        }
        let Some(live) = live(self.cluster, &self.key, &self.served).await? else { return Ok(()) };
        let held = held(removable, body, &live);
        ownership::check(&self.key, &held, force)?;
        if held.is_empty() {
            return Ok(());
        }
        let version = &live["metadata"]["resourceVersion"];
        let fields = ownership::taken_over(&live, &held);
        let change = json!({ "metadata": { "resourceVersion": version, "managedFields": fields } });
        let api = self.served.api(self.cluster.client().await?, self.namespace());
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let taken = api.patch(&self.key.name, &parameters, &Patch::Merge(&change)).await;
        taken.map(|_| ()).map_err(|e| self.explain(e, "take over fields of"))
    }

    /// A definition that changed or went makes stale what is known of the served kinds.
    async fn forget_kinds(&self) {
        if self.key.kind == "CustomResourceDefinition" {
            self.cluster.forget_kinds().await;
        }
    }

    fn wait<'a>(&'a self, what: &'a str) -> Wait<'a> {
        Wait { cluster: self.cluster, address: &self.operation.address, what, deadline: self.deadline }
    }

    fn explain(&self, error: kube::Error, verb: &str) -> ProviderError {
        self.cluster.explain(error, &format!("{verb} {}", self.key))
    }

    async fn wait_for(&self, goal: &Goal, object: Json, document: &Document) -> Result<Json, ProviderError> {
        if goal.judge(&object) == Readiness::Ready {
            return Ok(object);
        }
        let what = self.key.to_string();
        let judge = |object: Option<&Json>| match object {
            Some(object) => goal.judge(object).map(|text| redaction(&document.declared).text(&text)),
            None => Readiness::Failed("it was deleted".to_owned()),
        };
        let ready = self.wait(&what).until(&self.served, self.namespace(), &self.key.name, judge).await?;
        Ok(ready.unwrap_or(object))
    }

    /// A kind is established a moment before its objects can be made.
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

    /// A claim whose class binds on first use stays pending until a pod uses it, which comes later.
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
        let deleted = match api.delete(&self.key.name, &DeleteParams::foreground()).await {
            Ok(deleted) => deleted,
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            Err(error)
                if misanswer(&error) == Some(&Misanswer::NoPath)
                    && !self.cluster.still_serves(&self.served).await? =>
            {
                return Ok(());
            }
            Err(error) => return Err(self.explain(error, "delete")),
        };
        let uid = deleted.left().and_then(|o| o.metadata.uid);
        let what = self.key.to_string();
        // Another object of the same name is another object.
        let judge = |object: Option<&Json>| match object {
            None => Readiness::Ready,
            Some(object) if uid.is_some() && object["metadata"]["uid"].as_str() != uid.as_deref() => Readiness::Ready,
            Some(object) => Readiness::Waiting(what_holds(object)),
        };
        let waited = self.wait(&what).until(&self.served, self.namespace(), &self.key.name, judge).await;
        self.forget_kinds().await;
        waited.map(|_| ()).map_err(|error| match error.class {
            Class::Timeout => {
                ProviderError { summary: error.summary.replace("did not become ready", "was not gone"), ..error }
            }
            _ => error,
        })
    }
}

fn is_immutable(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if immutable_fields(status).is_some())
}

/// Why an object that was deleted is still there.
fn what_holds(object: &Json) -> String {
    let finalizers = object["metadata"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let spec = object["spec"]["finalizers"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<_> = finalizers.iter().chain(spec).filter_map(Json::as_str).collect();
    let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let told = conditions.iter().filter(|c| c["status"] == "True").filter_map(|c| c["message"].as_str());
    let told = told.map(|m| format!("; {m}")).collect::<String>();
    match names.as_slice() {
        [] => "it is being deleted".to_owned(),
        names => format!("held by finalizer {}{told}", names.join(", ")),
    }
}
