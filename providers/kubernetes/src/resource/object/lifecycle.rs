//! Planning by dry run, applying, waiting, deleting.

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::Status;
use moorfast_engine::{
    Applied, Attributes, Class, Observed, Operation, PlanRequest, Proposal, ProposedAction, ProviderError, Value,
};
use serde_json::{Value as Json, json};
use tokio::time::Instant;

use crate::answer::Misanswer;
use crate::attributes::Read;
use crate::cluster::{Cluster, Served};
use crate::error::{immutable_fields, misanswer};
use crate::fetch::{not_served, to_json};
use crate::readiness::{Goal, Readiness};
use crate::waiting::{DEFAULT_TIMEOUT, Wait, deadline};

use super::document::{Document, ObjectKey, Written, redact};
use super::fields::FieldSet;
use super::ownership::{self, held};
use super::reading::{is_dying, namespace, resolved, view};
use super::retained::settled;
use super::{FIELD_MANAGER, Remembered, attributes};

/// What a dry run of one object says.
enum Foreseen {
    /// The object as it would be, with what we manage of it.
    Object(Box<Json>),
    /// It can't be foreseen, because of this.
    NotYet(String),
    /// These fields can't be changed in place.
    Immutable(Vec<String>),
}

/// Plans an instance.
pub(super) async fn plan(cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
    let written = read_written(&request.desired)?;
    let is_yaml = matches!(written, Written::Yaml(_)) || request.desired.get("yaml").is_some_and(|v| !v.is_null());
    if written == Written::NotKnownYet {
        if let Some(observed) = request.observed.as_ref().filter(|_| is_as_applied(&request.desired)) {
            let planned = observed.attributes.clone();
            return Ok(Proposal::new(ProposedAction::NoOp, planned));
        }
        let name = if is_yaml { "objects" } else { "manifest" };
        let action = if request.observed.is_some() { ProposedAction::Update } else { ProposedAction::Create };
        let notes = vec!["which object it is is known after apply".to_owned()];
        let planned = [(name.to_owned(), Value::Unknown)].into();
        return Ok(Proposal { notes, ..Proposal::new(action, planned) });
    }
    let force = request.desired.flag("force_conflicts");
    let mut planned = Vec::new();
    let mut notes = Vec::new();
    let mut replaced = Vec::new();
    let mut taken_over = Vec::new();
    for document in written.documents() {
        let document = settled(document, request.observed.as_ref())?;
        let document = document.as_ref();
        let served = cluster.served(&document.key.api_version, &document.key.kind).await?;
        let key = served.as_ref().map_or_else(|| document.key.clone(), |s| resolved(&document.key, s));
        let removable = removable(request.observed.as_ref(), &key);
        let view = match foresee(cluster, document, served.as_ref(), &removable, force).await? {
            Foreseen::Object(object) => {
                taken_over.extend(takes_over(request, &key, &object));
                view(&document.declared, &object)
            }
            Foreseen::NotYet(why) => {
                notes.push(format!("{key} is planned without a dry run: {why}"));
                with_namespace(document, &key)
            }
            Foreseen::Immutable(fields) => {
                notes.push(format!("{key} is made anew: {} can't be changed in place", fields.join(", ")));
                replaced.extend(fields);
                with_namespace(document, &key)
            }
        };
        planned.push((key, view));
    }
    notes.extend(left_out(request, &planned));
    if request.recorded.as_ref().is_some_and(|r| r.incomplete) && request.observed.is_some() {
        notes.push("is applied and waited for again: the last time did not end well".to_owned());
    }
    let planned = attributes(is_yaml, planned);
    if request.observed.as_ref().is_some_and(|o| o.attributes == planned) {
        notes.extend(taken_over);
    }
    let action = match &request.observed {
        None => ProposedAction::Create,
        // One document of many is replaced by itself, as part of an update.
        Some(_) if !replaced.is_empty() && !is_yaml => {
            ProposedAction::Replace(replaced.iter().map(|f| format!("manifest.{f}")).collect())
        }
        Some(observed) if observed.attributes == planned && notes.is_empty() => ProposedAction::NoOp,
        Some(_) => ProposedAction::Update,
    };
    Ok(Proposal { notes, ..Proposal::new(action, planned) })
}

/// Is which object it is only known to be as it was?
fn is_as_applied(desired: &Attributes) -> bool {
    let written = ["manifest", "yaml"].into_iter().filter_map(|name| desired.get(name));
    written.clone().any(Value::is_retained) && !written.into_iter().any(Value::is_unknown)
}

fn read_written(desired: &Attributes) -> Result<Written, ProviderError> {
    Written::read(desired)
        .map_err(|(attribute, message)| ProviderError::new(Class::Invalid, message).attribute(attribute))
}

fn with_namespace(document: &Document, key: &ObjectKey) -> Value {
    let mut declared = document.declared.clone();
    if let (Value::Map(map), Some(namespace)) = (&mut declared, &key.namespace)
        && let Some(Value::Map(metadata)) = map.get_mut("metadata")
    {
        metadata.insert("namespace".to_owned(), Value::from(namespace.as_str()));
    }
    declared
}

/// Tells of fields that have their values already and are managed by us from now on.
fn takes_over(request: &PlanRequest, key: &ObjectKey, foreseen: &Json) -> Option<String> {
    let before = Remembered::read(&request.observed.as_ref()?.private).managed.remove(&key.to_string())?;
    (before != FieldSet::ours(foreseen)).then(|| format!("{key}: fields that it declares become managed by moorfast"))
}

/// Tells of documents that were taken out of the YAML.
fn left_out(request: &PlanRequest, planned: &[(ObjectKey, Value)]) -> Vec<String> {
    let Some(observed) = &request.observed else { return Vec::new() };
    let before = Remembered::read(&observed.private).objects;
    let gone = before.into_iter().filter(|key| !planned.iter().any(|(k, _)| k.identity() == key.identity()));
    gone.map(|key| format!("{key} is deleted")).collect()
}

/// Asks the API server what an apply would make of the object.
async fn foresee(
    cluster: &Cluster,
    document: &Document,
    served: Option<&Served>,
    removable: &FieldSet,
    force: bool,
) -> Result<Foreseen, ProviderError> {
    let Some(served) = served else {
        return Ok(Foreseen::NotYet(format!(
            "the cluster does not serve {} {} yet",
            document.key.api_version, document.key.kind
        )));
    };
    let Some(body) = document.body(namespace(&document.key, Some(served)).as_deref()) else {
        return Ok(Foreseen::NotYet("some of it is known after apply".to_owned()));
    };
    match patch(cluster, &document.key, served, &body, &parameters(force).dry_run()).await? {
        Ok(object) => {
            ownership::check(&resolved(&document.key, served), &held(removable, &body, &object), force)?;
            Ok(Foreseen::Object(Box::new(object)))
        }
        Err(kube::Error::Api(status)) if is_missing_namespace(&status) => {
            let name = status.details.as_ref().map_or("", |d| d.name.as_str());
            Ok(Foreseen::NotYet(format!("the namespace {name} does not exist yet")))
        }
        Err(kube::Error::Api(status)) if status.message.contains("does not support dry run") => {
            Ok(Foreseen::NotYet("an admission webhook does not support dry runs".to_owned()))
        }
        Err(kube::Error::Api(status)) if immutable_fields(&status).is_some() => {
            Ok(Foreseen::Immutable(immutable_fields(&status).unwrap_or_default()))
        }
        Err(kube::Error::Api(status))
            if status.code == 422 && takes_over_first(cluster, document, served, removable, force).await? =>
        {
            Ok(Foreseen::NotYet("fields that somebody else manages too are taken over and removed first".to_owned()))
        }
        Err(error) => Err(redacted(cluster.explain(error, &format!("plan {}", document.key)), document)),
    }
}

/// Whether the object is refused as long as others manage fields that leave it: two ports of one name.
async fn takes_over_first(
    cluster: &Cluster,
    document: &Document,
    served: &Served,
    removable: &FieldSet,
    force: bool,
) -> Result<bool, ProviderError> {
    let key = resolved(&document.key, served);
    let Some(body) = document.body(key.namespace.as_deref()) else { return Ok(false) };
    let Some(live) = live(cluster, &key, served).await? else { return Ok(false) };
    let held = held(removable, &body, &live);
    ownership::check(&key, &held, force)?;
    Ok(!held.is_empty())
}

async fn live(cluster: &Cluster, key: &ObjectKey, served: &Served) -> Result<Option<Json>, ProviderError> {
    let api = served.api(cluster.client().await?, key.namespace.as_deref().unwrap_or_default());
    let found = api.get_opt(&key.name).await.map_err(|e| cluster.explain(e, &format!("read {key}")))?;
    Ok(found.map(|object| to_json(object, served)))
}

/// The fields of an object that leave it when the manifest no longer declares them.
fn removable(observed: Option<&Observed>, key: &ObjectKey) -> FieldSet {
    observed.map(|o| Remembered::read(&o.private).removable(&key.to_string())).unwrap_or_default()
}

/// `error` without what is secret in `document`.
fn redacted(error: ProviderError, document: &Document) -> ProviderError {
    let redact = |text: String| redact(&text, &document.declared);
    ProviderError {
        summary: redact(error.summary),
        detail: error.detail.into_iter().map(redact).collect(),
        help: error.help.map(redact),
        ..error
    }
}

fn is_missing_namespace(status: &Status) -> bool {
    status.code == 404 && status.details.as_ref().is_some_and(|d| d.kind == "namespaces")
}

fn parameters(force: bool) -> PatchParams {
    let parameters = PatchParams::apply(FIELD_MANAGER).validation_strict();
    if force { parameters.force() } else { parameters }
}

async fn patch(
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

/// Brings an instance to its desired attributes.
pub(super) async fn apply(
    cluster: &Cluster,
    operation: &Operation,
    desired: &Attributes,
) -> Result<Applied, ProviderError> {
    let written = read_written(desired)?;
    let is_yaml = matches!(written, Written::Yaml(_));
    let goal = Goal::read(desired.get("wait")).map_err(|e| ProviderError::new(Class::Invalid, e).attribute("wait"))?;
    let force = desired.flag("force_conflicts");
    let deadline = deadline(operation.timeout, DEFAULT_TIMEOUT);
    let mut done = Vec::new();
    for document in in_order(written.documents()) {
        let document = settled(document, operation.observed.as_ref())?;
        let served = cluster.served(&document.key.api_version, &document.key.kind).await?;
        let served = served.ok_or_else(|| not_served(&document.key.api_version, &document.key.kind))?;
        let work = Work { cluster, operation, deadline, key: resolved(&document.key, &served), served };
        let object = work.apply(&document, force, is_yaml, &goal).await?;
        done.push((work.key, view(&document.declared, &object)));
    }
    delete_left_out(cluster, operation, deadline, &done).await?;
    let keys = done.iter().map(|(key, _)| key.clone()).collect();
    Ok(Applied {
        attributes: attributes(is_yaml, done),
        private: Remembered { objects: keys, ..Remembered::default() }.write(),
        notes: Vec::new(),
    })
}

/// Namespaces and kinds come before what lives in them and is of them.
fn in_order(documents: &[Document]) -> Vec<&Document> {
    let mut ordered: Vec<_> = documents.iter().collect();
    ordered.sort_by_key(|d| match d.key.kind.as_str() {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        _ => 2,
    });
    ordered
}

async fn delete_left_out(
    cluster: &Cluster,
    operation: &Operation,
    deadline: Instant,
    kept: &[(ObjectKey, Value)],
) -> Result<(), ProviderError> {
    for key in remembered(operation).into_iter().rev() {
        if !kept.iter().any(|(k, _)| k.identity() == key.identity()) {
            delete_one(cluster, operation, deadline, key).await?;
        }
    }
    Ok(())
}

/// The objects that the instance has, as last seen or as recorded.
fn remembered(operation: &Operation) -> Vec<ObjectKey> {
    let seen = operation.observed.as_ref().map(|o| Remembered::read(&o.private).objects).filter(|o| !o.is_empty());
    let recorded = || operation.recorded.as_ref().map(|r| Remembered::read(&r.private).objects);
    seen.or_else(recorded).unwrap_or_default()
}

/// Removes an instance.
pub(super) async fn delete(cluster: &Cluster, operation: &Operation) -> Result<Applied, ProviderError> {
    let deadline = deadline(operation.timeout, DEFAULT_TIMEOUT);
    for key in remembered(operation).into_iter().rev() {
        delete_one(cluster, operation, deadline, key).await?;
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

    async fn apply(
        &self,
        document: &Document,
        force: bool,
        may_replace: bool,
        goal: &Goal,
    ) -> Result<Json, ProviderError> {
        let unknown = || {
            ProviderError::new(Class::Invalid, format!("{} holds a value that is not known", self.key))
                .attribute("manifest")
        };
        let body = document.body(self.key.namespace.as_deref()).ok_or_else(unknown)?;
        let parameters = parameters(force);
        let removable = removable(self.operation.observed.as_ref(), &self.key);
        self.take_over(&removable, &body, force).await?;
        let object = match patch(self.cluster, &self.key, &self.served, &body, &parameters).await? {
            Err(kube::Error::Api(status)) if may_replace && immutable_fields(&status).is_some() => {
                self.delete().await?;
                patch(self.cluster, &self.key, &self.served, &body, &parameters).await?
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
            Some(object) => goal.judge(object).map(|text| redact(&text, &document.declared)),
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
        waited.map(|_| ()).map_err(|error| match error.class {
            Class::Timeout => {
                ProviderError { summary: error.summary.replace("did not become ready", "was not gone"), ..error }
            }
            _ => error,
        })
    }
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
