//! Provider calls: operations and data of one target. Each operation is reported exactly once.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::apply::schedule::Call;
use crate::model::Address;
use crate::provider::{Applied, Class, Connection, DataRequest, Operation, ProviderError, Target};

/// The number of an operation or of the reading of a data source in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct OperationId(pub usize);

/// A message from a provider call.
pub(super) enum Message {
    /// An operation of the call ended. The result of a data source has only attributes.
    Ended(OperationId, Result<Applied, ProviderError>),
    /// The call with these operations ended. Operations that it did not report failed.
    CallOver(Call, Vec<OperationId>),
}

/// The requests of one call, all of them on one target.
#[derive(Default)]
pub(super) struct Requests {
    /// The operations. `None` is done at once, because there is nothing to remove.
    pub operations: Vec<(OperationId, Option<Operation>)>,
    /// The data sources to read.
    pub data: Vec<(OperationId, DataRequest)>,
}

impl Requests {
    fn ids(&self) -> Vec<OperationId> {
        self.operations.iter().map(|(id, _)| *id).chain(self.data.iter().map(|(id, _)| *id)).collect()
    }
}

/// Starts a call in the background. If this run starts the target, the call first waits until it answers, on behalf of the instance `waiting`.
pub(super) fn start(
    call: Call,
    connection: Option<Arc<dyn Connection>>,
    target: Option<Target>,
    waiting: Option<Address>,
    requests: Requests,
    sender: UnboundedSender<Message>,
) {
    let ids = requests.ids();
    tokio::spawn(async move {
        let reports = sender.clone();
        // A task of its own, so that a panic of a provider fails only this call.
        let performed = tokio::spawn(async move {
            if let (Some(connection), Some(target)) = (connection, target) {
                perform(connection, target, waiting.as_ref(), requests, &reports).await;
            }
        });
        if performed.await.is_err() {
            tracing::error!("a call of a provider panicked");
        }
        // The receiver is dropped only at the end of the run.
        _ = sender.send(Message::CallOver(call, ids));
    });
}

/// Runs operations and reads data on one target.
async fn perform(
    connection: Arc<dyn Connection>,
    target: Target,
    waiting: Option<&Address>,
    requests: Requests,
    sender: &UnboundedSender<Message>,
) {
    if let Some(waiting) = waiting
        && let Err(error) = connection.wait_until_reachable(&target, waiting).await
    {
        for id in requests.ids() {
            _ = sender.send(Message::Ended(id, Err(error.clone())));
        }
        return;
    }
    let Requests { operations, data } = requests;
    let (mut ids, mut batch) = (Vec::new(), Vec::new());
    for (id, operation) in operations {
        match operation {
            Some(operation) => {
                ids.push(id);
                batch.push(operation);
            }
            None => _ = sender.send(Message::Ended(id, Ok(Applied::default()))),
        }
    }
    let operating = async {
        if !batch.is_empty() {
            call(&connection, &target, batch, |place, result| {
                _ = sender.send(Message::Ended(ids[place], result));
            })
            .await;
        }
    };
    let reading = async {
        let (ids, requests): (Vec<_>, Vec<_>) = data.into_iter().unzip();
        if requests.is_empty() {
            return;
        }
        let data = connection.read_data(&target, &requests).await;
        // A missing answer is noticed when the call is over.
        for (id, data) in ids.into_iter().zip(data) {
            let result = data.map(|attributes| Applied { attributes, ..Applied::default() });
            _ = sender.send(Message::Ended(id, result));
        }
    };
    futures::join!(operating, reading);
}

/// Calls a provider with a batch of operations, and reports each of them exactly once.
pub(super) async fn call(
    connection: &Arc<dyn Connection>,
    target: &Target,
    batch: Vec<Operation>,
    mut report: impl FnMut(usize, Result<Applied, ProviderError>),
) {
    let (sender, mut receiver) = unbounded_channel();
    let mut open: BTreeSet<usize> = (0..batch.len()).collect();
    let apply = connection.apply(target, &batch, sender);
    tokio::pin!(apply);
    let mut over = false;
    loop {
        tokio::select! {
            biased;
            outcome = receiver.recv() => match outcome {
                Some((place, result)) if open.remove(&place) => report(place, result),
                Some(_) => {}
                None => break,
            },
            () = &mut apply, if !over => over = true,
        }
    }
    if !over {
        apply.await;
    }
    for place in open {
        report(place, Err(unreported()));
    }
}

/// Returns the error of an operation that the provider did not report.
pub(super) fn unreported() -> ProviderError {
    ProviderError::new(Class::Failed, "the provider did not report the result")
        .help("this is a bug in moorfast; the next plan reads the object again")
}
