//! Nodes of rollouts that are drained before their changes, and put back into service after their health gates.
//!
//! The cluster records which nodes are drained, so a run that dies leaves nothing that the next plan does not find.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::apply::context::ApplyContext;
use crate::apply::journal::Journal;
use crate::apply::schedule::NodeTurn;
use crate::configuration::evaluate::desired;
use crate::configuration::expand::Instance;
use crate::configuration::graph::provider_dependencies;
use crate::model::Address;
use crate::provider::{Class, Connection, DrainRequest, ProviderError, Target};

/// The extra time that a drain may take to report what blocks it.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take to put a node back into service that could not be drained.
const UNDO_TIMEOUT: Duration = Duration::from_secs(10);

/// The drains that run.
pub(super) struct Drains {
    tasks: JoinSet<DrainResult>,
    stop: CancellationToken,
}

/// The end of a drain.
pub(super) struct DrainResult {
    pub turn: NodeTurn,
    /// The instance that represents the node.
    pub address: Address,
    /// Messages for the user.
    pub result: Result<Vec<String>, ProviderError>,
    /// Whether the node is still out of service.
    pub is_drained: bool,
}

/// The calls that drain one node and put it back into service.
pub(super) struct DrainCalls {
    pub address: Address,
    connection: Arc<dyn Connection>,
    target: Target,
    request: DrainRequest,
    /// Whether the manifest starts the cluster, so that it may have to be waited for.
    waits: bool,
    /// Whether an earlier run drained the node.
    was_drained: bool,
}

impl Drains {
    /// Returns drains that end when `stop` is cancelled.
    pub fn new(stop: CancellationToken) -> Self {
        Self { tasks: JoinSet::new(), stop }
    }

    /// Whether no drain runs.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Starts to drain a node. A node that cannot be drained is put back into service, because none of its changes was made.
    pub fn start(&mut self, turn: NodeTurn, calls: DrainCalls) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let result = tokio::select! {
                drained = calls.drain() => drained,
                () = stop.cancelled() => Err(ProviderError::new(Class::Cancelled, "the drain was interrupted")),
            };
            // An earlier run may have changed a part of the node, so it returns only after its health gates.
            let is_undone = result.is_err() && !calls.was_drained && calls.undo().await;
            DrainResult { turn, address: calls.address, is_drained: !is_undone, result }
        });
    }

    /// Waits for the next end of a drain. Returns `None` if none runs.
    pub async fn next(&mut self) -> Option<DrainResult> {
        match self.tasks.join_next().await? {
            Ok(result) => Some(result),
            Err(error) => {
                tracing::error!("a drain broke: {error}");
                None
            }
        }
    }
}

impl DrainCalls {
    /// Returns the calls for a node of a rollout. `None` if the node is neither drained by this plan nor by an earlier one, or if nothing can reach its cluster.
    pub fn of(context: &ApplyContext, journal: &Journal<'_>, turn: &NodeTurn) -> Option<Self> {
        let ApplyContext { plan, expanded, values, session, .. } = context;
        let rollout = &plan.rollouts[turn.rollout];
        let options = rollout.drain.clone()?;
        let node = rollout.node(&turn.node).filter(|node| node.returns())?;
        let selection = context.selection(turn.rollout)?;
        let instance @ Instance { address, provider, target, .. } = selection.drained(expanded, &turn.node)?;
        let object = instance.read_request(desired(expanded, instance, values).ok(), journal.record(address).cloned());
        Some(Self {
            address: address.clone(),
            connection: session.connection(provider)?.clone(),
            target: target.clone(),
            request: DrainRequest { object, owner: plan.lineage.as_str().to_owned(), options },
            waits: provider_dependencies(expanded, provider).next().is_some(),
            was_drained: node.was_drained,
        })
    }

    async fn drain(&self) -> Result<Vec<String>, ProviderError> {
        self.wait_until_reachable().await?;
        let limit = self.request.options.timeout;
        let drained = self.connection.drain(&self.target, &self.request);
        match timeout(limit.saturating_add(REPORT_TIMEOUT), drained).await {
            Ok(drained) => drained,
            Err(_) => {
                let what = format!("{} was not drained within {limit:?}", self.address);
                Err(ProviderError::new(Class::Timeout, what))
            }
        }
    }

    /// Puts the node back into service.
    pub async fn undrain(&self) -> Result<(), ProviderError> {
        self.wait_until_reachable().await?;
        let limit = self.request.options.timeout;
        match timeout(limit, self.connection.undrain(&self.target, &self.request)).await {
            Ok(undrained) => undrained,
            Err(_) => {
                let what = format!("{} was not put back into service within {limit:?}", self.address);
                Err(ProviderError::new(Class::Timeout, what))
            }
        }
    }

    /// Puts the node back into service after a failed drain. Returns whether that succeeded; otherwise the next run finds the node.
    async fn undo(&self) -> bool {
        let undrained = timeout(UNDO_TIMEOUT, self.connection.undrain(&self.target, &self.request)).await;
        matches!(undrained, Ok(Ok(())))
    }

    async fn wait_until_reachable(&self) -> Result<(), ProviderError> {
        match self.waits {
            true => self.connection.wait_until_reachable(&self.target, &self.address).await,
            false => Ok(()),
        }
    }
}
