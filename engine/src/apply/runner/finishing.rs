//! The steps after the last operation: machines, reported attributes and outputs are recorded, and checks are evaluated.

use std::collections::BTreeMap;

use moorfast_state::Output;

use super::reported::record_reported;
use crate::apply::context::ApplyContext;
use crate::apply::journal::Journal;
use crate::apply::report::Report;
use crate::check::{Checks, When};
use crate::configuration::scope::InstanceScope;
use crate::model::hash::HashSet;
use crate::model::{Address, Value};
use crate::plan::PlanMode;
use crate::session::{Events, Interrupt};

/// Completes the state and the report, and closes the connections. `is_stopped` is true if the run was stopped before its end.
pub(super) async fn finish(
    mut context: ApplyContext,
    mut journal: Journal<'_>,
    events: &Events,
    interrupt: &Interrupt,
    mut report: Report,
    is_stopped: bool,
) -> Report {
    if !is_stopped && let Err(error) = journal.forget_machines(&context).await {
        report.state_error = Some(error);
    }
    if !is_stopped
        && report.state_error.is_none()
        && let Err(error) = record_reported(&mut context, &mut journal, &report, events).await
    {
        report.state_error = Some(error);
    }
    let outputs = outputs(&context, &mut report);
    if report.state_error.is_none()
        && let Err(error) = journal.record_outputs(outputs).await
    {
        report.state_error = Some(error);
    }
    let ApplyContext { plan, expanded, values, session, selected, .. } = &context;
    if plan.options.mode == PlanMode::Normal && !report.interrupted {
        let failed = report.outcomes.iter().filter(|o| !o.is_done()).map(|o| o.address.clone());
        let failed: HashSet<Address> = failed.collect();
        let pending = |address: &Address| failed.contains(address);
        let nodes = session.probing(expanded).map(AsRef::as_ref);
        let checks = Checks { expanded, values, nodes, selected: selected.as_ref(), when: When::Applied };
        report.checks = checks.run(events, &interrupt.stop, pending).await;
        report.interrupted = interrupt.stop.is_cancelled();
    }
    report.statistics = session.statistics();
    session.close().await;
    report
}

/// Evaluates the outputs with the current values, and adds them to the report. Returns the outputs to record.
///
/// An output that cannot be evaluated keeps its old value.
fn outputs(context: &ApplyContext, report: &mut Report) -> BTreeMap<String, Output> {
    let mut recorded = BTreeMap::new();
    if context.plan.options.mode == PlanMode::Destroy {
        return recorded;
    }
    let scope = InstanceScope::new(&context.expanded, &context.values, Default::default());
    for (name, output) in &context.expanded.manifest.outputs {
        let value = output.value.evaluate(&scope).unwrap_or_else(|errors| {
            report.errors.extend(errors);
            Value::Unknown
        });
        let value = if output.sensitive { value.sensitive() } else { value };
        let is_known = !value.is_unknown() && !value.is_retained();
        let before = || context.plan.outputs.get(name).and_then(|output| output.before.clone());
        let sealed = if is_known { Some(value.seal(&context.key)) } else { before() };
        if let Some(sealed) = sealed {
            recorded.insert(name.clone(), Output { value: sealed, sensitive: value.is_sensitive() });
        }
        if is_known {
            report.outputs.insert(name.clone(), value);
        }
    }
    recorded
}
