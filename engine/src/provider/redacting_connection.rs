//! A connection whose messages never show the sensitive values of its requests.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::model::{Address, Attributes, Identified, Machine, Value};
use crate::provider::{
    Applied, Connection, DataRequest, Observed, Operation, OperationAction, PlanRequest, Proposal, ProviderError,
    ReadRequest, Redaction, Target,
};

/// A provider's connection. Programs and servers quote the values that they refuse, so every message is redacted here, for all providers.
pub(crate) struct DiscreetConnection(pub Arc<dyn Connection>);

/// The values that a request holds.
trait Holds {
    fn values(&self) -> impl Iterator<Item = &Value>;
}

impl Holds for ReadRequest {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.desired.iter().flat_map(Attributes::values)
    }
}

impl Holds for PlanRequest {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.desired.values().chain(observed(self.observed.as_ref()))
    }
}

impl Holds for Operation {
    fn values(&self) -> impl Iterator<Item = &Value> {
        let desired = match &self.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => Some(desired),
            OperationAction::Delete => None,
        };
        desired.into_iter().flat_map(Attributes::values).chain(observed(self.observed.as_ref()))
    }
}

impl Holds for DataRequest {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.arguments.values()
    }
}

fn observed(observed: Option<&Observed>) -> impl Iterator<Item = &Value> {
    observed.into_iter().flat_map(|observed| observed.attributes.values())
}

/// The redaction of a whole batch: an answer may quote the script that does all of it.
fn redaction<R: Holds>(requests: &[R]) -> Redaction {
    Redaction::of(requests.iter().flat_map(Holds::values))
}

/// The answers to `requests`, with `redact` applied where there is something to read.
fn redacted<T, R: Holds>(
    requests: &[R],
    answers: Vec<Result<T, ProviderError>>,
    has_text: impl Fn(&T) -> bool,
    redact: impl Fn(&Redaction, T) -> T,
) -> Vec<Result<T, ProviderError>> {
    if !answers.iter().any(|answer| answer.as_ref().map_or(true, &has_text)) {
        return answers;
    }
    let redaction = redaction(requests);
    let each = |answer: Result<T, ProviderError>| match answer {
        Ok(answer) => Ok(redact(&redaction, answer)),
        Err(error) => Err(redaction.error(error)),
    };
    answers.into_iter().map(each).collect()
}

#[async_trait]
impl Connection for DiscreetConnection {
    async fn identify(&self, target: &Target) -> Result<Option<Identified>, ProviderError> {
        self.0.identify(target).await
    }

    async fn accept(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        self.0.accept(target, machine).await
    }

    async fn remember(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        self.0.remember(target, machine).await
    }

    async fn come_up(&self, target: &Target, waiting: &Address) -> Result<(), ProviderError> {
        self.0.come_up(target, waiting).await
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        redacted(requests, self.0.read(target, requests).await, |_| false, |_, observed| observed)
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        let has_text = |proposal: &Proposal| !proposal.notes.is_empty() || !proposal.consequences.is_empty();
        redacted(requests, self.0.plan(target, requests).await, has_text, |redaction, proposal| Proposal {
            notes: proposal.notes.iter().map(|note| redaction.text(note)).collect(),
            consequences: proposal.consequences.into_iter().map(|c| redaction.consequence(c)).collect(),
            ..proposal
        })
    }

    async fn apply(
        &self,
        target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        let (sender, mut receiver) = unbounded_channel::<(usize, Result<Applied, ProviderError>)>();
        let pass_on = async {
            // Of thousands of operations any may fail: what to redact is collected once, and only if there is something to read.
            let mut known = None;
            while let Some((place, outcome)) = receiver.recv().await {
                let outcome = match outcome {
                    Ok(applied) if applied.notes.is_empty() => Ok(applied),
                    Ok(applied) => {
                        let redaction = known.get_or_insert_with(|| redaction(operations));
                        let notes = applied.notes.iter().map(|note| redaction.text(note)).collect();
                        Ok(Applied { notes, ..applied })
                    }
                    Err(error) => Err(known.get_or_insert_with(|| redaction(operations)).error(error)),
                };
                // The receiver is gone only when the run is.
                _ = outcomes.send((place, outcome));
            }
        };
        futures::join!(self.0.apply(target, operations, sender), pass_on);
    }

    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        redacted(requests, self.0.read_data(target, requests).await, |_| false, |_, found| found)
    }

    async fn explain(&self, target: &Target, requests: &[ReadRequest]) -> Vec<String> {
        let redaction = redaction(requests);
        self.0.explain(target, requests).await.iter().map(|line| redaction.text(line)).collect()
    }

    async fn healthy(&self, target: &Target, request: &ReadRequest, timeout: Duration) -> Result<(), ProviderError> {
        let healthy = self.0.healthy(target, request, timeout).await;
        healthy.map_err(|error| redaction(std::slice::from_ref(request)).error(error))
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.0.statistics()
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
