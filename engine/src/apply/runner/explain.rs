//! Explanations of failures, by the objects that the failed operation or gate depends on: the journal of the kubelet explains why a Node is not Ready.
//!
//! They are made in the background: results of other operations are recorded in the meantime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::apply::context::ApplyContext;
use crate::apply::journal::Journal;
use crate::apply::schedule::NodeTurn;
use crate::model::Address;
use crate::provider::{Class, Connection, ProviderError, ReadRequest, Target};

/// How long an explanation may take. The failure is reported without it then.
const LIMIT: Duration = Duration::from_secs(10);

/// A failure to report.
pub(super) struct Failure {
    pub of: Failed,
    pub error: ProviderError,
}

/// What failed.
pub(super) enum Failed {
    /// The operation of this change.
    Operation(usize),
    /// A health gate of this node of a rollout, or the health of this instance.
    Gate { turn: NodeTurn, gate: String, address: Option<Address> },
}

/// The failures that are being explained.
pub(super) struct Explanations {
    running: FuturesUnordered<BoxFuture<'static, Failure>>,
    /// Cancelled when the user cancels the run. Failures are reported without an explanation then.
    cancel: CancellationToken,
}

/// The requests to the objects on one node that may explain a failure.
struct Call {
    connection: Arc<dyn Connection>,
    target: Target,
    requests: Vec<ReadRequest>,
}

impl Explanations {
    pub fn new(cancel: CancellationToken) -> Self {
        Self { running: FuturesUnordered::new(), cancel }
    }

    pub fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Starts to explain a failure by the objects among `causes` that are on nodes. Returns the failure if none of them can explain it.
    pub fn start(
        &mut self,
        context: &ApplyContext,
        journal: &Journal<'_>,
        failure: Failure,
        causes: &[Address],
    ) -> Option<Failure> {
        let calls = calls(context, journal, causes, &failure.error);
        if calls.is_empty() {
            return Some(failure);
        }
        self.running.push(explained(calls, failure, self.cancel.clone()).boxed());
        None
    }

    /// Waits for the next failure that is explained. Returns `None` if there is none.
    pub async fn next(&mut self) -> Option<Failure> {
        self.running.next().await
    }
}

/// Returns a failure with the lines that the calls return, or as it is if they take too long or the user cancels the run.
async fn explained(calls: Vec<Call>, mut failure: Failure, cancel: CancellationToken) -> Failure {
    // A task of its own, so that a panic of a provider loses only the explanation.
    let task = |call: Call| AbortOnDropHandle::new(tokio::spawn(call.lines()));
    let lines = join_all(calls.into_iter().map(task));
    tokio::select! {
        lines = timeout(LIMIT, lines) => failure.error.detail.extend(lines.into_iter().flatten().flatten().flatten()),
        () = cancel.cancelled() => {}
    }
    failure
}

/// Returns the calls to the objects among `causes` that are on nodes. Empty if no object can explain an error of this class.
fn calls(context: &ApplyContext, journal: &Journal<'_>, causes: &[Address], error: &ProviderError) -> Vec<Call> {
    if !matches!(error.class, Class::Timeout | Class::Failed) {
        return Vec::new();
    }
    let mut calls: BTreeMap<(&str, &str), Call> = BTreeMap::new();
    for address in causes {
        let Some(instance) = context.expanded.instance(address) else { continue };
        let Some(connection) = context.session.connection(&instance.provider) else { continue };
        if !matches!(instance.target, Target::Node(_)) {
            continue;
        }
        let call = calls.entry((&instance.provider, instance.target.name())).or_insert_with(|| Call {
            connection: connection.clone(),
            target: instance.target.clone(),
            requests: Vec::new(),
        });
        call.requests.push(instance.read_request(None, journal.record(address).cloned()));
    }
    calls.into_values().collect()
}

impl Call {
    async fn lines(self) -> Vec<String> {
        self.connection.explain(&self.target, &self.requests).await
    }
}
