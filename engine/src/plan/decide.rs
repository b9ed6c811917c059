//! Decisions: from the proposal of a provider to the change of one instance, with its reasons.

use serde_json::{Map, Value as Json};

use super::drift::common;
use super::objects::PlannedObjects;
use super::planner::{Item, Planner};
use super::reading::observed_digest;
use super::superseded;
use super::{Change, Reason, differences};
use crate::configuration::evaluate::violated;
use crate::configuration::expand::Instance;
use crate::configuration::owners::same_object;
use crate::configuration::scope::InstanceScope;
use crate::configuration::static_values::with_unknown;
use crate::model::{Attributes, Value, seal_attributes};
use crate::provider::{Action, Consequence, Observed, PlanRequest, Proposal, ProposedAction};
use crate::session::Failure;

impl Planner<'_> {
    /// Adds the change of one instance to the draft, from the proposal of its provider.
    pub(super) fn decide(&mut self, request: PlanRequest, mut item: Item, proposal: Proposal) -> Result<(), Failure> {
        let Some(instance) = self.expanded.instance(&request.address) else { return Ok(()) };
        item.displaced = item.former.is_some() && matches!(proposal.action, ProposedAction::Replace(_));
        let mut planned = self.marked(&request.address, proposal.planned);
        let seal = |observed: &Observed| seal_attributes(&observed.attributes, self.key);
        let before = request.observed.as_ref().map(seal);
        let former = item.former.as_ref().map(seal);
        let mut after = seal_attributes(&planned, self.key);

        let stays = matches!(proposal.action, ProposedAction::NoOp | ProposedAction::Update | ProposedAction::Compare);
        let (action, mut reasons) = self.action(instance, &item, proposal.action, before.as_ref(), &after);
        reasons.extend(superseded::reasons(&item.superseded));
        self.claim(instance, &request.desired)?;
        let planned_objects = self.planned_objects(instance, &item, action, proposal.objects);
        let removed = planned_objects.removed();
        if (action.is_replacement() || !removed.is_empty()) && instance.resource.lifecycle.prevent_destroy {
            return Err(Failure::Manifest(vec![self.prevented(instance, &removed)]));
        }
        if action.is_replacement() && stays {
            // The provider planned the computed attributes of the existing object, but there will be a new one.
            reset_computed(instance, &mut planned);
            after = seal_attributes(&planned, self.key);
        }
        let PlannedObjects { objects, losses } = planned_objects;
        let mut consequences = proposal.consequences;
        let replaces_foreign = request.foreign && action.is_replacement() && item.former.is_none();
        if replaces_foreign && !consequences.contains(&Consequence::Overwrite) {
            consequences.push(Consequence::Overwrite);
        }
        let values = known_values(instance, action, &request, &planned);
        if matches!(action, Action::NoOp | Action::Adopt) {
            self.check_postconditions(instance, &values)?;
        }
        let target = instance.target.name();
        self.note_drift(&request.address, target, item.recorded.as_deref(), before.as_ref(), item.former.is_some());
        self.objects.insert(request.address.clone(), objects.clone());
        self.draft.changes.push(Change {
            address: request.address.clone(),
            moved_from: self.moved.get(&request.address).cloned(),
            resource_type: request.resource_type.name().to_owned(),
            provider: instance.provider.clone(),
            target: target.to_owned(),
            node: instance.node_name(),
            identity: instance.identity(&request.desired),
            action,
            reasons,
            observed: Some(observed_digest(item.former.as_ref().or(request.observed.as_ref()), self.key)),
            before: former.or(before),
            after: Some(after),
            dependencies: self.dependencies(&request.address),
            objects,
            consequences: match action.accesses_target() {
                true => consequences.into_iter().chain(losses).collect(),
                false => Vec::new(),
            },
            notes: proposal.notes,
        });
        self.actions.insert(request.address.clone(), action);
        self.draft.values.insert(request.address.clone(), values);
        self.draft.items.insert(request.address, item);
        Ok(())
    }

    /// Records that `instance` owns its desired objects, now that their identities are known.
    fn claim(&mut self, instance: &Instance, desired: &Attributes) -> Result<(), Failure> {
        for identity in instance.identities(desired) {
            if let Err(owner) = self.draft.owners.claim(instance, identity.clone())
                && let Some(owner) = self.expanded.instance(&owner)
            {
                return Err(Failure::Manifest(vec![same_object(owner, instance, &identity)]));
            }
        }
        Ok(())
    }

    /// Returns the action for an instance and its reasons: the proposal of the provider under the rules of the lifecycle and the options of the plan.
    fn action(
        &self,
        instance: &Instance,
        item: &Item,
        proposed: ProposedAction,
        before: Option<&Map<String, Json>>,
        after: &Map<String, Json>,
    ) -> (Action, Vec<Reason>) {
        let lifecycle = &instance.resource.lifecycle;
        let recorded = item.recorded.as_deref();
        let triggered = |(address, pending)| Reason::Trigger { address, pending };
        let restarts = self.triggers(instance, recorded).into_iter().map(triggered);
        if item.former.is_some() {
            let is_created_first = lifecycle.create_before_destroy && !item.displaced;
            let action = if is_created_first { Action::ReplaceCreateFirst } else { Action::Replace };
            let attributes = self.changed_identity_attributes(instance, item);
            return (action, std::iter::once(Reason::Immutable { attributes }).chain(restarts).collect());
        }
        let requested = self.options.replace.iter().any(|p| instance.address.matches(p)).then_some(Reason::Requested);
        let replacing = self.watched(instance, &lifecycle.replace_triggered_by, recorded).into_iter().map(triggered);
        let former = self.draft.machines.former.contains(&instance.address).then_some(Reason::OtherMachine);
        let mut forced: Vec<_> =
            requested.into_iter().chain(replacing).chain(former.filter(|_| recorded.is_some())).collect();
        if !forced.is_empty() && before.is_some() {
            forced.extend(restarts);
            return (Action::Replace, forced);
        }
        let proposed = match proposed {
            ProposedAction::Compare if differences(before, after).is_empty() => ProposedAction::NoOp,
            ProposedAction::Compare => ProposedAction::Update,
            other => other,
        };
        // An incomplete operation is done again even if nothing differs: a wait that timed out is waited for again.
        let incomplete = recorded.is_some_and(|r| r.incomplete);
        match proposed {
            ProposedAction::NoOp if incomplete => (Action::Update, vec![Reason::Incomplete]),
            ProposedAction::NoOp if recorded.is_none() => (Action::Adopt, Vec::new()),
            ProposedAction::NoOp => (Action::NoOp, Vec::new()),
            ProposedAction::Create => {
                (Action::Create, self.reasons(instance, item, before, after).into_iter().chain(restarts).collect())
            }
            ProposedAction::Update | ProposedAction::Compare => {
                (Action::Update, self.reasons(instance, item, before, after).into_iter().chain(restarts).collect())
            }
            ProposedAction::Replace(attributes) => {
                (Action::Replace, std::iter::once(Reason::Immutable { attributes }).chain(restarts).collect())
            }
        }
    }

    pub(super) fn check_postconditions(&self, instance: &Instance, values: &Attributes) -> Result<(), Failure> {
        let scope = InstanceScope::new(self.expanded, &self.draft.values, instance.binding.clone());
        let scope = scope.with_self(Value::Map(values.clone()));
        let what = format!("postcondition of {}", instance.address);
        let violated = violated(&instance.resource.postconditions, &what, &scope);
        if violated.is_empty() { Ok(()) } else { Err(Failure::Manifest(violated)) }
    }

    /// Returns the reasons to create or update an instance.
    pub(super) fn reasons(
        &self,
        instance: &Instance,
        item: &Item,
        before: Option<&Map<String, Json>>,
        after: &Map<String, Json>,
    ) -> Vec<Reason> {
        if self.draft.machines.former.contains(&instance.address) {
            return vec![Reason::OtherMachine];
        }
        let Some(record) = &item.recorded else { return vec![Reason::New] };
        let mut reasons = Vec::new();
        if record.incomplete {
            reasons.push(Reason::Incomplete);
        }
        let Some(before) = before else {
            reasons.extend((!record.incomplete).then_some(Reason::Gone));
            return reasons;
        };
        let seen = self.with_ignored(&instance.address, record, common(before, &record.attributes));
        let drifted = !differences(Some(&record.attributes), &seen).is_empty();
        let differs = !differences(Some(before), after).is_empty();
        if drifted {
            reasons.push(Reason::Drift);
        } else if differs && !record.incomplete {
            reasons.push(Reason::Manifest);
        }
        reasons
    }

    /// Returns the attributes that changed the identity.
    pub(super) fn changed_identity_attributes(&self, instance: &Instance, item: &Item) -> Vec<String> {
        let (Some(record), Some(static_values)) = (&item.recorded, self.static_values.get(&instance.address)) else {
            return Vec::new();
        };
        let now = seal_attributes(static_values, self.key);
        let identifies = |name: &&String| {
            let mut other = static_values.clone();
            other.insert((*name).clone(), Value::from(record.attributes[*name].clone()));
            record.attributes.get(*name) != now.get(*name)
                && instance.identity(&other) != instance.identity(static_values)
        };
        record.attributes.keys().filter(|name| now.contains_key(*name)).filter(identifies).cloned().collect()
    }
}

/// Makes the computed attributes unknown, because the new object will have other values.
fn reset_computed(instance: &Instance, planned: &mut Attributes) {
    for attribute in instance.resource_type.schema().attributes.iter().filter(|a| a.computed && !a.optional) {
        if planned.contains_key(attribute.name) {
            let unknown = if attribute.sensitive { Value::Unknown.sensitive() } else { Value::Unknown };
            planned.insert(attribute.name.to_owned(), unknown);
        }
    }
}

/// Returns the values that references to the instance have after this plan.
fn known_values(instance: &Instance, action: Action, request: &PlanRequest, planned: &Attributes) -> Attributes {
    let mut values = Attributes::new();
    let stays = !matches!(action, Action::Create | Action::Replace | Action::ReplaceCreateFirst);
    if let Some(observed) = request.observed.as_ref().filter(|_| stays) {
        values.extend(observed.attributes.clone());
    }
    let written = request.desired.iter().filter(|(_, v)| !v.is_null());
    values.extend(written.map(|(k, v)| (k.clone(), v.clone())));
    values.extend(planned.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k.clone(), v.clone())));
    match stays {
        true => values,
        false => with_unknown(instance, values),
    }
}
