//! From a provider's proposal to the change of one instance, and why.

use super::drift::common;
use super::planner::{Item, Planner};
use super::reading::observed_digest;
use super::{Action, Change, Reason, differences};
use crate::early::with_unknown;
use crate::evaluate::violated;
use crate::expand::Instance;
use crate::scope::InstanceScope;
use crate::{Address, Attributes, Failure, PlanRequest, Proposal, ProposedAction, Value, seal_attributes};
use serde_json::{Map, Value as Json};

impl Planner<'_> {
    /// Makes the change of one instance from its provider's proposal.
    pub(super) fn decide(&mut self, request: PlanRequest, item: Item, proposal: Proposal) -> Result<(), Failure> {
        let expanded = self.expanded;
        let Some(instance) = expanded.instance(&request.address) else { return Ok(()) };
        let lifecycle = &instance.resource.lifecycle;
        let planned = self.marked(&request.address, proposal.planned);
        let before = request.observed.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
        let after = seal_attributes(&planned, self.key);
        let mut reasons = Vec::new();

        let owed = |owed: &(Address, bool)| Reason::Trigger { address: owed.0.clone(), owed: owed.1 };
        let replacing = self.watched(instance, &lifecycle.replace_triggered_by, item.recorded.as_deref());
        let requested = self.options.replace.iter().any(|p| request.address.matches(p));
        let replace = if lifecycle.create_before_destroy && item.former.is_some() {
            Action::ReplaceCreateFirst
        } else {
            Action::Replace
        };
        let mut action = match proposal.action {
            ProposedAction::NoOp if item.recorded.is_none() => Action::Adopt,
            ProposedAction::NoOp => Action::NoOp,
            ProposedAction::Create => Action::Create,
            ProposedAction::Update => Action::Update,
            ProposedAction::Replace(attributes) => {
                reasons.push(Reason::Immutable { attributes });
                replace
            }
        };
        if item.former.is_some() {
            reasons.push(Reason::Immutable { attributes: self.identifying(instance, &item) });
            action = replace;
        } else if request.observed.is_some() && (requested || !replacing.is_empty()) {
            reasons.extend(requested.then_some(Reason::Requested));
            reasons.extend(replacing.iter().map(owed));
            action = replace;
        }
        if matches!(action, Action::Create | Action::Update) {
            reasons.extend(self.reasons(&item, before.as_ref(), &after));
        }
        if action.is_change() {
            reasons.extend(self.triggers(instance, item.recorded.as_deref()).iter().map(owed));
        }
        if matches!(action, Action::Replace | Action::ReplaceCreateFirst) && lifecycle.prevent_destroy {
            return Err(Failure::Manifest(vec![self.prevented(instance)]));
        }

        let values = known_values(instance, action, &request, &planned);
        if action == Action::NoOp {
            let scope = InstanceScope::new(expanded, &self.draft.values, instance.binding.clone());
            let scope = scope.with_self(Value::Map(values.clone()));
            let what = format!("postcondition of {}", request.address);
            let violated = violated(&instance.resource.postconditions, &what, &scope);
            if !violated.is_empty() {
                return Err(Failure::Manifest(violated));
            }
        }
        self.note_drift(
            &request.address,
            instance.target.name(),
            item.recorded.as_deref(),
            before.as_ref(),
            item.former.is_some(),
        );
        let former = item.former.as_ref().map(|o| seal_attributes(&o.attributes, self.key));
        self.draft.changes.push(Change {
            address: request.address.clone(),
            moved_from: self.moved.get(&request.address).cloned(),
            resource_type: request.resource_type,
            provider: instance.provider.clone(),
            target: instance.target.name().to_owned(),
            identity: self.identity(instance, &request.desired),
            action,
            reasons,
            observed: Some(observed_digest(request.observed.as_ref().or(item.former.as_ref()), self.key)),
            before: former.or(before),
            after: Some(after),
            dependencies: self.dependencies(&request.address),
            notes: proposal.notes,
        });
        self.actions.insert(request.address.clone(), action);
        self.draft.values.insert(request.address.clone(), values);
        self.draft.items.insert(request.address, item);
        Ok(())
    }

    /// Why an instance is created or updated.
    pub(super) fn reasons(
        &self,
        item: &Item,
        before: Option<&Map<String, Json>>,
        after: &Map<String, Json>,
    ) -> Vec<Reason> {
        let Some(record) = &item.recorded else { return vec![Reason::New] };
        let mut reasons = Vec::new();
        if record.incomplete {
            reasons.push(Reason::Incomplete);
        }
        let Some(before) = before else {
            reasons.extend((!record.incomplete).then_some(Reason::Gone));
            return reasons;
        };
        let drifted = !differences(Some(&record.attributes), &common(before, &record.attributes)).is_empty();
        let differs = !differences(Some(before), after).is_empty();
        if drifted {
            reasons.push(Reason::Drift);
        } else if differs && !record.incomplete {
            reasons.push(Reason::Manifest);
        }
        reasons
    }

    /// The attributes by which the identity changed.
    pub(super) fn identifying(&self, instance: &Instance, item: &Item) -> Vec<String> {
        let (Some(record), Some(early)) = (&item.recorded, self.early.get(&instance.address)) else {
            return Vec::new();
        };
        let now = seal_attributes(early, self.key);
        let identifies = |name: &&String| {
            let mut other = early.clone();
            other.insert((*name).clone(), Value::from(record.attributes[*name].clone()));
            record.attributes.get(*name) != now.get(*name)
                && self.identity(instance, &other) != self.identity(instance, early)
        };
        record.attributes.keys().filter(|name| now.contains_key(*name)).filter(identifies).cloned().collect()
    }
}

/// What references to the instance see after this plan.
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
