//! A connection that protects sensitive values: it marks them in all results, and removes them from all messages.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::known_secrets::KnownSecrets;
use super::marking::{marked, marked_reading};
use crate::model::{Address, Attributes, Identified, Machine, Value};
use crate::provider::{
    Applied, Connection, Consequence, DataRequest, Described, DrainRequest, Existing, Finding, NodeNetwork, Observed,
    Operation, OperationAction, PlanRequest, Proposal, ProviderError, ReadRequest, Redaction, Target,
};

/// A connection of a provider with marked results and redacted messages.
///
/// A provider may return a sensitive value without a mark, so the results of all providers are marked here. Programs and servers quote the values that they
/// reject, so the messages of all providers are redacted here.
pub(crate) struct ProtectedConnection {
    connection: Arc<dyn Connection>,
    /// The secrets of the run.
    secrets: Arc<KnownSecrets>,
}

/// The values of a request.
trait RequestValues {
    fn values(&self) -> impl Iterator<Item = &Value>;
}

impl RequestValues for ReadRequest {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.desired.iter().flat_map(|attributes| attributes.values())
    }
}

impl RequestValues for PlanRequest {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.desired.values().chain(observed(self.observed.as_ref()))
    }
}

impl RequestValues for Operation {
    fn values(&self) -> impl Iterator<Item = &Value> {
        let desired = match &self.action {
            OperationAction::Create(desired) | OperationAction::Update(desired) => Some(desired),
            OperationAction::Delete => None,
        };
        desired.into_iter().flat_map(|attributes| attributes.values()).chain(observed(self.observed.as_ref()))
    }
}

impl RequestValues for DataRequest {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.arguments.values()
    }
}

fn observed(observed: Option<&Observed>) -> impl Iterator<Item = &Value> {
    observed.into_iter().flat_map(|observed| observed.attributes.values())
}

impl ProtectedConnection {
    /// Returns `connection`, whose messages contain neither the sensitive values of its requests nor `secrets`. Adds the former to the latter.
    pub(crate) fn new(connection: Arc<dyn Connection>, secrets: Arc<KnownSecrets>) -> Self {
        Self { connection, secrets }
    }

    /// Returns the redaction of a batch. A message may quote the script of the whole batch.
    fn redaction<R: RequestValues>(&self, requests: &[R]) -> Redaction {
        Redaction::of(requests.iter().flat_map(RequestValues::values)).and(&self.secrets.redaction())
    }

    /// Adds the secrets of a batch to those of the run.
    fn remember<R: RequestValues>(&self, requests: &[R]) {
        self.secrets.add(requests.iter().flat_map(RequestValues::values));
    }

    /// Returns `answers`, each marked for its request, and redacted if at least one of them contains text.
    fn protected<T, R: RequestValues>(
        &self,
        requests: &[R],
        answers: Vec<Result<T, ProviderError>>,
        mark: impl Fn(&R, T) -> T,
        has_text: impl Fn(&T) -> bool,
        redact: impl Fn(&Redaction, T) -> T,
    ) -> Vec<Result<T, ProviderError>> {
        let of_requests = requests.iter().zip(answers);
        let answers: Vec<_> = of_requests.map(|(request, answer)| answer.map(|answer| mark(request, answer))).collect();
        if !answers.iter().any(|answer| answer.as_ref().map_or(true, &has_text)) {
            return answers;
        }
        let redaction = self.redaction(requests);
        let each = |answer: Result<T, ProviderError>| match answer {
            Ok(answer) => Ok(redact(&redaction, answer)),
            Err(error) => Err(redaction.error(error)),
        };
        answers.into_iter().map(each).collect()
    }
}

#[async_trait]
impl Connection for ProtectedConnection {
    async fn identify(&self, target: &Target) -> Result<Option<Identified>, ProviderError> {
        self.connection.identify(target).await
    }

    async fn accept_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        self.connection.accept_machine(target, machine).await
    }

    async fn trust_machine(&self, target: &Target, machine: &Machine) -> Result<(), ProviderError> {
        self.connection.trust_machine(target, machine).await
    }

    async fn wait_until_reachable(&self, target: &Target, waiting: &Address) -> Result<(), ProviderError> {
        self.connection.wait_until_reachable(target, waiting).await
    }

    async fn describe(&self, target: &Target, wanted: &[Existing]) -> Result<Vec<Described>, ProviderError> {
        self.connection.describe(target, wanted).await
    }

    async fn check_access(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Finding> {
        self.remember(requests);
        let redaction = self.redaction(requests);
        let redact = |finding: Finding| Finding {
            result: match finding.result {
                Ok(found) => Ok(redaction.text(&found)),
                Err(error) => Err(redaction.error(error)),
            },
            ..finding
        };
        self.connection.check_access(target, requests).await.into_iter().map(redact).collect()
    }

    async fn read(&self, target: &Target, requests: &[ReadRequest]) -> Vec<Result<Option<Observed>, ProviderError>> {
        self.remember(requests);
        let mark = |request: &ReadRequest, read: Option<Observed>| read.map(|read| marked_reading(request, read));
        self.protected(requests, self.connection.read(target, requests).await, mark, |_| false, |_, observed| observed)
    }

    async fn plan(&self, target: &Target, requests: &[PlanRequest]) -> Vec<Result<Proposal, ProviderError>> {
        self.remember(requests);
        let mark = |request: &PlanRequest, proposal: Proposal| Proposal {
            planned: marked(request.resource_type.schema(), proposal.planned),
            ..proposal
        };
        let has_text = |proposal: &Proposal| !proposal.notes.is_empty() || !proposal.consequences.is_empty();
        self.protected(requests, self.connection.plan(target, requests).await, mark, has_text, |redaction, proposal| {
            Proposal {
                notes: proposal.notes.iter().map(|note| redaction.text(note)).collect(),
                consequences: proposal.consequences.into_iter().map(|c| redaction.consequence(c)).collect(),
                ..proposal
            }
        })
    }

    async fn pending_maintenance(&self) -> Vec<String> {
        let redaction = self.secrets.redaction();
        self.connection.pending_maintenance().await.iter().map(|warning| redaction.text(warning)).collect()
    }

    async fn maintain(&self) -> Result<(), ProviderError> {
        self.connection.maintain().await.map_err(|error| self.secrets.redaction().error(error))
    }

    async fn removal_consequences(
        &self,
        target: &Target,
        requests: &[ReadRequest],
    ) -> Vec<Result<Vec<Consequence>, ProviderError>> {
        let answers = self.connection.removal_consequences(target, requests).await;
        let redact = |redaction: &Redaction, consequences: Vec<Consequence>| {
            consequences.into_iter().map(|consequence| redaction.consequence(consequence)).collect()
        };
        self.protected(requests, answers, |_, consequences| consequences, |found| !found.is_empty(), redact)
    }

    async fn apply(
        &self,
        target: &Target,
        operations: &[Operation],
        outcomes: UnboundedSender<(usize, Result<Applied, ProviderError>)>,
    ) {
        self.remember(operations);
        let (sender, mut receiver) = unbounded_channel::<(usize, Result<Applied, ProviderError>)>();
        let forward = async {
            // A call may have thousands of operations: the redaction is collected once, and only if a message needs it.
            let mut known = None;
            while let Some((place, outcome)) = receiver.recv().await {
                let outcome = outcome.map(|applied| match operations.get(place) {
                    Some(operation) => {
                        let attributes = marked(operation.resource_type.schema(), applied.attributes);
                        Applied { attributes, ..applied }
                    }
                    None => applied,
                });
                let outcome = match outcome {
                    Ok(applied) if applied.notes.is_empty() => Ok(applied),
                    Ok(applied) => {
                        let redaction = known.get_or_insert_with(|| self.redaction(operations));
                        let notes = applied.notes.iter().map(|note| redaction.text(note)).collect();
                        Ok(Applied { notes, ..applied })
                    }
                    Err(error) => Err(known.get_or_insert_with(|| self.redaction(operations)).error(error)),
                };
                // The receiver is dropped only at the end of the run.
                _ = outcomes.send((place, outcome));
            }
        };
        futures::join!(self.connection.apply(target, operations, sender), forward);
    }

    async fn read_data(&self, target: &Target, requests: &[DataRequest]) -> Vec<Result<Attributes, ProviderError>> {
        self.remember(requests);
        let mark = |request: &DataRequest, data| marked(request.data_source.schema(), data);
        self.protected(requests, self.connection.read_data(target, requests).await, mark, |_| false, |_, data| data)
    }

    async fn explain(&self, target: &Target, requests: &[ReadRequest]) -> Vec<String> {
        let redaction = self.redaction(requests);
        self.connection.explain(target, requests).await.iter().map(|line| redaction.text(line)).collect()
    }

    async fn wait_until_healthy(
        &self,
        target: &Target,
        request: &ReadRequest,
        timeout: Duration,
    ) -> Result<(), ProviderError> {
        let healthy = self.connection.wait_until_healthy(target, request, timeout).await;
        healthy.map_err(|error| self.redaction(std::slice::from_ref(request)).error(error))
    }

    async fn drain(&self, target: &Target, request: &DrainRequest) -> Result<Vec<String>, ProviderError> {
        let drained = self.connection.drain(target, request).await;
        let redaction = self.redaction(std::slice::from_ref(&request.object));
        let drained = drained.map_err(|error| redaction.error(error))?;
        Ok(drained.iter().map(|note| redaction.text(note)).collect())
    }

    async fn undrain(&self, target: &Target, request: &DrainRequest) -> Result<(), ProviderError> {
        let undrained = self.connection.undrain(target, request).await;
        undrained.map_err(|error| self.redaction(std::slice::from_ref(&request.object)).error(error))
    }

    fn node_network(&self) -> Option<&dyn NodeNetwork> {
        self.connection.node_network()
    }

    fn statistics(&self) -> Vec<(&'static str, u64)> {
        self.connection.statistics()
    }

    async fn close(&self) {
        self.connection.close().await;
    }
}
