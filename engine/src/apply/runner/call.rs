//! Calls of providers: operations and data on one target.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;

use crate::model::Address;
use crate::provider::{Applied, Class, Connection, DataRequest, Operation, ProviderError, Target};

/// A request of a call.
pub(super) enum Request {
    /// Run an operation. `None` is done at once, because there is nothing to remove.
    Operation(Option<Operation>),
    /// Read a data source. Its result has only attributes.
    Data(DataRequest),
}

/// The target of a call, and how it is reached.
pub(super) struct Destination {
    pub connection: Arc<dyn Connection>,
    pub target: Target,
    /// The instance on whose behalf the call first waits until the target answers, because this run starts the target.
    pub waiting: Option<Address>,
}

/// Makes requests, and reports results by the index of the request.
pub(super) async fn perform(
    destination: Destination,
    requests: Vec<Request>,
    report: impl Fn(usize, Result<Applied, ProviderError>),
) {
    let Destination { connection, target, waiting } = destination;
    if let Some(waiting) = &waiting
        && let Err(error) = connection.wait_until_reachable(&target, waiting).await
    {
        return (0..requests.len()).for_each(|place| report(place, Err(error.clone())));
    }
    let (mut operation_places, mut operations) = (Vec::new(), Vec::new());
    let (mut data_places, mut data) = (Vec::new(), Vec::new());
    for (place, request) in requests.into_iter().enumerate() {
        match request {
            Request::Operation(None) => report(place, Ok(Applied::default())),
            Request::Operation(Some(operation)) => {
                operation_places.push(place);
                operations.push(operation);
            }
            Request::Data(request) => {
                data_places.push(place);
                data.push(request);
            }
        }
    }
    let operating = async {
        if !operations.is_empty() {
            call(&connection, &target, operations, |place, result| report(operation_places[place], result)).await;
        }
    };
    let reading = async {
        if !data.is_empty() {
            let results = connection.read_data(&target, &data).await;
            for (place, result) in data_places.iter().zip(results) {
                report(*place, result.map(|attributes| Applied { attributes, ..Applied::default() }));
            }
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
