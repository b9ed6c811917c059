//! Provider calls: operations and data of one target. Each change is reported exactly once.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{CallResult, Message};
use crate::model::Address;
use crate::provider::{Applied, Class, Connection, DataRequest, Operation, OperationAction, ProviderError, Target};

/// Runs operations and reads data on one target, and reports each change exactly once, whatever the provider does.
///
/// If this run starts the target, the call first waits until it answers, on behalf of the instance `waiting`.
pub(super) async fn perform(
    connection: Arc<dyn Connection>,
    target: Target,
    waiting: Option<&Address>,
    operations: Vec<(usize, Vec<Operation>)>,
    data: Vec<(usize, DataRequest)>,
    sender: &UnboundedSender<Message>,
) {
    if let Some(waiting) = waiting
        && let Err(error) = connection.wait_until_reachable(&target, waiting).await
    {
        for i in operations.iter().map(|(i, _)| i).chain(data.iter().map(|(i, _)| i)) {
            _ = sender.send(Message::Ended(*i, Err(error.clone())));
        }
        return;
    }
    let (single, several): (Vec<_>, Vec<_>) = operations.into_iter().partition(|(_, operations)| operations.len() == 1);
    let (places, batch): (Vec<_>, Vec<_>) = single
        .into_iter()
        .flat_map(|(i, operations)| operations.into_iter().map(move |operation| (i, operation)))
        .unzip();
    let batched = async {
        if !batch.is_empty() {
            call(&connection, &target, batch, |place, result| {
                _ = sender.send(Message::Ended(places[place], result.map(CallResult::Applied)));
            })
            .await;
        }
    };
    let sequences = join_all(several.into_iter().map(|(i, operations)| {
        let (connection, target) = (&connection, &target);
        async move {
            let result = in_turn(connection, target, operations).await;
            _ = sender.send(Message::Ended(i, result.map(CallResult::Applied)));
        }
    }));
    let reading = async {
        let (places, requests): (Vec<_>, Vec<_>) = data.into_iter().unzip();
        if requests.is_empty() {
            return;
        }
        let data = connection.read_data(&target, &requests).await;
        let data = data.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (place, data) in places.into_iter().zip(data) {
            let result = data.unwrap_or_else(|| Err(unreported())).map(CallResult::Data);
            _ = sender.send(Message::Ended(place, result));
        }
    };
    futures::join!(batched, sequences, reading);
}

/// Runs operations one after the other, as long as they succeed. Returns the attributes of the last operation that is not a deletion.
async fn in_turn(
    connection: &Arc<dyn Connection>,
    target: &Target,
    operations: Vec<Operation>,
) -> Result<Applied, ProviderError> {
    let mut total = Applied::default();
    for (place, operation) in operations.into_iter().enumerate() {
        let deletes = matches!(operation.action, OperationAction::Delete);
        let mut ended = Err(unreported());
        call(connection, target, vec![operation], |_, result| ended = result).await;
        let applied = ended.map_err(|error| match error.class {
            // Earlier operations of the sequence were started, so the change was done in part.
            Class::NotStarted if place > 0 => ProviderError { class: Class::Cancelled, ..error },
            _ => error,
        })?;
        total.notes.extend(applied.notes);
        if !deletes {
            total.attributes = applied.attributes;
            total.private = applied.private;
        }
    }
    Ok(total)
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
