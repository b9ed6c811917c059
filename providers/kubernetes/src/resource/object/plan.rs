//! The plan of an instance, object by object.

use std::collections::HashSet;

use moorfast_engine::model::{Attributes, ReadAttributes, Value};
use moorfast_engine::plan::{PathSegment, parse_path, path_text};
use moorfast_engine::provider::{
    Action, Consequence, ObjectChange, PlanRequest, Proposal, ProposedAction, ProviderError, loses,
};
use serde_json::Value as Json;

use crate::cluster::Cluster;

use super::document::{Declared, Document, shape};
use super::dry_run::{DryRun, dry_run};
use super::fields::FieldSet;
use super::key::{DEFAULT_NAMESPACE, ObjectKey};
use super::lifecycle::read_declared;
use super::observation::{PrivateData, attributes};
use super::ownership;
use super::provided::Provided;
use super::reading::{resolved, view};
use super::retained::with_retained_values;

/// The plan of one object.
struct ObjectPlan {
    key: ObjectKey,
    /// The compared fields, as they will be after the apply.
    planned: Value,
    action: Action,
    /// The fields that cannot be changed in place.
    immutable: Vec<String>,
    /// Whether the object exists, is not in the state, and loses declared values.
    overwrites: bool,
    notes: Vec<String>,
}

/// Plans an instance.
pub(super) async fn plan(cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
    let declared = read_declared(&request.desired)?;
    let is_yaml = matches!(declared, Declared::Yaml(_)) || request.desired.is_set("yaml");
    if declared == Declared::Unknown {
        return Ok(unknown_objects(request, is_yaml));
    }
    let provided = Provided::of(declared.documents(), &request.dependencies);
    let attribute = if is_yaml { "yaml" } else { "manifest" };
    let private = PrivateData::of(request.observed.as_ref());
    let recorded = request.recorded.as_ref().map(|record| {
        PrivateData::read(&record.private).objects.iter().map(ObjectKey::identity).collect::<HashSet<_>>()
    });
    let planner = Planner { cluster, request, provided, private, recorded };
    let mut plans = Vec::new();
    for document in declared.documents() {
        let document = with_retained_values(document, request.observed.as_ref())?;
        let plan = planner.plan_object(&document).await;
        plans.push(
            plan.map_err(|error| ProviderError { attribute: error.attribute.map(|_| attribute.to_owned()), ..error })?,
        );
    }
    planner.replace_with_owners(&mut plans);
    planner.finish_incomplete(&mut plans);
    Ok(proposal(request, is_yaml, plans))
}

/// Plans an instance whose objects are not known yet.
fn unknown_objects(request: &PlanRequest, is_yaml: bool) -> Proposal {
    if let Some(observed) = request.observed.as_ref().filter(|_| is_as_applied(&request.desired)) {
        return Proposal::new(ProposedAction::NoOp, observed.attributes.clone());
    }
    let name = if is_yaml { "objects" } else { "manifest" };
    let action = if request.observed.is_some() { ProposedAction::Update } else { ProposedAction::Create };
    let notes = vec!["the identity of the object is known only after apply".to_owned()];
    Proposal { notes, ..Proposal::new(action, [(name.to_owned(), Value::Unknown)].into()) }
}

/// Whether the declaration is retained: unknown, but the same as in the last apply.
fn is_as_applied(desired: &Attributes) -> bool {
    let declared = ["manifest", "yaml"].into_iter().filter_map(|name| desired.get(name));
    declared.clone().any(Value::is_retained) && !declared.into_iter().any(Value::is_unknown)
}

/// Plans the objects of one instance.
struct Planner<'a> {
    cluster: &'a Cluster,
    request: &'a PlanRequest,
    provided: Provided<'a>,
    /// The private data of the observation.
    private: PrivateData,
    /// The identities of the recorded objects. Empty if the record has one object, whose identity is that of the record. `None` without a record.
    recorded: Option<HashSet<String>>,
}

impl Planner<'_> {
    async fn plan_object(&self, document: &Document) -> Result<ObjectPlan, ProviderError> {
        let served = self.cluster.served(&document.key.api_version, &document.key.kind).await?;
        // If the manifest changes the scope of the CustomResourceDefinition, it is replaced, and the served kind is the old one.
        let scope = self.provided.is_namespaced(&document.key);
        let served = served.filter(|served| scope.is_none_or(|namespaced| namespaced == served.namespaced));
        let key = match &served {
            Some(served) => resolved(&document.key, served),
            None => self.expected_key(&document.key),
        };
        let before = self.observed(&key);
        let force = self.request.desired.flag("force_conflicts");
        let mut plan = ObjectPlan {
            key,
            planned: Value::Null,
            action: Action::Create,
            immutable: Vec::new(),
            overwrites: false,
            notes: Vec::new(),
        };
        let removable = self.private.removable(&plan.key.to_string());
        let document = &document.without_empty(&self.private.yielded(&plan.key.to_string()));
        if let Some(before) = before.filter(|before| self.is_as_declared(&plan.key, document, before)) {
            return Ok(ObjectPlan { planned: before.clone(), action: Action::NoOp, ..plan });
        }
        match dry_run(self.cluster, document, served.as_ref(), &self.provided, &removable, before.is_some(), force)
            .await?
        {
            DryRun::Object(object) => {
                let body = document.body(plan.key.namespace.as_deref()).unwrap_or_default();
                let handed_over = ownership::handed_over(&removable, &body, &object);
                plan.planned = view(&document.declared, &object, &handed_over);
                plan.action = match before {
                    None => Action::Create,
                    Some(before) if *before != plan.planned => Action::Update,
                    Some(_) if self.changes_ownership(&plan.key, document, &object) => {
                        plan.notes.push(match handed_over.is_leaf() {
                            true => format!("{}: moorfast becomes the manager of the declared fields", plan.key),
                            false => ownership::handover_note(&plan.key, &handed_over, &object),
                        });
                        Action::Update
                    }
                    Some(_) if self.is_recorded(&plan.key) => Action::NoOp,
                    Some(_) => Action::Adopt,
                };
            }
            DryRun::NotPossible(why) => {
                plan.notes.push(format!("{} is planned without a dry run: {why}", plan.key));
                plan.planned = with_namespace(document, &plan.key);
                plan.action = if before.is_some() { Action::Update } else { Action::Create };
            }
            DryRun::Immutable(fields) => {
                plan.planned = with_namespace(document, &plan.key);
                plan.action = Action::Replace;
                plan.immutable = fields;
            }
        }
        plan.overwrites = before.is_some_and(|before| {
            self.is_foreign(&plan.key) && (plan.action == Action::Replace || loses(before, &plan.planned))
        });
        Ok(plan)
    }

    /// Whether an apply would change nothing, so that no dry run is needed: the object was applied completely before, its compared fields are
    /// exactly the declared ones, and moorfast manages exactly these.
    fn is_as_declared(&self, key: &ObjectKey, document: &Document, before: &Value) -> bool {
        let was_applied = self.request.recorded.as_ref().is_some_and(|record| !record.incomplete);
        if self.cluster.full_dry_run || !was_applied || self.is_foreign(key) {
            return false;
        }
        let Some(body) = document.body(key.namespace.as_deref()) else { return false };
        before.to_json().as_ref() == Some(&body) && self.private.manages_exactly(&key.to_string(), &body)
    }

    /// Whether the existing object is not in the state. Other objects of the instance may be.
    fn is_foreign(&self, key: &ObjectKey) -> bool {
        self.request.foreign || (self.request.recorded.is_some() && !self.is_recorded(key))
    }

    /// Returns the key of an object whose kind the manifest defines.
    fn expected_key(&self, key: &ObjectKey) -> ObjectKey {
        let is_complete = key.namespace.is_some() || self.provided.is_namespaced(key) != Some(true);
        let namespace = if is_complete { key.namespace.clone() } else { Some(DEFAULT_NAMESPACE.to_owned()) };
        ObjectKey { namespace, ..key.clone() }
    }

    fn observed(&self, key: &ObjectKey) -> Option<&Value> {
        let observed = self.request.observed.as_ref()?;
        match observed.attributes.get("objects").and_then(Value::as_map) {
            Some(objects) => objects.get(&key.to_string()),
            None => observed.attributes.get("manifest"),
        }
    }

    /// Whether the apply changes which fields moorfast manages, although the values stay. Ignored fields do not count.
    fn changes_ownership(&self, key: &ObjectKey, document: &Document, after_apply: &Json) -> bool {
        let Some(before) = self.private.managed.get(&key.to_string()) else { return false };
        let after = FieldSet::ours(after_apply);
        if self.request.ignored.is_empty() {
            return *before != after;
        }
        let compared = shape(&self.without_ignored(key, &document.declared));
        before.within(&compared) != after.within(&compared)
    }

    /// Returns `declared` without the fields that `ignore_changes` names.
    fn without_ignored(&self, key: &ObjectKey, declared: &Value) -> Value {
        let is_yaml = self.request.desired.get("yaml").is_some_and(|yaml| !yaml.is_null());
        let mut object = attributes(is_yaml, vec![(key.clone(), declared.clone())]);
        self.request.ignored.iter().for_each(|path| path.remove(&mut object));
        let name = if is_yaml { "objects" } else { "manifest" };
        match (object.remove(name), is_yaml) {
            (Some(Value::Map(mut objects)), true) => objects.remove(&key.to_string()).unwrap_or_default(),
            (found, _) => found.unwrap_or_default(),
        }
    }

    fn is_recorded(&self, key: &ObjectKey) -> bool {
        self.recorded.as_ref().is_some_and(|objects| objects.is_empty() || objects.contains(&key.identity()))
    }

    /// Replaces the objects whose Namespace or CustomResourceDefinition is replaced: they are deleted with it.
    fn replace_with_owners(&self, plans: &mut [ObjectPlan]) {
        let replaced: Vec<_> =
            plans.iter().filter(|plan| plan.action == Action::Replace).map(|plan| plan.key.identity()).collect();
        for plan in plans.iter_mut().filter(|plan| self.observed(&plan.key).is_some()) {
            if let Some(owner) = self.provided.replaced_owner(&plan.key, &replaced) {
                plan.notes.push(format!("{} is deleted with {owner}, which is replaced", plan.key));
                plan.action = Action::Replace;
            }
        }
    }

    /// Plans another apply for objects that did not become ready in the last run.
    fn finish_incomplete(&self, plans: &mut [ObjectPlan]) {
        let is_incomplete = self.request.recorded.as_ref().is_some_and(|record| record.incomplete);
        if !is_incomplete || self.request.observed.is_none() {
            return;
        }
        for plan in plans.iter_mut().filter(|plan| matches!(plan.action, Action::NoOp | Action::Adopt)) {
            plan.action = Action::Update;
        }
        if let Some(first) = plans.first_mut() {
            first.notes.push("is applied and waited for again, because the last operation failed".to_owned());
        }
    }
}

fn proposal(request: &PlanRequest, is_yaml: bool, plans: Vec<ObjectPlan>) -> Proposal {
    let mut objects: Vec<_> = plans.iter().map(|plan| plan.change(is_yaml)).collect();
    objects.extend(deletions(request, &plans));
    let notes: Vec<_> = plans.iter().flat_map(|plan| plan.notes.clone()).collect();
    let overwrites = plans.iter().any(|plan| plan.overwrites);
    let planned = attributes(is_yaml, plans.into_iter().map(|plan| (plan.key, plan.planned)).collect());
    let is_settled = |object: &ObjectChange| match object.action {
        Action::Adopt => request.recorded.is_none(),
        action => action == Action::NoOp,
    };
    let action = match (&request.observed, objects.as_slice()) {
        (None, _) => ProposedAction::Create,
        (Some(_), [only]) if only.action == Action::Replace => ProposedAction::Replace(only.replace_paths.clone()),
        (Some(_), all) if all.iter().all(is_settled) && notes.is_empty() => ProposedAction::NoOp,
        (Some(_), _) => ProposedAction::Update,
    };
    let consequences = overwrites.then_some(Consequence::Overwrite).into_iter().collect();
    Proposal { objects, consequences, notes, ..Proposal::new(action, planned) }
}

impl ObjectPlan {
    fn change(&self, is_yaml: bool) -> ObjectChange {
        let name = self.key.to_string();
        let start = match is_yaml {
            true => vec![PathSegment::Name("objects".to_owned()), PathSegment::Name(name.clone())],
            false => vec![PathSegment::Name("manifest".to_owned())],
        };
        let path = |field: &String| path_text(&start.iter().cloned().chain(parse_path(field)).collect::<Vec<_>>());
        let replace_paths = self.immutable.iter().map(path).collect();
        ObjectChange { identity: self.key.identity(), name, action: self.action, replace_paths }
    }
}

/// Returns the deletions of the objects that are no longer declared.
fn deletions(request: &PlanRequest, plans: &[ObjectPlan]) -> Vec<ObjectChange> {
    let Some(observed) = &request.observed else { return Vec::new() };
    let before = PrivateData::read(&observed.private).objects;
    let undeclared = before.into_iter().filter(|key| !plans.iter().any(|plan| plan.key.identity() == key.identity()));
    let deletion = |key: ObjectKey| ObjectChange {
        identity: key.identity(),
        name: key.to_string(),
        action: Action::Delete,
        replace_paths: Vec::new(),
    };
    undeclared.map(deletion).collect()
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
