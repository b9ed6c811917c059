//! The operations of a change, made from the current values when its turn comes.

use super::Executor;
use crate::configuration::evaluate::{desired, violated};
use crate::configuration::owners::same_object;
use crate::configuration::scope::InstanceScope;
use crate::model::{Address, Diagnostic, Mode};
use crate::plan::sequence::{OldObject, Part};
use crate::plan::{Change, Item};
use crate::provider::{Action, DataRequest, Operation, OperationAction};

/// The requests of one change.
pub(super) enum Prepared {
    /// Operations that run one after the other.
    Operations(Vec<Operation>),
    /// A data source to read.
    Data(DataRequest),
}

impl Executor<'_> {
    /// Returns the requests of one change, from the current values.
    pub(super) fn prepare(&mut self, i: usize) -> Result<Prepared, Vec<Diagnostic>> {
        let change = &self.context.plan.changes[i];
        let item = self.context.items.get(&change.address).cloned().unwrap_or_default();
        let Some(resource_type) = self.context.resource_type(change) else {
            return Err(vec![Diagnostic::error(format!("no provider has the type of `{}`", change.address))]);
        };
        let operation = |action, observed| Operation {
            address: change.address.clone(),
            resource_type: resource_type.clone(),
            action,
            recorded: item.recorded.clone(),
            observed,
            triggers: item.triggers.clone(),
            objects: change.objects.clone(),
            consequences: change.consequences.clone(),
            machine_gone: false,
            timeout: None,
        };
        let part = self.order.part(i);
        let removal = match part {
            Part::Make => None,
            Part::Remove(OldObject::Superseded(place)) => item.superseded.get(place).map(|superseded| Operation {
                recorded: Some(superseded.record.clone()),
                objects: Vec::new(),
                timeout: self.timeout(&change.address, "delete"),
                ..operation(OperationAction::Delete, superseded.observed.clone())
            }),
            Part::Remove(OldObject::Displaced) => Some(Operation {
                recorded: None,
                timeout: self.timeout(&change.address, "delete"),
                ..operation(OperationAction::Delete, item.observed.clone())
            }),
            Part::Remove(OldObject::Own) => {
                let exists = item.former.is_some() || item.observed.is_some();
                self.deletion(change, &item).filter(|_| exists && !self.cleared.contains(&i))
            }
        };
        let removal: Vec<_> = removal.into_iter().collect();
        if change.action == Action::Delete || (part != Part::Make && self.order.is_half_done(i)) {
            return Ok(Prepared::Operations(removal));
        }
        let Some(instance) = self.context.expanded.instance(&change.address) else {
            return Ok(Prepared::Operations(Vec::new()));
        };
        let scope = InstanceScope::new(&self.context.expanded, &self.context.values, instance.binding.clone());
        let what = format!("precondition of {}", change.address);
        let violated_conditions = violated(&instance.resource.preconditions, &what, &scope);
        if !violated_conditions.is_empty() {
            return Err(violated_conditions);
        }
        let desired = desired(&self.context.expanded, instance, &self.context.values)?;
        if part != Part::Make {
            return Ok(Prepared::Operations(removal));
        }
        let unknown: Vec<_> = desired.iter().filter(|(_, v)| v.is_unknown()).map(|(k, _)| k.as_str()).collect();
        if !unknown.is_empty() {
            let message =
                format!("{}: values are still unknown after all dependencies: {}", change.address, unknown.join(", "));
            return Err(vec![Diagnostic::error(message).at(instance.resource.span, "")]);
        }
        if change.address.resource.mode == Mode::Data {
            let request = DataRequest {
                address: change.address.clone(),
                data_source: resource_type,
                arguments: desired.clone(),
                timeout: self.timeout(&change.address, "read"),
            };
            self.desired.insert(i, desired);
            return Ok(Prepared::Data(request));
        }
        // An identity that was unknown in the plan may turn out to be the object of another instance.
        for identity in instance.identities(&desired) {
            if let Err(owner) = self.context.owners.claim(instance, identity.clone())
                && let Some(owner) = self.context.expanded.instance(&owner)
            {
                return Err(vec![same_object(owner, instance, &identity)]);
            }
        }
        let desired = self.context.expanded.ignoring(instance, desired, item.observed.as_ref());
        let make = |observed| Operation {
            timeout: self.timeout(&change.address, "create"),
            // The record belongs to the old object.
            recorded: None,
            ..operation(OperationAction::Create(desired.clone()), observed)
        };
        let update = |observed| Operation {
            timeout: self.timeout(&change.address, "update"),
            ..operation(OperationAction::Update(desired.clone()), observed)
        };
        let make = match change.action {
            // An object with the new identity may exist already.
            Action::Replace | Action::ReplaceCreateFirst => match (&item.former, &item.observed) {
                (Some(_), Some(existing)) if !item.displaced => {
                    Operation { recorded: None, ..update(Some(existing.clone())) }
                }
                _ => make(None),
            },
            Action::Update => update(item.observed.clone()),
            _ => make(None),
        };
        self.desired.insert(i, desired);
        Ok(Prepared::Operations(vec![make]))
    }

    /// Returns the deletion of the object that the plan found, with the recorded identity if the manifest now declares another one.
    pub(super) fn deletion(&self, change: &Change, item: &Item) -> Option<Operation> {
        Some(Operation {
            address: change.address.clone(),
            resource_type: self.context.resource_type(change)?,
            action: OperationAction::Delete,
            recorded: item.recorded.clone(),
            observed: item.former.clone().or(item.observed.clone()),
            triggers: item.triggers.clone(),
            objects: change.objects.clone(),
            consequences: change.consequences.clone(),
            machine_gone: false,
            timeout: self.timeout(&change.address, "delete"),
        })
    }

    pub(super) fn timeout(&self, address: &Address, name: &str) -> Option<std::time::Duration> {
        self.context.expanded.instance(address)?.resource.timeouts.get(name).copied()
    }
}
