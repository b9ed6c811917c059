//! The requests of a change, made from the current values when its turn comes.

use std::sync::Arc;

use crate::apply::context::ApplyContext;
use crate::configuration::evaluate::{desired, violated};
use crate::configuration::expand::{Expanded, Instance};
use crate::configuration::owners::same_object;
use crate::configuration::scope::{InstanceScope, Values};
use crate::model::{Attributes, Diagnostic, DrainOptions, Mode, Recorded};
use crate::plan::order::PlannedPart;
use crate::plan::sequence::{OldObject, Part};
use crate::plan::{Change, Item};
use crate::provider::{Action, DataRequest, Observed, Operation, OperationAction, ResourceType};

/// The request of one part of a change.
pub(super) enum Prepared {
    /// Remove an old object. `None` if it does not exist any more.
    Remove(Option<Operation>),
    /// Create or change the object, which gets these attributes.
    Make(Operation, Attributes),
    /// Read a data source.
    Read(DataRequest),
}

/// Returns the request of one part of a change, from the current values. `is_cleared` is true if its old object was removed with its machine.
///
/// # Errors
/// If the object cannot be made. A replacement destroys the old object only if the new one can be made, as far as that is known.
pub(super) fn prepare(
    context: &mut ApplyContext,
    part: PlannedPart,
    is_cleared: bool,
) -> Result<Prepared, Vec<Diagnostic>> {
    let change = &context.plan.changes[part.change];
    let old = match part.part {
        Part::Make => return make(context, part.change),
        Part::Remove(old) => old,
    };
    if part.is_first && change.action != Action::Delete {
        evaluated(&context.expanded, &context.values, change)?;
    }
    let Some(resource_type) = context.resource_type(change) else {
        return Err(vec![Diagnostic::error(format!("no provider has the type of `{}`", change.address))]);
    };
    let item = context.item(change).filter(|_| !(is_cleared && old == OldObject::Own));
    let deletion = item.map(|item| (item, deletion(context, change, resource_type, item)));
    Ok(Prepared::Remove(deletion.and_then(|(item, deletion)| removal(item, old, deletion))))
}

/// Returns the deletion of the object that the plan found, with the recorded identity if the manifest now declares another one.
pub(super) fn deletion(
    context: &ApplyContext,
    change: &Change,
    resource_type: Arc<dyn ResourceType>,
    item: &Item,
) -> Operation {
    let observed = item.former.as_ref().or(item.observed.as_ref());
    Operation {
        timeout: context.timeout(&change.address, "delete"),
        machine_gone: context.is_of_dead_node(change),
        drain: drain_options(&context.expanded, change).map(Box::new),
        ..operation(change, resource_type, item, OperationAction::Delete, observed)
    }
}

/// Returns the options of the rollout that drains the node of an instance, if the node leaves and the instance represents it.
fn drain_options(expanded: &Expanded, change: &Change) -> Option<DrainOptions> {
    if !change.is_of_leaving_node() {
        return None;
    }
    let mut drains = expanded.rollouts.iter().filter_map(|selection| selection.rollout.drain.as_ref());
    let drain = drains.find(|drain| drain.resource.0.resource == change.address.resource)?;
    Some(drain.options.clone())
}

/// Returns the deletion of an old object, made from the deletion of the object that the plan found. `None` if the object does not exist.
fn removal(item: &Item, old: OldObject, deletion: Operation) -> Option<Operation> {
    match old {
        OldObject::Own => deletion.observed.is_some().then_some(deletion),
        OldObject::Superseded(place) => item.superseded.get(place).map(|superseded| Operation {
            recorded: Some(superseded.record.shared()),
            observed: superseded.observed.clone(),
            objects: Vec::new(),
            ..deletion
        }),
        OldObject::Displaced => Some(Operation { recorded: None, observed: item.observed.clone(), ..deletion }),
    }
}

/// Returns the request that makes the object of a change, or that reads its data.
fn make(context: &mut ApplyContext, i: usize) -> Result<Prepared, Vec<Diagnostic>> {
    let ApplyContext { plan, expanded, items, values, owners, .. } = context;
    let change = &plan.changes[i];
    let (instance, desired) = evaluated(expanded, values, change)?;
    let unknown: Vec<_> = desired.iter().filter(|(_, v)| v.is_unknown()).map(|(k, _)| k.as_str()).collect();
    if !unknown.is_empty() {
        let message =
            format!("{}: values are still unknown after all dependencies: {}", change.address, unknown.join(", "));
        return Err(vec![Diagnostic::error(message).at(instance.resource.span, "")]);
    }
    let timeout = |name: &str| instance.resource.timeouts.get(name).copied();
    if change.address.resource.mode == Mode::Data {
        return Ok(Prepared::Read(DataRequest {
            address: change.address.clone(),
            data_source: instance.resource_type.clone(),
            arguments: desired,
            timeout: timeout("read"),
        }));
    }
    // An identity that was unknown in the plan may turn out to be the object of another instance.
    for identity in instance.identities(&desired) {
        if let Err(owner) = owners.claim(instance, identity.clone())
            && let Some(owner) = expanded.instance(&owner)
        {
            return Err(vec![same_object(owner, instance, &identity)]);
        }
    }
    let none = Item::default();
    let item = items.get(&change.address).map_or(&none, AsRef::as_ref);
    let desired = expanded.ignoring(instance, desired, item.observed.as_ref());
    let updates = match change.action {
        Action::Update => true,
        // An object with the new identity may exist already.
        Action::Replace | Action::ReplaceCreateFirst => {
            item.former.is_some() && item.observed.is_some() && !item.displaced
        }
        _ => false,
    };
    let (action, timeout) = match updates {
        true => (OperationAction::Update(desired.clone()), timeout("update")),
        false => (OperationAction::Create(desired.clone()), timeout("create")),
    };
    let operation = Operation {
        // The record of a new object belongs to the old one.
        recorded: item.recorded.as_ref().filter(|_| change.action == Action::Update).map(Recorded::shared),
        timeout,
        ..operation(change, instance.resource_type.clone(), item, action, item.observed.as_ref().filter(|_| updates))
    };
    Ok(Prepared::Make(operation, desired))
}

/// Returns the instance of a change and its desired attributes.
fn evaluated<'e>(
    expanded: &'e Expanded,
    values: &Values,
    change: &Change,
) -> Result<(&'e Instance, Attributes), Vec<Diagnostic>> {
    let Some(instance) = expanded.instance(&change.address) else {
        return Err(vec![Diagnostic::error(format!("the manifest does not declare `{}`", change.address))]);
    };
    let scope = InstanceScope::new(expanded, values, instance.binding.clone());
    let violated = violated(&instance.resource.preconditions, &format!("precondition of {}", change.address), &scope);
    match violated.is_empty() {
        true => Ok((instance, desired(expanded, instance, values)?)),
        false => Err(violated),
    }
}

fn operation(
    change: &Change,
    resource_type: Arc<dyn ResourceType>,
    item: &Item,
    action: OperationAction,
    observed: Option<&Observed>,
) -> Operation {
    Operation {
        address: change.address.clone(),
        resource_type,
        action,
        recorded: item.recorded.as_ref().map(Recorded::shared),
        observed: observed.cloned(),
        triggers: item.triggers.clone(),
        objects: change.objects.clone(),
        consequences: change.consequences.clone(),
        machine_gone: false,
        drain: None,
        timeout: None,
    }
}
