//! Planning an instance, object by object.

use moorfast_engine::model::{Attributes, Value};
use moorfast_engine::plan::{PathSegment, parse_path, path_text};
use moorfast_engine::provider::{
    Action, Consequence, ObjectChange, PlanRequest, Proposal, ProposedAction, ProviderError, loses,
};
use serde_json::Value as Json;

use crate::attributes::Read;
use crate::cluster::Cluster;

use super::document::{Document, ObjectKey, Written, shape};
use super::fields::FieldSet;
use super::foresight::{Foreseen, foresee};
use super::lifecycle::{read_written, removable};
use super::provided::Provided;
use super::reading::{resolved, view};
use super::retained::settled;
use super::{DEFAULT_NAMESPACE, Remembered, attributes};

/// What is to be done with one object.
struct Part {
    key: ObjectKey,
    /// What is compared of it, as it will be.
    planned: Value,
    action: Action,
    /// The fields that cannot be changed in place.
    immutable: Vec<String>,
    /// Whether it exists, is not in the state, and loses what it holds.
    overwrites: bool,
    notes: Vec<String>,
}

/// Plans an instance.
pub(super) async fn plan(cluster: &Cluster, request: &PlanRequest) -> Result<Proposal, ProviderError> {
    let written = read_written(&request.desired)?;
    let is_yaml = matches!(written, Written::Yaml(_)) || request.desired.get("yaml").is_some_and(|v| !v.is_null());
    if written == Written::NotKnownYet {
        return Ok(not_known_yet(request, is_yaml));
    }
    let provided = Provided::of(written.documents(), &request.dependencies);
    let attribute = if is_yaml { "yaml" } else { "manifest" };
    let planner = Planner { cluster, request, provided };
    let mut parts = Vec::new();
    for document in written.documents() {
        let document = settled(document, request.observed.as_ref())?;
        let part = planner.part(&document).await;
        parts.push(
            part.map_err(|error| ProviderError { attribute: error.attribute.map(|_| attribute.to_owned()), ..error })?,
        );
    }
    planner.replace_with_holders(&mut parts);
    planner.finish_incomplete(&mut parts);
    Ok(proposal(request, is_yaml, parts))
}

fn not_known_yet(request: &PlanRequest, is_yaml: bool) -> Proposal {
    if let Some(observed) = request.observed.as_ref().filter(|_| is_as_applied(&request.desired)) {
        return Proposal::new(ProposedAction::NoOp, observed.attributes.clone());
    }
    let name = if is_yaml { "objects" } else { "manifest" };
    let action = if request.observed.is_some() { ProposedAction::Update } else { ProposedAction::Create };
    let notes = vec!["which object it is is known after apply".to_owned()];
    Proposal { notes, ..Proposal::new(action, [(name.to_owned(), Value::Unknown)].into()) }
}

/// Is which object it is only known to be as it was?
fn is_as_applied(desired: &Attributes) -> bool {
    let written = ["manifest", "yaml"].into_iter().filter_map(|name| desired.get(name));
    written.clone().any(Value::is_retained) && !written.into_iter().any(Value::is_unknown)
}

struct Planner<'a> {
    cluster: &'a Cluster,
    request: &'a PlanRequest,
    provided: Provided<'a>,
}

impl Planner<'_> {
    async fn part(&self, document: &Document) -> Result<Part, ProviderError> {
        let served = self.cluster.served(&document.key.api_version, &document.key.kind).await?;
        // A definition that moves its objects into or out of namespaces is replaced, and what is served now says nothing of the new kind.
        let scope = self.provided.is_namespaced(&document.key);
        let served = served.filter(|served| scope.is_none_or(|namespaced| namespaced == served.namespaced));
        let key = match &served {
            Some(served) => resolved(&document.key, served),
            None => self.foreseen_key(&document.key),
        };
        let before = self.observed(&key);
        let force = self.request.desired.flag("force_conflicts");
        let mut part = Part {
            key,
            planned: Value::Null,
            action: Action::Create,
            immutable: Vec::new(),
            overwrites: false,
            notes: Vec::new(),
        };
        let removable = removable(self.request.observed.as_ref(), &part.key);
        match foresee(self.cluster, document, served.as_ref(), &self.provided, &removable, force).await? {
            Foreseen::Object(object) => {
                part.planned = view(&document.declared, &object);
                part.action = match before {
                    None => Action::Create,
                    Some(before) if *before != part.planned => Action::Update,
                    Some(_) if self.becomes_ours(&part.key, document, &object) => {
                        part.notes.push(format!("{}: fields that it declares become managed by moorfast", part.key));
                        Action::Update
                    }
                    Some(_) if self.is_recorded(&part.key) => Action::NoOp,
                    Some(_) => Action::Adopt,
                };
            }
            Foreseen::NotYet(why) => {
                part.notes.push(format!("{} is planned without a dry run: {why}", part.key));
                part.planned = with_namespace(document, &part.key);
                part.action = if before.is_some() { Action::Update } else { Action::Create };
            }
            Foreseen::Immutable(fields) => {
                part.planned = with_namespace(document, &part.key);
                part.action = Action::Replace;
                part.immutable = fields;
            }
        }
        part.overwrites = before.is_some_and(|before| {
            self.is_foreign(&part.key) && (part.action == Action::Replace || loses(before, &part.planned))
        });
        Ok(part)
    }

    /// Whether an object that exists is not in the state, though the instance, or its other objects, may be.
    fn is_foreign(&self, key: &ObjectKey) -> bool {
        self.request.foreign || (self.request.recorded.is_some() && !self.is_recorded(key))
    }

    /// The key of an object whose kind comes with the manifest.
    fn foreseen_key(&self, key: &ObjectKey) -> ObjectKey {
        let is_placed = key.namespace.is_some() || self.provided.is_namespaced(key) != Some(true);
        let namespace = if is_placed { key.namespace.clone() } else { Some(DEFAULT_NAMESPACE.to_owned()) };
        ObjectKey { namespace, ..key.clone() }
    }

    fn observed(&self, key: &ObjectKey) -> Option<&Value> {
        let observed = self.request.observed.as_ref()?;
        match observed.attributes.get("objects").and_then(Value::as_map) {
            Some(objects) => objects.get(&key.to_string()),
            None => observed.attributes.get("manifest"),
        }
    }

    /// Whether the apply makes moorfast the manager of more or fewer fields, though their values stay. Ignored fields may belong to anyone.
    fn becomes_ours(&self, key: &ObjectKey, document: &Document, foreseen: &Json) -> bool {
        let observed = self.request.observed.as_ref().map(|observed| Remembered::read(&observed.private));
        let Some(before) = observed.and_then(|mut remembered| remembered.managed.remove(&key.to_string())) else {
            return false;
        };
        let after = FieldSet::ours(foreseen);
        if self.request.ignored.is_empty() {
            return before != after;
        }
        let watched = shape(&self.without_ignored(key, &document.declared));
        before.within(&watched) != after.within(&watched)
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
        self.request.recorded.as_ref().is_some_and(|record| {
            let objects = Remembered::read(&record.private).objects;
            objects.is_empty() || objects.iter().any(|known| known.identity() == key.identity())
        })
    }

    /// An object cannot outlive its namespace or the definition of its kind.
    fn replace_with_holders(&self, parts: &mut [Part]) {
        let replaced: Vec<_> =
            parts.iter().filter(|part| part.action == Action::Replace).map(|part| part.key.identity()).collect();
        for part in parts.iter_mut().filter(|part| self.observed(&part.key).is_some()) {
            if let Some(holder) = self.provided.replaced_holder(&part.key, &replaced) {
                part.notes.push(format!("{} is lost with {holder}, which is replaced", part.key));
                part.action = Action::Replace;
            }
        }
    }

    /// What did not become ready last time is applied and waited for again.
    fn finish_incomplete(&self, parts: &mut [Part]) {
        let is_incomplete = self.request.recorded.as_ref().is_some_and(|record| record.incomplete);
        if !is_incomplete || self.request.observed.is_none() {
            return;
        }
        for part in parts.iter_mut().filter(|part| matches!(part.action, Action::NoOp | Action::Adopt)) {
            part.action = Action::Update;
        }
        if let Some(first) = parts.first_mut() {
            first.notes.push("is applied and waited for again: the last time did not end well".to_owned());
        }
    }
}

fn proposal(request: &PlanRequest, is_yaml: bool, parts: Vec<Part>) -> Proposal {
    let mut objects: Vec<_> = parts.iter().map(|part| part.change(is_yaml)).collect();
    objects.extend(left_out(request, &parts));
    let notes: Vec<_> = parts.iter().flat_map(|part| part.notes.clone()).collect();
    let overwrites = parts.iter().any(|part| part.overwrites);
    let planned = attributes(is_yaml, parts.into_iter().map(|part| (part.key, part.planned)).collect());
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

impl Part {
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

/// The objects that are there and no longer declared.
fn left_out(request: &PlanRequest, parts: &[Part]) -> Vec<ObjectChange> {
    let Some(observed) = &request.observed else { return Vec::new() };
    let before = Remembered::read(&observed.private).objects;
    let gone = before.into_iter().filter(|key| !parts.iter().any(|part| part.key.identity() == key.identity()));
    let deleted = |key: ObjectKey| ObjectChange {
        identity: key.identity(),
        name: key.to_string(),
        action: Action::Delete,
        replace_paths: Vec::new(),
    };
    gone.map(deleted).collect()
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
