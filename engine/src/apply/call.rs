//! Calls of a provider: operations and data on one target, each of which is reported exactly once.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::{CallResult, Message};
use crate::model::Address;
use crate::provider::{Applied, Class, Connection, DataRequest, Operation, OperationAction, ProviderError, Target};

/// Asks a provider for operations and data on one target, once that answers where this run brings it up and one is `waiting` for it. Every change is
/// reported exactly once, whatever the provider does.
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
    let (places, batch): (Vec<_>, Vec<_>) =
        single.into_iter().flat_map(|(i, operations)| operations.into_iter().map(move |step| (i, step))).unzip();
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
        let found = connection.read_data(&target, &requests).await;
        let found = found.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        for (place, found) in places.into_iter().zip(found) {
            let result = found.unwrap_or_else(|| Err(unreported())).map(CallResult::Data);
            _ = sender.send(Message::Ended(place, result));
        }
    };
    futures::join!(batched, sequences, reading);
}

/// One operation after the other, as long as they succeed; the attributes are those of the last that leaves any.
async fn in_turn(
    connection: &Arc<dyn Connection>,
    target: &Target,
    operations: Vec<Operation>,
) -> Result<Applied, ProviderError> {
    let mut left = Applied::default();
    for (place, step) in operations.into_iter().enumerate() {
        let deletes = matches!(step.action, OperationAction::Delete);
        let mut ended = Err(unreported());
        call(connection, target, vec![step], |_, result| ended = result).await;
        let applied = ended.map_err(|error| match error.class {
            // What went before was begun, and done.
            Class::NotStarted if place > 0 => ProviderError { class: Class::Cancelled, ..error },
            _ => error,
        })?;
        left.notes.extend(applied.notes);
        if !deletes {
            left.attributes = applied.attributes;
            left.private = applied.private;
        }
    }
    Ok(left)
}

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

pub(super) fn unreported() -> ProviderError {
    ProviderError::new(Class::Failed, "the provider did not say how it ended")
        .help("this is a defect of moorfast; the next plan looks at what is there")
}
