//! What unchanged objects report about changed ones: read again after the last operation.

use moorfast_state::StateError;
use serde_json::{Map, Value as Json};

use crate::apply::context::ApplyContext;
use crate::apply::journal::Journal;
use crate::apply::report::Report;
use crate::apply::verify::request;
use crate::model::Address;
use crate::model::hash::HashSet;
use crate::plan::{Batches, Change, read};
use crate::provider::Action;
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
        let reported = without_drift(context, journal, change);
        if reported.is_empty() {
            continue;
        }
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

/// Returns the reported attributes that had not drifted before the first operation. A drift stays until somebody accepts it.
fn without_drift(context: &ApplyContext, journal: &Journal<'_>, change: &Change) -> Vec<&'static str> {
    let Some(resource_type) = context.resource_type(change) else { return Vec::new() };
    let recorded = journal.record(&change.address).map(|record| &record.attributes);
    let is_recorded = |name: &&str| {
        let value = |attributes: &Map<String, Json>| attributes.get(*name).cloned();
        recorded.and_then(value) == change.before.as_ref().and_then(value)
    };
    resource_type.schema().reported().filter(is_recorded).collect()
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
