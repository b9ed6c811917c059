//! The apply: makes the changes of a plan, as many at the same time as their dependencies permit.
//!
//! Three parts play together, and none knows what the others do inside:
//!
//! - The `schedule` decides what may start now, and what an outcome releases, skips or holds back. It is pure.
//! - The `journal` writes the state: intents before operations, outcomes after them.
//! - The `runner` calls the providers, and reports to the user.
//!
//! One round of a run:
//!
//! 1. `Schedule::next` returns steps until nothing more may start. The largest step is a call: all parts of changes that may start on one target.
//! 2. The runner makes the requests from the current values, `Journal::begin` records the intents, and the provider is called in the background.
//! 3. The runner waits for results. `Journal::finish` records the outcomes of all results that are there, in one transaction.
//! 4. `Schedule::done` or `Schedule::failed` releases or skips the dependants of each change, and the next round begins.
//!
//! The run is over when nothing runs and nothing more may start.

mod context;
mod journal;
mod report;
mod runner;
mod schedule;
mod verify;

pub(crate) use context::ApplyContext;
pub use report::{ApplyOptions, ChangeOutcome, ChangeResult, FailedGate, Report};
pub(crate) use verify::describe;

use futures::future::join_all;
use moorfast_state::Lock;

use self::journal::Journal;
use self::runner::Runner;
use self::schedule::{Limits, Schedule};
use crate::model::Diagnostic;
use crate::plan::PlanMode;
use crate::plan::order::Order;
use crate::provider::ProviderError;
use crate::session::{Events, Interrupt};

/// Makes the changes of a plan and records them.
pub(crate) async fn apply(
    mut context: ApplyContext,
    lock: &Lock,
    options: ApplyOptions,
    events: &Events,
    interrupt: &Interrupt,
) -> Report {
    context.session.start_permit.bind(lock.hold());
    if options.verify {
        let stale = verify::changed_since_review(&context, events).await;
        context.stale.extend(stale);
    }
    let order = Order::new(&context.plan.changes, &context.items);
    let mut journal = Journal::new(lock, options.run, &context);
    let opened = runner::open(&mut context, &mut journal, events, interrupt).await;
    let maintained = if opened.is_ok() { maintain(&context).await } else { Vec::new() };
    let limits = Limits { parallelism: options.parallelism, per_node: options.per_target };
    let is_refused = |change: usize| context.refusal(context.change(change)).is_some();
    let schedule = Schedule::new(&context.plan.changes, &context.plan.rollouts, order, limits, is_refused);
    let mut report = Runner::new(context, schedule, journal, lock.lost(), events, interrupt).run(opened).await;
    report.errors.extend(maintained);
    report
}

/// Makes the changes in the storage of the providers themselves that the plan announced. Returns the errors.
async fn maintain(context: &ApplyContext) -> Vec<Diagnostic> {
    if context.plan.options.mode != PlanMode::Normal {
        return Vec::new();
    }
    let maintained = join_all(context.session.connections().map(|connection| connection.maintain())).await;
    let error =
        |error: ProviderError| Diagnostic { code: error.code, help: error.help, ..Diagnostic::error(error.summary) };
    maintained.into_iter().filter_map(Result::err).map(error).collect()
}
