//! The steps before the first operation: the state is brought up to date, and the objects of replaced machines are removed from clusters.

use std::time::Instant;

use moorfast_state::{Outcome, StateError};

use super::call::call;
use super::requests::deletion;
use crate::apply::context::ApplyContext;
use crate::apply::journal::{Journal, Recovered};
use crate::model::Address;
use crate::model::hash::HashSet;
use crate::plan::{PlanMode, Reason};
use crate::provider::{Action, Applied, Operation, ProviderError, Target};
use crate::session::{Event, Events, Interrupt};

/// Prepares the state and the clusters for the first operation. Returns the replacements whose old object was removed with its machine.
///
/// # Errors
/// If the state cannot be written. The run must stop then.
pub(in crate::apply) async fn open(
    context: &mut ApplyContext,
    journal: &mut Journal<'_>,
    events: &Events,
    interrupt: &Interrupt,
) -> Result<HashSet<usize>, StateError> {
    journal.rename_moved(context).await?;
    for Recovered { address, message } in journal.close_intents(context).await? {
        events.send(Event::Recovered { address, message });
    }
    report_unapproved(context, events);
    record_machines(context, journal).await?;
    remove_objects_of_former_machines(context, journal, events, interrupt).await
}

/// Reports the nodes whose machine nobody approved.
fn report_unapproved(context: &ApplyContext, events: &Events) {
    for node in context.machines.changes.iter().filter(|change| change.is_unapproved()) {
        let changes = context.plan.changes.iter().filter(|c| c.action.is_change());
        let held = changes.filter(|c| context.unapproved.get(&c.address) == Some(&node.node));
        match held.count() {
            0 => {}
            operations => events.send(Event::Unapproved { node: node.clone(), operations }),
        }
    }
}

/// Records the machines of the nodes. The providers trust them from then on.
async fn record_machines(context: &ApplyContext, journal: &Journal<'_>) -> Result<(), StateError> {
    if context.plan.options.mode == PlanMode::Destroy {
        return Ok(());
    }
    let ApplyContext { machines, expanded, session, .. } = context;
    let allowed = machines.seen.iter().filter(|(node, _)| machines.unapproved(node).is_none());
    let answering: Vec<_> = allowed.filter_map(|(node, machine)| Some((expanded.nodes.get(node)?, machine))).collect();
    journal.record_machines(context, answering.iter().map(|(node, machine)| (node.as_ref(), *machine))).await?;
    // The provider trusts a machine only after the state has recorded it, so that the next run knows it even if this run is killed.
    for (node, machine) in answering {
        let alias = machines.accepted.get(&node.name);
        if let Some(connection) = alias.and_then(|alias| session.connection(alias))
            && let Err(error) = connection.trust_machine(&Target::Node(node.clone()), machine).await
        {
            // The state has recorded the machine, so the next run accepts it too.
            tracing::warn!(node = %node.name, %error, "cannot store the host keys");
        }
    }
    Ok(())
}

/// Removes the objects of replaced machines in clusters, dependants first, because a new machine must not find the registration of the old one.
///
/// If an object cannot be removed, its whole node is skipped.
async fn remove_objects_of_former_machines(
    context: &mut ApplyContext,
    journal: &mut Journal<'_>,
    events: &Events,
    interrupt: &Interrupt,
) -> Result<HashSet<usize>, StateError> {
    let former: Vec<_> = (0..context.plan.changes.len()).rev().filter(|i| is_of_former_machine(context, *i)).collect();
    let mut cleared = HashSet::default();
    for i in former {
        if interrupt.stop.is_cancelled() {
            break;
        }
        match clear(context, journal, events, i).await? {
            Ok(is_cleared) => cleared.extend(is_cleared.then_some(i)),
            Err(error) => skip_node(context, i, &error),
        }
    }
    Ok(cleared)
}

/// Whether a change replaces an object of a replaced machine.
fn is_of_former_machine(context: &ApplyContext, i: usize) -> bool {
    let change = context.change(i);
    change.action == Action::Replace
        && change.reasons.contains(&Reason::OtherMachine)
        && context.refusal(change).is_none()
}

/// Removes the object of a replaced machine. Returns whether there was one to remove.
async fn clear(
    context: &mut ApplyContext,
    journal: &mut Journal<'_>,
    events: &Events,
    i: usize,
) -> Result<Result<bool, ProviderError>, StateError> {
    let change = context.change(i);
    let connection = context.session.connection(&change.provider);
    let (Some(target), Some(connection), Some(resource_type)) =
        (context.target(change), connection, context.resource_type(change))
    else {
        return Ok(Ok(false));
    };
    let opened = journal.begin(context, &[(i, None)]).await?;
    let started = Instant::now();
    events.send(Event::Started { address: change.address.clone(), action: Action::Delete });
    let none = Default::default();
    let item = context.item(change).unwrap_or(&none);
    let operation = Operation { machine_gone: true, ..deletion(context, change, resource_type, item) };
    let mut ended = Ok(Applied::default());
    call(connection, &target, vec![operation], |_, result| ended = result).await;
    let outcome = if ended.is_ok() { journal.forget(change) } else { Outcome::Unchanged };
    for written in journal.finish(opened.into_iter().map(|operation| (operation, outcome.clone()))).await {
        written?;
    }
    let address = change.address.clone();
    let Applied { notes, .. } = match ended {
        Ok(applied) => applied,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(item) = context.items.get_mut(&address) {
        (item.recorded, item.observed) = (None, None);
    }
    events.send(Event::Finished { address, action: Action::Delete, took: started.elapsed(), notes });
    Ok(Ok(true))
}

/// Skips the whole node of an object that could not be removed.
fn skip_node(context: &mut ApplyContext, i: usize, error: &ProviderError) {
    let node = |address: &Address| context.expanded.instance(address)?.binding.node.as_ref().map(|n| &n.name);
    let of = node(&context.change(i).address);
    let all = context.plan.changes.iter().map(|change| &change.address);
    let held: Vec<_> = all.filter(|address| of.is_some() && node(address) == of).cloned().collect();
    context.unread.extend(held.into_iter().map(|address| (address, error.clone())));
}
