//! Intents before operations, outcomes after them.

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use moorfast_state::{Intent, Lock, Outcome, Record, StateError};

use super::records::Records;
use crate::apply::context::ApplyContext;
use crate::model::{Address, Attributes};
use crate::plan::Change;
use crate::plan::order::PlannedPart;
use crate::plan::sequence::OldObject;
use crate::provider::{Action, Class, ProviderError};

/// The journal of an apply.
pub(in crate::apply) struct Journal<'a> {
    pub(super) lock: &'a Lock,
    /// The id of the run.
    run: String,
    pub(super) records: Records,
}

/// An operation whose intent is durable, and whose outcome is not.
pub(in crate::apply) struct OpenOperation {
    change: usize,
    intent: String,
    /// The record before the operation.
    before: Option<Arc<Record>>,
}

impl<'a> Journal<'a> {
    pub fn new(lock: &'a Lock, run: String, context: &ApplyContext) -> Self {
        Self { lock, run, records: Records::new(context) }
    }

    /// Returns the current record of an instance.
    pub fn record(&self, address: &Address) -> Option<&Arc<Record>> {
        self.records.get(address)
    }

    /// Records the intents of operations on these changes, each with the desired attributes if the operation makes the object. Start the operations only after this
    /// returned.
    ///
    /// A new object is recorded before it is created, so that it is found if the run is killed.
    ///
    /// # Errors
    /// If the state cannot be written. Then none of the operations may start.
    pub async fn begin(
        &mut self,
        context: &ApplyContext,
        operations: &[(usize, Option<&Attributes>)],
    ) -> Result<Vec<OpenOperation>, StateError> {
        if operations.is_empty() {
            return Ok(Vec::new());
        }
        let (mut intents, mut open, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for (i, desired) in operations {
            let change = context.change(*i);
            let record = desired.and_then(|desired| self.records.before_make(context, change, desired));
            new.extend(record.map(|record| (&change.address, Arc::new(record))));
            let intent = self.intent(change);
            let before = self.record(&change.address).cloned();
            open.push(OpenOperation { change: *i, intent: intent.id.clone(), before });
            intents.push(intent);
        }
        let puts = join_all(new.iter().map(|(_, record)| self.lock.put(record.clone())));
        let (puts, begun) = futures::join!(puts, self.lock.begin(intents));
        puts.into_iter().chain([begun]).collect::<Result<(), _>>()?;
        for (address, record) in new {
            self.records.set(address, Some(record));
        }
        Ok(open)
    }

    /// Returns the outcome of an operation that made the object of a change, with the attributes and the private data that the provider returned.
    pub fn made(
        &mut self,
        context: &ApplyContext,
        part: PlannedPart,
        attributes: &Attributes,
        private: serde_json::Value,
    ) -> Outcome {
        let record = self.records.after_make(context, part, attributes, private);
        self.put(context.change(part.change), Some(record))
    }

    /// Returns the outcome of an operation that removed an old object of a change.
    pub fn removed(&mut self, context: &ApplyContext, part: PlannedPart, old: OldObject) -> Outcome {
        let change = context.change(part.change);
        match change.action == Action::Delete && part.is_last {
            true => self.forget(change),
            false => {
                let record = self.records.after_removal(context, part, old);
                self.put(change, record)
            }
        }
    }

    /// Returns the outcome of an operation after which nothing of a change exists.
    pub fn forget(&mut self, change: &Change) -> Outcome {
        self.records.set(&change.address, None);
        Outcome::Remove
    }

    /// Returns the outcome of a failed operation, with the desired attributes of the object if it should have made one.
    pub fn failed(
        &mut self,
        context: &ApplyContext,
        operation: &OpenOperation,
        desired: Option<&Attributes>,
        error: &ProviderError,
    ) -> Outcome {
        let change = context.change(operation.change);
        if error.class == Class::NotStarted {
            self.records.set(&change.address, operation.before.clone());
            return operation.before.clone().map_or(Outcome::Remove, Outcome::Put);
        }
        // A cancelled operation is incomplete too, because it may have been done in part.
        let mut record = self.records.incomplete(context, change, desired);
        // A replacement has two objects, and it is unknown which of them failed.
        if let (Some(record), Some(private), Action::Create | Action::Update) =
            (&mut record, &error.private, change.action)
        {
            record.private = (**private).clone();
        }
        self.put(change, record)
    }

    /// Records outcomes and closes the intents, in one transaction.
    pub async fn finish(
        &self,
        outcomes: impl IntoIterator<Item = (OpenOperation, Outcome)>,
    ) -> Vec<Result<(), StateError>> {
        let finish = |(operation, outcome): (OpenOperation, Outcome)| async move {
            self.lock.finish(&operation.intent, outcome).await
        };
        join_all(outcomes.into_iter().map(finish)).await
    }

    fn put(&mut self, change: &Change, record: Option<Record>) -> Outcome {
        match record.map(Arc::new) {
            Some(record) => {
                self.records.set(&change.address, Some(record.clone()));
                Outcome::Put(record)
            }
            None => Outcome::Unchanged,
        }
    }

    fn intent(&self, change: &Change) -> Intent {
        Intent {
            id: Intent::new_id(),
            address: change.address.to_string(),
            action: format!("{:?}", change.action).to_lowercase(),
            resource_type: change.resource_type.clone(),
            provider: change.provider.clone(),
            target: change.target.clone(),
            identity: change.identity.clone(),
            started_at: Timestamp::now(),
            run: self.run.clone(),
        }
    }
}
