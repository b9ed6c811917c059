//! What unchanged objects report about changed ones: read again after the last operation.

use std::collections::HashSet;

use moorfast_state::StateError;

use crate::apply::context::ApplyContext;
use crate::apply::journal::Journal;
use crate::apply::report::Report;
use crate::apply::verify::request;
use crate::model::Address;
use crate::plan::{Batches, Change, read};
use crate::provider::{Action, ResourceType};
use crate::session::Events;

/// Reads the unchanged instances that depend on a completed change again, and records the attributes that they only report.
///
/// Without this, the next plan would show a drift that this apply made: the upgrade of a kubelet changes the version that its Node reports. An object that cannot be
/// read keeps its record.
///
/// # Errors
/// If the state cannot be written.
pub(super) async fn record_reported(
    context: &mut ApplyContext,
    journal: &mut Journal<'_>,
    report: &Report,
    events: &Events,
) -> Result<(), StateError> {
    let mut requests = Batches::default();
    for change in unchanged_dependants(context, report) {
        let reported = context.resource_type(change).map(|resource_type| reported_attributes(resource_type.as_ref()));
        let Some(reported) = reported.filter(|names| !names.is_empty()) else { continue };
        if let (Some(target), Some(request)) = (context.target(change), request(context, change)) {
            requests.add(&change.provider, &target, (reported, request));
        }
    }
    let mut known_now = Vec::new();
    for (reported, request, reading) in read(&context.session, requests, events).await {
        let Ok(Some(mut observed)) = reading else { continue };
        observed.attributes.retain(|name, _| reported.contains(&name.as_str()));
        known_now.push((request.address, observed.attributes));
    }
    journal.record_attributes(context, &known_now).await?;
    known_now.into_iter().for_each(|(address, attributes)| context.values.extend(&address, attributes));
    Ok(())
}

/// Returns the unchanged instances that depend on a completed operation, also through other instances.
fn unchanged_dependants<'a>(context: &'a ApplyContext, report: &Report) -> impl Iterator<Item = &'a Change> {
    let operations = report.outcomes.iter().filter(|o| o.is_done() && o.action.accesses_target());
    let mut affected: HashSet<Address> = operations.map(|outcome| outcome.address.clone()).collect();
    context.plan.changes.iter().filter(move |change| {
        let is_affected = change.dependencies.iter().any(|dependency| affected.contains(dependency));
        if is_affected {
            affected.insert(change.address.clone());
        }
        is_affected && change.action == Action::NoOp
    })
}

fn reported_attributes(resource_type: &dyn ResourceType) -> Vec<&'static str> {
    let attributes = resource_type.schema().attributes.iter();
    attributes.filter(|attribute| attribute.is_reported).map(|attribute| attribute.name).collect()
}
