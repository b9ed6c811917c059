//! Decisions: from the proposal of a provider to the change of one instance, with its reasons.

use moorfast_state::Record;

use super::action::{IdentityChange, RecordStatus, Situation, action};
use super::candidates::Candidate;
use super::draft::{Decision, Draft};
use super::drift::Drifted;
use super::inputs::Inputs;
use super::item::Item;
use super::model::Change;
use super::objects::{PlannedObjects, is_claimed_from, planned_objects};
use super::observed::sealed_digest;
use super::prior::Prior;
use super::superseded;
use super::triggers::triggers;
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::owners::{Owners, same_object};
use crate::configuration::static_values::with_unknown;
use crate::model::{Address, Attributes, Diagnostic, Span, Value, error_codes, seal_attributes};
use crate::provider::{Action, Consequence, Observed, PlanRequest, Proposal, ProposedAction};
use crate::session::Failure;

/// Records that an instance owns its desired objects, now that their identities are known.
///
/// # Errors
/// If another instance owns one of them.
pub(super) fn claim(
    expanded: &Expanded,
    owners: &mut Owners,
    instance: &Instance,
    desired: &Attributes,
) -> Result<(), Failure> {
    for identity in instance.identities(desired) {
        if let Err(owner) = owners.claim(instance, identity.clone())
            && let Some(owner) = expanded.instance(&owner)
        {
            return Err(Failure::Manifest(vec![same_object(owner, instance, &identity)]));
        }
    }
    Ok(())
}

/// Returns the decision about one instance, from the proposal of its provider.
///
/// # Errors
/// If `lifecycle.prevent_destroy` forbids the change, or if the object violates a postcondition.
pub(super) fn decide(
    inputs: &Inputs,
    prior: &Prior,
    draft: &Draft,
    candidate: Candidate,
    request: PlanRequest,
    proposal: Proposal,
) -> Result<Decision, Failure> {
    let key = inputs.key;
    let Candidate { instance, recorded, former, superseded, restarted_by } = candidate;
    let address = &instance.address;
    let lifecycle = &instance.resource.lifecycle;
    let displaced = former.is_some() && matches!(proposal.action, ProposedAction::Replace(_));
    let stays = matches!(proposal.action, ProposedAction::NoOp | ProposedAction::Update | ProposedAction::Compare);
    let mut planned = proposal.planned;
    let mut after = seal_attributes(&planned, key);
    let before = request.observed.as_ref().map(|observed| inputs.sealed(observed));
    let record = recorded.as_deref();

    // A drift is about the recorded object.
    let same = record.filter(|_| former.is_none());
    let drifted = same.map(|record| Drifted::of(inputs, address, record, before.as_ref())).unwrap_or_default();
    let situation = Situation {
        recorded: RecordStatus::of(record),
        before: before.as_ref(),
        identity_change: former.is_some().then(|| IdentityChange {
            attributes: record.map(|record| changed_identity_attributes(inputs, instance, record)).unwrap_or_default(),
            creates_first: lifecycle.create_before_destroy && !displaced,
        }),
        has_drifted: drifted.is_changed,
        is_on_former_machine: draft.machines.former.contains(address),
        is_replacement_requested: inputs.options.replace.iter().any(|pattern| address.matches(pattern)),
        replaced_by: triggers(inputs, prior, draft, instance, &lifecycle.replace_triggered_by),
        restarted_by,
    };
    let (action, mut reasons) = action(situation, proposal.action, &after);
    reasons.extend(superseded::reasons(&superseded));

    let objects_of = |observed: &Observed| instance.resource_type.objects(&observed.attributes);
    let former_objects = former.as_ref().map(objects_of);
    let observed_objects = request.observed.as_ref().map(objects_of).unwrap_or_default();
    let is_claimed = |object: &_| is_claimed_from(&draft.owners, address, instance.target.name(), object);
    let planned_objects =
        planned_objects(action, former_objects.as_deref(), &observed_objects, proposal.objects, is_claimed);
    let removed = planned_objects.removed();
    if (action.is_replacement() || !removed.is_empty()) && lifecycle.prevent_destroy {
        return Err(Failure::Manifest(vec![prevented(address, &removed, Some(instance.resource.span))]));
    }
    if action.is_replacement() && stays {
        // The provider planned the computed attributes of the existing object, but there will be a new one.
        reset_computed(instance, &mut planned);
        after = seal_attributes(&planned, key);
    }
    let PlannedObjects { objects, losses } = planned_objects;
    let replaces_foreign = request.foreign && action.is_replacement() && former.is_none();

    let before = former.as_ref().map(|former| inputs.sealed(former)).or(before);
    let change = Change {
        identity: instance.identity(&request.desired),
        reasons,
        observed: Some(sealed_digest(before.as_ref())),
        before,
        after: Some(after),
        objects,
        consequences: consequences(proposal.consequences, action, replaces_foreign, losses),
        notes: proposal.notes,
        ..Change::of_instance(inputs, prior, instance, action)
    };
    let PlanRequest { desired, observed, triggers, .. } = request;
    let values = known_values(instance, action, observed.as_ref(), desired, planned);
    if matches!(action, Action::NoOp | Action::Adopt) {
        inputs.check_postconditions(instance, &values, &draft.values)?;
    }
    let item = Item { recorded, observed, former, displaced, superseded, triggers };
    Ok(Decision { change, drift: drifted.drift, item: Some(item), values: Some(values) })
}

/// Returns the consequences of an action: those that the provider proposed, and those that the engine knows.
fn consequences(
    mut proposed: Vec<Consequence>,
    action: Action,
    replaces_foreign: bool,
    losses: Vec<Consequence>,
) -> Vec<Consequence> {
    if !action.accesses_target() {
        return Vec::new();
    }
    if replaces_foreign && !proposed.contains(&Consequence::Overwrite) {
        proposed.push(Consequence::Overwrite);
    }
    proposed.extend(losses);
    proposed
}

/// Returns the attributes that changed the identity.
fn changed_identity_attributes(inputs: &Inputs, instance: &Instance, record: &Record) -> Vec<String> {
    let Some(static_values) = inputs.static_values.get(&instance.address) else { return Vec::new() };
    let now = seal_attributes(static_values, inputs.key);
    let identifies = |name: &&String| {
        let mut other = static_values.clone();
        other.insert((*name).clone(), Value::from(record.attributes[*name].clone()));
        instance.identity(&other) != instance.identity(static_values)
    };
    let changed = record.attributes.iter().filter(|(name, value)| now.get(*name).is_some_and(|now| now != *value));
    changed.map(|(name, _)| name).filter(identifies).cloned().collect()
}

/// Makes the computed attributes unknown, because the new object will have other values.
fn reset_computed(instance: &Instance, planned: &mut Attributes) {
    for attribute in instance.resource_type.schema().attributes.iter().filter(|a| a.computed && !a.optional) {
        if planned.contains_key(attribute.name) {
            planned.insert(attribute.name.to_owned(), attribute.mark(Value::Unknown));
        }
    }
}

/// Returns the values that references to the instance have after this plan: the planned ones, then the desired ones, then those of an object that stays.
fn known_values(
    instance: &Instance,
    action: Action,
    observed: Option<&Observed>,
    desired: Attributes,
    planned: Attributes,
) -> Attributes {
    let mut values = planned;
    values.retain(|_, value| !value.is_null());
    add_missing(&mut values, desired.iter().filter(|(_, value)| !value.is_null()));
    if matches!(action, Action::Create | Action::Replace | Action::ReplaceCreateFirst) {
        return with_unknown(instance, values);
    }
    let Some(Observed { attributes, .. }) = observed else { return values };
    add_missing(&mut values, attributes.iter());
    // The attributes of an unchanged object are in memory once. Equal sensitive values can have different parts, which messages must not show.
    let is_observed = values == *attributes && !values.values().any(Value::is_sensitive);
    if is_observed { attributes.clone() } else { values }
}

/// Adds the entries of `more` whose names `values` does not have.
fn add_missing<'m>(values: &mut Attributes, more: impl Iterator<Item = (&'m String, &'m Value)>) {
    for (name, value) in more {
        if !values.contains_key(name) {
            values.insert(name.clone(), value.clone());
        }
    }
}

/// Returns the error for a removal that the lifecycle forbids: of the whole instance, or of these objects.
pub(super) fn prevented(address: &Address, objects: &[&str], span: Option<Span>) -> Diagnostic {
    let what = match objects {
        [] => format!("`{address}`"),
        objects => format!("{} of `{address}`", objects.join(", ")),
    };
    let error = Diagnostic::error(format!("{what} would be destroyed, but lifecycle.prevent_destroy forbids it"))
        .code(error_codes::DESTROY_PREVENTED)
        .help("remove prevent_destroy, or exclude the resource with --exclude");
    match span {
        Some(span) => error.at(span, ""),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Recorded;
    use crate::plan::model::Reason;
    use crate::plan::samples::{Configuration, file, prior, recorded_file};

    const A: &str = "mem_file.a[\"n1\"]";

    /// Returns the decision about `mem_file.a`, for which its provider proposes `action` with the desired attributes.
    fn decided(
        configuration: &Configuration,
        recorded: Option<Record>,
        former: Option<Observed>,
        observed: Option<Observed>,
        action: ProposedAction,
    ) -> Result<Decision, Failure> {
        let instance = configuration.instance(A);
        let desired = configuration.desired(A);
        let planned = match &observed {
            Some(observed) => observed.attributes.clone().into_iter().chain(desired.clone()).collect(),
            None => with_unknown(instance, desired.clone()),
        };
        let recorded = recorded.map(Recorded::from);
        let request = PlanRequest {
            address: instance.address.clone(),
            resource_type: instance.resource_type.clone(),
            desired,
            recorded: recorded.as_ref().map(Recorded::shared),
            foreign: recorded.is_none() && observed.is_some(),
            observed,
            ignored: Vec::new(),
            triggers: Vec::new(),
            dependencies: Vec::new(),
        };
        let prior = prior(recorded.as_deref().cloned());
        let candidate = Candidate { instance, recorded, former, superseded: Vec::new(), restarted_by: Vec::new() };
        let draft = Draft::default();
        let proposal = Proposal { notes: vec!["a note".to_owned()], ..Proposal::new(action, planned) };
        decide(&configuration.inputs(), &prior, &draft, candidate, request, proposal)
    }

    fn manifest(more: &str) -> Configuration {
        Configuration::of(&format!("[resource.mem_file.a]\non = \"n1\"\npath = \"/a\"\ncontent = \"new\"\n{more}"))
    }

    #[test]
    fn a_kept_attribute_drifts_only_if_the_manifest_sets_it() {
        let mut recorded = recorded_file(A, "/a", "new");
        recorded.attributes.insert("owner".to_owned(), "root".into());
        let drift = |more| {
            let mut observed = file("/a", "new");
            observed.attributes.insert("owner".to_owned(), Value::from("ops"));
            decided(&manifest(more), Some(recorded.clone()), None, Some(observed), ProposedAction::Update)
                .unwrap()
                .drift
        };
        assert_eq!(drift(""), None);
        assert_eq!(drift("owner = \"${null}\""), None);
        assert_eq!(drift("owner = \"root\"").unwrap().after.unwrap()["owner"], "ops");
    }

    #[test]
    fn an_object_that_was_changed_outside_is_updated_and_its_drift_is_noted() {
        let recorded = || Some(recorded_file(A, "/a", "new"));
        let update = |more, content| {
            let observed = Some(file("/a", content));
            decided(&manifest(more), recorded(), None, observed, ProposedAction::Update).unwrap()
        };
        let Decision { change, drift, values, .. } = update("", "theirs");
        assert_eq!((change.action, change.reasons), (Action::Update, vec![Reason::Drift]));
        assert_eq!(change.notes, ["a note"]);
        assert_eq!(drift.and_then(|drift| drift.after), change.before);
        assert_eq!(values.unwrap()["content"], Value::from("new"));
        assert_eq!(update("lifecycle.ignore_changes = [\"content\"]", "theirs").drift, None);
        assert_eq!(update("", "new").drift, None);
        let gone = decided(&manifest(""), recorded(), None, None, ProposedAction::Create).unwrap();
        assert_eq!((gone.change.reasons, gone.drift.unwrap().after), (vec![Reason::Gone], None));
    }

    #[test]
    fn the_former_object_is_replaced_and_shown_as_the_object_before() {
        let former = Some(file("/old", "new"));
        let recorded = Some(recorded_file(A, "/old", "new"));
        let Decision { change, drift, item, values } =
            decided(&manifest(""), recorded, former, None, ProposedAction::Create).unwrap();
        let reasons = vec![Reason::Immutable { attributes: vec!["path".to_owned()] }];
        assert_eq!((change.action, change.reasons, drift), (Action::Replace, reasons, None));
        assert_eq!(change.before.unwrap()["path"], "/old");
        assert!(!item.unwrap().displaced);
        assert!(values.unwrap()["id"].is_unknown());
    }

    #[test]
    fn a_forced_replacement_has_new_computed_values_and_may_overwrite_a_foreign_object() {
        let mut configuration = manifest("");
        configuration.options.replace = vec!["mem_file.a".parse().unwrap()];
        let replaced = |recorded| {
            let observed = Some(file("/a", "new"));
            decided(&configuration, recorded, None, observed, ProposedAction::NoOp).unwrap()
        };
        let Decision { change, values, .. } = replaced(Some(recorded_file(A, "/a", "new")));
        assert_eq!((change.action, change.reasons), (Action::Replace, vec![Reason::Requested]));
        assert_eq!(change.consequences, []);
        let unknown: Vec<_> = values.iter().flatten().filter(|(_, v)| v.is_unknown()).map(|(name, _)| name).collect();
        assert_eq!(unknown, ["id", "owner"], "the others stay as the manifest sets them");
        assert_eq!(replaced(None).change.consequences, [Consequence::Overwrite]);
    }

    #[test]
    fn a_forbidden_replacement_and_a_violated_postcondition_are_errors() {
        let error = |more, action| {
            let recorded = Some(recorded_file(A, "/a", "new"));
            match decided(&manifest(more), recorded, None, Some(file("/a", "new")), action) {
                Err(Failure::Manifest(errors)) => errors[0].summary.clone(),
                Err(failure) => panic!("{failure}"),
                Ok(decision) => panic!("{:?}", decision.change),
            }
        };
        let replace = ProposedAction::Replace(vec!["content".to_owned()]);
        let prevented = error("lifecycle.prevent_destroy = true", replace);
        assert_eq!(prevented, format!("`{A}` would be destroyed, but lifecycle.prevent_destroy forbids it"));
        let condition = "postcondition = { condition = '${self.id == \"2\"}', error_message = \"not the second\" }";
        assert_eq!(error(condition, ProposedAction::NoOp), format!("postcondition of {A}: not the second"));
    }

    #[test]
    fn an_object_has_one_owner() {
        let other = "[resource.mem_file.b]\non = \"n1\"\npath = \"/b\"";
        let configuration = manifest(other);
        let mut owners = Owners::default();
        let mut claim_as = |name| {
            let instance = configuration.instance(name);
            claim(configuration.inputs().expanded, &mut owners, instance, &configuration.desired(A))
        };
        assert!(claim_as(A).is_ok() && claim_as(A).is_ok());
        assert!(matches!(claim_as("mem_file.b[\"n1\"]"), Err(Failure::Manifest(_))));
    }
}
