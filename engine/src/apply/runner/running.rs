//! The provider calls that run in the background.

use std::ops::Range;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::call::{Destination, Request, perform, unreported};
use crate::apply::schedule::Call;
use crate::model::hash::HashMap;
use crate::provider::{Applied, ProviderError};

/// The provider calls that run in the background. Each request belongs to a `T` and has exactly one result, whatever the provider does.
pub(super) struct RunningCalls<T> {
    /// The requests without a result, by their number.
    requests: HashMap<usize, T>,
    /// The number of requests so far.
    count: usize,
    sender: UnboundedSender<Message>,
    receiver: UnboundedReceiver<Message>,
}

/// What ended.
pub(super) struct Ended<T> {
    /// The results of requests.
    pub results: Vec<(T, Result<Applied, ProviderError>)>,
    /// The calls that are over. All of their requests have a result.
    pub calls: Vec<Call>,
}

/// A message from a call.
enum Message {
    /// The request with this number has a result.
    Result(usize, Result<Applied, ProviderError>),
    /// The call with these requests is over.
    Over(Call, Range<usize>),
}

impl<T> RunningCalls<T> {
    pub fn new() -> Self {
        let (sender, receiver) = unbounded_channel();
        Self { requests: HashMap::default(), count: 0, sender, receiver }
    }

    /// Starts a call. Without a destination, its requests fail.
    pub fn start(&mut self, call: Call, destination: Option<Destination>, requests: Vec<(T, Request)>) {
        let first = self.count;
        self.count += requests.len();
        let numbers = first..self.count;
        let (owners, requests): (Vec<T>, Vec<Request>) = requests.into_iter().unzip();
        self.requests.extend(numbers.clone().zip(owners));
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let results = sender.clone();
            // The receiver is dropped only at the end of the run.
            let report = move |place, result| _ = results.send(Message::Result(first + place, result));
            // A task of its own, so that a panic of a provider fails only this call.
            let performed = destination.map(|destination| tokio::spawn(perform(destination, requests, report)));
            if let Some(performed) = performed
                && performed.await.is_err()
            {
                tracing::error!("a call of a provider panicked");
            }
            _ = sender.send(Message::Over(call, numbers));
        });
    }

    /// Waits until something ends, and returns everything that has ended by then.
    pub async fn next(&mut self) -> Ended<T> {
        let mut ended = Ended { results: Vec::new(), calls: Vec::new() };
        let mut next = self.receiver.recv().await;
        while let Some(message) = next {
            match message {
                Message::Result(number, result) => {
                    ended.results.extend(self.requests.remove(&number).map(|owner| (owner, result)));
                }
                Message::Over(call, numbers) => {
                    let silent = numbers.filter_map(|number| self.requests.remove(&number));
                    ended.results.extend(silent.map(|owner| (owner, Err(unreported()))));
                    ended.calls.push(call);
                }
            }
            next = self.receiver.try_recv().ok();
        }
        ended
    }
}
