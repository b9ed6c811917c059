//! The results of operations: recorded, reported, and passed to their dependants.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use moorfast_state::Outcome as Recorded;

use super::call::unreported;
use super::{CallResult, Executor, FirstPart, Message, from_diagnostics};
use crate::apply::{ChangeOutcome, ChangeResult};
use crate::configuration::evaluate::violated;
use crate::configuration::scope::InstanceScope;
use crate::model::{Address, Attributes, Diagnostic, Mode, Value};
use crate::plan::sequence::Part;
use crate::provider::{Action, Class, ProviderError};
use crate::session::Event;

impl Executor<'_> {
    /// Records the results, in one sync of the state, and starts dependants.
    pub(super) async fn settle(&mut self, messages: Vec<Message>) {
        let mut ended = Vec::new();
        for message in messages {
            match message {
                Message::CallOver(target) => {
                    if let Some(calls) = self.calls.get_mut(&target) {
                        *calls = calls.saturating_sub(1);
                    }
                }
                Message::Ended(i, result) => ended.push((i, result)),
                // The next part of the change may be running, with another intent.
                Message::Unreported(i, intent) if self.running.get(&i).is_some_and(|(id, _)| *id == intent) => {
                    ended.push((i, Err(unreported())));
                }
                Message::Unreported(..) => {}
            }
        }
        let mut writes = Vec::new();
        for (i, result) in ended {
            let Some((intent, started)) = self.running.remove(&i) else { continue };
            let (outcome, result) = self.outcome(i, result);
            let lock = self.lock;
            writes.push(async move {
                let written = match outcome {
                    Some(outcome) => lock.finish(&intent, outcome).await,
                    None => Ok(()),
                };
                (i, started, result, written)
            });
        }
        for (i, started, result, written) in join_all(writes).await {
            if let Err(error) = written {
                self.report.state_error = Some(error);
                self.report_unrecorded(i, result.err());
                continue;
            }
            match result {
                Ok(notes) => {
                    self.finished(i, started.elapsed(), notes);
                    self.end(i, ChangeResult::Done);
                }
                // The operation is queued again. The run starts nothing more, so it is reported as not started.
                Err(error) if error.class == Class::NotStarted => self.order.requeue(vec![i]),
                Err(error) => self.explain_operation(i, error),
            }
        }
    }

    /// Reports that a change is complete. A change whose first part alone is done is not reported.
    fn finished(&mut self, i: usize, took: Duration, notes: Vec<String>) {
        let address = self.change(i).address.clone();
        let (notes, took) = match self.first_parts.remove(&i) {
            Some(first) => ([first.notes, notes].concat(), first.took + took),
            None => (notes, took),
        };
        if !self.order.is_last(i) {
            let record = self.records.get(&address.to_string()).cloned();
            self.first_parts.insert(i, FirstPart { record, notes, took });
            return;
        }
        if address.resource.mode == Mode::Managed {
            self.events.send(Event::Finished { address, action: self.change(i).action, took, notes });
        }
    }

    /// Reports an operation whose result is not recorded. The run stops, so no dependant starts.
    fn report_unrecorded(&mut self, i: usize, error: Option<ProviderError>) {
        let change = self.change(i);
        let (address, action) = (change.address.clone(), change.action);
        // A cancelled operation may have been done in part.
        let failed = error.filter(|error| !matches!(error.class, Class::Cancelled | Class::NotStarted));
        let reported = failed.clone().unwrap_or_else(|| {
            ProviderError::new(Class::Failed, "the result is not recorded; the next run reads the object again")
        });
        self.events.send(Event::Failed { address: address.clone(), action, error: reported });
        let result = failed.map_or(ChangeResult::Unrecorded, ChangeResult::Failed);
        let outcome = ChangeOutcome::of(self.change(i), result);
        self.report.outcomes.push(outcome);
    }

    /// Returns the outcome to record for an ended operation, and its notes or its error.
    pub(super) fn outcome(
        &mut self,
        i: usize,
        result: Result<CallResult, ProviderError>,
    ) -> (Option<Recorded>, Result<Vec<String>, ProviderError>) {
        let change = self.context.plan.changes[i].clone();
        let address = change.address.to_string();
        match result {
            Ok(CallResult::Data(data)) => {
                let mut values = self.desired.remove(&i).unwrap_or_default();
                values.extend(self.context.expanded.marked(&change.address.resource, data));
                self.context.values.insert(change.address.clone(), values.clone());
                let violated = self.violated_postconditions(&change.address, values);
                (None, if violated.is_empty() { Ok(Vec::new()) } else { Err(from_diagnostics(&violated)) })
            }
            Ok(CallResult::Applied(applied)) if change.action == Action::Delete && self.order.is_last(i) => {
                self.records.remove(&address);
                (Some(Recorded::Remove), Ok(applied.notes))
            }
            Ok(CallResult::Applied(applied)) if self.order.part(i) != Part::Make => {
                match self.record_after_removal(i) {
                    Some(record) => {
                        self.records.insert(address, Arc::new(record.clone()));
                        (Some(Recorded::Put(record)), Ok(applied.notes))
                    }
                    None => (Some(Recorded::Unchanged), Ok(applied.notes)),
                }
            }
            Ok(CallResult::Applied(mut applied)) => {
                applied.attributes = self.context.expanded.marked(&change.address.resource, applied.attributes);
                let desired = self.desired.remove(&i).unwrap_or_default();
                let record = self.record(i, &applied);
                self.records.insert(address, Arc::new(record.clone()));
                let mut values: Attributes = desired.into_iter().filter(|(_, v)| !v.is_null()).collect();
                values.extend(applied.attributes);
                self.context.values.insert(change.address.clone(), values.clone());
                let violated = self.violated_postconditions(&change.address, values);
                let result = if violated.is_empty() { Ok(applied.notes) } else { Err(from_diagnostics(&violated)) };
                (Some(Recorded::Put(record)), result)
            }
            Err(error) if change.address.resource.mode == Mode::Data => (None, Err(error)),
            Err(error) if error.class == Class::NotStarted => {
                // The record stays as it was before the operation.
                let known = match self.order.is_half_done(i) {
                    true => self.first_parts.get(&i).and_then(|first| first.record.clone()),
                    false => self.context.items.get(&change.address).and_then(|item| item.recorded.clone()),
                };
                let recorded = match known {
                    Some(known) => {
                        self.records.insert(address, known.clone());
                        Recorded::Put((*known).clone())
                    }
                    None => {
                        self.records.remove(&address);
                        Recorded::Remove
                    }
                };
                (Some(recorded), Err(error))
            }
            // A cancelled operation is incomplete too, because it may have been done in part.
            Err(error) => {
                let record = self.incomplete(&change, self.desired.get(&i));
                let recorded = match record {
                    Some(mut record) => {
                        // A replacement has two objects, and it is unknown which of them failed.
                        if let (Some(private), Action::Create | Action::Update) = (&error.private, change.action) {
                            record.private = (**private).clone();
                        }
                        self.records.insert(address, Arc::new(record.clone()));
                        Recorded::Put(record)
                    }
                    None => Recorded::Unchanged,
                };
                (Some(recorded), Err(error))
            }
        }
    }

    pub(super) fn violated_postconditions(&self, address: &Address, values: Attributes) -> Vec<Diagnostic> {
        let Some(instance) = self.context.expanded.instance(address) else { return Vec::new() };
        let scope = InstanceScope::new(&self.context.expanded, &self.context.values, instance.binding.clone());
        let scope = scope.with_self(Value::Map(values));
        violated(&instance.resource.postconditions, &format!("postcondition of {address}"), &scope)
    }
}
