//! Explanations of failures, by the objects that the failed operation or gate depends on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::Executor;
use super::gate::Unhealthy;
use crate::configuration::expand::Instance;
use crate::model::Address;
use crate::provider::{Class, Connection, ProviderError, ReadRequest, Target};

/// How long an explanation may take. The failure is reported without it then.
const LIMIT: Duration = Duration::from_secs(10);

/// A failure with its explanation.
pub(super) enum Explained {
    /// The operation of this change failed.
    Operation(usize, ProviderError),
    /// A health gate of a rollout was not passed.
    Gate(Unhealthy),
}

/// The requests to the objects on one node that may explain a failure.
struct Call {
    connection: Arc<dyn Connection>,
    target: Target,
    requests: Vec<ReadRequest>,
}

impl Executor<'_> {
    /// Reports the failure of an operation once the objects that it directly depends on have explained it: the journal of the kubelet explains
    /// why a Node is not Ready. Results of other operations are recorded in the meantime.
    pub(super) fn explain_operation(&mut self, i: usize, error: ProviderError) {
        let calls = self.calls_for(&self.change(i).dependencies, &error);
        if calls.is_empty() {
            return self.fail(i, error);
        }
        let explained = self.explained(calls, error);
        self.explanations.spawn(async move { Explained::Operation(i, explained.await) });
    }

    /// Reports a health gate that was not passed once `causes` have explained it.
    pub(super) fn explain_gate(&mut self, unhealthy: Unhealthy, causes: &[Address]) {
        let calls = self.calls_for(causes, unhealthy.error());
        if calls.is_empty() {
            return self.stop_at_gate(unhealthy);
        }
        let explained = self.explained(calls, unhealthy.error().clone());
        self.explanations.spawn(async move { Explained::Gate(unhealthy.with_error(explained.await)) });
    }

    /// Reports a failure that is explained now.
    pub(super) fn report_explained(&mut self, explained: Explained) {
        match explained {
            Explained::Operation(i, error) => self.fail(i, error),
            Explained::Gate(unhealthy) => self.stop_at_gate(unhealthy),
        }
    }

    /// Returns `error` with the lines that the calls return, or as it is if they take too long or the person cancels the run.
    fn explained(&self, calls: Vec<Call>, mut error: ProviderError) -> impl Future<Output = ProviderError> + use<> {
        let cancel = self.interrupt.cancel.clone();
        async move {
            // A task of its own, so that a panic of a provider loses only the explanation.
            let task = |call: Call| AbortOnDropHandle::new(tokio::spawn(call.lines()));
            let lines = join_all(calls.into_iter().map(task));
            tokio::select! {
                lines = timeout(LIMIT, lines) => error.detail.extend(lines.into_iter().flatten().flatten().flatten()),
                () = cancel.cancelled() => {}
            }
            error
        }
    }

    /// Returns the calls to the objects among `causes` that are on nodes. Empty if no object can explain an error of this class.
    fn calls_for(&self, causes: &[Address], error: &ProviderError) -> Vec<Call> {
        if !matches!(error.class, Class::Timeout | Class::Failed) {
            return Vec::new();
        }
        let mut calls: BTreeMap<(&str, &str), Call> = BTreeMap::new();
        for address in causes {
            let Some(instance) = self.context.expanded.instance(address) else { continue };
            let Some(connection) = self.context.session.connection(&instance.provider) else { continue };
            if !matches!(instance.target, Target::Node(_)) {
                continue;
            }
            let call = calls.entry((&instance.provider, instance.target.name())).or_insert_with(|| Call {
                connection: connection.clone(),
                target: instance.target.clone(),
                requests: Vec::new(),
            });
            call.requests.push(self.explanation_request(instance));
        }
        calls.into_values().collect()
    }

    fn explanation_request(&self, instance: &Instance) -> ReadRequest {
        ReadRequest {
            address: instance.address.clone(),
            resource_type: instance.resource_type.clone(),
            desired: None,
            recorded: self.records.get(&instance.address.to_string()).cloned(),
        }
    }
}

impl Call {
    async fn lines(self) -> Vec<String> {
        self.connection.explain(&self.target, &self.requests).await
    }
}
