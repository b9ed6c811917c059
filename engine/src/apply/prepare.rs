//! What is to be asked of a provider for one change, with the values as they are when its turn comes.

use super::Executor;
use crate::evaluate::{desired, violated};
use crate::plan::{Action, Change, Item};
use crate::scope::InstanceScope;
use crate::{Address, DataRequest, Diagnostic, Mode, Operation, OperationAction};

/// What is to be asked of a provider for one change.
pub(super) enum Prepared {
    /// These operations, one after the other.
    Steps(Vec<Operation>),
    /// This data.
    Data(DataRequest),
}

impl Executor<'_> {
    /// What is to be asked of the provider for one change, with the values as they are now.
    pub(super) fn prepare(&mut self, i: usize) -> Result<Prepared, Vec<Diagnostic>> {
        let change = &self.work.plan.changes[i];
        let item = self.work.items.get(&change.address).cloned().unwrap_or_default();
        let operation = |action, observed| Operation {
            address: change.address.clone(),
            resource_type: change.resource_type.clone(),
            action,
            recorded: item.recorded.clone(),
            observed,
            triggers: item.triggers.clone(),
            machine_gone: false,
            timeout: None,
        };
        let clear = item.leftovers.iter().filter(|leftover| leftover.observed.is_some()).map(|leftover| Operation {
            recorded: Some(leftover.record.clone()),
            timeout: self.timeout(&change.address, "delete"),
            ..operation(OperationAction::Delete, leftover.observed.clone())
        });
        let mut steps: Vec<_> = clear.collect();
        if change.action == Action::Delete {
            steps.extend(item.observed.is_some().then(|| self.deletion(change, &item)));
            return Ok(Prepared::Steps(steps));
        }
        let Some(instance) = self.work.expanded.instance(&change.address) else {
            return Ok(Prepared::Steps(Vec::new()));
        };
        let scope = InstanceScope::new(&self.work.expanded, &self.work.values, instance.binding.clone());
        let what = format!("precondition of {}", change.address);
        let broken = violated(&instance.resource.preconditions, &what, &scope);
        if !broken.is_empty() {
            return Err(broken);
        }
        let wanted = desired(&self.work.expanded, instance, &self.work.values)?;
        let unknown: Vec<_> = wanted.iter().filter(|(_, v)| v.is_unknown()).map(|(k, _)| k.as_str()).collect();
        if !unknown.is_empty() {
            let message = format!("{}: still unknown after all it depends on: {}", change.address, unknown.join(", "));
            return Err(vec![Diagnostic::error(message).at(instance.resource.span, "")]);
        }
        if change.address.resource.mode == Mode::Data {
            let data_source = change.resource_type.clone();
            let timeout = self.timeout(&change.address, "read");
            let request =
                DataRequest { address: change.address.clone(), data_source, arguments: wanted.clone(), timeout };
            self.wanted.insert(i, wanted);
            return Ok(Prepared::Data(request));
        }
        let wanted = self.work.expanded.ignoring(instance, wanted, item.observed.as_ref());
        let delete = || self.deletion(change, &item);
        let make = |observed| Operation {
            timeout: self.timeout(&change.address, "create"),
            // What is made anew has nothing to do with what is remembered.
            recorded: None,
            ..operation(OperationAction::Create(wanted.clone()), observed)
        };
        let update = |observed| Operation {
            timeout: self.timeout(&change.address, "update"),
            ..operation(OperationAction::Update(wanted.clone()), observed)
        };
        // Under a new identity something may be there already.
        let arrive = || match (&item.former, &item.observed) {
            (Some(_), Some(there)) => Operation { recorded: None, ..update(Some(there.clone())) },
            _ => make(None),
        };
        steps.extend(match change.action {
            // The old object is another instance's now, which brings it to what it wants.
            Action::Replace | Action::ReplaceCreateFirst if self.is_handed_over(&item) => vec![arrive()],
            Action::Replace if self.cleared.contains(&i) => vec![arrive()],
            Action::Replace => vec![delete(), arrive()],
            Action::ReplaceCreateFirst => vec![arrive(), delete()],
            Action::Update => vec![update(item.observed.clone())],
            _ => vec![make(None)],
        });
        self.wanted.insert(i, wanted);
        Ok(Prepared::Steps(steps))
    }

    /// The deletion of what a change found: under the recorded identity, where the manifest now says another one.
    pub(super) fn deletion(&self, change: &Change, item: &Item) -> Operation {
        Operation {
            address: change.address.clone(),
            resource_type: change.resource_type.clone(),
            action: OperationAction::Delete,
            recorded: item.recorded.clone(),
            observed: item.former.clone().or(item.observed.clone()),
            triggers: item.triggers.clone(),
            machine_gone: false,
            timeout: self.timeout(&change.address, "delete"),
        }
    }

    /// Is the object that the record of `item` remembers wanted by another instance?
    pub(super) fn is_handed_over(&self, item: &Item) -> bool {
        let Some(record) = item.recorded.as_ref().filter(|_| item.former.is_some()) else { return false };
        let claims = |c: &Change| {
            c.target == record.target && c.after.is_some() && c.identity.as_deref() == Some(record.identity.as_str())
        };
        self.work.plan.changes.iter().any(claims)
    }

    pub(super) fn timeout(&self, address: &Address, name: &str) -> Option<std::time::Duration> {
        self.work.expanded.instance(address)?.resource.timeouts.get(name).copied()
    }
}
