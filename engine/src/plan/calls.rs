//! The calls of the providers. Nothing else in this folder does any I/O; `planner.rs` awaits these calls in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::join_all;

use super::batches::{Batch, Batches};
use super::candidates::Candidate;
use super::machines::{Assessment, Nodes};
use super::readings::Readings;
use super::requests::ReadRequests;
use crate::configuration::expand::Instance;
use crate::model::{Attributes, Identified, NodeName};
use crate::provider::{
    Class, Connection, Consequence, DataRequest, Observed, PlanRequest, Proposal, ProviderError, ReadRequest, Target,
};
use crate::session::{Event, Events, Session};

/// Requests of one kind with their results. `S` is what a request is about.
pub(crate) type Answers<S, R, T> = Vec<(S, R, Result<T, ProviderError>)>;

/// Reads the objects of all requests. Returns each request with its reading.
pub(crate) async fn read<S>(
    session: &Session,
    requests: Batches<(S, ReadRequest)>,
    events: &Events,
) -> Answers<S, ReadRequest, Option<Observed>> {
    let call = async |connection: &Arc<dyn Connection>, target: &Target, requests: &[ReadRequest]| {
        events.send(Event::Reading { target: target.to_string(), instances: requests.len() });
        let readings = connection.read(target, requests).await;
        events.send(Event::ReadDone { target: target.to_string() });
        readings
    };
    ask(session, requests, call).await
}

/// Reads the objects of a plan.
pub(super) async fn read_all(session: &Session, requests: ReadRequests) -> Readings {
    let readings = read(session, requests, &session.events).await;
    Readings(readings.into_iter().map(|(key, _, reading)| (key, reading)).collect())
}

/// Reads the data sources.
pub(crate) async fn read_data<'a>(
    session: &Session,
    requests: Batches<(&'a Instance, DataRequest)>,
) -> Answers<&'a Instance, DataRequest, Attributes> {
    ask(session, requests, async |connection, target, requests| connection.read_data(target, requests).await).await
}

/// Asks the providers how the candidates can be given their desired attributes.
pub(super) async fn propose<'a>(
    session: &Session,
    requests: Batches<(Candidate<'a>, PlanRequest)>,
) -> Answers<Candidate<'a>, PlanRequest, Proposal> {
    ask(session, requests, async |connection, target, requests| connection.plan(target, requests).await).await
}

/// Asks the providers for the side effects of removals.
pub(super) async fn removal_consequences<S>(
    session: &Session,
    requests: Batches<(S, ReadRequest)>,
) -> Answers<S, ReadRequest, Vec<Consequence>> {
    let call = async |connection: &Arc<dyn Connection>, target: &Target, requests: &[ReadRequest]| {
        connection.removal_consequences(target, requests).await
    };
    ask(session, requests, call).await
}

/// Asks all providers for warnings about what the next apply changes in their own storage.
pub(super) async fn pending_maintenance(session: &Session) -> BTreeSet<String> {
    let warnings = join_all(session.connections().map(|connection| connection.pending_maintenance())).await;
    warnings.into_iter().flatten().collect()
}

/// Makes one call for each batch, all of them concurrently. Returns all requests with their results, in their order.
async fn ask<S, R, T>(
    session: &Session,
    batches: Batches<(S, R)>,
    call: impl AsyncFn(&Arc<dyn Connection>, &Target, &[R]) -> Vec<Result<T, ProviderError>>,
) -> Answers<S, R, T> {
    let call = &call;
    let calls = batches.into_iter().map(|Batch { alias, target, requests }| async move {
        let (subjects, requests): (Vec<S>, Vec<R>) = requests.into_iter().unzip();
        let results = match session.connection(&alias) {
            Some(connection) => call(connection, &target, &requests).await,
            None => Vec::new(),
        };
        let asked = subjects.into_iter().zip(requests).zip(with_missing_answers(results));
        asked.map(|((subject, request), result)| (subject, request, result)).collect::<Vec<_>>()
    });
    join_all(calls).await.into_iter().flatten().collect()
}

/// Returns the results of a provider, followed by errors in case the provider returned fewer results than requests.
fn with_missing_answers<T>(answers: Vec<Result<T, ProviderError>>) -> impl Iterator<Item = Result<T, ProviderError>> {
    answers.into_iter().chain(std::iter::repeat_with(|| {
        Err(ProviderError::new(Class::Failed, "the provider returned no result").help("this is a bug in moorfast"))
    }))
}

/// Identifies the machines of all nodes. A node that does not answer is reported by its reading.
pub(super) async fn identify(session: &Session, nodes: &Nodes) -> BTreeMap<NodeName, Identified> {
    let calls = nodes.iter().map(|(name, (alias, target))| async move {
        let identity = session.connection(alias)?.identify(target).await.ok().flatten()?;
        Some((name.clone(), identity))
    });
    join_all(calls).await.into_iter().flatten().collect()
}

/// Lets the providers accept the approved machines that did not prove their identity. Returns the nodes whose machine is accepted, with their provider
/// instances.
pub(super) async fn accept(session: &Session, nodes: &Nodes, assessments: &[Assessment]) -> BTreeMap<NodeName, String> {
    let mut accepted = BTreeMap::new();
    for Assessment { node, machine, .. } in assessments.iter().filter(|assessment| assessment.is_to_be_accepted()) {
        let Some((alias, target)) = nodes.get(node) else { continue };
        let Some(connection) = session.connection(alias) else { continue };
        if connection.accept_machine(target, machine).await.is_ok() {
            accepted.insert(node.clone(), alias.clone());
        }
    }
    accepted
}
